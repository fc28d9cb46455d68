"""Processes that this one starts, hears the end of, and ends.

`supervisor` starts the live processes and the scorer with it. It must not know what they do.
"""

import asyncio
import ctypes
import logging
import os
import signal
import sys
from collections.abc import Callable, Collection, Iterable
from contextlib import suppress

_log = logging.getLogger(__name__)
#: What the supervisor hears, and is blocked until it does.
WATCHED = frozenset({signal.SIGTERM, signal.SIGINT, signal.SIGCHLD})
_PR_SET_PDEATHSIG = 1
_AFTER_KILL = 5.0


def described(status: int) -> str:
    """How a process ended, for people."""
    code = os.waitstatus_to_exitcode(status)
    return f"exit code {code}" if code >= 0 else signal.Signals(-code).name


def keep_only(files: Iterable[int]) -> None:
    """In a process that goes on with another's memory: of the open files, only these and the standard ones.

    What is not kept is open to nothing, rather than closed: the objects of the process before it are still there, and
    might close a number that has become another file's.
    """
    keep = {0, 1, 2, *files}
    nothing = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    for file in {int(name) for name in os.listdir("/proc/self/fd")} - keep - {nothing}:  # noqa: PTH208
        with suppress(OSError):  # what listed them is gone itself
            os.fstat(file)
            os.dup2(nothing, file, inheritable=False)


class Children:
    """`on_end` is told of each that has ended, when `reap` is called: on SIGCHLD."""

    def __init__(self, on_end: Callable[[int, int], None]) -> None:
        self._on_end = on_end
        self._there: set[int] = set()
        self._ended = asyncio.Event()

    def start(self, name: str, work: Callable[[], int]) -> int:
        """A process that does the work and ends with the code that it returns; its id. It is for the work to unblock
        `WATCHED`, when it listens to them: until then none is lost."""
        parent = os.getpid()
        # Its first moments are with our handlers, which would wake this process's event loop instead of it.
        blocked = signal.pthread_sigmask(signal.SIG_BLOCK, WATCHED)
        try:
            child = os.fork()
        except OSError:
            signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
            raise
        if child:
            signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
            self._there.add(child)
            return child
        code = 1
        try:
            _begin(parent)
            code = work()
        except KeyboardInterrupt:
            code = 0
        except Exception:  # noqa: BLE001 - the child's end: nothing above it would say what happened
            _log.exception("%s died", name)
        finally:
            sys.stderr.flush()
            sys.stdout.flush()
            os._exit(code)

    def reap(self) -> None:
        """Those that have ended since the last call."""
        while True:
            try:
                process, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if not process:
                return
            if process in self._there:
                self._there.discard(process)
                self._ended.set()
                self._on_end(process, status)

    async def gone(self, processes: Collection[int], grace: float) -> bool:
        """Waits for their end; kills those that are still there after `grace`. Whether all went by themselves."""
        if await self._wait(processes, grace):
            return True
        for process in self._there.intersection(processes):
            _log.error("process %d did not end in time and is killed", process)
            os.kill(process, signal.SIGKILL)
        await self._wait(processes, _AFTER_KILL)
        return False

    async def _wait(self, processes: Collection[int], seconds: float) -> bool:
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while self._there.intersection(processes):
                    self._ended.clear()
                    await self._ended.wait()
        return not self._there.intersection(processes)


def _begin(parent: int) -> None:
    """In the child: of the signals, none is ours any more."""
    # It is told when the process that started it is gone, even by SIGKILL.
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:
        sys.exit(0)
    signal.set_wakeup_fd(-1)
    for number in WATCHED:
        signal.signal(number, signal.SIG_DFL)
