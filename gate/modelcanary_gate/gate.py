"""The gate: folds blocks of evidence and says Promote, RollBack or Continue, with the reason.

Called by `modelcanary run`, `replay` and `evaluate`, and by the operator. It is a fold: the same blocks in the
same order give the same answer, after a restart too. It has no clock; what depends on time comes as `Facts`.
"""

import math
from collections import deque

from modelcanary_gate import explain
from modelcanary_gate.bias import biased_class
from modelcanary_gate.confidence import mean_interval
from modelcanary_gate.contrasts import Contrast, EvidencePlan, Kind
from modelcanary_gate.decision import Decision, Facts, GuardState, GuardStatus, Measures
from modelcanary_gate.eprocess import Discount
from modelcanary_gate.errors import DataError
from modelcanary_gate.evidence import Coverage, LossBlock, TrafficBlock
from modelcanary_gate.guards import GUARD_REASONS, Totals, guard_state
from modelcanary_gate.hysteresis import Trigger, log_threshold
from modelcanary_gate.spec import LabelMode, OnTimeout, Restarts, Spec
from modelcanary_gate.stream import Stream
from modelcanary_gate.trend import Trend
from modelcanary_gate.vocabulary import Reason, Verdict

#: A promotion waits while the roll-back's evidence is above this factor.
_SAFE = math.log(10.0)
#: The last blocks, whose delta must be within the margin when a promotion is decided.
_RECENT = 20
#: A trend is clear when its slope is this many standard errors above zero.
_TREND_Z = 3.0
#: Answered pairs before a guard on answers may roll back.
_MIN_ANSWERED = 100
#: What a verdict of an equal candidate takes beyond ln(1/α), in nats of evidence: the price of the mixture of bets.
_MIXTURE_PRICE = math.log(16.0)

_ROLLBACK, _PROMOTE = 0, 1  # of the loss stream's contrasts


class Gate:
    """The state of one run's verdict. `timed=False` leaves out the rules that need a clock."""

    def __init__(self, spec: Spec, *, timed: bool = True, discount: Discount | None = None) -> None:
        self._spec = spec
        self._timed = timed
        self.plan = EvidencePlan.of(spec)
        discount = discount or Discount()
        analysis = spec.analysis
        shares = _error_budget(self.plan, analysis.error_rates.rollback)
        promote_alpha = analysis.error_rates.promote / 2**analysis.attempt
        on = analysis.restarts is Restarts.ENABLED

        def stream(contrasts: tuple[Contrast, ...]) -> Stream:
            triggers, restarts = [], []
            for contrast in contrasts:
                promote = contrast.kind is Kind.LOSS_PROMOTE
                alpha = promote_alpha if promote else shares[contrast.name]
                after = analysis.hysteresis.promote_after if promote else analysis.hysteresis.rollback_after
                triggers.append(Trigger(log_threshold(alpha), after))
                restarts.append(on and not promote)
            return Stream(contrasts, triggers, restarts, discount)

        self._loss = stream(self.plan.loss)
        self._traffic = stream(self.plan.traffic)
        self._totals = Totals(self.plan)
        self._coverage = Coverage.empty(self.plan)
        self._biased: int | None = None  # the group of predicted classes whose labels are missing, by the last block
        on_rollback = self._loss.triggers[_ROLLBACK]
        # Proved by labels that are not biased; the stream's own trigger takes all evidence.
        self._sound = Trigger(on_rollback.threshold, on_rollback.confirm_after)
        self._sums = [0.0] * 5
        self._recent: deque[tuple[float, float, float]] = deque(maxlen=_RECENT)
        self._trend = Trend()
        self._began: float | None = None

    @property
    def next_loss(self) -> int:
        """The number of the next loss block that is not folded yet."""
        return self._loss.blocks

    @property
    def next_traffic(self) -> int:
        return self._traffic.blocks

    def add_loss(self, block: LossBlock) -> None:
        """Folds a block of labelled pairs; ignores one that is folded already. Raises DataError for one too early."""
        loss = self._loss
        if _is_folded(block.seq, loss):
            return
        loss.push(block.n, block.contrasts)
        self._sums = [total + float(value) for total, value in zip(self._sums, block.moments, strict=True)]
        b, c = float(block.moments[0]), float(block.moments[1])
        self._recent.append((block.weight, b, c))
        when = (block.opened + block.closed) / 2 / 3600 if self._timed else loss.n / 1000
        self._trend.push(when, block.n, (c - b) / block.weight)
        self._totals.add_loss(block)
        self._coverage = self._coverage + block.coverage
        self._biased = biased_class(self._coverage)
        enough = self._spec.analysis.min_samples
        rollback = float(loss.log_evidence[_ROLLBACK])
        for index, trigger in enumerate(loss.triggers):
            evidence = float(loss.log_evidence[index])
            if index == _PROMOTE:
                # Evidence for a promotion does not count while there is some for a roll-back.
                evidence = evidence if rollback < _SAFE else -math.inf
                trigger.push(evidence, allowed=loss.n >= enough.promote)
            elif index == _ROLLBACK:
                allowed = loss.n >= enough.rollback and self._is_whole(block)
                trigger.push(evidence, allowed=allowed)
                self._sound.push(evidence if self._biased is None else -math.inf, allowed=allowed)
            elif loss.contrasts[index].kind is Kind.CONFIDENT_ERRORS and self._biased is not None:
                trigger.push(-math.inf, allowed=False)  # a mean over all classes, as the loss is
            else:
                trigger.push(evidence, allowed=loss.n >= enough.rollback)

    def _is_whole(self, block: LossBlock) -> bool:
        """Whether the run may be judged as a whole, where that is asked for: not before minDuration.

        With restarts disabled, a part of the run that is worse is no regression; before minDuration there is only that.
        """
        if self._began is None:
            self._began = block.opened
        analysis = self._spec.analysis
        if analysis.restarts is Restarts.ENABLED or not self._timed:
            return True
        return block.closed - self._began >= analysis.min_duration

    def add_traffic(self, block: TrafficBlock) -> None:
        """As `add_loss`, of answered pairs."""
        traffic = self._traffic
        if _is_folded(block.seq, traffic):
            return
        traffic.push(block.n, block.contrasts)
        self._totals.add_traffic(block)
        for index, trigger in enumerate(traffic.triggers):
            trigger.push(float(traffic.log_evidence[index]), allowed=traffic.n >= _MIN_ANSWERED)

    def decide(self, facts: Facts) -> Decision:
        """The verdict on the blocks folded so far."""
        measures = self._measures(facts)
        analysis = self._spec.analysis
        for guard in measures.guards:
            if guard.status is GuardStatus.FAILED and guard.type not in _LABELLED_GUARDS:
                return self._answer(Verdict.ROLL_BACK, GUARD_REASONS[guard.type], facts, measures, guard)
        if self._sound.fired or (facts.exposed and self._loss.triggers[_ROLLBACK].fired):
            agreement = self._spec.labels.mode is LabelMode.AGREEMENT
            reason = Reason.AGREEMENT_TOO_LOW if agreement else Reason.LOSS_REGRESSION
            return self._answer(Verdict.ROLL_BACK, reason, facts, measures)
        for guard in measures.guards:
            if guard.status is GuardStatus.FAILED:
                return self._answer(Verdict.ROLL_BACK, GUARD_REASONS[guard.type], facts, measures, guard)
        held = self._why_not_promote(facts, measures)
        if held is None:
            return self._answer(Verdict.PROMOTE, Reason.CANDIDATE_NO_WORSE, facts, measures)
        if self._timed and facts.elapsed >= analysis.max_duration:
            if analysis.on_timeout is OnTimeout.ROLLBACK:
                return self._answer(Verdict.ROLL_BACK, Reason.ANALYSIS_TIMED_OUT, facts, measures)
            return self._answer(Verdict.CONTINUE, Reason.HELD, facts, measures)
        reason, guard_state_ = held
        return self._answer(Verdict.CONTINUE, reason, facts, measures, guard_state_)

    def _why_not_promote(self, facts: Facts, measures: Measures) -> tuple[Reason, GuardState | None] | None:
        """The first thing that a promotion still waits for; None when nothing is left."""
        spec, analysis, loss = self._spec, self._spec.analysis, self._loss
        feedback = spec.labels.mode is LabelMode.FEEDBACK
        trigger = loss.triggers[_PROMOTE]
        biased = self._biased
        veto = next((guard for guard in measures.guards if guard.status is GuardStatus.VETO), None)
        missing = next((guard for guard in measures.guards if guard.status is GuardStatus.MISSING), None)
        checks: list[tuple[bool, Reason]] = [
            (facts.pairs == 0 and loss.n == 0, Reason.WAITING_FOR_PAIRS),
            (feedback and facts.labelled == 0 and loss.n == 0, Reason.WAITING_FOR_LABELS),
            (self._timed and loss.n == 0 and facts.labelled > 0, Reason.WAITING_FOR_MATURITY),
            # The other verdict is held, and nothing is to be said of a promotion.
            (biased is not None and loss.triggers[_ROLLBACK].confirmed, Reason.LABELS_BIASED),
            (loss.n < analysis.min_samples.promote, Reason.TOO_FEW_SAMPLES),
            (
                not feedback and (spec.labels.agreement is None or spec.labels.agreement.promote_below is None),
                Reason.PROMOTION_NOT_ALLOWED,
            ),
            (not trigger.on, Reason.EVIDENCE_BELOW_THRESHOLD),
            (not trigger.confirmed, Reason.NOT_YET_CONSISTENT),
            (not self._recently_within_margin(), Reason.RECENT_REGRESSION),
            (self._is_worsening(measures.margin), Reason.TREND_WORSENING),
            (feedback and biased is not None, Reason.LABELS_BIASED),
            (
                feedback and facts.conflicts > spec.labels.max_conflict_share * facts.labels,
                Reason.LABELS_CONFLICTING,
            ),
            (veto is not None, Reason.GUARD_VETO),
            (missing is not None, Reason.GUARD_MISSING),
            (self._timed and facts.elapsed < analysis.min_duration, Reason.TOO_EARLY),
        ]
        reason = next((reason for holds, reason in checks if holds), None)
        if reason is None:
            return None
        return reason, {Reason.GUARD_VETO: veto, Reason.GUARD_MISSING: missing}.get(reason)

    def _recently_within_margin(self) -> bool:
        margin = self.plan.loss[_PROMOTE].margin
        weight = sum(row[0] for row in self._recent)
        b, c = sum(row[1] for row in self._recent), sum(row[2] for row in self._recent)
        # At the margin itself counts: a perfect baseline and its equal have no loss at all.
        return weight > 0 and c <= (1 + margin.relative) * b + margin.absolute * weight

    def _is_worsening(self, margin: float | None) -> bool:
        """The delta clearly grows, and would be beyond the margin if it went on for as long as the run has."""
        slope = self._slope()
        if slope is None or margin is None or slope[0] <= _TREND_Z * slope[1]:
            return False
        return self._trend.ahead(slope[0]) > margin

    def _delta_variance(self) -> float:
        """Of a pair's weighted delta."""
        n, (b, c, bb, cc, bc) = self._loss.n, self._sums
        if n < 2:
            return 0.0
        return max(0.0, (cc - 2 * bc + bb) / n - ((c - b) / n) ** 2)

    def _slope(self) -> tuple[float, float] | None:
        return self._trend.slope(self._delta_variance() * self._per_weight() ** 2, self._loss.phi(_ROLLBACK))

    def _per_weight(self) -> float:
        """Pairs to a whole one: 1 where they are not weighted."""
        return self._loss.n / self._totals.weight if self._loss.n else 1.0

    def _measures(self, facts: Facts) -> Measures:
        loss, n = self._loss, self._loss.n
        b, c = self._sums[:2]
        weight, scale = self._totals.weight, self._per_weight()
        baseline = b / weight if n else None
        delta = (c - b) / weight if n else None
        variance, phi = self._delta_variance(), loss.phi(_ROLLBACK)
        interval = mean_interval(n, (c - b) / n, variance, phi) if n else None
        shown = interval if interval is not None and math.isfinite(interval[0]) else None
        margin = self.plan.loss[_PROMOTE].margin
        slope = self._slope()
        to_rollback, to_promotion = loss.pairs_to_go(_ROLLBACK), loss.pairs_to_go(_PROMOTE)
        enough = self._spec.analysis.min_samples
        to_rollback = None if to_rollback is None else max(to_rollback, enough.rollback - n)
        to_promotion = None if to_promotion is None else max(to_promotion, enough.promote - n)
        nearest = min((pairs for pairs in (to_rollback, to_promotion) if pairs is not None), default=None)
        rate = facts.labels_per_second
        return Measures(
            judged=n,
            baseline_loss=baseline,
            candidate_loss=c / weight if n else None,
            delta=delta,
            lower=shown[0] * scale if shown else None,
            upper=shown[1] * scale if shown else None,
            margin=None if baseline is None else margin.relative * baseline + margin.absolute,
            rollback_evidence=float(loss.log_evidence[_ROLLBACK]),
            rollback_threshold=loss.triggers[_ROLLBACK].threshold,
            promotion_evidence=float(loss.log_evidence[_PROMOTE]),
            promotion_threshold=loss.triggers[_PROMOTE].threshold,
            design_effect=phi,
            slope=slope[0] if slope else None,
            slope_error=slope[1] if slope else None,
            pairs_to_rollback=to_rollback,
            pairs_to_promotion=to_promotion,
            seconds_to_verdict=nearest / rate if nearest is not None and rate > 0 else None,
            reachable_margin=self._reachable_margin(facts, variance, phi, baseline),
            guards=tuple(
                guard_state(guard, self.plan, loss, self._traffic, self._totals, facts.metrics)
                for guard in self._spec.guards
            ),
            rollback_streak=min(loss.triggers[_ROLLBACK].streak, loss.triggers[_ROLLBACK].confirm_after),
            promotion_streak=min(loss.triggers[_PROMOTE].streak, loss.triggers[_PROMOTE].confirm_after),
            classes=self._totals.losses_of(self.plan.groups),
            unit=self._spec.model.unit,
            biased=self.plan.groups[self._biased] if self._biased is not None else "",
        )

    def _reachable_margin(self, facts: Facts, variance: float, phi: float, baseline: float | None) -> float | None:
        """The relative margin that a candidate with no delta could prove by maxDuration at the present rate.

        Evidence grows by m²/(2φσ²) a pair where m is the margin in nats (the second-order bet).
        """
        if not self._timed or not baseline or self._loss.n < self._spec.analysis.min_samples.rollback:
            return None
        left = max(0.0, self._spec.analysis.max_duration - facts.elapsed)
        pairs = self._loss.n + max(0.0, facts.labels_per_second) * left
        needed = self._loss.triggers[_PROMOTE].threshold + _MIXTURE_PRICE
        return math.sqrt(2 * phi * variance * needed / pairs) * self._per_weight() / baseline

    def _answer(
        self,
        verdict: Verdict,
        reason: Reason,
        facts: Facts,
        measures: Measures,
        guard: GuardState | None = None,
    ) -> Decision:
        message = explain.message(self._spec, reason, facts, measures, guard, self._totals.outcomes)
        return Decision(verdict, reason, message, measures)


_LABELLED_GUARDS = frozenset(
    guard_type
    for guard_type, reason in GUARD_REASONS.items()
    if reason in (Reason.CONFIDENT_ERRORS, Reason.CLASS_REGRESSION)
)


def _is_folded(seq: int, stream: Stream) -> bool:
    """Raises DataError where blocks before this one are missing: they could never be folded afterwards."""
    if seq > stream.blocks:
        raise DataError(f"block {seq} of evidence came where block {stream.blocks} is due; read them in order")
    return seq < stream.blocks


def _error_budget(plan: EvidencePlan, alpha: float) -> dict[str, float]:
    """The roll-back's error budget per contrast; its parts sum to `alpha`.

    Half goes to the loss and half to the guards that can roll back, in equal parts, and a guard's part to its
    contrasts in equal parts. Without such guards, the loss has it all.
    """
    of_guards: dict[str, list[str]] = {}
    for contrast in (*plan.loss, *plan.traffic):
        if contrast.guard is not None:
            of_guards.setdefault(contrast.guard, []).append(contrast.name)
    budget = {plan.loss[_ROLLBACK].name: alpha / 2 if of_guards else alpha}
    for names in of_guards.values():
        for name in names:
            budget[name] = alpha / 2 / len(of_guards) / len(names)
    return budget
