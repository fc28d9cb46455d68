"""What watches over the other processes of a sidecar, starts them, and ends them in order.

`main` makes one and runs it. It binds the ports; makes the channels, so that they outlive a scorer; restarts the scorer
when it dies, ever more slowly; answers on the admin port; and on SIGTERM has the live processes drain before the scorer
sends what is left. If a live process dies, the sidecar ends: what runs it will start it again. It must not know
requests, pairs or the ledger.
"""

import asyncio
import logging
import os
import signal
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import NoReturn

from modelcanary_sidecar import collector, live
from modelcanary_sidecar.admin import Admin
from modelcanary_sidecar.board import Board
from modelcanary_sidecar.channel import End, make_ends
from modelcanary_sidecar.children import WATCHED, Children, described, keep_only
from modelcanary_sidecar.draining import Draining
from modelcanary_sidecar.listening import bind, bound
from modelcanary_sidecar.metrics import Exporter
from modelcanary_sidecar.scorer import run_scorer
from modelcanary_sidecar.settings import Settings

_log = logging.getLogger(__name__)
_FIRST_PAUSE, _LONGEST_PAUSE = 0.5, 30.0  # before the scorer is started again
_STEADY = 60.0  # a scorer that ran for so long is not in a loop of crashes
_GRACE = 7.0  # for live processes, when they have drained: they wait 5 s at most for the candidate
_FLUSH = 15.0  # for the scorer to send what is left

Scorer = Callable[[Settings, Sequence[End], Board], int]


class Backoff:
    """How long to wait before the scorer is started again. Pure: it is told when it ran."""

    def __init__(self) -> None:
        self._pause = _FIRST_PAUSE

    def after(self, ran_for: float) -> float:
        if ran_for >= _STEADY:
            self._pause = _FIRST_PAUSE
        pause = self._pause
        self._pause = min(2 * pause, _LONGEST_PAUSE)
        return pause


class Supervisor:
    """SettingsError where a port cannot be had, MissingProgram where the live processes' is not installed."""

    def __init__(self, settings: Settings, scorer: Scorer = run_scorer) -> None:
        live.check_installed()
        self._settings = settings
        self._scorer = scorer
        shared = settings.workers > 1
        first = bind("listen", settings.listen, shared=shared)
        self.listen = bound(first)
        self._listeners = [first] + [bind("listen", self.listen, shared=True) for _ in range(1, settings.workers)]
        self._admin = bind("admin", settings.admin)
        self.admin = bound(self._admin)
        self._board = Board(settings.workers)
        self._channels = [make_ends() for _ in range(settings.workers)]
        self._process = os.getpid()
        self._live: dict[int, int] = {}  # process: worker
        self._scorer_process = 0
        self._scorer_since = 0.0
        self._backoff = Backoff()
        self._ending = False
        self._code = 0

    def run(self) -> int:
        """Until a signal, or until a live process dies. Returns the exit code."""
        signal.pthread_sigmask(signal.SIG_BLOCK, WATCHED)
        # What is loaded by now is one copy for this process and the scorer as long as nobody writes to it: not the
        # collector either.
        collector.keep()
        return asyncio.run(self._run())

    async def _run(self) -> int:
        self._loop = loop = asyncio.get_running_loop()
        self._children = Children(self._hear_end)
        async with asyncio.TaskGroup() as tasks:
            self._draining = Draining(self._settings, self._board, self._live.values(), tasks)
            loop.add_signal_handler(signal.SIGCHLD, self._children.reap)
            for number in (signal.SIGTERM, signal.SIGINT):
                loop.add_signal_handler(number, self._hear_signal, number)
            for worker in range(self._settings.workers):
                process = self._children.start(f"live process {worker}", partial(self._become_live, worker))
                self._live[process] = worker
            for listener in self._listeners:
                listener.close()  # else it would go on accepting into a queue that nobody reads
            self._start_scorer()
            signal.pthread_sigmask(signal.SIG_UNBLOCK, WATCHED)
            server = await self._make_admin().serve(self._admin)
            _log.info("listening on %s, admin on %s, model at %s", self.listen, self.admin, self._settings.upstream)
            await self._draining.ended.wait()
            if not await self._children.gone(list(self._live), _GRACE):
                self._code = 1
            await self._end_scorer()
            server.close()
            self._draining.stop()
        return self._code

    def _make_admin(self) -> Admin:
        settings, board = self._settings, self._board
        exporter = Exporter(settings.namespace, settings.name, board.figures, board.scorer_figures)
        return Admin(exporter.text, self._draining.why_not_ready, settings.drain_path, self._draining.hold)

    # -- the processes

    def _become_live(self, worker: int) -> NoReturn:
        sockets = live.Sockets(self._listeners[worker], self._channels[worker][0])
        live.become(self._settings, sockets, self._board, worker, self._process)

    def _start_scorer(self) -> None:
        if self._ending:
            return
        self._scorer_since = time.monotonic()
        try:
            self._scorer_process = self._children.start("the scorer", self._become_scorer)
        except OSError as error:  # no more processes or memory to be had: later, perhaps
            self._start_scorer_later(f"cannot be started: {error}")

    def _become_scorer(self) -> int:
        ends = [scorer_end for _, scorer_end in self._channels]
        keep_only(file for end in ends for file in (end.messages.fileno(), end.room))
        return self._scorer(self._settings, ends, self._board)

    def _hear_end(self, process: int, status: int) -> None:
        if process in self._live:
            del self._live[process]
            if not self._draining.ended.is_set():
                _log.error("a live process ended (%s); the sidecar ends", described(status))
                self._code = 1
                self._end()
            elif status:
                self._code = 1
        elif process == self._scorer_process:
            self._scorer_process = 0
            if not self._ending:
                self._start_scorer_later(f"ended ({described(status)})")

    def _start_scorer_later(self, why: str) -> None:
        pause = self._backoff.after(time.monotonic() - self._scorer_since)
        _log.error("the scorer %s; users are served, nothing is mirrored; again in %.1f s", why, pause)
        self._loop.call_later(pause, self._start_scorer)

    # -- the end

    def _hear_signal(self, number: signal.Signals) -> None:
        if not self._ending:
            _log.info("%s: draining, answers now close their connections", number.name)
        self._end()

    def _end(self) -> None:
        self._ending = True
        self._draining.end()
        if not self._live:
            self._draining.ended.set()  # nobody is left to be waited for

    async def _end_scorer(self) -> None:
        if self._scorer_process:
            os.kill(self._scorer_process, signal.SIGTERM)
            await self._children.gone([self._scorer_process], _FLUSH)
