"""The simulations' results as Markdown tables: medians and bounds. Called by `__main__`."""

from collections.abc import Iterable, Sequence

import numpy as np
from bench.gates import rules
from bench.gates.classes import Found
from bench.gates.matched import RATE
from bench.gates.pools import Array
from bench.gates.scenarios import (
    ABSOLUTE,
    CHANGE,
    DAILY,
    DISABLED,
    GROWING,
    LEVELS,
    MARGIN,
    NULL,
    PAIRS,
    POOLS,
    POWER,
    SPEC,
    Part,
    Scenario,
    patient,
)
from scipy.stats import beta

from modelcanary_gate.contrasts import EvidencePlan
from modelcanary_gate.gate import _error_budget
from modelcanary_gate.hysteresis import log_threshold

Results = list[tuple[Scenario, Part]]


def markdown(results: Results, classes: list[Found], z: dict[tuple[str, str], float], seconds: float) -> str:
    total = sum(scenario.runs for scenario, _ in results) + sum(len(one.fired) for one in classes)
    parts = [
        "## The gate against other rules",
        f"`make bench-gates`: {total:,} simulated runs of {PAIRS:,} labelled pairs, a look every 100 pairs, "
        f"in {seconds / 60:.0f} minutes on two cores that others used, too. What is simulated, and why so: "
        "[docs/design/simulations.md](../docs/design/simulations.md).",
        *(_comparison(results, pool) for pool in POOLS),
        "### At the same rate of false roll-backs",
        _matched(results, z),
        "![Evidence over the looks of some runs](results/gates.png)",
        "## The gate's own numbers",
        "Rates with the upper end of their 95% interval (Clopper-Pearson, 97.5%); times are medians in labelled pairs.",
        _errors(results),
        _power(results),
        "### Beyond steady streams",
        _beyond(results, classes),
    ]
    return "\n\n".join(parts)


def _comparison(results: Results, pool: str) -> str:
    null = _one(results, NULL, pool, "equal")[1]
    found = {effect: _one(results, POWER, pool, effect)[1] for effect in ("+5%", "+20%", "+100%")}
    rows = []
    for name in rules.RULES:
        ruled = null.rivals[name]
        times = [_thousands(100 * part.rivals[name].rollback) for part in found.values()]
        rows.append([name, _percent(np.isfinite(ruled.rollback).mean()), *times, f"{ruled.flips.mean():.1f}"])
    times = [_thousands(part.rollback) for part in found.values()]
    rate = f"**{_percent(np.isfinite(null.rollback).mean())}**"
    rows.append(["**ModelCanary**", rate, *times, f"{null.flips.mean():.1f}"])
    runs, rivals = len(null.rollback), len(null.rivals["paired t-test at 1%, repeated"].rollback)
    head = [
        "rule",
        "false roll-back of an equal candidate",
        "+5%",
        "+20%",
        "+100%",
        "changes of verdict per 100k pairs",
    ]
    text = f"### Pool `{pool}`\n\nFalse roll-backs in {runs:,} runs (rivals {rivals:,}); "
    text += "median thousands of labelled pairs to find a loss of so much more.\n\n"
    return text + _table(head, rows)


def _matched(results: Results, z: dict[tuple[str, str], float]) -> str:
    """+5%, with Mann-Whitney's threshold set after the fact so that it is wrong in 0.1% of the runs."""
    rows = []
    for pool in POOLS:
        null, worse = (_one(results, kind, pool, candidate)[1] for kind, candidate in ((NULL, "equal"), (POWER, "+5%")))
        level = float(np.quantile(null.highest, 1 - RATE))
        calibrated, full, shipped = (
            _reached(worse, level),
            _reached(worse, log_threshold(RATE)),
            float(np.median(worse.rollback)),
        )
        split = float(np.median(100 * rules.first(worse.z["split"] > z[pool, "independent"])))
        rows.append(
            [
                f"`{pool}`",
                _k(shipped),
                _k(full),
                f"{_k(calibrated)} ({np.exp(level):.0f})",
                f"{_k(split)} (z = {z[pool, 'independent']:.2f})",
                _k(2 * split),
                *(f"{split / ours:.1f} / {2 * split / ours:.1f}" for ours in (shipped, full, calibrated)),
            ]
        )
    head = [
        "+5%, independent pairs",
        "gate as shipped (loss: 1/2,000)",
        "loss alone, 1/1,000",
        "calibrated to 0.1% (threshold)",
        "Mann-Whitney, calibrated to 0.1%: requests per model",
        "labels",
        "times fewer pairs / labels: as shipped",
        "loss alone",
        "both calibrated",
    ]
    text = "Where users are split, a label is of one model only, so that two are needed where a pair needs one. "
    text += "Both calibrations are quantiles of simulated maxima, so uncertain by some percent of the pairs.\n\n"
    return text + _table(head, rows)


def _reached(part: Part, level: float) -> float:
    """Median pairs until log M has reached a level; two looks in a row, as the trigger wants it."""
    return float(np.median(part.reached[:, min(int(np.searchsorted(LEVELS, level)), len(LEVELS) - 1)]))


def _errors(results: Results) -> str:
    rows = []
    for label, kind, candidate, goals in (
        ("false roll-back of an equal candidate", NULL, "equal", ("0.1%", "0.1%")),
        ("false promotion exactly at the margin of 2%", MARGIN, "+2%", ("0.5%", "1%")),
    ):
        for stream, goal in zip(("independent", "bursts"), goals, strict=True):
            cells = []
            several = []
            for pool in POOLS:
                part = _one(results, kind, pool, candidate, stream)[1]
                hits = part.rollback if kind == NULL else part.promote
                several.append(hits)
                cells.append(_rate(hits))
            cells.append(_rate(np.concatenate(several)))
            rows.append([f"{label}, {stream}", f"≤ {goal}", *cells])
    return _table(["error", "goal", *(f"`{pool}`" for pool in POOLS), "all"], rows)


def _power(results: Results) -> str:
    rows = []
    goals = {"+100%": "700", "+20%": "2,500"}
    for candidate in ("+100%", "+20%", "+5%", "+2%", "+1%", "sparse +20%", "sparse +5%"):
        for stream in ("independent", "bursts"):
            found = [_find(results, POWER, pool, candidate, stream) for pool in POOLS]
            if all(found):
                cells = [_when(one[1].rollback) for one in found if one]
                goal = goals.get(candidate, "") if stream == "independent" else ""
                rows.append([f"{candidate} rolled back, {stream}", goal, *cells])
    for candidate, kind in (("-5%", POWER), ("equal", NULL)):
        for stream in ("independent", "bursts"):
            found = [_find(results, kind, pool, candidate, stream) for pool in POOLS]
            cells = [_when(one[1].promote) for one in found if one]
            rows.append([f"{candidate} promoted, {stream}", "", *cells])
    for before in ("equal", "-5%"):
        cells = [_when(_after(_one(results, CHANGE, pool, "+20%", before=before)[1])) for pool in POOLS]
        goal = "3,000" if before == "equal" else ""
        rows.append([f"+20% from 50,000 pairs on, {before} before: delay", goal, *cells])
    return _table(["pairs to the verdict (share of runs that had it)", "goal", *(f"`{pool}`" for pool in POOLS)], rows)


def _beyond(results: Results, classes: list[Found]) -> str:
    rows = []
    worse = "daily mix, ±5%, equal over the day"
    settings = (
        ("daily mix, never worse, restarts enabled (its null)", "equal or better", SPEC),
        (f"{worse}, restarts disabled", "better or worse", DISABLED),
        (f"{worse}, restarts disabled, not before a day", "better or worse", patient(1)),
        (f"{worse}, restarts disabled, not before two days", "better or worse", patient(2)),
        (f"{worse}, restarts enabled: nights are worse, and it may say so", "better or worse", SPEC),
    )
    for label, candidate, spec in settings:
        cells = []
        for pool in POOLS:
            wanted = (DAILY, pool, candidate)
            several = [
                part
                for scenario, part in results
                if (scenario.kind, scenario.pool, scenario.candidate) == wanted and scenario.spec == spec
            ]
            cells.append(_rate(several[0].rollback) if several else "")
        rows.append([label + ": rolled back", *cells])
    for stream in ("independent", "bursts"):
        cells = [_rate(_one(results, GROWING, pool, "equal", stream)[1].rollback) for pool in POOLS]
        rows.append([f"growing blocks, equal, {stream}: rolled back", *cells])
    for candidate in ("+5%", "+20%"):
        cells = [_when(_one(results, GROWING, pool, candidate)[1].rollback) for pool in POOLS]
        rows.append([f"growing blocks, {candidate}: rolled back at", *cells])
    cells = [_when(_after(_one(results, GROWING, pool, "+20%", before="equal")[1])) for pool in POOLS]
    rows.append(["growing blocks, +20% from 50,000 pairs on: delay", *cells])
    both = [_one(results, ABSOLUTE, pool, "+2%", "bursts")[1] for pool in POOLS]
    rows.append(["absolute margin, candidate exactly at it, bursts: rolled back", *(_rate(p.rollback) for p in both)])
    rows.append(["absolute margin, candidate exactly at it, bursts: promoted", *(_rate(p.promote) for p in both)])
    text = _table(["", *(f"`{pool}`" for pool in POOLS)], rows)
    rows = []
    for candidate in ("equal", "+0.005", "+0.02"):
        for stream in ("independent", "bursts"):
            part = _one(results, ABSOLUTE, "sharp", candidate, stream)[1]
            at_margin = candidate == "+0.005"
            cells = [_rate(h) if at_margin else _when(h) for h in (part.rollback, part.promote)]
            rows.append([f"{candidate}, {stream}", *cells])
    text += "\n\nA baseline of 0.03 nats (`sharp`), both margins 0.005 nats absolute:\n\n"
    text += _table(["candidate", "rolled back", "promoted"], rows)
    text += "\n\nA guard per class on `cov` (seven classes, limit +10% in each, half of α for them together):\n\n"
    rows = [
        [f"{one.name}, {one.stream}", _rate(one.fired) if one.name == "at the limit" else _when(one.fired)]
        for one in classes
    ]
    return text + _table(["every class", "any class rolled back"], rows)


def budget() -> float:
    """The loss's part of the roll-back's error budget, as shipped."""
    plan = EvidencePlan.of(SPEC)
    return _error_budget(plan, SPEC.analysis.error_rates.rollback)[plan.loss[0].name]


def _one(
    results: Results, kind: str, pool: str, candidate: str, stream: str = "independent", before: str | None = None
) -> tuple[Scenario, Part]:
    found = _find(results, kind, pool, candidate, stream, before)
    if found is None:
        raise LookupError(f"{kind} {pool} {candidate} {stream} was not simulated")
    return found


def _find(
    results: Results, kind: str, pool: str, candidate: str, stream: str = "independent", before: str | None = None
) -> tuple[Scenario, Part] | None:
    wanted = (kind, pool, candidate, stream, before)
    return next((one for one in results if wanted == _key(one[0])), None)


def _key(scenario: Scenario) -> tuple[str, str, str, str, str | None]:
    return scenario.kind, scenario.pool, scenario.candidate, scenario.stream, scenario.before


def _after(part: Part) -> Array:
    """Pairs from the change to the roll-back; one before the change counts as 0."""
    return np.maximum(part.rollback - PAIRS / 2, 0.0)


def _rate(hits: Array) -> str:
    count, runs = int(np.isfinite(hits).sum()), len(hits)
    upper = beta.ppf(0.975, count + 1, runs - count)
    return f"{count} of {runs:,} = {_percent(count / runs)} (≤ {_percent(upper)})"


def _when(pairs: Array) -> str:
    share = float(np.isfinite(pairs).mean())
    median = float(np.median(pairs))
    shown = "—" if np.isinf(median) else f"{median:,.0f}"
    return shown if share == 1 else f"{shown} ({_percent(share)})"


def _thousands(pairs: Array) -> str:
    return _k(float(np.median(pairs)))


def _k(pairs: float) -> str:
    return "—" if np.isinf(pairs) else f"{pairs / 1000:.1f}k"


def _percent(share: float) -> str:
    return "0" if share == 0 else f"{100 * share:.3g}%"


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
