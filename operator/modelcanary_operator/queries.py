"""Asks Prometheus for the values of guards, once an interval, and keeps the last of them.

Called by `desk` at each look at a run. What is not there, not a number, not one series, or not in time is no value,
with the reason: the gate then holds the promotion and nothing else.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from modelcanary_gate.decision import Metric
from modelcanary_gate.spec import Guard, GuardType, Spec
from modelcanary_operator.endpoints import QUERIED
from modelcanary_operator.post import Outside
from modelcanary_operator.prometheus import Asked, ask
from modelcanary_operator.workqueue import Key


@dataclass(slots=True)
class _Values:
    run: str
    guards: tuple[Guard, ...]
    asked: float  # monotonic
    known: dict[str, tuple[float, Metric]] = field(default_factory=dict)


class Queries:
    def __init__(self, outside: Outside) -> None:
        self._outside = outside
        self._values: dict[Key, _Values] = {}

    def forget(self, key: Key) -> None:
        self._values.pop(key, None)

    def metrics(self, key: Key, run: str, spec: Spec) -> Mapping[str, Metric]:
        """The last values, none of them older than two intervals; asks again where that is due."""
        guards = tuple(guard for guard in spec.guards if guard.type is GuardType.PROMETHEUS)
        if not guards:
            return {}
        now, interval = self._outside.monotonic(), spec.analysis.interval
        values = self._values.get(key)
        if values is None or (values.run, values.guards) != (run, guards):
            values = self._values[key] = _Values(run, guards, -math.inf)
        if now - values.asked >= 0.9 * interval:
            values.asked = now
            for guard in guards:
                self._begin(key, run, guard, values)
        old = Metric(None, None, "its last value is too old")
        return {
            name: metric if now - then <= 2 * interval + 15.0 else old for name, (then, metric) in values.known.items()
        }

    def _begin(self, key: Key, run: str, guard: Guard, values: _Values) -> None:
        async def job() -> None:
            outside = self._outside
            endpoint = outside.directory.current.find(key.namespace, guard.endpoint or "", QUERIED)
            if endpoint is None:
                metric = Metric(None, None, f"the endpoint {guard.endpoint} is not listed")
            else:
                metric = await ask(outside.caller, endpoint, guard, Asked(key.namespace, key.name, run), outside.wall())
            outside.metrics.queries.labels(guard.endpoint, "missing" if metric.problem else "ok").inc()
            values.known[guard.name] = (outside.monotonic(), metric)

        self._outside.pool.start(("query", key, guard.name), job)
