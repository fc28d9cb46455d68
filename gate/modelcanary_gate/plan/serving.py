"""Serving, Cooldown and Suspended: the baseline serves, is kept as it should be, and a new template begins a run.

`upkeep` is called in every phase in which the baseline serves: whatever users and controllers do to the target, to the
service or to our objects, no template gets users that was not promoted.
"""

from dataclasses import replace

from modelcanary_gate.plan.actions import (
    ApplyBaseline,
    DeleteCandidate,
    DeleteCandidateService,
    DeleteRevision,
    HoldTarget,
    NarrowSelector,
    NoteRejection,
    SaveRevision,
)
from modelcanary_gate.plan.adopting import hand_over, is_up, wait_for
from modelcanary_gate.plan.blockers import unfit, unknown_endpoint
from modelcanary_gate.plan.context import Context, Plan
from modelcanary_gate.plan.instructing import idle
from modelcanary_gate.plan.neighbours import admit_baseline, autoscale, forget_candidate_policies
from modelcanary_gate.plan.observed import Baseline, Target
from modelcanary_gate.plan.phases import Phase
from modelcanary_gate.plan.reasons import Why
from modelcanary_gate.plan.status import Rejected, Run

_SOON = 2.0


def upkeep(context: Context, wanted: str) -> Plan | None:
    """What is not as it should be where `wanted` is the template that serves; None when all is."""
    status, observed = context.status, context.observed
    target, baseline = observed.target, observed.baseline
    if wanted not in observed.revisions and target is not None and target.template == wanted:
        return context.act(SaveRevision(wanted))
    if target is not None and not (target.held and target.paused):
        # Its template may get pods now: users go to the baseline only, where that can be done without harm.
        narrowed = _narrow(context, target, baseline)
        return narrowed or context.act(HoldTarget(target.version, wanted))
    if baseline is None or baseline.template != wanted or baseline.drifted or not baseline.owned:
        if wanted not in observed.revisions:
            return context.stay(
                Why.REVISION_LOST, f"the ControllerRevision of template {wanted} is gone", 60.0, stalled=True
            )
        if baseline is None:
            return context.make(ApplyBaseline(wanted, status.replicas or 1, None))
        return context.act(ApplyBaseline(wanted, None, baseline.version))
    if observed.refresh not in ("", baseline.refreshed) and wanted in observed.revisions:
        # The same template with today's sidecar, once.
        return context.act(ApplyBaseline(wanted, None, baseline.version))
    if target is not None:
        return admit_baseline(context) or _hold(context, target, baseline) or autoscale(context)
    return admit_baseline(context)


def _narrow(context: Context, target: Target, baseline: Baseline | None) -> Plan | None:
    service = context.observed.service
    live = target.replicas > 0 or target.pods > 0
    managed = context.spec.adoption.service == "Managed"
    if not (live and managed) or service is None or service.narrowed or baseline is None:
        return None
    return context.act(NarrowSelector(service.version)) if baseline.answering and baseline.ready > 0 else None


def _hold(context: Context, target: Target, baseline: Baseline) -> Plan | None:
    """A target that was scaled up goes back to nothing, and what was asked of it is asked of the baseline."""
    if context.observed.service is None:
        return None
    # At once: with a redirected port its pods would be endpoints that do not answer.
    narrowed = _narrow(context, target, baseline)
    if narrowed is not None:
        return narrowed
    asked = context.spec.adoption.scale_target and target.replicas > 0 and baseline.ready > 0
    # All else waits until the baseline can be all that the service finds.
    return hand_over(context, target, baseline) if asked or is_up(baseline) else None


def clear_candidate(context: Context) -> Plan | None:
    """Take the candidate away; None when there is none, and nobody is told to mirror to it."""
    told = idle(context)
    if told is not None:
        return context.act(told)
    if context.observed.candidate is not None:
        return context.act(DeleteCandidate(context.observed.candidate.version))
    if context.observed.candidate_service:
        return context.act(DeleteCandidateService())
    return forget_candidate_policies(context)


def serving(context: Context) -> Plan:
    status, observed, spec = context.status, context.observed, context.spec
    kept = upkeep(context, status.baseline)
    if kept is not None:
        return kept
    target = observed.target
    resumed = _resumable(context, target)
    if not resumed:
        cleared = clear_candidate(context)
        if cleared is not None:
            return cleared
    if spec.suspend:
        return context.go(Phase.SUSPENDED, Why.SUSPENDED, "spec.suspend is set: no run begins")
    if target is None:
        return context.stay(Why.TARGET_MISSING, "the target has gone; the baseline serves on", 60.0, stalled=True)
    unknown = unknown_endpoint(observed)
    if unknown is not None:
        return context.stay(unknown.reason, unknown.message, 60.0, stalled=True)
    if target.template == status.baseline:
        return _tidy(context, {status.baseline}) or _idle_words(context)
    rejected = rejection(context, target.template)
    if rejected is not None and cooldown_left(context, rejected) > 0:
        return context.go(Phase.COOLDOWN, rejected.reason, rejected.message, rejected=rejected)
    blocker = unfit(spec, observed)
    if blocker is not None:
        return context.stay(blocker.reason, blocker.message, 60.0, stalled=True)
    candidate = observed.candidate
    run = Run(
        id=candidate.run if resumed and candidate is not None else _run_id(context, target.template),
        baseline=status.baseline,
        candidate=target.template,
        digest=observed.measured,
        created_at=context.now,
        attempt=rejected.attempts if rejected is not None else 0,
    )
    return context.go(
        Phase.PREPARING, Why.RUN_STARTED, f"run {run.id}: the candidate comes up", run=run, verdict="", decided=None
    )


def _resumable(context: Context, target: Target | None) -> bool:
    """Whether the candidate is of a run that would begin now: then the status was lost, not the run."""
    candidate, last = context.observed.candidate, context.status.last
    rejected = rejection(context, target.template) if target is not None else None
    return (
        candidate is not None
        and target is not None
        and candidate.template == target.template != context.status.baseline
        and candidate.run != ""
        and candidate.run not in (last.run if last is not None else "", rejected.run if rejected is not None else "")
        and not context.spec.suspend
        and (rejected is None or cooldown_left(context, rejected) <= 0)
    )


def _run_id(context: Context, template: str) -> str:
    """Another than the last run's, also within the same second: what users said of that one is not meant for this."""
    name, moment, last = f"{context.observed.name}-{template[:8]}", int(context.now), context.status.last
    taken = last is not None and last.run == f"{name}-{moment:x}"
    return f"{name}-{moment + taken:x}"


def _idle_words(context: Context) -> Plan:
    baseline = context.observed.baseline
    if baseline is not None and baseline.ready < baseline.replicas:
        return wait_for(context, baseline, Why.BASELINE_UNAVAILABLE)
    return context.stay(Why.SERVING, "the baseline serves; a new template of the target begins a run", _linger(context))


def _linger(context: Context) -> float | None:
    """Seconds until what pods of the candidate end under can be taken away; None where there is nothing of it."""
    return _SOON if context.observed.candidate_policies.present else None


def _tidy(context: Context, kept: set[str]) -> Plan | None:
    """Templates that nothing refers to any more. A rejected one is kept for as long as it must not be tried again."""
    observed, last = context.observed, context.status.rejected
    cooling = {template for template, found in observed.rejections.items() if cooldown_left(context, found) > 0}
    spare = observed.revisions - kept - cooling - ({last.template} if last is not None else set())
    return context.act(DeleteRevision(min(spare))) if spare else None


def rejection(context: Context, template: str) -> Rejected | None:
    """When and why it was rolled back, if it was: by the status, or where that is lost, by what was noted beside it."""
    last, noted = context.status.rejected, context.observed.rejections.get(template)
    if last is None or last.template != template:
        return noted
    return last if noted is None or noted.at <= last.at else noted


def cooldown_left(context: Context, rejected: Rejected) -> float:
    """Seconds before a rejected template is tried again."""
    return 0.0 if rejected.retried else context.spec.analysis.hysteresis.cooldown - context.since(rejected.at)


def cooldown(context: Context) -> Plan:
    status, observed = context.status, context.observed
    kept = upkeep(context, status.baseline) or clear_candidate(context)
    if kept is not None:
        return kept
    rejected = status.rejected
    template = observed.target.template if observed.target is not None else ""
    if rejected is None or rejected.template != template or context.spec.suspend:
        return context.go(Phase.SERVING, Why.SERVING, "the rejected template is not the target's any more")
    if observed.verbs.retry == rejected.run and not rejected.retried:
        again = replace(rejected, retried=True)
        if template in observed.revisions and observed.rejections.get(template) != again:
            return context.act(NoteRejection(again))
        return context.go(Phase.SERVING, Why.RETRIED, f"{template} is tried again: the user said so", rejected=again)
    left = cooldown_left(context, rejected)
    if left > 0:
        return context.stay(rejected.reason, rejected.message, min(left, _linger(context) or left))
    return context.go(Phase.SERVING, Why.SERVING, "the cooldown is over")


def suspended(context: Context) -> Plan:
    kept = upkeep(context, context.status.baseline) or clear_candidate(context)
    if kept is not None:
        return kept
    if not context.spec.suspend:
        return context.go(Phase.SERVING, Why.SERVING, "spec.suspend is not set any more")
    return context.stay(Why.SUSPENDED, "spec.suspend is set: no run begins", _linger(context))
