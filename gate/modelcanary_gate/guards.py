"""Guards beside the loss: each compares one measure of the two models, and can veto or roll back.

A guard that can roll back bets as the loss does, with its share of the error budget. Latency in shadow and
calibration can only veto: the first because a mirrored request is timed off the live path, the second because
its error is no mean of pairs; a proper score punishes miscalibration in the loss itself.
"""

import math
from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from modelcanary_gate.calibration import Reliability
from modelcanary_gate.contrasts import Contrast, EvidencePlan
from modelcanary_gate.decision import ClassLoss, GuardState, GuardStatus, Metric
from modelcanary_gate.evidence import OUTCOME_CODES, LossBlock, TrafficBlock
from modelcanary_gate.latency import LatencyHistogram
from modelcanary_gate.spec import Guard, GuardType, Limit, LimitKind
from modelcanary_gate.stream import Stream
from modelcanary_gate.vocabulary import ERROR_OUTCOMES, Outcome, Reason

#: Below this many samples a guard that only vetoes says nothing.
_ENOUGH = 300

GUARD_REASONS = {
    GuardType.ERROR_RATE: Reason.ERROR_RATE,
    GuardType.NON_FINITE: Reason.NON_FINITE,
    GuardType.CONFIDENT_ERRORS: Reason.CONFIDENT_ERRORS,
    GuardType.PER_CLASS: Reason.CLASS_REGRESSION,
}


class Totals:
    """What guards need beside the contrasts, summed over the blocks so far."""

    def __init__(self, plan: EvidencePlan) -> None:
        self.outcomes = np.zeros((2, len(OUTCOME_CODES)), dtype=np.int64)
        self.latency = (LatencyHistogram(), LatencyHistogram())
        self.reliability = (Reliability.empty(), Reliability.empty())
        self.classes = np.zeros((3, len(plan.groups)))
        self.confident_errors = np.zeros((2, len(plan.confident_errors)))
        self.weight = 0.0  # of the labelled pairs

    def add_loss(self, block: LossBlock) -> None:
        old, new = self.reliability, block.reliability
        self.reliability = (old[0] + new[0], old[1] + new[1])
        self.classes = self.classes + block.classes
        self.confident_errors = self.confident_errors + block.confident_errors
        self.weight += block.weight

    def add_traffic(self, block: TrafficBlock) -> None:
        self.outcomes = self.outcomes + block.outcomes
        old, new = self.latency, block.latency
        self.latency = (old[0] + new[0], old[1] + new[1])

    def losses_of(self, groups: tuple[str, ...]) -> tuple[ClassLoss, ...]:
        """Per group of classes, of those that have labels."""
        rows = zip(groups, self.classes.T.tolist(), strict=True)
        return tuple(ClassLoss(name, n, b / n, c / n) for name, (n, b, c) in rows if n > 0)

    def answered(self) -> int:
        return int(self.outcomes[0].sum())


def guard_state(
    guard: Guard, plan: EvidencePlan, loss: Stream, traffic: Stream, totals: Totals, metrics: Mapping[str, Metric]
) -> GuardState:
    """Where one guard stands."""
    match guard.type:
        case GuardType.ERROR_RATE:
            codes = [OUTCOME_CODES[outcome] for outcome in Outcome if outcome in ERROR_OUTCOMES]
            return _proportion(guard, traffic, totals, codes)
        case GuardType.NON_FINITE:
            return _proportion(guard, traffic, totals, [OUTCOME_CODES[Outcome.NON_FINITE]])
        case GuardType.CONFIDENT_ERRORS:
            return _confident_errors(guard, plan, loss, totals)
        case GuardType.PER_CLASS:
            return _per_class(guard, plan, loss, totals)
        case GuardType.LATENCY:
            shown = tuple(histogram.quantile(guard.quantile) for histogram in totals.latency)
            known = min(histogram.n for histogram in totals.latency) >= _ENOUGH
            return _compared(guard, shown[0], shown[1], known=known)
        case GuardType.CALIBRATION_ERROR:
            shown = tuple(bins.error() for bins in totals.reliability)
            known = float(totals.reliability[0].n.sum()) >= _ENOUGH
            return _compared(guard, shown[0], shown[1], known=known, judged=totals.reliability[1].clearly())
        case GuardType.PROMETHEUS:
            return _metric(guard, metrics.get(guard.name))


def _indices(stream: Stream, guard: Guard) -> list[int]:
    return [index for index, contrast in enumerate(stream.contrasts) if contrast.guard == guard.name]


def _proportion(guard: Guard, traffic: Stream, totals: Totals, codes: list[int]) -> GuardState:
    answered = totals.answered()
    if not answered:
        return GuardState(guard.name, guard.type, GuardStatus.UNKNOWN, None, None, _limit_text(guard))
    shares = totals.outcomes[:, codes].sum(axis=1) / answered
    return _betting(guard, traffic, _indices(traffic, guard), float(shares[0]), float(shares[1]))


def _confident_errors(guard: Guard, plan: EvidencePlan, loss: Stream, totals: Totals) -> GuardState:
    shares: list[float | None] = [None, None]
    if loss.n:
        place = [contrast.guard for contrast in plan.confident_errors].index(guard.name)
        shares = [float(count) / totals.weight for count in totals.confident_errors[:, place]]
    return _betting(guard, loss, _indices(loss, guard), shares[0], shares[1])


def _betting(
    guard: Guard, stream: Stream, indices: list[int], baseline: float | None, candidate: float | None
) -> GuardState:
    (index,) = indices
    status = GuardStatus.OK
    if stream.triggers[index].fired:
        status = GuardStatus.FAILED
    elif stream.mean(index) > 0:
        status = GuardStatus.VETO
    elif stream.n == 0:
        status = GuardStatus.UNKNOWN
    return GuardState(
        guard.name,
        guard.type,
        status,
        baseline,
        candidate,
        _limit_text(guard),
        float(stream.log_evidence[index]),
        stream.triggers[index].threshold,
    )


def _per_class(guard: Guard, plan: EvidencePlan, loss: Stream, totals: Totals) -> GuardState:
    """The class with the most evidence against it. The budget is split over the classes (Bonferroni, which is
    the first step of Holm's procedure; the first rejection already rolls back)."""
    indices = _indices(loss, guard)
    if not indices or loss.n == 0:
        return GuardState(guard.name, guard.type, GuardStatus.UNKNOWN, None, None, _limit_text(guard))
    worst = max(indices, key=lambda index: float(loss.log_evidence[index]))
    failed = [index for index in indices if loss.triggers[index].fired]
    # A class may be rare: its mean has to be above the limit by more than its own standard error.
    doubtful = [index for index in indices if loss.mean(index) > loss.standard_error(index)]
    status = GuardStatus.FAILED if failed else GuardStatus.VETO if doubtful else GuardStatus.OK
    shown = failed[0] if failed else doubtful[0] if doubtful and worst not in doubtful else worst
    contrast: Contrast = loss.contrasts[shown]
    n, b, c = (float(value) for value in totals.classes[:, contrast.group])
    return GuardState(
        guard.name,
        guard.type,
        status,
        b / n if n else None,
        c / n if n else None,
        _limit_text(guard),
        float(loss.log_evidence[shown]),
        loss.triggers[shown].threshold,
        detail=plan.groups[contrast.group],
    )


def _metric(guard: Guard, metric: Metric | None) -> GuardState:
    """A metric of the user's: what it does not say is no reason to promote, and none to roll back."""
    metric = metric or Metric(None, None, "it was not asked yet")
    relative = any(limit is not None and limit.kind is not LimitKind.ABSOLUTE for limit in (guard.max, guard.min))
    needed = (metric.candidate, metric.baseline) if relative else (metric.candidate,)
    if metric.problem or any(value is None or not math.isfinite(value) for value in needed):
        state = GuardState(
            guard.name, guard.type, GuardStatus.MISSING, metric.baseline, metric.candidate, _limit_text(guard)
        )
        return replace(state, detail=metric.problem or "a value is missing")
    # An absolute limit is on the candidate's alone.
    baseline = metric.baseline if metric.baseline is not None else 0.0
    state = _compared(guard, baseline, metric.candidate, known=True)
    return replace(state, baseline=metric.baseline)


def _compared(
    guard: Guard,
    baseline: float | None,
    candidate: float | None,
    *,
    known: bool,
    judged: float | None = None,
) -> GuardState:
    """`judged` stands for the candidate's measure in the comparison, where that allows for its noise."""
    status = GuardStatus.UNKNOWN
    if known and baseline is not None and candidate is not None:
        measure = candidate if judged is None else judged
        beyond = [
            limit is not None and sign * (measure - _allowed(limit, baseline)) > 0
            for limit, sign in ((guard.max, 1), (guard.min, -1))
        ]
        status = GuardStatus.VETO if any(beyond) else GuardStatus.OK
    return GuardState(guard.name, guard.type, status, baseline, candidate, _limit_text(guard))


def _allowed(limit: Limit, baseline: float) -> float:
    match limit.kind:
        case LimitKind.ABSOLUTE:
            return limit.value
        case LimitKind.OVER_BASELINE:
            return baseline + limit.value
        case LimitKind.TIMES_BASELINE:
            return baseline * limit.value


def _limit_text(guard: Guard) -> str:
    if guard.type is GuardType.PER_CLASS:
        parts = []
        if guard.margin.relative or not guard.margin.absolute:
            parts.append(f"+{guard.margin.relative * 100:g}%")
        if guard.margin.absolute:
            parts.append(f"+{guard.margin.absolute:g} nats")
        return " ".join(parts)
    shown = []
    for word, limit in (("max", guard.max), ("min", guard.min)):
        if limit is not None:
            prefix = {LimitKind.ABSOLUTE: "", LimitKind.OVER_BASELINE: "+", LimitKind.TIMES_BASELINE: "x"}
            shown.append(f"{word} {prefix[limit.kind]}{limit.value:g}")
    return ", ".join(shown)
