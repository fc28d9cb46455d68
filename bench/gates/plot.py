"""The evidence over the looks of a few runs, as a picture. Called by `__main__`; needs matplotlib (group `bench`)."""

from pathlib import Path

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
from bench.gates import ours, pools, report, streams, sums
from bench.gates.scenarios import PAIRS, SPEC
from matplotlib.axes import Axes
from numpy.typing import NDArray

from modelcanary_gate.hysteresis import log_threshold

RUNS = 12
SHOWN = (("equal", "tab:gray"), ("+5%", "tab:orange"), ("+20%", "tab:red"), ("-5%", "tab:blue"))


def draw(path: Path) -> None:
    """A panel per question, both with bursts; evidence is shown as a factor, on a logarithmic scale."""
    mpl.use("Agg")
    pool = pools.load("cov")
    stream = streams.bursts(pool)
    figure, panels = plt.subplots(1, 2, figsize=(11, 4.4), layout="constrained", sharey=True)
    questions = (
        (sums.ROLLBACK, "Evidence that the candidate is worse", report.budget()),
        (sums.PROMOTE, "Evidence that it is within the margin of 2%", SPEC.analysis.error_rates.promote),
    )
    for candidate, colour in SHOWN:
        drawn = sums.simulate(sums.Tables.of(SPEC, pool, candidate), stream, runs=RUNS, seed=3, pairs=PAIRS)
        judged = ours.judge(SPEC, drawn)
        for panel, (contrast, _, _) in zip(panels, questions, strict=True):
            for number, run in enumerate(judged.evidence[:, :, contrast]):
                label = candidate if number == 0 else None
                panel.plot(drawn.pairs, run / np.log(10), color=colour, lw=0.8, alpha=0.7, label=label)
    for panel, (_, title, alpha) in zip(panels, questions, strict=True):
        _dress(panel, title, log_threshold(alpha) / np.log(10))
    panels[0].set_ylabel("evidence, powers of ten")
    panels[0].legend(loc="lower left", frameon=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def _dress(panel: Axes, title: str, threshold: float) -> None:
    ticks: NDArray[np.float64] = np.array([100, 300, 1000, 3000, 10_000, 30_000, 100_000], dtype=np.float64)
    panel.set_xscale("log")
    panel.set_xticks(ticks, [f"{tick:,.0f}" for tick in ticks])
    panel.minorticks_off()
    panel.set_xlabel("labelled pairs")
    panel.set_title(title, loc="left", fontsize=10)
    panel.axhline(threshold, color="black", lw=1)
    panel.axhline(threshold / 2, color="black", lw=0.8, ls=":")
    panel.annotate("verdict", (110, threshold + 0.1), fontsize=8)
    panel.annotate("back off", (110, threshold / 2 + 0.1), fontsize=8)
    panel.set_ylim(-3, 8)
    panel.grid(alpha=0.2)
