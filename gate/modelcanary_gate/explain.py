"""The sentence that goes with a verdict, for the terminal, the condition, the Event and the report.

Written from the same numbers as the verdict; decides nothing.
"""

import math

import numpy as np
from numpy.typing import NDArray

from modelcanary_gate.decision import Facts, GuardState, GuardStatus, Measures
from modelcanary_gate.evidence import OUTCOME_CODES
from modelcanary_gate.spec import GuardType, LabelMode, Spec
from modelcanary_gate.unscored import most_unscored
from modelcanary_gate.vocabulary import Reason, Role


def message(
    spec: Spec,
    reason: Reason,
    facts: Facts,
    measures: Measures,
    guard: GuardState | None,
    outcomes: NDArray[np.int64],
) -> str:
    """One sentence or two, without a full stop at the end."""
    match reason:
        case Reason.WAITING_FOR_PAIRS:
            return "no pair has been mirrored yet"
        case Reason.WAITING_FOR_LABELS:
            return _unscored(facts, outcomes) or f"{facts.pairs} pairs, and no label has come yet"
        case Reason.WAITING_FOR_MATURITY:
            if spec.labels.maturity == 0:
                return f"{facts.labelled} labelled pairs wait until their block is full"
            return f"{facts.labelled} labelled pairs wait until labels of their age are in"
        case Reason.TOO_FEW_SAMPLES:
            few = f"{measures.judged} of the {spec.analysis.min_samples.promote:g} {_counted(spec)} of a promotion"
            if measures.rollback_evidence >= measures.rollback_threshold:
                few += f"; {_rollback(measures)}, not yet for enough pairs or blocks in a row"
            return _unscored(facts, outcomes) or (f"{few}; {_delta(measures)}" if measures.judged else few)
        case Reason.TOO_EARLY:
            left = spec.analysis.min_duration - facts.elapsed
            return f"{_promotion(measures, spec)}; minDuration ends in {duration(left)}"
        case Reason.CANDIDATE_NO_WORSE:
            proof = _proof(_promotion(measures, spec), measures.promotion_evidence, measures.promotion_threshold)
            return f"{proof} after {measures.judged} {_counted(spec)}; {_delta(measures)}"
        case Reason.LOSS_REGRESSION | Reason.AGREEMENT_TOO_LOW:
            proof = _proof(_rollback(measures), measures.rollback_evidence, measures.rollback_threshold)
            return f"{proof} after {measures.judged} {_counted(spec)}; {_delta(measures)}"
        case Reason.HELD | Reason.ANALYSIS_TIMED_OUT:
            limit = duration(spec.analysis.max_duration)
            return f"no verdict within {limit}: {_progress(measures, spec)}; the baseline goes on serving"
        case Reason.NOT_YET_CONSISTENT:
            return f"{_promotion(measures, spec)}, not yet for enough blocks in a row"
        case Reason.RECENT_REGRESSION:
            return f"{_promotion(measures, spec)}, but the latest blocks are above the margin"
        case Reason.TREND_WORSENING:
            return f"{_promotion(measures, spec)}, but the delta is growing"
        case Reason.LABELS_BIASED:
            held = measures.rollback_evidence >= measures.rollback_threshold
            what = f"{_rollback(measures)}, held: " if held else ""
            return f"{what}labels are missing at another rate where {measures.biased!r} is predicted"
        case Reason.LABELS_CONFLICTING:
            most = f"labels.maxConflictShare is {100 * spec.labels.max_conflict_share:g}%"
            return f"other labels contradict {facts.conflicts} of the {facts.labels} that count as the first; {most}"
        case Reason.PROMOTION_NOT_ALLOWED:
            return f"agreement promotes only with labels.agreement.promoteBelow; {_delta(measures)}"
        case Reason.EVIDENCE_BELOW_THRESHOLD:
            return _progress(measures, spec)
        case Reason.GUARD_MISSING:
            return f"guard {guard.name!r} has no value: {guard.detail}" if guard is not None else ""
        case (
            Reason.ERROR_RATE
            | Reason.NON_FINITE
            | Reason.CONFIDENT_ERRORS
            | Reason.CLASS_REGRESSION
            | Reason.GUARD_VETO
        ):
            if guard is None:
                return ""
            why = _unscored(facts, outcomes) if guard.type is GuardType.ERROR_RATE else ""
            return f"{_guard(guard)}; {why}" if why else _guard(guard)


def duration(seconds: float) -> str:
    """About how long, in one unit: 45 s, 12 min, 3.5 h, 4 days."""
    seconds = max(0.0, seconds)
    for unit, size in (("days", 86400.0), ("h", 3600.0), ("min", 60.0)):
        if seconds >= 2 * size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds:.0f} s"


def factor(log_evidence: float) -> str:
    """Evidence as a factor, 1 being none: 12, 0.3, 3e+09."""
    if log_evidence > 230:
        return "over 1e100"
    return f"{math.exp(log_evidence):.2g}" if log_evidence > -230 else "0"


def _evidence(name: str, evidence: float, threshold: float) -> str:
    return f"{name} evidence {factor(evidence)} of {math.exp(threshold):.0f}"


def _proof(text: str, evidence: float, threshold: float) -> str:
    """A verdict stands although its evidence has fallen since; the sentence has to say so."""
    return text if evidence >= threshold else f"{text} (which it had reached)"


def _counted(spec: Spec) -> str:
    return "pairs" if spec.labels.mode is LabelMode.AGREEMENT else "labelled pairs"


def _promotion(m: Measures, spec: Spec) -> str:
    text, attempt = _evidence("promotion", m.promotion_evidence, m.promotion_threshold), spec.analysis.attempt
    if not attempt:
        return text
    # Each roll-back of this template has doubled what a promotion of it needs.
    return f"{text} ({2**attempt} x {math.exp(m.promotion_threshold) / 2**attempt:.0f} for attempt {attempt + 1})"


def _rollback(m: Measures) -> str:
    return _evidence("roll-back", m.rollback_evidence, m.rollback_threshold)


def _delta(m: Measures) -> str:
    if m.delta is None:
        return "no pair has been judged yet"
    text = f"delta {m.delta:+.4f}"
    if m.lower is not None and m.upper is not None:
        text += f" [{m.lower:+.4f}, {m.upper:+.4f}]"
    return text + (f" {m.unit}, margin {m.margin:.4f}" if m.margin is not None else f" {m.unit}")


def _progress(m: Measures, spec: Spec) -> str:
    parts = [_promotion(m, spec)]
    if m.rollback_evidence > 0:
        parts = [_rollback(m), parts[0]]
    parts.append(_delta(m))
    if m.seconds_to_verdict is not None:
        parts.append(f"about {duration(m.seconds_to_verdict)} at this rate")
    elif m.pairs_to_promotion is None and m.pairs_to_rollback is None and m.judged:
        parts.append("no verdict in sight at this delta")
    if m.reachable_margin is not None and m.promotion_evidence < m.promotion_threshold and _is_above_margin(m):
        parts.append(f"reachable margin {100 * m.reachable_margin:.3g}%")
    return "; ".join(parts)


def _is_above_margin(m: Measures) -> bool:
    """Whether not even a candidate without a delta could prove the margin that is asked for before its time is up."""
    return bool(m.reachable_margin and m.margin and m.baseline_loss) and (
        (m.reachable_margin or 0.0) * (m.baseline_loss or 0.0) > (m.margin or 0.0)
    )


def _guard(guard: GuardState) -> str:
    name = f"guard {guard.name!r}" + (f" ({guard.detail})" if guard.detail else "")
    candidate, baseline = ("none" if value is None else f"{value:.4g}" for value in (guard.candidate, guard.baseline))
    text = f"{name}: candidate {candidate}, baseline {baseline}, limit {guard.limit}"
    if guard.log_evidence is not None and guard.log_threshold is not None:
        evidence = _evidence("its", guard.log_evidence, guard.log_threshold)
        failed = guard.status is GuardStatus.FAILED
        text += f"; {_proof(evidence, guard.log_evidence, guard.log_threshold) if failed else evidence}"
    return text


def _unscored(facts: Facts, outcomes: NDArray[np.int64]) -> str:
    """Why no pair could be scored, when most answers of one model cannot be."""
    folded = {
        role: {outcome: int(row[code]) for outcome, code in OUTCOME_CODES.items()}
        for role, row in zip(Role, outcomes, strict=True)
    }
    # Blocks come when they are full; who has few pairs is told as well.
    found = most_unscored(facts.outcomes or folded)
    return found.message if found is not None else ""
