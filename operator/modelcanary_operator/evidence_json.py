"""`.status.evidence`: the gate's numbers in the resource, for people and for `modelcanary status`. Pure.

Called by `reconcile`. Numbers that are not counts are text, because the resource has no floats; all of it is bounded.
"""

import math

from modelcanary_gate.decision import GuardState, Measures
from modelcanary_gate.recording import factor
from modelcanary_operator.api import Object
from modelcanary_operator.evidence import Summary

#: Guards of one specification; the resource's definition allows no more.
_MOST_GUARDS = 32
_LONGEST = 64
#: More pairs, or seconds, than this are as good as never.
_NEVER = 1e12


def write(run: str, summary: Summary) -> Object:
    """Of the run, as it was last looked at."""
    shown: Object = {
        "run": run,
        "pairs": summary.pairs,
        "labelled": summary.labelled,
        "dropped": summary.dropped,
    }
    if summary.scored:
        shown["coverage"] = f"{summary.labelled / summary.scored:.2f}"
    return shown if summary.measures is None else shown | _measured(summary.measures)


def _measured(measures: Measures) -> Object:
    shown: Object = {
        "judged": measures.judged,
        "rollback": _side(
            measures.rollback_evidence,
            measures.rollback_threshold,
            measures.rollback_streak,
            measures.pairs_to_rollback,
        ),
        "promotion": _side(
            measures.promotion_evidence,
            measures.promotion_threshold,
            measures.promotion_streak,
            measures.pairs_to_promotion,
        ),
    }
    numbers = {
        "delta": measures.delta,
        "lower": measures.lower,
        "upper": measures.upper,
        "margin": measures.margin,
        "baselineLoss": measures.baseline_loss,
        "candidateLoss": measures.candidate_loss,
    }
    shown |= {name: f"{value:.4f}" for name, value in numbers.items() if _is_known(value)}
    if _is_known(measures.seconds_to_verdict):
        shown["secondsToVerdict"] = math.ceil(measures.seconds_to_verdict or 0.0)
    if measures.guards:
        shown["guards"] = [_guard(guard) for guard in measures.guards[:_MOST_GUARDS]]
    return shown


def _is_known(value: float | None) -> bool:
    return value is not None and math.isfinite(value) and abs(value) < _NEVER


def _side(evidence: float, threshold: float, streak: int, to_go: float | None) -> Object:
    """How far one of the two verdicts is."""
    shown: Object = {
        "evidence": f"{factor(evidence):.4g}",
        "threshold": f"{factor(threshold):.4g}",
        "blocksInARow": streak,
    }
    if _is_known(to_go):
        shown["pairsToGo"] = math.ceil(to_go or 0.0)
    return shown


def _guard(guard: GuardState) -> Object:
    shown: Object = {
        "name": guard.name,
        "type": str(guard.type),
        "state": str(guard.status),
        "limit": guard.limit[:_LONGEST],
    }
    numbers = {"baseline": guard.baseline, "candidate": guard.candidate}
    shown |= {name: f"{value:.4g}" for name, value in numbers.items() if value is not None and math.isfinite(value)}
    if guard.log_evidence is not None and guard.log_threshold is not None:
        shown["evidence"] = f"{factor(guard.log_evidence):.4g}"
        shown["threshold"] = f"{factor(guard.log_threshold):.4g}"
    if guard.detail:
        shown["detail"] = guard.detail[:_LONGEST]
    return shown
