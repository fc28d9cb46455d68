"""Guards on metrics in a run without a cluster: asks the Prometheus that `--endpoint` names, apart from the run's loop.

Made by `session`. The same queries and answers as in a cluster, by the operator's own module.
"""

import asyncio
import time
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Self

from modelcanary_gate.decision import Metric
from modelcanary_gate.spec import GuardType, Spec
from modelcanary_operator.caller import Caller
from modelcanary_operator.endpoints import Endpoint, EndpointType
from modelcanary_operator.prometheus import Asked, ask

_Values = dict[str, Metric]


def endpoint_missing(spec: Spec, endpoints: Mapping[str, str]) -> tuple[str, str] | None:
    """The field and the name of the first endpoint that a guard needs and nobody gave."""
    for index, guard in enumerate(spec.guards):
        if guard.type is GuardType.PROMETHEUS and guard.endpoint not in endpoints:
            return f"spec.guards[{index}].endpoint", guard.endpoint or ""
    return None


class MetricGuards:
    """Use it as a context manager; `endpoints` are URLs by name, one for each that a guard names."""

    def __init__(self, spec: Spec, endpoints: Mapping[str, str], about: Asked) -> None:
        self._guards = tuple(guard for guard in spec.guards if guard.type is GuardType.PROMETHEUS)
        self._endpoints = {name: Endpoint(name, EndpointType.PROMETHEUS, url) for name, url in endpoints.items()}
        self._about = about
        self._oldest = 2 * spec.analysis.interval + 15.0
        self._thread = ThreadPoolExecutor(1, "metrics")
        self._asked: Future[_Values] | None = None
        self._known: tuple[float, _Values] = (0.0, {})

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._thread.shutdown(cancel_futures=True)

    def latest(self) -> Mapping[str, Metric]:
        """What was answered last, and not too long ago; asks again."""
        if not self._guards:
            return {}
        if self._asked is not None and self._asked.done():
            self._known = time.monotonic(), self._asked.result()
            self._asked = None
        if self._asked is None:
            self._asked = self._thread.submit(lambda: asyncio.run(self._ask()))
        then, values = self._known
        return values if time.monotonic() - then <= self._oldest else {}

    async def _ask(self) -> _Values:
        async with Caller() as caller, asyncio.TaskGroup() as tasks:
            asked = {
                guard.name: tasks.create_task(
                    ask(caller, self._endpoints[guard.endpoint or ""], guard, self._about, time.time())
                )
                for guard in self._guards
            }
        return {name: task.result() for name, task in asked.items()}
