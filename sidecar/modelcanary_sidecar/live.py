"""One live process: accepts, forwards, answers, and hands on what it captured.

`main` starts it with its sockets. Here the sans-I/O parts meet the event loop, signals and the garbage
collector. It must not know how pairs are made, nor what a ledger is.
"""

import asyncio
import logging
import resource
import signal
import socket
import time
from dataclasses import dataclass
from functools import partial
from typing import cast

import uvloop

from modelcanary_sidecar import collector
from modelcanary_sidecar.admin import Admin
from modelcanary_sidecar.board import Board
from modelcanary_sidecar.channel import End, LiveEnd
from modelcanary_sidecar.client import Client
from modelcanary_sidecar.drain import Drain, Phase
from modelcanary_sidecar.errors import FrameError
from modelcanary_sidecar.exchange import Port
from modelcanary_sidecar.figures import Figures
from modelcanary_sidecar.live_state import LiveState
from modelcanary_sidecar.metrics import Exporter
from modelcanary_sidecar.settings import Settings
from modelcanary_sidecar.shadowing import Shadowing
from modelcanary_sidecar.splice import Splices
from modelcanary_sidecar.upstream import Connector

_log = logging.getLogger(__name__)
_SWEEP = 0.1  # seconds between sweeps: how coarse time limits are
_MODEL_EVERY = 0.1  # seconds between two looks at the model, after a hook
_EXPORT = 10  # sweeps between reports to the board and to the scorer
_BACKLOG = 4096
_HAND_OVER = 0.1  # seconds that a pair may wait for others on its way to the scorer


@dataclass(frozen=True, slots=True)
class Sockets:
    """What a live process is started with, all of it bound already."""

    listener: socket.socket
    admin: socket.socket | None  # in the first live process only
    scorer: End  # its end of the channel


class LiveProcess:
    def __init__(self, settings: Settings, sockets: Sockets, board: Board, worker: int) -> None:
        self._settings = settings
        self._sockets = sockets
        self._board = board
        self._worker = worker
        self._drain = Drain(settings.limits.drain_delay, settings.limits.drain_time)
        self._told: dict[str, int] = {}  # drops that the scorer has been told of
        self._watch: asyncio.Task[None] | None = None  # on the model, after a hook

    async def run(self) -> None:
        """Until a signal has been followed to its end."""
        settings = self._settings
        loop = asyncio.get_running_loop()
        async with asyncio.TaskGroup() as tasks:
            self._tasks = tasks
            limits = settings.limits
            self._scorer = LiveEnd(
                self._sockets.scorer, loop.call_soon, self._lost, partial(loop.call_later, _HAND_OVER)
            )
            self._shadowing = Shadowing(tasks, self._scorer, settings.upstream, settings.workers)
            self._splices = Splices(tasks, settings.upstream, limits.connect_time)
            self._state = state = LiveState(
                connect=lambda address: Connector(tasks, address, limits.connect_time),
                clock=time.monotonic,
                wall_clock=time.time,
                offer=self._shadowing.take,
                pass_through=self._pass_through,
                later=loop.call_later,
                model=settings.upstream,
                limits=limits,
                workers=settings.workers,
            )
            self._shadowing.state = state
            loop.add_reader(self._scorer.fileno(), self._hear)
            for number in (signal.SIGTERM, signal.SIGINT):
                loop.add_signal_handler(number, self._end)
            server = await loop.create_server(lambda: Client(state), sock=self._sockets.listener, backlog=_BACKLOG)
            admin = None
            if self._sockets.admin is not None:
                admin = await asyncio.start_server(self._admin().answer, sock=self._sockets.admin)
            collector.settle_watched(state.figures)
            await self._sweep_until_ended(server)
            await self._shadowing.finish()
            if self._watch is not None:
                self._watch.cancel()
            self._scorer.flush()
            self._report()
            loop.remove_reader(self._scorer.fileno())
            if admin is not None:
                admin.close()
            state.close()
            self._splices.close()

    def _admin(self) -> Admin:
        settings = self._settings

        def figures() -> Figures:
            self._board.write(self._worker, self._state.figures)
            return self._board.total()

        exporter = Exporter(
            settings.namespace,
            settings.name,
            figures,
            lambda: self._state.scorer_figures,
        )
        return Admin(exporter.text, self._why_not_ready, settings.drain_path, self._hold)

    async def _why_not_ready(self) -> str | None:
        if self._drain.phase is not Phase.SERVING or self._board.leaving:
            return "draining"
        return await self._why_no_model()

    async def _why_no_model(self) -> str | None:
        model = self._settings.upstream
        try:
            async with asyncio.timeout(self._settings.limits.connect_time):
                _, writer = await asyncio.open_connection(model.host, model.port)
        except OSError as error:
            return f"the model at {model} does not accept connections: {error}"
        writer.close()
        return None

    async def _hold(self) -> str:
        """The hook: until the clients of every live process have left, or their time is up."""
        _log.info("a hook: draining, answers now close their connections")
        self._drain.leave(time.monotonic())
        self._board.leave()
        if self._watch is None or self._watch.done():
            self._watch = self._tasks.create_task(self._watch_model())
        while self._board.leaving and not self._board.all_gone:
            if self._drain.held_long_enough(time.monotonic()):
                _log.warning("the time to drain is over, and clients are still connected")
                return "clients are still connected"
            await asyncio.sleep(_SWEEP)
        return "drained" if self._board.leaving else "serving"

    async def _watch_model(self) -> None:
        """After a hook: if it was the model alone that was ended, serve on when it is there again."""
        while self._board.leaving:
            up = await self._why_no_model() is None
            if not up and not self._drain.model_left:
                _log.info("the model has left")
            if self._drain.model_is(up, time.monotonic()):
                _log.info("the model has been started again: serving")
                self._board.stay()
                self._drain.stay()
            await asyncio.sleep(_MODEL_EVERY)

    def _end(self) -> None:
        _log.info("SIGTERM: draining, answers now close their connections")
        self._drain.end(time.monotonic())
        self._say_close(True)

    def _say_close(self, close: bool) -> None:
        self._state.drain(close)
        self._splices.drain(close)

    def _pass_through(self, port: Port, first: bytes) -> None:
        if self._splices.begin(cast(asyncio.Transport, port), first):
            self._state.figures.passed_through += 1

    def _lost(self, count: int) -> None:
        self._state.lost(count)

    def _hear(self) -> None:
        while True:
            try:
                news = self._scorer.receive()
            except FrameError as error:
                _log.error("the scorer's news are left aside: %s", error)
                continue
            if news is None:
                return
            if news.instructions.run != self._state.standing.run:
                self._shadowing.end_run()
                self._report()  # what was dropped counts for the run that ends
            self._state.hear(news)
            self._shadowing.follow(self._state.standing.instructions)

    async def _sweep_until_ended(self, server: asyncio.Server) -> None:
        """The one periodic task: time limits, rates, gauges, and the way to the end."""
        state = self._state
        drain = self._drain
        turns = 0
        while True:
            before = time.monotonic()
            await asyncio.sleep(_SWEEP)
            now = time.monotonic()
            figures = state.figures
            figures.loop_lag = max(now - before - _SWEEP, 0.95 * figures.loop_lag)
            self._shadowing.sweep()
            state.sweep()
            turns += 1
            if turns % _EXPORT == 0:
                self._report()
            if self._board.leaving:
                drain.leave(now)
            else:
                drain.stay()
            was = drain.phase
            connections = len(state.conversations) + len(self._splices.sides) + (not state.idle)
            phase = drain.step(now, connections)
            if (phase is not Phase.SERVING) is not state.draining:
                self._say_close(not state.draining)
            if phase is not was and phase is Phase.FINISHING:
                server.close()
            if phase in (Phase.EMPTYING, Phase.FINISHING, Phase.ENDED):
                for conversation in list(state.conversations):
                    conversation.close_idle(now - drain.quiet)
            self._board.tell_gone(self._worker, drain.gone(connections, state.arrived, now))
            if phase is Phase.ENDED:
                return

    def _report(self) -> None:
        """To the board, and to the scorer what was dropped since the last time."""
        figures = self._state.figures
        self._board.write(self._worker, figures)
        told = self._told
        fresh = {
            str(reason): count - told.get(str(reason), 0)
            for reason, count in figures.dropped.items()
            if count > told.get(str(reason), 0)
        }
        if fresh and self._scorer.report_dropped(self._state.standing.run, fresh):
            self._told = {str(reason): count for reason, count in figures.dropped.items()}


def _allow_many_connections() -> None:
    """As many open files as the system lets us have."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def run(settings: Settings, sockets: Sockets, board: Board, worker: int) -> None:
    """Serve until SIGTERM or SIGINT, then drain and return."""
    _allow_many_connections()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(LiveProcess(settings, sockets, board, worker).run())
