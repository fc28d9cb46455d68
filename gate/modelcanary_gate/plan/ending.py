"""Promoting, RollingBack and Clearing: a decision is carried out. Called by `planner`.

Each can be begun again after any of its writes. None waits for a ledger that does not answer.
"""

from dataclasses import replace

from modelcanary_gate.plan.actions import DeleteReport, KeepReport, NoteRejection, SaveRevision
from modelcanary_gate.plan.adopting import is_up, wait_for
from modelcanary_gate.plan.context import Context, Plan
from modelcanary_gate.plan.instructing import idle
from modelcanary_gate.plan.phases import Phase
from modelcanary_gate.plan.reasons import Why
from modelcanary_gate.plan.serving import clear_candidate, rejection, upkeep
from modelcanary_gate.plan.status import Decided, Ended, Rejected, Run
from modelcanary_gate.vocabulary import Verdict

#: Decision reports of one ModelCanary.
KEPT_REPORTS = 10
_SOON = 2.0


def promoting(context: Context) -> Plan:
    """The baseline takes the candidate's template by a rolling update; the candidate goes.

    A rolling update that gets no further, for want of nodes or because the template does not start there, leaves the
    pods that serve; the user ends it by the verb of a run.
    """
    run, decided = _decided(context)
    if context.observed.verbs.rollback == run.id:
        taken_back = Decided(f"{run.id}/{Verdict.ROLL_BACK}", str(Why.ROLLED_BACK_BY_USER), "the user said so")
        return context.go(
            Phase.ROLLING_BACK,
            taken_back.reason,
            taken_back.message,
            verdict=str(Verdict.ROLL_BACK),
            decided=taken_back,
        )
    step = _report(context, decided) or upkeep(context, run.candidate) or clear_candidate(context)
    if step is not None:
        return step
    baseline = context.observed.baseline
    if baseline is None or not is_up(baseline):
        return wait_for(context, baseline, Why.ROLLING_OUT)
    observe = context.spec.promotion.observe_for > 0
    if observe and baseline.ending:
        return context.stay(Why.ROLLING_OUT, "the last pods of the template before are ending", _SOON)
    return context.go(
        Phase.OBSERVING if observe else Phase.SERVING,
        Why.PROMOTED,
        f"{run.candidate} was promoted by run {run.id}: {decided.message}",
        baseline=run.candidate,
        # All users have it: it has no canary step any more.
        run=replace(run, observing_since=context.now, step=0, step_since=None) if observe else None,
        verdict="",
        decided=None,
        rejected=None,
        last=_ended(context, run, decided),
    )


def rolling_back(context: Context) -> Plan:
    """The candidate goes; the baseline was never touched, or takes back the template that it had before."""
    run, decided = _decided(context)
    step = _report(context, decided) or clear_candidate(context) or upkeep(context, context.status.baseline)
    if step is not None:
        return step
    baseline = context.observed.baseline
    if run.observing_since is not None and (baseline is None or not is_up(baseline)):
        return wait_for(context, baseline, Why.ROLLING_OUT)
    noted = context.observed.rejections.get(run.candidate)
    if noted is None or noted.run != run.id:
        before = rejection(context, run.candidate)
        attempts = before.attempts if before is not None else 0
        noted = Rejected(run.candidate, run.id, context.now, attempts + 1, decided.reason, decided.message)
        target = context.observed.target
        if run.candidate in context.observed.revisions:
            return context.act(NoteRejection(noted))
        if target is not None and target.template == run.candidate:
            return context.act(SaveRevision(run.candidate))
    return context.go(
        Phase.COOLDOWN,
        decided.reason,
        decided.message,
        verdict="",
        run=None,
        decided=None,
        rejected=noted,
        last=_ended(context, run, decided),
    )


def clearing(context: Context) -> Plan:
    """The candidate of a run that ended without a verdict goes."""
    run, decided = _decided(context)
    step = clear_candidate(context) or upkeep(context, context.status.baseline)
    if step is not None:
        return step
    # Of an observed run, what it ended with is its promotion.
    last = context.status.last if run.observing_since is not None else _ended(context, run, decided)
    return context.go(Phase.SERVING, decided.reason, decided.message, run=None, decided=None, last=last)


def _report(context: Context, decided: Decided) -> Plan | None:
    """Users are off the candidate first; then what was decided is kept, before the candidate goes."""
    told = idle(context)
    if told is not None:
        return context.act(told)
    kept = context.observed.reports
    if decided.id not in kept:
        return context.act(KeepReport(decided.id))
    older = [report for report in kept if report != decided.id]
    return context.act(DeleteReport(older[0])) if len(older) >= KEPT_REPORTS else None


def _decided(context: Context) -> tuple[Run, Decided]:
    run, decided = context.status.run, context.status.decided
    if run is None or decided is None:
        raise ValueError(f"phase {context.status.phase} without a run that was decided")
    return run, decided


def _ended(context: Context, run: Run, decided: Decided) -> Ended:
    return Ended(run.id, decided.id, decided.reason, context.now)
