"""What is simulated: pool, candidate, stream and specification, each with the question that it answers.

Called by `__main__`, which spreads the scenarios' parts over processes; each part is seeded by itself, so a table is
the same whatever the number of processes.
"""

import math
import zlib
from dataclasses import dataclass, field, replace
from functools import lru_cache

import numpy as np
from bench.gates import daily, ours, pools, rules, streams, sums
from numpy.typing import NDArray

from modelcanary_gate.eprocess import Discount
from modelcanary_gate.evidence import BlockRule
from modelcanary_gate.spec import Analysis, Margin, Model, PerVerdict, Restarts, Spec

PART = 100  # runs per part
PAIRS = 100_000

SPEC = Spec(model=Model(classes=("0", "1")))


def with_analysis(**changes: object) -> Spec:
    return replace(SPEC, analysis=replace(Analysis(), **changes))  # type: ignore[arg-type]


#: Nothing but the promotion's own evidence holds a promotion: no roll-back comes before it.
NO_ROLLBACK = with_analysis(rollback_margin=Margin(relative=1.0))
DISABLED = with_analysis(restarts=Restarts.DISABLED)


def patient(days: int) -> Spec:
    """As DISABLED, and no roll-back before so many days' pairs."""
    enough = PerVerdict(days * daily.DAY, 1000)
    return with_analysis(restarts=Restarts.DISABLED, min_samples=enough)


@dataclass(frozen=True, slots=True)
class Scenario:
    """`runs` of one setting. `kind` says what the report makes of it."""

    kind: str
    pool: str
    candidate: str
    stream: str = "independent"  # independent | bursts | daily
    runs: int = 200
    spec: Spec = field(default=SPEC, repr=False)
    before: str | None = None  # this candidate for the first half of the run
    rate: float | None = None  # labelled pairs a second: blocks grow with the run. None: blocks of 100
    rivals: int = 0  # runs on which the rival rules are tried, too
    discount: Discount | None = None

    @property
    def parts(self) -> int:
        return math.ceil(self.runs / PART)


@dataclass(frozen=True, slots=True)
class Part:
    """What one part of a scenario gave: looks in labelled pairs, inf where there was none."""

    rollback: NDArray[np.float64]
    promote: NDArray[np.float64]
    flips: NDArray[np.float64]
    highest: NDArray[np.float64]  # of log M against the candidate, from minSamples on
    #: pairs at which the highest log M so far first reaches each of LEVELS; (R, levels)
    reached: NDArray[np.float64]
    rivals: dict[str, rules.Ruled]
    #: Mann-Whitney's highest z so far, by traffic: (R, B), of the null only at the end of the run, (R, 1)
    z: dict[str, NDArray[np.float64]]


#: for a calibration after the fact: thresholds of the roll-back in nats
LEVELS = np.arange(3.0, 9.0, 0.05)


@lru_cache(maxsize=4)
def _pool(name: str) -> pools.Pool:
    return pools.load(name)


@lru_cache(maxsize=4)
def _stream(name: str, pool: str) -> streams.Stream:
    makers = {"independent": streams.independent, "bursts": streams.bursts, "daily": daily.stream}
    return makers[name](_pool(pool))


def _tables(scenario: Scenario, candidate: str) -> sums.Tables:
    analysis = scenario.spec.analysis
    mixed = scenario.stream == "daily"
    return _made_tables(scenario.pool, candidate, mixed, analysis.margin, analysis.rollback_margin)


@lru_cache(maxsize=3)
def _made_tables(pool: str, candidate: str, mixed: bool, margin: Margin, rollback: Margin) -> sums.Tables:
    spec = with_analysis(margin=margin, rollback_margin=rollback)
    if mixed:
        return sums.Tables.of(spec, daily.doubled(_pool(pool), candidate), "both")
    return sums.Tables.of(spec, _pool(pool), candidate)


def simulate(scenario: Scenario, part: int) -> Part:
    """One part of a scenario, judged by the gate and, where asked for, by the rivals."""
    seed = zlib.crc32(f"{scenario.kind} {scenario.pool} {scenario.candidate} {scenario.stream} {part}".encode())
    rivals = min(PART, max(0, scenario.rivals - part * PART))
    run_sums = sums.simulate(
        _tables(scenario, scenario.candidate),
        _stream(scenario.stream, scenario.pool),
        runs=min(PART, scenario.runs - part * PART),
        seed=seed,
        starts=None if scenario.rate is None else growing_blocks(scenario.rate, PAIRS),
        pairs=PAIRS,
        before=None if scenario.before is None else _tables(scenario, scenario.before),
        change=PAIRS // 2 if scenario.before else 0,
        split=rivals > 0,
    )
    judged = ours.judge(scenario.spec, run_sums, discount=scenario.discount)
    counted = run_sums.pairs >= scenario.spec.analysis.min_samples.rollback
    path = np.maximum.accumulate(judged.evidence[:, counted, sums.ROLLBACK], axis=1)
    after = np.append(run_sums.pairs[counted], np.inf)
    reached = np.stack([after[np.minimum((path < level).sum(axis=1) + 1, len(after) - 1)] for level in LEVELS], axis=1)
    reached[path[:, -1][:, None] < LEVELS] = np.inf
    tried = run_sums.take(slice(0, rivals))
    ruled = {name: rules.apply(rule, tried) for name, rule in rules.RULES.items()} if rivals else {}
    z = {}
    if rivals:
        highest = np.maximum.accumulate(rules.mann_whitney(tried.c / tried.n, tried.split / tried.n), axis=1)
        z = {"split": highest[:, -1:] if scenario.kind == NULL else highest}
    return Part(
        in_pairs(judged.rollback, run_sums.pairs),
        in_pairs(judged.promote, run_sums.pairs),
        judged.flips,
        path[:, -1],
        reached,
        ruled,
        z,
    )


def in_pairs(looks: NDArray[np.float64], pairs: NDArray[np.float64]) -> NDArray[np.float64]:
    """Looks, counted from 1, as labelled pairs."""
    found = np.isfinite(looks)
    return np.where(found, pairs[np.where(found, looks, 1).astype(int) - 1], np.inf)


@lru_cache(maxsize=4)
def growing_blocks(rate: float, pairs: int) -> NDArray[np.intp]:
    """The blocks' first pairs, as the ledger's rule cuts them when labels come at `rate` a second."""
    rule, starts = BlockRule(), [0]
    for pair in range(1, pairs):
        elapsed = pair / rate
        if rule.due(pair - starts[-1], (pair - starts[-1]) / rate, elapsed):
            starts.append(pair)
    return np.array(starts, dtype=np.intp)


POOLS = ("cov", "digits", "heavy")
NULL, MARGIN, POWER, CHANGE, DAILY, ABSOLUTE, GROWING = (
    "null",
    "margin",
    "power",
    "change",
    "daily",
    "absolute",
    "growing",
)


def plan(scale: float) -> list[Scenario]:
    """All scenarios; `scale` multiplies the number of runs."""

    def runs(wanted: int) -> int:
        return max(PART, round(wanted * scale / PART) * PART)

    todo: list[Scenario] = []
    for pool in POOLS:
        todo += [
            Scenario(NULL, pool, "equal", runs=runs(5000), rivals=runs(5000)),
            Scenario(NULL, pool, "equal", "bursts", runs=runs(5000)),
            Scenario(MARGIN, pool, "+2%", runs=runs(2000), spec=NO_ROLLBACK),
            Scenario(MARGIN, pool, "+2%", "bursts", runs=runs(3000), spec=NO_ROLLBACK),
        ]
        for candidate in ("+5%", "+20%", "+100%"):
            todo += [
                Scenario(POWER, pool, candidate, runs=runs(400), rivals=runs(400)),
                Scenario(POWER, pool, candidate, "bursts", runs=runs(200)),
            ]
        for candidate in ("+1%", "+2%", "-5%", "sparse +5%", "sparse +20%"):
            todo.append(Scenario(POWER, pool, candidate, runs=runs(200)))
        todo += [
            Scenario(POWER, pool, "-5%", "bursts", runs=runs(200)),
            Scenario(CHANGE, pool, "+20%", before="equal", runs=runs(200)),
            Scenario(CHANGE, pool, "+20%", before="-5%", runs=runs(200)),
            Scenario(DAILY, pool, "equal or better", "daily", runs=runs(1000)),
            Scenario(DAILY, pool, "better or worse", "daily", runs=runs(1000), spec=DISABLED),
            *(Scenario(DAILY, pool, "better or worse", "daily", runs=runs(500), spec=patient(days)) for days in (1, 2)),
            Scenario(DAILY, pool, "better or worse", "daily", runs=runs(200)),
            Scenario(GROWING, pool, "equal", runs=runs(1000), rate=10.0),
            Scenario(GROWING, pool, "equal", "bursts", runs=runs(1000), rate=10.0),
            Scenario(GROWING, pool, "+5%", runs=runs(200), rate=10.0),
            Scenario(GROWING, pool, "+20%", runs=runs(200), rate=10.0),
            Scenario(GROWING, pool, "+20%", before="equal", runs=runs(200), rate=10.0),
        ]
        todo.append(absolute(pool, "+2%", "bursts", runs(1000)))
    sharp = {"margin": Margin(absolute=0.005), "rollback_margin": Margin(absolute=0.005)}
    for candidate in ("equal", "+0.005", "+0.02"):
        for stream in ("independent", "bursts"):
            count = runs(1000) if candidate == "+0.005" else runs(200)
            todo.append(Scenario(ABSOLUTE, "sharp", candidate, stream, count, with_analysis(**sharp)))
    return todo


def absolute(pool: str, candidate: str, stream: str, runs: int) -> Scenario:
    """The candidate is exactly at a margin in nats, of both contrasts."""
    margin = Margin(absolute=0.02 * float(_pool(pool).baseline.mean()))
    spec = with_analysis(margin=margin, rollback_margin=margin)
    return Scenario(ABSOLUTE, pool, candidate, stream, runs, spec)
