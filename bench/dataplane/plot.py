"""Draws a run: CPU per request, throughput, and what users wait while the shadow fails. `__main__` calls it."""

from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("Agg")
import matplotlib.pyplot as plt
from bench.dataplane.cells import ENVOY, FAULTS, GO, HAPROXY, NGINX, SIDECAR
from bench.dataplane.goals import Results
from matplotlib.axes import Axes

_ORDER = (NGINX, HAPROXY, ENVOY, GO, SIDECAR)
_COLORS = {NGINX: "#2a9d4a", HAPROXY: "#7a7a7a", ENVOY: "#8d5fd3", GO: "#25a5c4", SIDECAR: "#e4572e"}
_LATE = 10.0  # milliseconds at which the third drawing ends


def draw(results: Results, path: Path) -> None:
    figure, (cpu, throughput, faults) = plt.subplots(1, 3, figsize=(15, 4.6), width_ratios=(1, 1, 1.5))
    _bars(cpu, results, "cpu_us_per_request", 2, 1000)
    cpu.set_title("CPU per request at 1,000/s, µs (less is better)")
    _bars(throughput, results, "served_rps", 0, 0)
    throughput.set_title("Requests/s on one core (more is better)")
    _faults(faults, results)
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    plt.close(figure)


def _bars(axes: Axes, results: Results, key: str, delay: int, rate: int) -> None:
    present = [proxy for proxy in _ORDER if results.find(proxy, 0, upstream_ms=delay, rate=rate)]
    for offset, percent, alpha in ((-0.2, 0, 0.45), (0.2, 100, 1.0)):
        for place, proxy in enumerate(present):
            found = results.find(proxy, percent, upstream_ms=delay, rate=rate)
            if found:
                value = found["cell"][key]
                axes.bar(place + offset, value, 0.38, color=_COLORS[proxy], alpha=alpha)
                scored = f"\n{found['scored_share']:.0%} scored" if "scored_share" in found else ""
                axes.text(place + offset, value, f"{value:,.0f}{scored}", ha="center", va="bottom", fontsize=7)
    axes.set_xticks(range(len(present)), present)
    axes.set_xlabel("pale: nothing mirrored; full: all mirrored, scored by the sidecar alone", fontsize=8)
    axes.margins(y=0.1)
    axes.spines[["top", "right"]].set_visible(False)


def _faults(axes: Axes, results: Results) -> None:
    present = [proxy for proxy in _ORDER if any(results.find(proxy, 100, fault) for fault in FAULTS)]
    width = 0.8 / max(1, len(present))
    for index, proxy in enumerate(present):
        for place, fault in enumerate(FAULTS):
            found = results.find(proxy, 100, fault)
            if found:
                _fault(axes, found["cell"], place - 0.4 + (index + 0.5) * width, width, _COLORS[proxy])
        axes.bar(0, 0, color=_COLORS[proxy], label=proxy)
    axes.set_xticks(range(len(FAULTS)), FAULTS)
    axes.set_ylim(0, _LATE)
    axes.set_title("Users' latency by what the shadow does, p50 and p99 (line), ms")
    axes.legend(fontsize=8, frameon=False, ncols=len(present))
    axes.spines[["top", "right"]].set_visible(False)


def _fault(axes: Axes, cell: dict[str, Any], place: float, width: float, color: str) -> None:
    middle, high = cell["p50_us"] / 1000, cell["p99_us"] / 1000
    axes.bar(place, min(middle, _LATE), width * 0.92, color=color)
    axes.vlines(place, min(middle, _LATE), min(high, _LATE), color="black", linewidth=1)
    lost = cell["served_rps"] < 0.98 * cell["rate"]
    if high > _LATE or lost:
        said = f"{cell['served_rps']:,.0f}/s" if lost else f"{high:,.0f} ms"
        axes.text(place, _LATE * 0.98, said, ha="center", va="top", fontsize=6, rotation=90)
