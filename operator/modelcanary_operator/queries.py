"""Asks Prometheus for the values of guards, once an interval, and keeps the last of them.

Called by `desk` at each look at a run. What is not there, not a number, not one series, or not in time is no value,
with the reason: the gate then holds the promotion and nothing else.
"""

import asyncio
import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode

from modelcanary_gate.decision import Metric
from modelcanary_gate.spec import Guard, GuardType, Spec
from modelcanary_gate.vocabulary import Role
from modelcanary_operator.caller import Call, Caller
from modelcanary_operator.endpoints import QUERIED, Endpoint
from modelcanary_operator.errors import EndpointFailed
from modelcanary_operator.post import Outside
from modelcanary_operator.workqueue import Key

_MOST = 1 << 20
_VARIABLE = re.compile(r"\$(?:(role|namespace|name|run)\b|\{(role|namespace|name|run)\})")


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


@dataclass(frozen=True, slots=True)
class Asked:
    """What a query is about."""

    namespace: str
    name: str
    run: str


async def ask(caller: Caller, endpoint: Endpoint, guard: Guard, about: Asked, now: float) -> Metric:
    """The guard's query for each role; where it does not name the role, for the candidate alone."""
    query = guard.query or ""
    roles = list(Role) if filled(query, about, Role.BASELINE) != filled(query, about, Role.CANDIDATE) else []
    found: dict[Role, float] = {}
    async with asyncio.TaskGroup() as tasks:
        asked = {
            role: tasks.create_task(_value(caller, endpoint, filled(query, about, role), now))
            for role in roles or [Role.CANDIDATE]
        }
    for role, task in asked.items():
        value = task.result()
        if isinstance(value, str):
            of = f"the query for the {role}" if roles else "the query"
            return Metric(found.get(Role.BASELINE), found.get(Role.CANDIDATE), f"{of}: {value}")
        found[role] = value
    return Metric(found.get(Role.BASELINE), found.get(Role.CANDIDATE))


def filled(query: str, about: Asked, role: Role) -> str:
    """With its variables' values; a `$` of PromQL's own stays."""
    values = {"role": str(role), "namespace": about.namespace, "name": about.name, "run": about.run}
    return _VARIABLE.sub(lambda match: values[match[1] or match[2]], query)


async def _value(caller: Caller, endpoint: Endpoint, query: str, now: float) -> float | str:
    """The number, or why there is none."""
    body = urlencode({"query": query, "timeout": "10s"}).encode()
    call = Call(body, "/api/v1/query", "application/x-www-form-urlencoded")
    try:
        reply = await caller.call(endpoint, call, now, _MOST)
    except EndpointFailed as error:
        return str(error)
    try:
        answer: Any = json.loads(reply.body)
    except (ValueError, RecursionError):
        return f"the endpoint {endpoint.name} answers with {reply.status} and no JSON"
    return read(answer)


def read(answer: Any) -> float | str:
    """The one number of Prometheus' answer to an instant query, or why there is none."""
    if not isinstance(answer, dict) or answer.get("status") != "success" or not isinstance(answer.get("data"), dict):
        error = answer.get("error") if isinstance(answer, dict) else None
        return f"Prometheus says {error!s:.200}" if error else "the answer is none of Prometheus'"
    kind, result = answer["data"].get("resultType"), answer["data"].get("result")
    sample: Any
    if kind == "vector" and isinstance(result, list):
        if not result:
            return "no data"
        if len(result) > 1:
            return f"{len(result)} series, and there can be only one: aggregate them, with sum() for example"
        sample = result[0].get("value") if isinstance(result[0], dict) else None
    elif kind == "scalar":
        sample = result
    else:
        return f"a {kind}, which is no number at one time"
    try:
        number = float(sample[1])
    except (TypeError, ValueError, IndexError, KeyError):
        return "the answer is none of Prometheus'"
    return number if math.isfinite(number) else f"the value is {sample[1]}"
