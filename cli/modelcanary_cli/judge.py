"""Folds the pairs of a recorded run through the gate, look by look.

Called by `replay` and `evaluate`. Must not know where the pairs come from, nor how a verdict is shown.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from modelcanary_cli.pairs import RecordedRun
from modelcanary_gate.contrasts import EvidencePlan
from modelcanary_gate.decision import Decision, Facts
from modelcanary_gate.evidence import BlockRule, LossBlock, loss_blocks
from modelcanary_gate.gate import Gate
from modelcanary_gate.spec import Spec
from modelcanary_gate.vocabulary import Reason, Verdict

_SUMMED_AT_ONCE = 16  # blocks
#: Without a clock a block is cut by its number of labelled pairs alone.
COUNT_ONLY = BlockRule(seconds=0.0, fraction=0.0)


@dataclass(frozen=True, slots=True)
class JudgedLook:
    """What the gate said at one look."""

    look: int  # 1-based
    pairs: int
    labelled: int
    time: float | None
    decision: Decision
    block: LossBlock | None  # what was new


def look_by_look(spec: Spec, plan: EvidencePlan, run: RecordedRun, every: int, *, timed: bool) -> Iterator[JudgedLook]:
    """One look every `every` pairs, and one at the end of the run; it ends with the first verdict,
    or when its time is up.

    A block of evidence is cut at the first look that has enough labelled pairs for it, so a look can come
    without a new block. The pairs left over at the end are too few for a block, as they would be in a live run.
    """
    gate = Gate(spec, timed=timed)
    pairs = len(run.labelled)
    ends = [*range(every, pairs, every), pairs]
    labelled = np.concatenate([[0], np.cumsum(run.labelled)])[ends].tolist()
    looks, cuts, spans = _cuts(run, ends, labelled, timed=timed)
    blocks, with_block = _summed(plan, run, cuts, spans), frozenset(looks)
    decision: Decision | None = None
    for number, (end, known) in enumerate(zip(ends, labelled, strict=True), start=1):
        block = next(blocks) if number in with_block else None
        if block is not None:
            gate.add_loss(block)
        time, elapsed = _clock(run, end)
        # without a new block or a clock nothing can have changed but the counts
        if block is not None or decision is None or timed or number == len(ends) or gate.next_loss == 0:
            rate = known / elapsed if timed and elapsed > 0 else 0.0
            facts = Facts(elapsed if timed else 0.0, end, known, labels_per_second=rate)
            decision = gate.decide(facts)
        yield JudgedLook(number, end, known, time, decision, block)
        if decision.verdict is not Verdict.CONTINUE or decision.reason is Reason.HELD:
            return


def _cuts(
    run: RecordedRun, ends: list[int], labelled: list[int], *, timed: bool
) -> tuple[list[int], list[int], list[tuple[float, float]]]:
    """Of each block: the look at which it is cut, where it ends (the first starts at 0), and when it was open."""
    rule = BlockRule() if timed else COUNT_ONLY
    looks: list[int] = []
    cuts: list[int] = [0]
    spans: list[tuple[float, float]] = []
    opened = 0
    for number, (end, known) in enumerate(zip(ends, labelled, strict=True), start=1):
        span, elapsed = 0.0, 0.0
        if timed and run.times is not None:
            span, elapsed = float(run.times[end - 1] - run.times[opened]), _clock(run, end)[1]
        if known > cuts[-1] and rule.due(known - cuts[-1], span, elapsed):
            looks.append(number)
            cuts.append(known)
            first, last = (0.0, 0.0) if run.times is None else (run.times[opened], run.times[end - 1])
            spans.append((float(first), float(last)))
            opened = min(end, len(run.labelled) - 1)
    return looks, cuts, spans


def _summed(
    plan: EvidencePlan, run: RecordedRun, cuts: list[int], spans: list[tuple[float, float]]
) -> Iterator[LossBlock]:
    """The blocks in their order, summed a few at a time: most runs are decided long before their end."""
    for first in range(0, len(spans), _SUMMED_AT_ONCE):
        last = min(first + _SUMMED_AT_ONCE, len(spans))
        pairs = run.scored.take(slice(cuts[first], cuts[last]))
        starts = np.array(cuts[first:last], dtype=np.intp) - cuts[first]
        yield from loss_blocks(plan, pairs, starts, first, spans[first:last])


def _clock(run: RecordedRun, end: int) -> tuple[float | None, float]:
    """(time of the look, seconds since the run's first pair)."""
    if run.times is None:
        return None, 0.0
    return float(run.times[end - 1]), float(run.times[end - 1] - run.times[0])
