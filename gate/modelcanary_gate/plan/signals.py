"""What happened that others want to hear of: made of the status before a step and the one after it.

Called by `planner`. A signal is part of the status that it follows from, written with it by one compare-and-swap, and
stays there until everybody to be told has acknowledged it. So none is lost by a crash, and a new leader goes on where
the last one was.
"""

from dataclasses import replace

from modelcanary_gate.decision import Decision, GuardStatus
from modelcanary_gate.plan.context import Context
from modelcanary_gate.plan.phases import RUNNING, Phase
from modelcanary_gate.plan.reasons import Why
from modelcanary_gate.plan.status import Finding, Run, Signal, Status
from modelcanary_gate.spec import Spec
from modelcanary_gate.vocabulary import Event, Reason

#: The end of a stall; told to all who are told of stalls.
RECOVERED = "Recovered"
#: Of a run's evidence for a promotion, or its time, only these say that somebody should look.
HELD = frozenset(
    {
        str(reason)
        for reason in (
            *(Reason.HELD, Reason.GUARD_VETO, Reason.GUARD_MISSING, Reason.LABELS_BIASED),
            Reason.LABELS_CONFLICTING,
            *(Reason.PROMOTION_NOT_ALLOWED, Why.AWAITING_APPROVAL, Why.PROMOTION_REFUSED, Why.DRY_RUN),
        )
    }
)
#: Signals that wait at most; beyond, the oldest is given up.
MOST_SIGNALS = 32
_LONGEST = 1024
_CLASSES = 5


def signalled(context: Context, after: Status) -> Status:
    """The status after a step, with what the step has to tell and without what was delivered."""
    kept = tuple(left for signal in after.signals if (left := _left(signal, context.observed.delivered)) is not None)
    run = after.run
    if run is not None and _is_held(after) and after.reason not in run.told:
        after = replace(after, run=replace(run, told=(*run.told, after.reason)))
    fresh = _raised(context, after)
    return replace(after, signals=(*kept, *fresh)[-MOST_SIGNALS:])


def finding(decision: Decision | None) -> Finding:
    """What a decision was made from, as far as it was made from evidence."""
    if decision is None:
        return Finding()
    measures = decision.measures
    worse = sorted(
        (loss for loss in measures.classes if loss.candidate > loss.baseline),
        key=lambda loss: loss.n * (loss.baseline - loss.candidate),
    )
    return Finding(
        judged=measures.judged,
        delta=_number(measures.delta),
        lower=_number(measures.lower),
        upper=_number(measures.upper),
        baseline_loss=_number(measures.baseline_loss),
        worse=tuple(loss.name for loss in worse[:_CLASSES]),
        guards=tuple(guard.name for guard in measures.guards if guard.status in (GuardStatus.VETO, GuardStatus.FAILED)),
    )


def about(context: Context, run: Run, event: Event, to: tuple[str, ...]) -> Signal:
    """A signal of a run as it is now."""
    status = context.status
    decided = status.decided
    return Signal(
        id=f"{run.id}/{event}",
        event=str(event),
        at=context.now,
        reason=status.reason,
        message=status.message[:_LONGEST],
        to=to,
        run=run.id,
        baseline=run.baseline,
        candidate=run.candidate,
        finding=decided.finding if decided is not None else finding(context.decision),
    )


def told_of(spec: Spec, event: Event) -> tuple[str, ...]:
    """The endpoints, each once."""
    found = [item.endpoint for item in (*spec.alerts, *spec.webhooks) if event in item.events]
    return tuple(dict.fromkeys(found))


def _left(signal: Signal, delivered: frozenset[tuple[str, str]]) -> Signal | None:
    to = tuple(endpoint for endpoint in signal.to if (signal.id, endpoint) not in delivered)
    return replace(signal, to=to) if to else None


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.6g}"


def _is_held(status: Status) -> bool:
    return status.phase in RUNNING and status.reason in HELD


def _is_stalled(status: Status) -> bool:
    return status.stalled or status.phase is Phase.STALLED


def _raised(context: Context, after: Status) -> list[Signal]:
    before = context.status
    found = [*_of_run(context, after)]
    if _is_stalled(before) is not _is_stalled(after):
        to = told_of(context.spec, Event.STALLED)
        event = str(Event.STALLED) if _is_stalled(after) else RECOVERED
        number = f"{context.observed.name}/{event}/{int(context.now * 1000):x}"
        if to:
            found.append(Signal(number, event, context.now, after.reason, after.message[:_LONGEST], to))
    return found


def _of_run(context: Context, after: Status) -> list[Signal]:
    before = context.status
    # A run that has ended is in the status before only; its decision as well.
    run = after.run or before.run
    event = _event(before, after)
    if run is None or event is None:
        return []
    to = told_of(context.spec, event)
    if not to:
        return []
    signal = about(context, run, event, to)
    if event in (Event.HELD, Event.RUN_STARTED, Event.CANARY_STEP):
        signal = replace(signal, reason=after.reason, message=after.message[:_LONGEST])
    if event is Event.HELD:
        signal = replace(signal, id=f"{run.id}/{event}/{after.reason}")
    if event is Event.CANARY_STEP:
        signal = replace(signal, id=f"{run.id}/{event}/{run.step}")
    if before.decided is not None:
        decided = before.decided
        signal = replace(signal, id=f"{decided.id}/{event}", reason=decided.reason, message=decided.message[:_LONGEST])
    return [signal]


def _event(before: Status, after: Status) -> Event | None:
    """What the step was, where it is one to be told of."""
    started = before.run is None and after.run is not None
    if started and after.phase is Phase.PREPARING:
        return Event.RUN_STARTED
    if before.phase is not after.phase:
        ended = {
            Phase.PROMOTING: Event.PROMOTED,
            Phase.ROLLING_BACK: Event.ROLLED_BACK,
            Phase.CLEARING: Event.RUN_ENDED,
        }
        if before.phase in ended and after.phase is not Phase.DELETING:
            return ended[before.phase]
    if before.run is None or after.run is None:
        return None
    if after.run.step > before.run.step:
        return Event.CANARY_STEP
    return Event.HELD if after.run.told != before.run.told else None
