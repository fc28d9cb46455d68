"""Where labels of one class come sooner, early labels lie: what the gate makes of that, by the ledger's own learning.

`make bench-late` runs it and writes its part of bench/RESULTS.md; `tests/ledger/test_late_labels.py` runs a few of the
same runs. Two classes; labels of one take a minute on average, of the other an hour, and a tenth of those never come.
The candidate is better where labels are early and worse where they are late, or the other way round. Pairs go through
the ledger's own learning, maturing and counting (`Run`), block by block into the gate; the database, HTTP and the
order of arrival are left out.
"""

import argparse
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from bench.sections import keep
from numpy.typing import NDArray

from modelcanary_gate.decision import Decision, Facts
from modelcanary_gate.gate import Gate
from modelcanary_gate.parse import parse_spec
from modelcanary_gate.spec import Spec
from modelcanary_gate.vocabulary import Reason, Verdict
from modelcanary_ledger.run import Progress, Run, Scorable

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

RATE, HOURS, STEP = 20.0, 6.0, 60.0  # pairs a second, length of a run, seconds between looks
FAST = 0.47  # share of the pairs
NEVER = 0.1  # of the slow class
RHO = 0.94  # correlation of what the two models believe
_FEW = 1e-4

#: name → overall delta, and that of the fast class, relative to the baseline's loss
TRAPS = {
    "worse by 5%, by −10% in the fast class": (0.05, -0.10),
    "better by 1%, worse by 10% in the fast class": (-0.01, 0.10),
    "equal, worse by 10% in the fast class": (0.0, 0.10),
    "equal, better by 10% in the fast class": (0.0, -0.10),
    "equal in both classes": (0.0, 0.0),
}


@dataclass(frozen=True, slots=True)
class Delay:
    """Mean delays of the two classes, seconds; `sharp`: all labels of the slow class take about as long."""

    fast: float = 60.0
    slow: float = 3600.0
    sharp: bool = False


@dataclass(frozen=True, slots=True)
class Rule:
    """How labels are counted."""

    name: str
    maturity: str
    weighed: bool = True


SO_FAR = Rule("all labels so far", "0s")
DECLARED = Rule("maturity: 3h", "3h")
AUTO = Rule("maturity: auto", "auto")
UNWEIGHED = Rule("maturity: auto, not weighed", "auto", weighed=False)


@dataclass(frozen=True, slots=True)
class Outcome:
    verdict: Verdict
    minutes: float
    reason: Reason
    maturity: float | None


def spec_of(rule: Rule) -> Spec:
    written = {
        "model": {"classes": ["fast", "slow"], "protocol": "kserve-v1"},
        "labels": {"maturity": rule.maturity},
        "guards": [],
    }
    return parse_spec(written, require_target=False)


def models(rng: np.random.Generator, labels: Ints, overall: float, fast: float) -> tuple[Floats, Floats]:
    """Log-probabilities of both models, (n, 2); the candidate's loss is by so much more than the baseline's."""
    is_fast = labels == 0
    middle, spread = np.where(is_fast, 3.4, 1.5), np.where(is_fast, 1.8, 1.9)
    own, other, shared = rng.normal(size=(3, len(labels)))
    margins = [middle + spread * (RHO * shared + np.sqrt(1 - RHO**2) * part) for part in (own, other)]
    b, c = (np.log1p(np.exp(-margin)) for margin in margins)
    # Of the whole population, lest chance decides which model is better.
    means = {True: 0.1118, False: 0.4585}
    share = FAST * means[True] / (FAST * means[True] + (1 - FAST) * means[False])
    slow = (overall - share * fast) / (1 - share)
    c = c * np.where(is_fast, 1 + fast, 1 + slow)
    return _log_probabilities(b, labels), _log_probabilities(c, labels)


def _log_probabilities(loss: Floats, labels: Ints) -> Floats:
    right = np.maximum(np.exp(-np.minimum(loss, -np.log(_FEW))), _FEW)
    both = np.empty((len(labels), 2))
    rows = np.arange(len(labels))
    both[rows, labels] = np.log(right)
    both[rows, 1 - labels] = np.log(np.maximum(1 - right, _FEW))
    return both


class World:
    """One run of pairs, and when their labels come."""

    def __init__(self, seed: int, trap: tuple[float, float], delay: Delay, hours: float = HOURS) -> None:
        rng = np.random.default_rng([21, seed])
        n = int(RATE * hours * 3600)
        self.times = np.sort(rng.random(n)) * hours * 3600
        self.labels = (rng.random(n) >= FAST).astype(np.int64)
        self.baseline, self.candidate = models(rng, self.labels, *trap)
        late = delay.slow * (rng.normal(1.0, 0.02, n) if delay.sharp else rng.exponential(size=n))
        self.delays = np.where(self.labels == 0, rng.exponential(delay.fast, n), np.maximum(late, 0.0))
        self.delays[(self.labels == 1) & (rng.random(n) < NEVER)] = np.inf
        self.came = self.times + self.delays
        self.by_arrival = np.argsort(self.came, kind="stable")
        self.predicted = self.baseline.argmax(axis=1)
        self.seconds = hours * 3600


def judged(world: World, rule: Rule) -> Outcome:
    """The run's verdict, looked for once a minute."""
    spec = spec_of(rule)
    gate, run = Gate(spec), Run(1, 1, "r", spec, 0.0, Progress(0, 0))
    arrived = matured = requests = 0
    decision: Decision | None = None
    came = world.came[world.by_arrival]
    for now in np.arange(STEP, world.seconds + STEP, STEP).tolist():
        here = slice(requests, requests := int(np.searchsorted(world.times, now)))
        rows = world.by_arrival[arrived : (arrived := int(np.searchsorted(came, now)))]
        if not run.at_once:
            run.delays.add_pairs(world.times[here], world.predicted[here])
            run.delays.add(world.times[rows], world.delays[rows], world.labels[rows], world.predicted[rows])
            run.learn(now)
            if not rule.weighed:
                run.progress.weighing.clear()
            old = np.arange(matured, matured := int(np.searchsorted(world.times, now - run.horizon)))
            known = world.delays[old] <= run.horizon
            rows = old[known]
            _mature(run, world, old, known)
        clock = np.maximum(world.came[rows], 0.0) if run.at_once else world.times[rows]
        _count(run, world, rows, clock)
        for block in run.loss.closed:
            gate.add_loss(block)
        run.saved()
        decision = gate.decide(Facts(now, requests, arrived))
        if decision.verdict is not Verdict.CONTINUE:
            return Outcome(decision.verdict, now / 60, decision.reason, run.progress.maturity)
    if decision is None:
        raise ValueError("a run of no length has no verdict")
    return Outcome(decision.verdict, world.seconds / 60, decision.reason, run.progress.maturity)


def _mature(run: Run, world: World, old: NDArray[np.intp], known: NDArray[np.bool_]) -> None:
    missing = np.ones(len(old))
    coverage, _ = run.coverage_of(world.labels[old[known]].tolist())
    missing[known] = 1 - 1 / coverage
    run.add_coverage(world.baseline[old], world.candidate[old], missing)


def _count(run: Run, world: World, rows: NDArray[np.intp], clock: Floats) -> None:
    if not len(rows):
        return
    labels = world.labels[rows].tolist()
    _, weights = run.coverage_of(labels)
    run.add_labelled(Scorable(world.times[rows], world.baseline[rows], world.candidate[rows], labels, weights), clock)


def tried(seeds: Sequence[int], trap: str, rule: Rule, delay: Delay = Delay()) -> list[Outcome]:
    return [judged(World(seed, TRAPS[trap], delay), rule) for seed in seeds]


def row(outcomes: Sequence[Outcome]) -> str:
    """Shares of the verdicts with the median minutes to them."""
    cells = []
    for verdict in (Verdict.PROMOTE, Verdict.ROLL_BACK):
        minutes = [outcome.minutes for outcome in outcomes if outcome.verdict is verdict]
        share = f"{100 * len(minutes) / len(outcomes):.0f}%"
        cells.append(f"{share} ({np.median(minutes):.0f} min)" if minutes else share)
    left = Counter(outcome.reason for outcome in outcomes if outcome.verdict is Verdict.CONTINUE)
    cells.append(
        ", ".join(f"{reason} {100 * count / len(outcomes):.0f}%" for reason, count in left.most_common()) or "–"
    )
    return " | ".join(cells)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=100)
    parser.add_argument("--no-record", action="store_true")
    given = parser.parse_args()
    started, lines = time.process_time(), []
    delays = {"": Delay(), "; the slow class takes an hour, all of it": Delay(fast=2.0, sharp=True)}
    for words, delay in delays.items():
        for trap in list(TRAPS)[: 2 if words else None]:
            for rule in (SO_FAR, DECLARED, UNWEIGHED, AUTO):
                line = f"| {trap}{words} | {rule.name} | {row(tried(range(given.runs), trap, rule, delay))} |"
                print(line, flush=True)
                lines.append(line)
    if given.no_record:
        return
    head = [
        "## Late labels",
        "",
        f"{given.runs} runs of {HOURS:g} h each, {RATE:g} pairs a second, the default specification, a look a minute. "
        f"{100 * FAST:.0f}% of the pairs are of a class whose labels take a minute on average (in the last rows 2 s), "
        f"the others an hour, and {100 * NEVER:.0f}% of those never come. "
        f"`make bench-late`, {time.process_time() - started:.0f} s of CPU.",
        "",
        "| candidate | counted | promoted (median) | rolled back (median) | neither |",
        "|---|---|---|---|---|",
        *lines,
    ]
    keep("late", "\n".join(head))


if __name__ == "__main__":
    main()
