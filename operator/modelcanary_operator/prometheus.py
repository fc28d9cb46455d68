"""Values of guards from a Prometheus: the query of each role, and how its answer is read.

Called by `queries`, and by `modelcanary run`. What is no one finite number is no value, with the reason.
"""

import asyncio
import json
import math
import re
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from modelcanary_gate.decision import Metric
from modelcanary_gate.spec import Guard
from modelcanary_gate.vocabulary import Role
from modelcanary_operator.caller import Call, Caller
from modelcanary_operator.endpoints import Endpoint
from modelcanary_operator.errors import EndpointFailed

_MOST = 1 << 20
_VARIABLE = re.compile(r"\$(?:(role|namespace|name|run)\b|\{(role|namespace|name|run)\})")


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
