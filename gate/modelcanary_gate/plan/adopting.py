"""Pending, Stalled and Adopting: from a Deployment that serves users to a baseline that does.

Called by `planner`. The order is the promise: the template is saved before the target is paused, the baseline answers
before the selector is narrowed, and the target's pods get no new connections before they are ended.
"""

from modelcanary_gate.plan.actions import (
    AddFinalizer,
    ApplyBaseline,
    HoldTarget,
    NarrowSelector,
    RedirectPort,
    RestoreSelector,
    SaveRevision,
    ScaleBaseline,
    ScaleTarget,
)
from modelcanary_gate.plan.blockers import first_blocker
from modelcanary_gate.plan.context import Context, Plan
from modelcanary_gate.plan.neighbours import admit_baseline, autoscale
from modelcanary_gate.plan.observed import Baseline, Target
from modelcanary_gate.plan.phases import Phase
from modelcanary_gate.plan.reasons import Why

#: Seconds from the narrowed selector to the end of the target's pods: until every node's proxy has heard of it, and
#: requests under way have been answered.
DRAIN_DELAY = 15.0
#: Seconds that an endpoint may take to follow its pod.
_ENDPOINTS = 30.0
_SOON = 2.0


def pending(context: Context) -> Plan:
    status, observed = context.status, context.observed
    blocker = first_blocker(context.spec, observed)
    if blocker is not None:
        if status.phase is Phase.PENDING:
            return context.go(Phase.STALLED, blocker.reason, blocker.message)
        return context.stay(blocker.reason, blocker.message, stalled=True)
    if status.phase is Phase.STALLED:
        return context.go(Phase.PENDING, Why.ADOPTING, "what was in the way is gone")
    if not observed.finalizer:
        return context.act(AddFinalizer())
    target, baseline = observed.target, observed.baseline
    if baseline is not None:
        # Of an earlier resource, or of this one before its status was lost.
        return context.go(Phase.ADOPTING, Why.ADOPTING, "a baseline is there already", baseline=baseline.template)
    if target is None:  # first_blocker has said so already
        return context.stay(Why.TARGET_MISSING, "there is no target", stalled=True)
    if not target.settled and not target.held:
        return context.stay(Why.TARGET_ROLLING_OUT, "the target is rolling out; it is adopted when that is over", 5.0)
    return context.go(
        Phase.ADOPTING,
        Why.ADOPTING,
        "the baseline comes up beside the target",
        # A target that we hold may have another template by now than its pods.
        baseline=target.held or target.template,
        replicas=target.replicas,
    )


def adopting(context: Context) -> Plan:
    status, observed = context.status, context.observed
    target, baseline = observed.target, observed.baseline
    if target is None:
        if baseline is None:
            return context.go(Phase.PENDING, Why.TARGET_MISSING, "the target has gone")
        return context.stay(Why.TARGET_MISSING, "the target has gone; create it again", 60.0, stalled=True)
    if status.baseline not in observed.revisions:
        if target.template == status.baseline:
            return context.act(SaveRevision(status.baseline))
        if baseline is None:
            return context.go(Phase.PENDING, Why.TARGET_CHANGED, "the target has another template by now")
        return context.stay(
            Why.REVISION_LOST, f"the ControllerRevision of template {status.baseline} is gone", 60.0, stalled=True
        )
    if not (target.held and target.paused):
        if baseline is None and not target.held and (target.template != status.baseline or not target.settled):
            return context.go(Phase.PENDING, Why.TARGET_CHANGED, "the target has another template by now")
        return context.act(HoldTarget(target.version, status.baseline))
    admitted = admit_baseline(context)
    if admitted is not None:
        return admitted
    if baseline is None:
        return context.make(ApplyBaseline(status.baseline, target.replicas or status.replicas or 1, None))
    if baseline.template != status.baseline or not baseline.owned or baseline.drifted:
        return context.act(ApplyBaseline(status.baseline, None, baseline.version))
    if not is_up(baseline):
        return wait_for(context, baseline, Why.WAITING_FOR_BASELINE)
    return hand_over(context, target, baseline) or _adopted(context)


def is_up(baseline: Baseline) -> bool:
    return baseline.settled and baseline.ready >= baseline.replicas


def wait_for(context: Context, baseline: Baseline | None, reason: Why) -> Plan:
    """Until its pods are ready. What serves meanwhile goes on serving."""
    if baseline is None:
        return context.stay(reason, "there is no baseline yet", _SOON)
    failure = baseline.failure
    counted = f"{baseline.ready} of {baseline.replicas} pods of the baseline are ready"
    words = f"{counted}; {failure.message}" if failure is not None else counted
    if baseline.overdue:
        return context.stay(Why.ROLLOUT_OVERDUE, f"{words}; {baseline.overdue}", _SOON, stalled=True)
    if failure is not None and failure.reason is Why.UNSCHEDULABLE:
        return context.stay(Why.WAITING_FOR_CAPACITY, words, _SOON)
    broken = failure is not None and failure.reason is not Why.CANDIDATE_NOT_READY
    return context.stay(reason, words, _SOON, stalled=broken)


def hand_over(context: Context, target: Target, baseline: Baseline) -> Plan | None:
    """The traffic goes from the target's pods to the baseline's; None when it has."""
    spec, status, service = context.spec, context.status, context.observed.service
    if service is None:
        return context.stay(Why.SERVICE_MISSING, "the Service has gone; create it again", 60.0, stalled=True)
    managed, scale = spec.adoption.service == "Managed", spec.adoption.scale_target
    live = target.replicas > 0 or target.pods > 0
    autoscaled = context.observed.autoscaler is not None
    if 0 < target.replicas != baseline.replicas and not autoscaled:
        return context.act(ScaleBaseline(baseline.version, target.replicas))
    if managed and live and not service.narrowed:
        if not baseline.answering:
            return _unanswered(context)
        if status.handover_since is not None:
            return context.stay(status.reason, status.message, 0.0, handover_since=None)
        return context.act(NarrowSelector(service.version))
    if live and scale:
        if managed:
            if status.handover_since is None:
                return context.stay(
                    Why.DRAINING_TARGET, "new connections go to the baseline", 0.0, handover_since=context.now
                )
            left = DRAIN_DELAY - context.since(status.handover_since)
            if left > 0:
                return context.stay(Why.DRAINING_TARGET, "new connections go to the baseline", left)
        if target.replicas > 0:
            if not (managed or baseline.answering):
                return _unanswered(context)
            return autoscale(context) or context.act(ScaleTarget(target.version, 0))
        return context.stay(Why.DRAINING_TARGET, "the target's pods are ending", _SOON)
    if status.handover_since is not None:
        return context.stay(status.reason, status.message, 0.0, handover_since=None)
    if managed and scale and service.narrowed:
        return context.act(RestoreSelector(service.version))
    if managed and service.numeric and not service.redirected:
        return context.act(RedirectPort(service.version))
    return None


def _unanswered(context: Context) -> Plan:
    """The endpoints of pods that have just become ready are a moment late; after that, something is in the way."""
    began = context.status.handover_since
    if began is None or context.since(began) < _ENDPOINTS:
        return context.stay(
            Why.WAITING_FOR_BASELINE,
            "the baseline's pods are ready, and are not endpoints of the Service yet",
            _SOON,
            handover_since=context.now if began is None else began,
        )
    return context.stay(
        Why.PORT_UNRESOLVED,
        "the baseline's pods are ready, and do not answer on the sidecar's port by way of the Service: is its "
        "targetPort the container port's name, and does a NetworkPolicy allow the sidecar's port?",
        _SOON,
        stalled=True,
    )


def _adopted(context: Context) -> Plan:
    return autoscale(context) or context.go(Phase.SERVING, Why.SERVING, "the baseline serves")
