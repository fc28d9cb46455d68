"""Preparing, Shadowing and Canary: a run, from its candidate's first pod to a decision.

Called by `planner`. A decision is only written here; what follows from it is done in `ending`, under a status that
holds the decision's id.
"""

from dataclasses import replace

from modelcanary_gate.plan.actions import ApplyCandidate, ApplyCandidateService, DeleteCandidate, SaveRevision
from modelcanary_gate.plan.blockers import unknown_endpoint
from modelcanary_gate.plan.confirming import unconfirmed
from modelcanary_gate.plan.context import Context, Plan
from modelcanary_gate.plan.instructing import candidate_replicas, mirror, weight
from modelcanary_gate.plan.neighbours import admit_candidate
from modelcanary_gate.plan.observed import Candidate, Failure
from modelcanary_gate.plan.phases import Phase
from modelcanary_gate.plan.reasons import Why
from modelcanary_gate.plan.serving import upkeep
from modelcanary_gate.plan.signals import finding
from modelcanary_gate.plan.status import Decided, Run
from modelcanary_gate.vocabulary import Verdict

_SOON = 2.0
#: An image that cannot be pulled, or a Secret that is not there, may still come: for so long it is waited for.
_PULL_GRACE = 60.0
#: Restarts from which on a container is said to crash in a loop.
CRASHES = 3


def preparing(context: Context) -> Plan:
    run = run_of(context)
    early = _ends_early(context, run) or upkeep(context, context.status.baseline)
    if early is not None:
        return early
    up = _candidate_up(context, run, candidate_replicas(context, 0.0))
    if up is not None:
        return up
    if context.observed.standing is None:
        return context.stay(Why.LEDGER_UNAVAILABLE, "the ledger does not answer; the run waits for it", 5.0)
    return context.go(
        Phase.SHADOWING,
        Why.SHADOWING,
        "requests are mirrored",
        run=replace(run, shadowing_since=context.now),
    )


def shadowing(context: Context) -> Plan:
    run = run_of(context)
    early = _ends_early(context, run) or _asked(context, run) or upkeep(context, context.status.baseline)
    if early is not None:
        return early
    return _candidate_stays(context, run, 0.0) or tell(context, run) or _judge(context, run)


def canary(context: Context) -> Plan:
    run = run_of(context)
    early = _ends_early(context, run) or _asked(context, run) or upkeep(context, context.status.baseline)
    if early is not None:
        return early
    return _candidate_stays(context, run, weight(context, run)) or tell(context, run) or _judge(context, run)


def run_of(context: Context) -> Run:
    run = context.status.run
    if run is None:
        raise ValueError(f"phase {context.status.phase} without a run")
    return run


def _ends_early(context: Context, run: Run) -> Plan | None:
    """What ends a run without a verdict, and without waiting for anything."""
    spec, target = context.spec, context.observed.target
    if target is not None and target.template != run.candidate:
        return clear(context, run, Why.SUPERSEDED, f"the target has another template than run {run.id} tries")
    if spec.suspend:
        return clear(context, run, Why.SUSPENDED, f"spec.suspend is set: run {run.id} ends")
    if context.observed.measured != run.digest:
        return clear(context, run, Why.SPEC_CHANGED, "what is measured has changed: another run begins")
    if context.observed.verbs.rollback == run.id:
        return _decide(context, run, Verdict.ROLL_BACK, Why.ROLLED_BACK_BY_USER, "the user said so")
    failure = context.observed.candidate.failure if context.observed.candidate is not None else None
    if failure is not None and is_final(context, failure):
        return _decide(context, run, Verdict.ROLL_BACK, failure.reason, failure.message)
    return None


def _asked(context: Context, run: Run) -> Plan | None:
    """The user's promotion, of a run that has shadowed."""
    if context.observed.verbs.promote == run.id:
        return _decide(context, run, Verdict.PROMOTE, Why.PROMOTED_BY_USER, "the user said so")
    return None


def is_final(context: Context, failure: Failure) -> bool:
    if failure.reason is Why.CRASH_LOOPING:
        return failure.restarts >= CRASHES
    # What the kubelet's clock says, and no longer than it has been seen: neither clock alone ends a run.
    lasted = min(context.since(failure.since), context.observed.failing)
    if failure.reason in (Why.IMAGE_PULL_FAILED, Why.CONFIG_MISSING):
        return lasted >= min(_PULL_GRACE, context.spec.candidate.ready_deadline)
    return lasted >= context.spec.candidate.ready_deadline


def candidate_exists(context: Context, run: Run, template: str, replicas: int) -> Plan | None:
    """The objects of what is mirrored to; None when they are as they should be."""
    observed = context.observed
    candidate = observed.candidate
    if candidate is not None and (candidate.run != run.id or candidate.template != template):
        return context.act(DeleteCandidate(candidate.version))
    if template not in observed.revisions:
        return context.act(SaveRevision(template))
    if not observed.candidate_service:
        return context.make(ApplyCandidateService(template))
    admitted = admit_candidate(context)
    if admitted is not None:
        return admitted
    if candidate is None:
        return context.make(ApplyCandidate(run.id, template, replicas, None))
    if candidate.replicas != replicas or candidate.drifted:
        return context.act(ApplyCandidate(run.id, template, replicas, candidate.version))
    return None


def _is_ready(candidate: Candidate | None) -> bool:
    return candidate is not None and candidate.settled and candidate.ready >= candidate.replicas


def _candidate_up(context: Context, run: Run, replicas: int) -> Plan | None:
    """The candidate ready, before its deadline; None when it is."""
    made = candidate_exists(context, run, run.candidate, replicas)
    if made is not None:
        return made
    candidate = context.observed.candidate
    if _is_ready(candidate):
        return None
    deadline = context.spec.candidate.ready_deadline
    failure = candidate.failure if candidate is not None else None
    ready = candidate.ready if candidate is not None else 0
    words = failure.message if failure is not None else f"{ready} of {replicas} pods of the candidate are ready"
    if context.since(run.created_at) >= deadline:
        reason = failure.reason if failure is not None else Why.CANDIDATE_NOT_READY
        return _decide(context, run, Verdict.ROLL_BACK, reason, f"{words}, {deadline:g} s after the run began")
    return context.stay(_waiting(failure), words, _SOON)


def _waiting(failure: Failure | None) -> Why:
    short = failure is not None and failure.reason is Why.UNSCHEDULABLE
    return Why.WAITING_FOR_CAPACITY if short else Why.WAITING_FOR_CANDIDATE


def _candidate_stays(context: Context, run: Run, at_weight: float) -> Plan | None:
    """A candidate that lost pods, or was edited: its objects again. Its failures are what the guards see."""
    candidate = context.observed.candidate
    wanted = candidate_replicas(context, at_weight)
    # It may be larger already, for the step that comes next.
    if candidate is not None and candidate.run == run.id and candidate.replicas > wanted:
        wanted = candidate.replicas if context.spec.canary.steps else wanted
    return candidate_exists(context, run, run.candidate, wanted)


def tell(context: Context, run: Run) -> Plan | None:
    told = mirror(context, run)
    return context.act(told) if told is not None else None


def _judge(context: Context, run: Run) -> Plan:
    interval = context.spec.analysis.interval
    decision = context.decision
    if decision is None:
        reason = Why.LEDGER_UNAVAILABLE if context.observed.standing is None else Why.SHADOWING
        words = "the ledger does not answer" if context.observed.standing is None else "no evidence yet"
        return context.stay(reason, words, min(interval, 5.0))
    verdict = decision.verdict
    unknown = unknown_endpoint(context.observed)
    if unknown is not None and verdict is not Verdict.ROLL_BACK:
        return context.stay(unknown.reason, unknown.message, interval, stalled=True, verdict=str(verdict))
    holds = _held(context, run, verdict)
    if verdict is Verdict.CONTINUE or holds is not None:
        if holds is None:
            return context.stay(decision.reason, decision.message, interval, verdict=str(verdict))
        words = f"{verdict}, {decision.reason}: {decision.message}"
        return context.stay(holds, words, interval, verdict=str(verdict))
    if verdict is Verdict.ROLL_BACK:
        return _decide(context, run, verdict, decision.reason, decision.message)
    return (
        _next_step(context, run)
        or unconfirmed(context, run)
        or _decide(context, run, verdict, decision.reason, decision.message)
    )


def _held(context: Context, run: Run, verdict: Verdict) -> Why | None:
    """What keeps a verdict from being acted on; nothing keeps users on a candidate that is to be rolled back."""
    verbs = context.observed.verbs
    if context.spec.dry_run and verdict is not Verdict.CONTINUE and (verdict is Verdict.PROMOTE or not run.step):
        return Why.DRY_RUN
    if verdict is not Verdict.PROMOTE:
        return None
    if verbs.pause == run.id != verbs.resume:
        return Why.PAUSED
    if context.spec.promotion.mode == "Manual":
        return Why.AWAITING_APPROVAL
    return None


def _next_step(context: Context, run: Run) -> Plan | None:
    """The next share of the users, once the last was given long enough; None when there is no further one."""
    canary = context.spec.canary
    if run.step and run.step_since is not None:
        left = canary.step_duration - context.since(run.step_since)
        if left > 0:
            users = f"{100 * weight(context, run):.4g}% of users"
            words = f"step {run.step} of {len(canary.steps)}: the candidate answers {users}"
            return context.stay(
                Why.CANARY_STEP, words, min(left, context.spec.analysis.interval), verdict=str(Verdict.PROMOTE)
            )
    if run.step >= len(canary.steps):
        return None
    step = replace(run, step=run.step + 1, step_since=context.now)
    share = weight(context, step)
    up = _grown(context, run, candidate_replicas(context, share))
    if up is not None:
        return up
    return context.go(
        Phase.CANARY, Why.CANARY_STEP, f"step {step.step} of {len(canary.steps)}: {100 * share:.4g}% of users", run=step
    )


def _grown(context: Context, run: Run, replicas: int) -> Plan | None:
    """The candidate has as many ready pods as the next step needs; None when it has."""
    candidate = context.observed.candidate
    if candidate is not None and candidate.replicas >= replicas and _is_ready(candidate):
        return None
    if candidate is None or candidate.replicas < replicas:
        version = candidate.version if candidate is not None else None
        return context.act(ApplyCandidate(run.id, run.candidate, replicas, version))
    words = f"{candidate.ready} of {candidate.replicas} pods of the candidate are ready for the next step"
    return context.stay(_waiting(candidate.failure), words, _SOON, verdict=str(Verdict.PROMOTE))


def _decide(context: Context, run: Run, verdict: Verdict, reason: str, message: str) -> Plan:
    """The decision, with the id by which it is carried out at most once."""
    decided = Decided(f"{run.id}/{verdict}", str(reason), message, finding(context.decision))
    phase = Phase.PROMOTING if verdict is Verdict.PROMOTE else Phase.ROLLING_BACK
    return context.go(phase, reason, message, verdict=str(verdict), decided=decided)


def clear(context: Context, run: Run, reason: str, message: str) -> Plan:
    """The run ends without a verdict."""
    decided = Decided(f"{run.id}/Clear", str(reason), message)
    return context.go(Phase.CLEARING, reason, message, verdict="", decided=decided)
