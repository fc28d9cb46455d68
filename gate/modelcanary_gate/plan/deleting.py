"""Deleting: the traffic goes back to the target, then all of ours goes; or, as the user says, the baseline stays.

Called by `planner` once the resource is being deleted. The baseline ends last: it is what serves until the target does.
"""

from dataclasses import replace

from modelcanary_gate.plan.actions import (
    DeleteBaseline,
    DeleteRevision,
    ForgetEvidence,
    ForgetTarget,
    ReleaseTarget,
    RemoveFinalizer,
    RestorePort,
    RestoreSelector,
    RestoreTemplate,
)
from modelcanary_gate.plan.context import Context, Plan
from modelcanary_gate.plan.neighbours import forget_policies, return_autoscaler
from modelcanary_gate.plan.observed import Target
from modelcanary_gate.plan.phases import Phase
from modelcanary_gate.plan.reasons import Why
from modelcanary_gate.plan.serving import clear_candidate

_SOON = 2.0
#: Seconds from the deletion on, in which endpoints that do not answer, or a ledger that takes no word, may come back.
_TELLING = 60.0


def begin(context: Context) -> Plan:
    """A promotion that was decided is not taken back: the target gets the template that was promoted."""
    status, observed = context.status, context.observed
    baseline = status.baseline or (observed.baseline.template if observed.baseline is not None else "")
    if status.phase is Phase.PROMOTING and status.run is not None:
        baseline = status.run.candidate
    return context.go(Phase.DELETING, Why.DELETING, "the traffic goes back to the target", baseline=baseline)


def deleting(context: Context) -> Plan:
    observed = context.observed
    if not observed.finalizer:
        return context.stay(Why.DELETING, "all of ours is gone")
    if _refused(context):
        # It answers from memory and cannot write, or it is an older one: for nobody who leaves it is there.
        context = replace(context, observed=replace(observed, standing=None))
    cleared = clear_candidate(context)
    if cleared is not None:
        return cleared
    if context.spec.deletion == "KeepBaseline" and observed.baseline is not None:
        return _leave_baseline(context)
    if observed.target is not None:
        given = _give_back(context, observed.target)
        if given is not None:
            return given
    elif observed.baseline is not None and observed.service is not None:
        return context.stay(
            Why.TARGET_MISSING,
            "the target has gone and the Service is served by the baseline alone; "
            "delete the Service, create the target again, or set spec.deletion: KeepBaseline",
            10.0,
            stalled=True,
        )
    return _remove(context)


def _leave_baseline(context: Context) -> Plan:
    """The baseline stays and serves, the target stays paused."""
    target, service = context.observed.target, context.observed.service
    alone = target is None or (target.replicas == 0 and target.pods == 0)
    if service is not None and service.narrowed and alone:
        return context.act(RestoreSelector(service.version))
    return _leave(context)


def _give_back(context: Context, target: Target) -> Plan | None:
    """The target serves as it did; None when it does."""
    status, observed = context.status, context.observed
    service, baseline = observed.service, observed.baseline
    if service is not None and service.redirected:
        # The models of both listen on their own port, the baseline's beside its sidecar.
        return context.act(RestorePort(service.version))
    if target.paused and status.baseline and target.template != status.baseline:
        if status.baseline not in observed.revisions:
            return context.stay(
                Why.REVISION_LOST,
                f"the ControllerRevision of template {status.baseline} is gone, and the target has another "
                "template; set spec.deletion: KeepBaseline",
                10.0,
                stalled=True,
            )
        return context.act(RestoreTemplate(target.version, status.baseline))
    if (target.paused and target.held) or (target.replicas == 0 and baseline is not None):
        replicas = target.replicas or (baseline.replicas if baseline is not None else 0) or status.replicas or 1
        return context.act(ReleaseTarget(target.version, replicas))
    if baseline is not None and not (target.settled and target.ready >= target.replicas):
        words = f"{target.ready} of {target.replicas} pods of the target are ready; the baseline serves until then"
        return context.stay(Why.TARGET_NOT_READY, words, _SOON)
    if service is not None and service.narrowed:
        return context.act(RestoreSelector(service.version))
    return None


def _remove(context: Context) -> Plan:
    observed = context.observed
    returned = return_autoscaler(context)
    if returned is not None:
        return returned
    if observed.baseline is not None:
        return context.act(DeleteBaseline(observed.baseline.version))
    forgotten = forget_policies(context)
    if forgotten is not None:
        return forgotten
    if observed.target is not None and observed.target.held:
        return context.act(ForgetTarget(observed.target.version))
    if observed.revisions:
        return context.act(DeleteRevision(min(observed.revisions)))
    return _leave(context)


def _leave(context: Context) -> Plan:
    """A ledger that does not answer is not waited for; one that refuses, and who is to be told something, not long."""
    standing = context.observed.standing
    if standing is not None and standing.version > 0:
        return context.act(ForgetEvidence())
    delivered, signals = context.observed.delivered, context.status.signals
    places = [(signal.event, signal.id, endpoint) for signal in signals for endpoint in signal.to]
    untold = tuple(f"{event} to {endpoint}" for event, name, endpoint in places if (name, endpoint) not in delivered)
    if untold and context.since(context.observed.deleted_at) < _TELLING:
        return context.stay(Why.DELETING, f"all of ours is gone; still to be told: {', '.join(untold)}", _SOON)
    return context.act(RemoveFinalizer(untold, _refused(context)))


def _refused(context: Context) -> bool:
    """Whether the ledger was given its time to take what it is told."""
    return min(context.since(context.observed.deleted_at), context.observed.ledger_refuses) >= _TELLING
