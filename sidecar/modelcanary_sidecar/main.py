"""`modelcanary-sidecar`: starts the live processes and the scorer, and ends them in order.

This process only watches: it binds the ports, so that a port in use is said at once; makes the channels, so
that they outlive a scorer; restarts the scorer when it dies, ever more slowly; and on SIGTERM has the live
processes drain before the scorer sends what is left. If a live process dies, the sidecar ends with it: what
runs it will start it again. It must not know requests, pairs or the ledger.
"""

import ctypes
import logging
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial

from modelcanary_sidecar import collector
from modelcanary_sidecar.board import Board
from modelcanary_sidecar.channel import End, make_ends
from modelcanary_sidecar.errors import SettingsError
from modelcanary_sidecar.live import Sockets, run
from modelcanary_sidecar.scorer import run_scorer
from modelcanary_sidecar.settings import Address, Settings, read_settings

_log = logging.getLogger(__name__)
_BAD_SETTINGS = 3
_WATCHED = frozenset({signal.SIGTERM, signal.SIGINT, signal.SIGCHLD})
_PR_SET_PDEATHSIG = 1
_FIRST_PAUSE, _LONGEST_PAUSE = 0.5, 30.0  # before the scorer is started again
_STEADY = 60.0  # a scorer that ran for so long is not in a loop of crashes
_FLUSH = 15.0  # for the scorer to send what is left

Scorer = Callable[[Settings, Sequence[End]], int]


def bind(option: str, address: Address, *, shared: bool = False) -> socket.socket:
    """A listening socket; SettingsError if the address cannot be had."""
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if shared:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        listener.bind((address.host, address.port))
        listener.listen(4096)
    except OSError as error:
        listener.close()
        raise SettingsError(
            f"--{option}: cannot listen on {address}: {error.strerror or error}; choose another address or port"
        ) from error
    listener.setblocking(False)
    return listener


def bound(listener: socket.socket) -> Address:
    host, port = listener.getsockname()[:2]
    return Address(host, port)


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


def _start(name: str, work: Callable[[], int]) -> int:
    """A child process that does the work; its id. The child never returns from here."""
    parent = os.getpid()
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        # It is told when this process is gone, even by SIGKILL.
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() == parent:
            for number in (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD):
                signal.signal(number, signal.SIG_DFL)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, _WATCHED)
            code = work()
    except KeyboardInterrupt:
        code = 0
    except Exception:  # noqa: BLE001 - the child's end: nothing above it would say what happened
        _log.exception("%s died", name)
    finally:
        sys.stderr.flush()
        sys.stdout.flush()
        os._exit(code)


class Supervisor:
    def __init__(self, settings: Settings, scorer: Scorer = run_scorer) -> None:
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
        self._live: set[int] = set()
        self._scorer_process = 0
        self._scorer_since = 0.0
        self._scorer_due = 0.0  # when to start it again; 0: it runs
        self._backoff = Backoff()

    def run(self) -> int:
        """Until a signal, or until a live process dies. Returns the exit code."""
        signal.pthread_sigmask(signal.SIG_BLOCK, _WATCHED)
        # What is loaded by now, all that the other processes need, is one copy for all of them as long as nobody
        # writes to it: not the collector either. It is 8 MB less in sum, two of them by the scorer's own modules.
        collector.keep()
        for worker in range(self._settings.workers):
            self._live.add(_start(f"live process {worker}", partial(self._serve, worker)))
        for listener in (*self._listeners, self._admin):
            listener.close()  # else it would go on accepting into a queue that nobody reads
        self._start_scorer()
        _log.info("listening on %s, admin on %s, model at %s", self.listen, self.admin, self._settings.upstream)
        code = self._watch()
        return self._end(code)

    def _serve(self, worker: int) -> int:
        admin = self._admin if worker == 0 else None
        if admin is None:
            self._admin.close()
        for other, listener in enumerate(self._listeners):
            if other != worker:
                listener.close()
        run(
            self._settings,
            Sockets(self._listeners[worker], admin, self._channels[worker][0]),
            self._board,
            worker,
        )
        return 0

    def _start_scorer(self) -> None:
        ends = [scorer_end for _, scorer_end in self._channels]
        self._scorer_process = _start("the scorer", lambda: self._scorer(self._settings, ends))
        self._scorer_since = time.monotonic()
        self._scorer_due = 0.0

    def _watch(self) -> int:
        while True:
            pause = max(0.0, self._scorer_due - time.monotonic()) if self._scorer_due else 3600.0
            received = signal.sigtimedwait(_WATCHED, pause)
            if received is not None and received.si_signo in (signal.SIGTERM, signal.SIGINT):
                return 0
            for process, status in _ended():
                if process in self._live:
                    self._live.discard(process)
                    _log.error("a live process ended (%s); the sidecar ends", _described(status))
                    return 1
                if process == self._scorer_process:
                    self._scorer_process = 0
                    pause = self._backoff.after(time.monotonic() - self._scorer_since)
                    self._scorer_due = time.monotonic() + pause
                    _log.error(
                        "the scorer ended (%s); users are served, nothing is mirrored; again in %.1f s",
                        _described(status),
                        pause,
                    )
            if self._scorer_due and time.monotonic() >= self._scorer_due:
                self._start_scorer()

    def _end(self, code: int) -> int:
        limits = self._settings.limits
        grace = limits.drain_delay + limits.drain_time + 5.0
        code = max(code, _end_processes(self._live, grace))
        if self._scorer_process:
            _end_processes({self._scorer_process}, _FLUSH)
        return code


def _ended() -> list[tuple[int, int]]:
    """Children that have ended since the last call."""
    ended: list[tuple[int, int]] = []
    while True:
        try:
            process, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return ended
        if not process:
            return ended
        ended.append((process, status))


def _described(status: int) -> str:
    code = os.waitstatus_to_exitcode(status)
    return f"exit code {code}" if code >= 0 else signal.Signals(-code).name


def _end_processes(processes: set[int], grace: float) -> int:
    """SIGTERM, and SIGKILL to those that are still there after `grace`. 0 if all ended well, else 1."""
    code = 0
    for process in processes:
        os.kill(process, signal.SIGTERM)  # one that has ended is still there: it has not been waited for
    remaining = set(processes)
    deadline = time.monotonic() + grace
    while remaining:
        left = deadline - time.monotonic()
        if left <= 0.0:
            for process in remaining:
                _log.error("process %d did not end in time and is killed", process)
                os.kill(process, signal.SIGKILL)
            deadline = time.monotonic() + 5.0
            code = max(code, 1)
        signal.sigtimedwait({signal.SIGCHLD}, min(max(left, 0.01), 1.0))
        for process in list(remaining):
            ended, status = os.waitpid(process, os.WNOHANG)
            if ended:
                remaining.discard(process)
                code = max(code, int(status != 0))
    return code


def main() -> None:
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(asctime)s modelcanary-sidecar: %(message)s")
    try:
        supervisor = Supervisor(read_settings(sys.argv[1:], os.environ))
    except SettingsError as error:
        print(f"modelcanary-sidecar: {error}", file=sys.stderr)  # noqa: T201
        sys.exit(_BAD_SETTINGS)
    sys.exit(supervisor.run())


if __name__ == "__main__":
    main()
