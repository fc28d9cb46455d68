"""A few workers for calls to the outside, so that no look waits for one. Run by `main`, given jobs by `desk`'s parts.

Bounded: what does not fit is refused and counted, and is asked for again at a later look.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Hashable

from modelcanary_operator.metrics import Metrics

_log = logging.getLogger(__name__)

Job = Callable[[], Awaitable[None]]


class Pool:
    def __init__(self, metrics: Metrics, workers: int = 8, most: int = 512) -> None:
        self._metrics = metrics
        self._workers = workers
        self._most = most
        self._waiting: asyncio.Queue[tuple[Hashable, Job]] = asyncio.Queue()
        self._known: set[Hashable] = set()  # waiting or under way

    def start(self, name: Hashable, job: Job) -> bool:
        """False where it is under way already, or there is no room."""
        if name in self._known:
            return False
        if len(self._known) >= self._most:
            self._metrics.calls_shed.inc()
            return False
        self._known.add(name)
        self._waiting.put_nowait((name, job))
        return True

    async def run(self) -> None:
        """Until it is cancelled."""
        async with asyncio.TaskGroup() as tasks:
            for _ in range(self._workers):
                tasks.create_task(self._work())

    async def _work(self) -> None:
        while True:
            name, job = await self._waiting.get()
            try:
                await job()
            except Exception:  # noqa: BLE001 - the one boundary of calls: one endpoint's trouble is not the others'
                _log.exception("a call to the outside broke")
            finally:
                self._known.discard(name)
