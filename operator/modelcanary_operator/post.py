"""Sends the signals that a status holds to their endpoints: in order, and again until each is acknowledged.

Called by `desk` at each look. The status says what is still to be sent; here is only how often it was tried. What was
sent is told to the plan (`delivered`), which takes it out of the status. A crash in between sends it once more, under
the same id.
"""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from modelcanary_gate.plan.status import Signal
from modelcanary_operator.api import Object
from modelcanary_operator.caller import Call, Caller, secret
from modelcanary_operator.directory import Directory
from modelcanary_operator.endpoints import ALERTED, Endpoint, EndpointType
from modelcanary_operator.errors import EndpointFailed
from modelcanary_operator.metrics import Metrics
from modelcanary_operator.payloads import FORMATS, pagerduty
from modelcanary_operator.pool import Pool
from modelcanary_operator.recorder import Recorder
from modelcanary_operator.workqueue import Key

_log = logging.getLogger(__name__)
_FIRST_PAUSE, _LONGEST_PAUSE = 1.0, 300.0
#: Seconds after which a signal is given up: what nobody took for a day is no news.
GIVE_UP = 86400.0

Place = tuple[str, str]  # a signal's id, an endpoint


@dataclass(slots=True)
class _Attempt:
    failures: int = 0
    due: float = 0.0  # monotonic
    done: bool = False  # acknowledged, or given up


@dataclass(frozen=True, slots=True)
class Outside:
    """What calls to the outside share. `wake` asks for another look at a ModelCanary."""

    directory: Directory
    caller: Caller
    pool: Pool
    metrics: Metrics
    recorder: Recorder
    wake: Callable[[Key], None]
    wall: Callable[[], float]
    monotonic: Callable[[], float]


class Post:
    def __init__(self, outside: Outside) -> None:
        self._outside = outside
        self._attempts: dict[Key, dict[Place, _Attempt]] = {}

    def delivered(self, key: Key) -> frozenset[Place]:
        """What need not be sent any more."""
        return frozenset(place for place, attempt in self._attempts.get(key, {}).items() if attempt.done)

    def forget(self, key: Key) -> None:
        self._attempts.pop(key, None)

    def send(self, key: Key, resource: Object, signals: Sequence[Signal]) -> float | None:
        """Begins what is due of what a status holds; seconds until something is, None where nothing waits."""
        places = {(signal.id, endpoint) for signal in signals for endpoint in signal.to}
        if not places:
            self._attempts.pop(key, None)
            return None
        attempts = self._attempts.setdefault(key, {})
        for place in attempts.keys() - places:
            del attempts[place]
        now, waits = self._outside.monotonic(), []
        served: set[str] = set()
        for signal in signals:
            for name in signal.to:
                attempt = attempts.setdefault((signal.id, name), _Attempt())
                if attempt.done or name in served:
                    continue
                # To one endpoint in order: the later ones wait.
                served.add(name)
                if attempt.due > now:
                    waits.append(attempt.due - now)
                    continue
                self._begin(key, resource, signal, name, attempt)
        return min(waits, default=None)

    def _begin(self, key: Key, resource: Object, signal: Signal, name: str, attempt: _Attempt) -> None:
        async def job() -> None:
            await self._send(key, resource, signal, name, attempt)

        self._outside.pool.start(("signal", key, signal.id, name), job)

    async def _send(self, key: Key, resource: Object, signal: Signal, name: str, attempt: _Attempt) -> None:
        outside = self._outside
        endpoint = outside.directory.current.find(key.namespace, name, ALERTED)
        now = outside.wall()
        result = "ok"
        try:
            if endpoint is None:
                raise EndpointFailed(f"the endpoint {name} is not listed any more")
            reply = await outside.caller.call(endpoint, _call(key, signal, endpoint), now)
            if not reply.ok:
                raise EndpointFailed(f"the endpoint {name} answers with {reply.status}")
            attempt.done = True
        except EndpointFailed as error:
            result = "failed"
            attempt.failures += 1
            pause = min(_LONGEST_PAUSE, _FIRST_PAUSE * 2.0 ** min(attempt.failures - 1, 16))
            attempt.due = outside.monotonic() + pause
            _log.warning("%s/%s: %s of %s: %s", key.namespace, key.name, signal.event, signal.id, error)
            if endpoint is None or now - signal.at > GIVE_UP:
                attempt.done, result = True, "givenUp"
                words = f"{signal.event} ({signal.reason}) was not delivered: {error}"
                await outside.recorder.say(resource, "SignalGivenUp", words, now, warning=True)
        outside.metrics.signals.labels(name, signal.event, result).inc()
        outside.wake(key)


def _call(key: Key, signal: Signal, endpoint: Endpoint) -> Call:
    """Raises EndpointFailed."""
    if endpoint.type is EndpointType.PAGERDUTY:
        return pagerduty(key, signal, secret(endpoint, "routing key", endpoint.routing_key_file))
    return FORMATS[endpoint.type](key, signal)
