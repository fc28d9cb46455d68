"""Asks webhooks whether a promotion may be made, and keeps what they said while it is waited for.

Called by `desk` at each look that waits for an answer. 2xx is a yes; 403 and 409 are a no, with the answer's text;
everything else is no answer. A yes holds for the run; all else is asked again.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from modelcanary_gate.plan.observed import Confirmation
from modelcanary_gate.plan.status import Signal
from modelcanary_operator.caller import Reply
from modelcanary_operator.endpoints import CALLED
from modelcanary_operator.errors import EndpointFailed
from modelcanary_operator.payloads import cloud_event
from modelcanary_operator.post import Outside
from modelcanary_operator.workqueue import Key

#: Seconds until one is asked again that said no, or did not answer: the latter soon, then ever later.
_AFTER_NO, _FIRST_PAUSE, _LONGEST_PAUSE = 60.0, 5.0, 120.0
_REFUSALS = frozenset({403, 409})


@dataclass(slots=True)
class _Asked:
    run: str
    answer: Confirmation | None = None
    due: float = 0.0  # monotonic
    failures: int = 0


class Asking:
    def __init__(self, outside: Outside) -> None:
        self._outside = outside
        self._asked: dict[Key, dict[str, _Asked]] = {}

    def confirmations(self, key: Key, run: str) -> Mapping[str, Confirmation]:
        """What was said about this run's promotion, by endpoint."""
        known = self._asked.get(key, {})
        return {name: asked.answer for name, asked in known.items() if asked.run == run and asked.answer is not None}

    def forget(self, key: Key) -> None:
        self._asked.pop(key, None)

    def ask(self, key: Key, question: Signal | None) -> float | None:
        """Begins what is due; seconds until something is. Without a question, what was said is forgotten."""
        if question is None:
            self.forget(key)
            return None
        known = self._asked.setdefault(key, {})
        now, waits = self._outside.monotonic(), []
        for name in question.to:
            asked = known.get(name)
            if asked is None or asked.run != question.run:
                asked = known[name] = _Asked(question.run)
            if asked.due > now:
                waits.append(asked.due - now)
                continue
            self._begin(key, question, name, asked)
        return min(waits, default=None)

    def _begin(self, key: Key, question: Signal, name: str, asked: _Asked) -> None:
        async def job() -> None:
            await self._ask(key, question, name, asked)

        self._outside.pool.start(("question", key, question.id, name), job)

    async def _ask(self, key: Key, question: Signal, name: str, asked: _Asked) -> None:
        outside = self._outside
        before = asked.answer
        try:
            endpoint = outside.directory.current.find(key.namespace, name, CALLED)
            if endpoint is None:
                raise EndpointFailed(f"the endpoint {name} is not listed any more")
            asked.answer = _read(await outside.caller.call(endpoint, cloud_event(key, question), outside.wall()))
        except EndpointFailed as error:
            asked.answer = Confirmation(None, str(error))
        asked.failures = asked.failures + 1 if asked.answer.allowed is None else 0
        pause = min(_LONGEST_PAUSE, _FIRST_PAUSE * 2.0 ** min(asked.failures - 1, 16)) if asked.failures else _AFTER_NO
        asked.due = outside.monotonic() + pause
        result = {True: "yes", False: "no", None: "unanswered"}[asked.answer.allowed]
        outside.metrics.confirmations.labels(name, result).inc()
        if asked.answer != before:
            outside.wake(key)


def _read(reply: Reply) -> Confirmation:
    if reply.ok:
        return Confirmation(True, reply.text())
    if reply.status in _REFUSALS:
        return Confirmation(False, reply.text())
    return Confirmation(None, f"it answers with {reply.status}")
