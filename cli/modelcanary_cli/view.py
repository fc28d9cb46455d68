"""What `run` shows of itself at one moment, in the shapes that it is shown in: one line, one JSON event.

Called by `run`; `progress` draws the same in a terminal. Knows no terminal.
"""

import math
from dataclasses import dataclass, field
from typing import Any

from modelcanary_cli.ledger_client import Counts
from modelcanary_gate.decision import Decision, Measures
from modelcanary_gate.explain import duration
from modelcanary_gate.record import finite
from modelcanary_gate.recording import factor


@dataclass(frozen=True, slots=True)
class Users:
    """The live path, as the sidecar counts it; None where it did not say."""

    requests: int | None = None
    dropped: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class View:
    run: str
    name: str
    baseline: str
    candidate: str
    listen: str
    feedback: str
    elapsed: float
    counts: Counts
    maturity: float | None
    users: Users
    decision: Decision


def share_of_threshold(evidence: float, threshold: float) -> float:
    """How far evidence has come, 0 to 1, on the scale on which it grows: the logarithm."""
    return min(1.0, max(0.0, evidence / threshold)) if threshold > 0 else 1.0


def evidence_text(evidence: float, threshold: float) -> str:
    return f"{_short(factor(evidence))} of {_short(factor(threshold))}"


def _short(value: float) -> str:
    """A factor, with as many digits as one can tell at a glance."""
    if value >= 1e6:
        return f"1e{math.log10(value):.0f}"
    return f"{value:.0f}" if value >= 10 else f"{value:.2g}"


def delta_text(measures: Measures) -> str:
    if measures.delta is None:
        return "not known yet"
    bounds = "" if measures.lower is None else f" [{measures.lower:+.4f}, {measures.upper:+.4f}]"
    margin = "" if measures.margin is None else f", margin {measures.margin:+.4f}"
    return f"{measures.delta:+.4f}{bounds} {measures.unit}{margin}"


def samples_to_go(measures: Measures) -> str:
    """What the nearer of the two verdicts still needs."""
    ways = {"roll back": measures.pairs_to_rollback, "promote": measures.pairs_to_promotion}
    known = {name: pairs for name, pairs in ways.items() if pairs is not None}
    if not known:
        return "no verdict in sight yet"
    name, pairs = min(known.items(), key=lambda item: item[1])
    if pairs <= 0:
        return f"enough to {name}"
    time = measures.seconds_to_verdict
    about = "" if time is None else f", about {duration(time)}"
    return f"{pairs:,.0f} labelled pairs to {name}{about}"


def line(view: View) -> str:
    """One look as text, without its time."""
    counts, measures = view.counts, view.decision.measures
    return (
        f"{counts.pairs} pairs, {counts.labelled} labelled, {measures.judged} judged; "
        f"delta {delta_text(measures)}; "
        f"roll back {evidence_text(measures.rollback_evidence, measures.rollback_threshold)}, "
        f"promote {evidence_text(measures.promotion_evidence, measures.promotion_threshold)}; "
        f"{view.decision.verdict} ({view.decision.reason})"
    )


def event(kind: str, view: View) -> dict[str, Any]:
    """A look, or the verdict, for machines. Evidences and thresholds are factors; losses and deltas are in `unit`."""
    counts, measures, decision = view.counts, view.decision.measures, view.decision
    return {
        "event": kind,
        "run": view.run,
        "elapsed": round(view.elapsed, 3),
        "verdict": decision.verdict,
        "reason": decision.reason,
        "message": decision.message,
        "pairs": counts.pairs,
        "labelled": counts.labelled,
        "unlabelled": counts.unlabelled,
        "missing": counts.missing,
        "judged": measures.judged,
        "delta": finite(measures.delta),
        "lower": finite(measures.lower),
        "upper": finite(measures.upper),
        "baselineLoss": finite(measures.baseline_loss),
        "unit": measures.unit,
        "margin": finite(measures.margin),
        "rollbackEvidence": factor(measures.rollback_evidence),
        "rollbackThreshold": factor(measures.rollback_threshold),
        "promotionEvidence": factor(measures.promotion_evidence),
        "promotionThreshold": factor(measures.promotion_threshold),
        "pairsToRollback": finite(measures.pairs_to_rollback),
        "pairsToPromotion": finite(measures.pairs_to_promotion),
        "secondsToVerdict": finite(measures.seconds_to_verdict),
        "guards": {guard.name: guard.status for guard in measures.guards},
        "userRequests": view.users.requests,
        "dropped": {**counts.dropped, **view.users.dropped},
        "outcomes": counts.outcomes,
    }
