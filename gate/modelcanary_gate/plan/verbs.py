"""Runtime verbs that nothing is to be done for any more: they are taken off.

Called by `planner`. A verb for the run that is on stays: it is carried out by the part of the plan that it concerns.
One for a run that has ended has been carried out, or came too late, which is said; so is one that names no run at
all: it would be obeyed by nobody without a word.
"""

from dataclasses import fields

from modelcanary_gate.plan.actions import RemoveVerb
from modelcanary_gate.plan.context import Context, Plan
from modelcanary_gate.plan.observed import Verbs
from modelcanary_gate.plan.phases import JUDGED, Phase
from modelcanary_gate.vocabulary import Verdict

#: Where it is known which run is on and which was the last. A status that was lost is found again first.
_KNOWN = JUDGED | {Phase.SERVING, Phase.SUSPENDED, Phase.COOLDOWN}
#: Of a run that has ended, what a verb may have asked for; how it was held meanwhile is of no interest any more.
_ASKED = {"promote": Verdict.PROMOTE, "rollback": Verdict.ROLL_BACK}


def spent(context: Context) -> Plan | None:
    """The first verb that is; None where there is none."""
    status, observed = context.status, context.observed
    if status.phase not in _KNOWN or (status.run is None and observed.candidate is not None):
        return None
    for field in fields(Verbs):
        named = getattr(observed.verbs, field.name)
        if not named or (status.run is not None and named == status.run.id):
            continue
        if field.name == "retry" and _may_retry(context, named):
            continue
        return context.act(RemoveVerb(field.name, named, _refusal(context, field.name, named)))
    return None


def _may_retry(context: Context, named: str) -> bool:
    """The last roll-back's template may be the target's again before its cooldown is over."""
    rejected = context.status.rejected
    return rejected is not None and rejected.run == named and not rejected.retried


def _refusal(context: Context, verb: str, named: str) -> str:
    """Why it was not carried out; empty where it was."""
    last, rejected = context.status.last, context.status.rejected
    if rejected is not None and rejected.run == named:
        # The last run may be lost, and this one found again.
        wanted = _ASKED.get(verb, Verdict.ROLL_BACK)
        return "" if wanted is Verdict.ROLL_BACK else f"{verb} came too late: run {named} was rolled back"
    if last is not None and last.run == named and verb != "retry":
        ended = last.decision.rpartition("/")[2]
        if _ASKED.get(verb, ended) == ended:
            return ""
        return f"{verb} came too late: run {named} has ended, {ended} ({last.reason})"
    return f"{verb} names run {named}, which {_unknown(verb)}; {_runs(context)}"


def _unknown(verb: str) -> str:
    return "is not the last that was rolled back" if verb == "retry" else "is unknown"


def _runs(context: Context) -> str:
    run, last = context.status.run, context.status.last
    if run is not None:
        return f"the run that is on is {run.id}"
    return f"no run is on, and the last was {last.run}" if last is not None else "no run is on, and none was"
