"""What happens next to a ModelCanary, and what a user can do about it: one sentence or two. Pure.

Called by `status` and `wait`. The plan decides; this says what it waits for in each phase.
"""

from modelcanary_cli.cluster.look import Picture
from modelcanary_gate.explain import duration
from modelcanary_gate.plan.phases import Phase
from modelcanary_gate.plan.reasons import Why
from modelcanary_gate.spec import Spec
from modelcanary_gate.vocabulary import Reason

#: An operator at work renews its lease every few seconds.
_STALE = 60.0


def what_follows(picture: Picture, now: float) -> str:
    status, spec = picture.status, picture.spec
    if not picture.observed and status.phase is Phase.PENDING and not status.reason:
        return "No operator has seen this yet: is it running, and does it watch this namespace?"
    if picture.operator is not None and now - picture.operator > _STALE:
        return (
            f"No operator has been at work for {duration(now - picture.operator)}: what serves goes on serving, and "
            "nothing else happens before one runs again."
        )
    if picture.deleting and status.phase is not Phase.DELETING:
        return "It is being deleted, which the operator has yet to begin with."
    if status.stalled or status.phase is Phase.STALLED:
        return f"Nothing, before somebody repairs this: {status.message}."
    if spec is None:
        return "Nothing, before the specification is valid."
    if picture.generation > picture.observed:
        return "The operator has yet to read the latest specification."
    return _OF_PHASE[status.phase](picture, spec, now)


def _pending(picture: Picture, spec: Spec, now: float) -> str:
    return f"The target is adopted: {picture.status.message}."


def _adopting(picture: Picture, spec: Spec, now: float) -> str:
    return f"The baseline takes over from the target without losing a request: {picture.status.message}."


def _serving(picture: Picture, spec: Spec, now: float) -> str:
    if picture.status.reason == Why.BASELINE_UNAVAILABLE:
        return f"The baseline needs all of its pods: {picture.status.message}."
    return f"The next template that Deployment {_target(spec)} gets begins a run."


def _preparing(picture: Picture, spec: Spec, now: float) -> str:
    run = picture.status.run
    left = spec.candidate.ready_deadline - (now - run.created_at) if run is not None else 0.0
    return (
        f"Once the candidate's pods are ready, requests are mirrored to it; if they are not within {duration(left)}, "
        f"it is rolled back. Now: {picture.status.message}."
    )


def _running(picture: Picture, spec: Spec, now: float) -> str:
    status, name = picture.status, picture.name
    held: dict[str, str] = {
        Why.PAUSED: f"Nothing, until `modelcanary resume {name}`: it is paused, and the verdict is to promote.",
        Why.AWAITING_APPROVAL: f"`modelcanary promote {name}` promotes it, `modelcanary rollback {name}` does not.",
        Why.DRY_RUN: "Nothing: with spec.dryRun verdicts are said and not carried out.",
        Reason.HELD: (
            f"maxDuration is over without a verdict; it goes on watching. `modelcanary promote {name}` or "
            f"`modelcanary rollback {name}` ends it."
        ),
        Why.LEDGER_UNAVAILABLE: "Nothing is decided before the ledger answers again; the baseline serves.",
        Reason.WAITING_FOR_PAIRS: f"It waits for requests on {', '.join(spec.model.paths) or 'any path'} to mirror.",
        Reason.WAITING_FOR_LABELS: "It waits for labels: they are posted to the ledger's /v1/feedback.",
        Reason.WAITING_FOR_MATURITY: f"Labels count once their pairs are {duration(spec.labels.maturity or 0.0)} old."
        if spec.labels.maturity
        else "Labels count once those of their pairs' age are in.",
    }
    if status.reason in held:
        return held[status.reason]
    if status.reason == Why.CANARY_STEP:
        return _step(picture, spec, now)
    if status.run is not None and picture.verbs.get("pause") == status.run.id:
        return f"{_ahead(picture)} It is paused: a promotion waits for `modelcanary resume {name}`."
    return f"{_ahead(picture)} A promotion means: {_promotion(picture, spec)}."


def _ahead(picture: Picture) -> str:
    """What the nearer verdict still needs."""
    ways = {"promotion": "a promotion", "rollback": "a roll-back"}
    known = {
        words: side["pairsToGo"]
        for key, words in ways.items()
        if "pairsToGo" in (side := picture.evidence.get(key) or {})
    }
    if not known:
        return "No verdict is in sight at this delta; it goes on watching."
    words, pairs = min(known.items(), key=lambda item: item[1])
    if not pairs:
        return f"The evidence is enough for {words}, and has to stay so."
    seconds = picture.evidence.get("secondsToVerdict")
    about = f", about {duration(seconds)} at this rate" if seconds is not None else ""
    return f"Nearest is {words}: {pairs:,} more labelled pairs as these{about}."


def _promotion(picture: Picture, spec: Spec) -> str:
    run = picture.status.run
    ahead = spec.canary.steps[run.step :] if run is not None else ()
    if spec.promotion.mode == "Manual":
        return f"it waits for `modelcanary promote {picture.name}`"
    if not ahead:
        return "the baseline takes the candidate's template"
    shares = ", ".join(f"{100 * share:.4g}%" for share in ahead)
    return f"the candidate answers {shares} of users, {duration(spec.canary.step_duration)} each, then all"


def _step(picture: Picture, spec: Spec, now: float) -> str:
    run = picture.status.run
    if run is None or run.step_since is None:
        return "The next share of users."
    left = duration(spec.canary.step_duration - (now - run.step_since))
    return f"The candidate answers {picture.weight}% of users for {left} more. Then: {_promotion(picture, spec)}."


def _promoting(picture: Picture, spec: Spec, now: float) -> str:
    return "The baseline's pods take the candidate's template by a rolling update; then the candidate goes."


def _observing(picture: Picture, spec: Spec, now: float) -> str:
    run = picture.status.run
    since = run.observing_since if run is not None else None
    left = spec.promotion.observe_for - (now - since) if since is not None else 0.0
    return f"For {duration(left)} more, a roll-back brings the template before it back; then the run ends."


def _rolling_back(picture: Picture, spec: Spec, now: float) -> str:
    return "The candidate goes; the baseline serves."


def _clearing(picture: Picture, spec: Spec, now: float) -> str:
    return "The candidate of the run that ended goes."


def _cooldown(picture: Picture, spec: Spec, now: float) -> str:
    rejected = picture.status.rejected
    left = spec.analysis.hysteresis.cooldown - (now - rejected.at) if rejected is not None else 0.0
    return (
        f"The rejected template is tried again in {duration(left)}, or after `modelcanary retry {picture.name}`; "
        "another template at once."
    )


def _suspended(picture: Picture, spec: Spec, now: float) -> str:
    return "No run begins before spec.suspend is taken out."


def _deleting(picture: Picture, spec: Spec, now: float) -> str:
    return (
        f"Deployment {_target(spec)} serves again by itself, and all of ModelCanary's goes: {picture.status.message}."
    )


def _target(spec: Spec) -> str:
    return spec.target.name if spec.target is not None else "?"


_OF_PHASE = {
    Phase.PENDING: _pending,
    Phase.STALLED: _pending,
    Phase.ADOPTING: _adopting,
    Phase.SERVING: _serving,
    Phase.PREPARING: _preparing,
    Phase.SHADOWING: _running,
    Phase.CANARY: _running,
    Phase.PROMOTING: _promoting,
    Phase.OBSERVING: _observing,
    Phase.ROLLING_BACK: _rolling_back,
    Phase.CLEARING: _clearing,
    Phase.COOLDOWN: _cooldown,
    Phase.SUSPENDED: _suspended,
    Phase.DELETING: _deleting,
}
