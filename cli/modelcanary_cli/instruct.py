"""What sidecars are told, from a specification. Called by `run`; pure."""

from modelcanary_gate.parse import to_reading
from modelcanary_gate.protocol import Instructions
from modelcanary_gate.spec import Spec


def mirroring(spec: Spec, *, version: int, run: str, candidate: str) -> Instructions:
    """Mirror to the candidate; it answers no users."""
    return Instructions(
        version=version,
        run=run,
        candidate=candidate,
        share=spec.mirror.share,
        idHeader=spec.labels.id_header,
        model=to_reading(spec),
        mirror=spec.mirror.limits,
    )


def serving(spec: Spec, *, version: int) -> Instructions:
    """Mirror nothing, go on serving."""
    return Instructions(version=version, idHeader=spec.labels.id_header, model=to_reading(spec))


def unsupported(spec: Spec) -> str | None:
    """The field that `run` cannot honour without making the verdict weaker than was asked for."""
    if spec.labels.senders:
        return "spec.labels.senders"
    return None


def ignored(spec: Spec) -> list[str]:
    """Fields that say what a cluster does before or after a verdict: left aside by `run`, and said to be."""
    there_is = {
        "targetRef": spec.target is not None,
        "service": spec.service is not None,
        "autoscalerRef": spec.autoscaler is not None,
        "canary.steps": bool(spec.canary.steps),
        "promotion.mode: Manual": spec.promotion.mode == "Manual",
        "promotion.observeFor": spec.promotion.observe_for > 0,
        "alerts": bool(spec.alerts),
        "webhooks": bool(spec.webhooks),
        "suspend": spec.suspend,
    }
    return [name for name, given in there_is.items() if given]
