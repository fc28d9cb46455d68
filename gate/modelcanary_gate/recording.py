"""Fills a decision record while a run goes on: looks, changes of the verdict, and sums of the blocks.

Called by `modelcanary run`, `evaluate` and `replay` and by the operator after each decision of the gate. Must not
decide anything.
"""

import math

from modelcanary_gate import explain
from modelcanary_gate.calibration import Reliability
from modelcanary_gate.contrasts import EvidencePlan
from modelcanary_gate.decision import Decision, GuardState
from modelcanary_gate.evidence import OUTCOME_CODES, LossBlock, TrafficBlock
from modelcanary_gate.record import (
    Calibration,
    CalibrationBin,
    ClassRow,
    Event,
    GuardRow,
    Look,
    Record,
    Thresholds,
)
from modelcanary_gate.spec import GuardType, Spec
from modelcanary_gate.vocabulary import Role, Verdict

#: Looks kept in a record: more than a chart has pixels for.
MOST_LOOKS = 2000
#: Events kept: the first, which say how it began, and the latest.
_MOST_EVENTS = 400
#: Guards on how the models answer live requests; recorded answers do not tell.
NEEDS_TRAFFIC = frozenset({GuardType.ERROR_RATE, GuardType.LATENCY, GuardType.NON_FINITE, GuardType.PROMETHEUS})
#: exp of more does not fit into a float.
_LARGEST_LOG = 690.0


def factor(log_evidence: float) -> float:
    """Evidence as a factor, from its natural logarithm; at most 1e299."""
    return math.exp(min(log_evidence, _LARGEST_LOG))


class Recorder:
    """Collects one run. Give it each block that the gate is given, and each decision."""

    def __init__(self, plan: EvidencePlan, most_looks: int = MOST_LOOKS) -> None:
        self._plan = plan
        self._most_looks = most_looks
        self._looks: list[Look] = []
        self._events: list[Event] = []
        self._count = 0
        self._stride = 1
        self._loss: LossBlock | None = None
        self._traffic: TrafficBlock | None = None
        self._last: Decision | None = None
        self._last_look: Look | None = None

    def add_loss(self, block: LossBlock) -> None:
        self._loss = block if self._loss is None else self._loss + block

    def add_traffic(self, block: TrafficBlock) -> None:
        self._traffic = block if self._traffic is None else self._traffic + block

    def event(self, kind: str, message: str, time: float | None = None) -> None:
        self._events.append(Event(kind, message, time, self._count or None))
        if len(self._events) > _MOST_EVENTS:
            del self._events[_MOST_EVENTS // 2]

    def look(self, decision: Decision, *, pairs: int, labelled: int, time: float | None = None) -> Look:
        """Keeps the look, thinned once there are many; the last one stays, and every change is an event."""
        self._count += 1
        measures = decision.measures
        look = Look(
            pairs=pairs,
            labelled=labelled,
            verdict=decision.verdict,
            reason=decision.reason,
            time=time,
            delta=measures.delta,
            lower=measures.lower,
            upper=measures.upper,
            baselineLoss=measures.baseline_loss,
            margin=measures.margin,
            rollbackEvidence=factor(measures.rollback_evidence),
            promotionEvidence=factor(measures.promotion_evidence),
            judged=measures.judged,
        )
        changed = self._last is None or (self._last.verdict, self._last.reason) != (
            decision.verdict,
            decision.reason,
        )
        if changed:
            self.event(str(decision.reason), f"{decision.verdict}: {decision.message}", time)
        self._last, self._last_look = decision, look
        if (self._count - 1) % self._stride == 0 or decision.verdict is not Verdict.CONTINUE:
            self._looks.append(look)
        if len(self._looks) > self._most_looks:
            self._looks = self._looks[::2]
            self._stride *= 2
        return look

    def record(  # what a record says of a run that blocks and decisions do not
        self,
        decision: Decision,
        *,
        run: str,
        command: str,
        pairs: int,
        labelled: int,
        version: str,
        baseline: str = "",
        candidate: str = "",
        name: str = "",
        started: float | None = None,
        ended: float | None = None,
        classes: list[ClassRow] | None = None,
        counts: dict[str, int] | None = None,
        notes: list[str] | None = None,
        spec: dict[str, object] | None = None,
    ) -> Record:
        """The record as it stands. `classes` replaces the rows that the blocks alone would give."""
        measures = decision.measures
        looks = list(self._looks)
        if self._last_look is not None and looks[-1] is not self._last_look:
            looks.append(self._last_look)
        return Record(
            run=run,
            command=command,
            verdict=decision.verdict,
            reason=decision.reason,
            message=decision.message,
            pairs=pairs,
            labelled=labelled,
            baseline=baseline,
            candidate=candidate,
            name=name,
            startedAt=started,
            endedAt=ended,
            thresholds=Thresholds(
                rollback=factor(measures.rollback_threshold),
                promotion=factor(measures.promotion_threshold),
                rollbackClear=factor(measures.rollback_threshold / 2),
            ),
            looks=looks,
            classes=self._classes() if classes is None else classes,
            calibration=self._calibration(),
            guards=[guard_row(guard) for guard in measures.guards],
            events=list(self._events),
            counts=counts or {},
            outcomes=self._outcomes(),
            notes=notes or [],
            spec=spec or {},
            version=version,
            unit=measures.unit,
        )

    def _classes(self) -> list[ClassRow]:
        if self._loss is None:
            return []
        return [
            ClassRow(name, int(n), float(b / n) if n else None, float(c / n) if n else None)
            for name, (n, b, c) in zip(self._plan.groups, self._loss.classes.T, strict=True)
        ]

    def _calibration(self) -> Calibration | None:
        if self._loss is None:
            return None
        baseline, candidate = self._loss.reliability
        if not baseline.n.any() and not candidate.n.any():
            return None
        return Calibration(_bins(baseline), _bins(candidate), baseline.error(), candidate.error())

    def _outcomes(self) -> dict[str, dict[str, int]]:
        if self._traffic is None:
            return {}
        return {
            str(role): {str(outcome): int(row[code]) for outcome, code in OUTCOME_CODES.items() if row[code]}
            for role, row in zip(Role, self._traffic.outcomes, strict=True)
        }


def guards_left_out(spec: Spec) -> list[str]:
    """The note that goes with a verdict on recorded answers."""
    names = [guard.name for guard in spec.guards if guard.type in NEEDS_TRAFFIC]
    if not names:
        return []
    return [f"Guards on live answers were left out: {', '.join(names)}."]


def guard_row(guard: GuardState) -> GuardRow:
    """One guard as a record holds it; its evidence is said where it has any."""
    parts = [guard.detail] if guard.detail else []
    if guard.log_evidence is not None and guard.log_threshold is not None:
        parts.append(f"evidence {explain.factor(guard.log_evidence)} of {explain.factor(guard.log_threshold)}")
    return GuardRow(
        name=guard.name,
        type=str(guard.type),
        state=str(guard.status),
        message=", ".join(parts),
        baseline=guard.baseline,
        candidate=guard.candidate,
        limit=guard.limit,
    )


def _bins(reliability: Reliability) -> list[CalibrationBin]:
    return [
        CalibrationBin(int(n), float(confidence / n), float(correct / n))
        for n, confidence, correct in zip(reliability.n, reliability.confidence, reliability.correct, strict=True)
        if n > 0
    ]
