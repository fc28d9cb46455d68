"""Runtime verbs that name a run which cannot be meant: they are taken off and said to be refused.

Called by `planner`. A verb that names the run that is on, or the last, stays: it is carried out by the part of the
plan that it concerns, or has been. Any other names nothing, and would be obeyed by nobody without a word.
"""

from dataclasses import fields

from modelcanary_gate.plan.actions import RefuseVerb
from modelcanary_gate.plan.context import Context, Plan
from modelcanary_gate.plan.observed import Verbs
from modelcanary_gate.plan.phases import JUDGED, Phase

#: Where it is known which run is on and which was the last. A status that was lost is found again first.
_KNOWN = JUDGED | {Phase.SERVING, Phase.SUSPENDED, Phase.COOLDOWN}


def refuse(context: Context) -> Plan | None:
    """The first verb that names neither; None where there is none."""
    status, observed = context.status, context.observed
    if status.phase not in _KNOWN or (status.run is None and observed.candidate is not None):
        return None
    known = {item for item in (status.run and status.run.id, status.last and status.last.run) if item}
    if status.rejected is not None:
        known.add(status.rejected.run)  # the last run may be lost, and this one found again
    for field in fields(Verbs):
        named = getattr(observed.verbs, field.name)
        if named and named not in known:
            words = f"{field.name} names run {named}, which is unknown; {_runs(context)}"
            return context.act(RefuseVerb(field.name, named, words))
    return None


def _runs(context: Context) -> str:
    run, last = context.status.run, context.status.last
    if run is not None:
        return f"the run that is on is {run.id}"
    return f"no run is on, and the last was {last.run}" if last is not None else "no run is on, and none was"
