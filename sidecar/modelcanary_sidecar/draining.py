"""How the live processes leave together, without failing a request, and how they come back.

`drain` decides by what the board says of all of them; here it is asked ten times a second while there is a drain, and
what it decides is put on the board. The hook on the admin port is held here, and the model watched meanwhile.
`supervisor` makes one and begins the end. It must not know processes.
"""

import asyncio
import logging
import time
from collections.abc import Collection

from modelcanary_sidecar.board import Board
from modelcanary_sidecar.drain import Drain, Phase
from modelcanary_sidecar.settings import Settings

_log = logging.getLogger(__name__)
_EVERY = 0.1  # seconds between two looks at the board, and at the model
#: Who was closed as idle may come again at once: for so long nobody is seen before it is believed that all have left.
#: The live processes say anew who is connected ten times a second.
_SURE = 0.25


class Draining:
    """`workers` are those of the live processes that run: the others have nobody connected any more."""

    def __init__(self, settings: Settings, board: Board, workers: Collection[int], tasks: asyncio.TaskGroup) -> None:
        self._settings = settings
        self._board = board
        self._workers = workers
        self._tasks = tasks
        self._drain = Drain(settings.limits.drain_delay, settings.limits.drain_time)
        self._seen = 0.0  # when somebody was connected
        self._steps: asyncio.Task[None] | None = None
        self._watch: asyncio.Task[None] | None = None  # on the model, after a hook
        #: Nobody is connected any more, or their time is up: set once, after `end`.
        self.ended = asyncio.Event()

    def end(self) -> None:
        """To the end of the sidecar."""
        self._drain.end(time.monotonic())
        self._begin()

    async def hold(self) -> str:
        """The hook: until the clients of every live process have left, or their time is up."""
        _log.info("a hook: draining, answers now close their connections")
        self._drain.leave(time.monotonic())
        self._begin()
        if self._watch is None or self._watch.done():
            self._watch = self._tasks.create_task(self._watch_model())
        while self._leaving and not self._gone():
            if self._drain.held_long_enough(time.monotonic()):
                _log.warning("the time to drain is over, and clients are still connected")
                return "clients are still connected"
            await asyncio.sleep(_EVERY)
        return "drained" if self._leaving else "serving"

    async def why_not_ready(self) -> str | None:
        return "draining" if self._leaving else await self._why_no_model()

    def stop(self) -> None:
        """At the end: nothing is looked at any more."""
        for task in (self._steps, self._watch):
            if task is not None:
                task.cancel()

    @property
    def _leaving(self) -> bool:
        return self._drain.phase is not Phase.SERVING

    def _begin(self) -> None:
        self._board.stage = self._drain.phase
        if self._steps is None or self._steps.done():
            self._steps = self._tasks.create_task(self._step_until_over())

    async def _step_until_over(self) -> None:
        drain = self._drain
        while self._leaving and drain.phase is not Phase.ENDED:
            await asyncio.sleep(_EVERY)
            connections, _ = self._connected()
            self._board.stage = drain.step(time.monotonic(), connections)
        if drain.phase is Phase.ENDED:
            self.ended.set()

    def _connected(self) -> tuple[int, float]:
        """How many are, or are asked for, and when the last came. One at least, while it is not known of a process:
        what it says counts when it has acted on the stage, and accepts no more or has closed what was idle."""
        reports = [self._board.cells(worker) for worker in self._workers]
        if any(cells["stage"] < self._board.stage for cells in reports):
            return 1, time.monotonic()
        connections = sum(cells["clients"] + cells["sides"] + cells["busy"] for cells in reports)
        return int(connections), max((cells["arrived"] for cells in reports), default=0.0)

    def _gone(self) -> bool:
        connections, arrived = self._connected()
        now = time.monotonic()
        if connections:
            self._seen = now
        return now - self._seen >= _SURE and self._drain.gone(connections, arrived, now)

    # -- the model

    async def _watch_model(self) -> None:
        """After a hook: if it was the model alone that was ended, serve on when it is there again."""
        drain = self._drain
        while self._leaving:
            up = await self._why_no_model() is None
            if not up and not drain.model_left:
                _log.info("the model has left")
            if drain.model_is(up, time.monotonic()):
                _log.info("the model has been started again: serving")
                drain.stay()
                self._board.stage = drain.phase
            await asyncio.sleep(_EVERY)

    async def _why_no_model(self) -> str | None:
        model = self._settings.upstream
        try:
            async with asyncio.timeout(self._settings.limits.connect_time):
                _, writer = await asyncio.open_connection(model.host, model.port)
        except (OSError, UnicodeError) as error:  # the latter: a host that can be no name
            return f"the model at {model} does not accept connections: {error}"
        writer.close()
        return None
