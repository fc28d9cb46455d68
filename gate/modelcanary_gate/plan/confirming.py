"""Before a promotion: the webhooks that are to be asked, and what they say. Called by `running`.

Only a yes of each of them lets a promotion go on. A no, an error and silence all hold it, and they are asked again:
none of them ends the run, because the evidence is not theirs.
"""

from dataclasses import replace

from modelcanary_gate.plan.context import Context, Plan
from modelcanary_gate.plan.reasons import Why
from modelcanary_gate.plan.signals import about
from modelcanary_gate.plan.status import Run
from modelcanary_gate.vocabulary import Event, Verdict

#: Seconds until an answer is looked for again where its arrival is not heard of.
_SOON = 5.0


def unconfirmed(context: Context, run: Run) -> Plan | None:
    """What a promotion waits for; None when nobody is to be asked, or all have said yes."""
    asked = tuple(
        dict.fromkeys(hook.endpoint for hook in context.spec.webhooks if Event.CONFIRM_PROMOTION in hook.events)
    )
    answers = {endpoint: context.observed.confirmations.get(endpoint) for endpoint in asked}
    waiting = [endpoint for endpoint, answer in answers.items() if answer is None or not answer.allowed]
    if not waiting:
        return None
    refused = [endpoint for endpoint in waiting if (answer := answers[endpoint]) and answer.allowed is False]
    endpoint = (refused or waiting)[0]
    answer = answers[endpoint]
    text = answer.text if answer is not None else ""
    if refused:
        reason, words = Why.PROMOTION_REFUSED, f"the webhook {endpoint} says no: {text or 'without a word'}"
    else:
        reason, words = Why.AWAITING_CONFIRMATION, f"the webhook {endpoint} is asked: {text or 'no answer yet'}"
    held = context.stay(reason, words, _SOON, verdict=str(Verdict.PROMOTE))
    question = about(context, run, Event.CONFIRM_PROMOTION, tuple(waiting))
    if context.decision is not None:
        question = replace(question, reason=str(context.decision.reason), message=context.decision.message)
    return replace(held, question=question)
