"""Observing: the promoted model serves, the one before it is its shadow, and late labels can still bring that one back.

Called by `planner`. The run goes on under its id, with the same roles: the candidate is what was promoted, although it
answers the users now. So labels of the time before the promotion count as well, the evidence keeps its sign, and the
roll-back's error budget is that of the one run.
"""

from modelcanary_gate.plan.context import Context, Plan
from modelcanary_gate.plan.instructing import candidate_replicas
from modelcanary_gate.plan.phases import Phase
from modelcanary_gate.plan.reasons import Why
from modelcanary_gate.plan.running import candidate_exists, clear, is_final, run_of, tell
from modelcanary_gate.plan.serving import upkeep
from modelcanary_gate.plan.signals import finding
from modelcanary_gate.plan.status import Decided, Run
from modelcanary_gate.vocabulary import Reason, Verdict


def observing(context: Context) -> Plan:
    run = run_of(context)
    ends = _ends(context, run) or upkeep(context, context.status.baseline)
    if ends is not None:
        return ends
    replicas = candidate_replicas(context, 0.0)
    return candidate_exists(context, run, run.baseline, replicas) or tell(context, run) or _judge(context, run)


def _ends(context: Context, run: Run) -> Plan | None:
    """What ends the observation; the promotion stands, unless the user takes it back."""
    spec, observed = context.spec, context.observed
    if observed.verbs.rollback == run.id:
        return _take_back(context, run, Why.ROLLED_BACK_BY_USER, "the user said so")
    if observed.target is not None and observed.target.template != run.candidate:
        return clear(context, run, Why.SUPERSEDED, f"the target has another template than run {run.id} promoted")
    if spec.suspend:
        return clear(context, run, Why.SUSPENDED, f"spec.suspend is set: run {run.id} is not observed any more")
    if observed.measured != run.digest:
        return clear(context, run, Why.SPEC_CHANGED, "what is measured has changed: the observation ends")
    if run.baseline not in observed.revisions:
        return clear(context, run, Why.REVISION_LOST, f"the ControllerRevision of template {run.baseline} is gone")
    failure = observed.candidate.failure if observed.candidate is not None else None
    if failure is not None and is_final(context, failure):
        return clear(context, run, failure.reason, f"the template before cannot be the shadow: {failure.message}")
    if _left(context, run) <= 0:
        return clear(context, run, Why.OBSERVED, f"nothing spoke against {run.candidate} while it was observed")
    return None


def _left(context: Context, run: Run) -> float:
    since = context.since(run.observing_since) if run.observing_since is not None else 0.0
    return context.spec.promotion.observe_for - since


def _judge(context: Context, run: Run) -> Plan:
    decision = context.decision
    after = min(context.spec.analysis.interval, _left(context, run))
    words = f"template {run.candidate} was promoted; the one before it is its shadow"
    if decision is None:
        return context.stay(Why.OBSERVING, words, after)
    # That time is up is a reason not to promote; it is none to take a promotion back.
    if decision.verdict is Verdict.ROLL_BACK and decision.reason is not Reason.ANALYSIS_TIMED_OUT:
        if not context.spec.dry_run:
            return _take_back(context, run, decision.reason, decision.message)
        words = f"{decision.verdict}, {decision.reason}: {decision.message}"
        return context.stay(Why.DRY_RUN, words, after, verdict=str(decision.verdict))
    return context.stay(Why.OBSERVING, f"{words}: {decision.message}", after)


def _take_back(context: Context, run: Run, reason: str, message: str) -> Plan:
    """The baseline gets the template that it had before the promotion."""
    verdict = str(Verdict.ROLL_BACK)
    decided = Decided(f"{run.id}/{verdict}", str(reason), message, finding(context.decision))
    return context.go(Phase.ROLLING_BACK, reason, message, verdict=verdict, decided=decided, baseline=run.baseline)
