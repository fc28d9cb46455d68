"""`plan`: the next step of one ModelCanary. Called by the operator after each look, and by tests."""

from collections.abc import Callable
from dataclasses import replace

from modelcanary_gate.decision import Decision
from modelcanary_gate.plan import adopting, deleting, ending, observing, running, serving, verbs
from modelcanary_gate.plan.actions import AddFinalizer
from modelcanary_gate.plan.context import Context, Plan
from modelcanary_gate.plan.observed import Observed
from modelcanary_gate.plan.phases import Phase
from modelcanary_gate.plan.signals import signalled
from modelcanary_gate.plan.status import Status
from modelcanary_gate.spec import Spec

_PARTS: dict[Phase, Callable[[Context], Plan]] = {
    Phase.PENDING: adopting.pending,
    Phase.STALLED: adopting.pending,
    Phase.ADOPTING: adopting.adopting,
    Phase.SERVING: serving.serving,
    Phase.PREPARING: running.preparing,
    Phase.SHADOWING: running.shadowing,
    Phase.CANARY: running.canary,
    Phase.PROMOTING: ending.promoting,
    Phase.OBSERVING: observing.observing,
    Phase.ROLLING_BACK: ending.rolling_back,
    Phase.CLEARING: ending.clearing,
    Phase.COOLDOWN: serving.cooldown,
    Phase.SUSPENDED: serving.suspended,
    Phase.DELETING: deleting.deleting,
}
#: Phases in which there is something of ours that our finalizer has to take away.
_KEPT = frozenset(Phase) - {Phase.PENDING, Phase.STALLED, Phase.DELETING}


def plan(spec: Spec, status: Status, observed: Observed, decision: Decision | None, now: float) -> Plan:
    """The status that is to be, and the actions under it. `decision` is the gate's, of the run that is on.

    Raises UndeclaredTransition where the parts contradict the table of phases.
    """
    context = Context(spec, status, observed, decision, now)
    result = _next(context)
    return replace(result, status=signalled(context, result.status))


def _next(context: Context) -> Plan:
    status, observed = context.status, context.observed
    if observed.deleting and status.phase is not Phase.DELETING:
        return deleting.begin(context)
    if status.phase in _KEPT and not observed.finalizer:
        return context.act(AddFinalizer())
    return verbs.spent(context) or _PARTS[status.phase](context)
