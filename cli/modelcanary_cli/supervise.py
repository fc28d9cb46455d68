"""The processes that `run` is made of: started in order, watched, restarted once, ended in reverse order.

Called by `run`. Each part is a process of its own session, so Ctrl-C in a terminal reaches `run` alone, and each
ends by itself when `run` is killed (see `child`). Must not know what the parts do.
"""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

import httpx

from modelcanary_cli.errors import CliError, ExitCode

_START = 30.0
#: Longer than a part's own drain.
_END = 20.0
_GROUP_END = 2.0
_TAIL = 4


class PartError(CliError):
    """A part does not start or does not stay; the text has the end of its log."""

    exit_code = ExitCode.INTERNAL


class Interrupted(Exception):
    """The user asked for the end while something was waited for."""


@dataclass(slots=True)
class Part:
    """One process."""

    name: str
    package: str  # whose `main` it runs
    arguments: Sequence[str]
    ready: str  # URL that answers 200 when it can be used
    log: Path
    child: subprocess.Popen[bytes] | None = None
    restarts: int = field(default=0)

    @property
    def exit_code(self) -> int | None:
        return None if self.child is None else self.child.poll()

    def tail(self) -> str:
        lines = [line for line in self.log.read_text(errors="replace").splitlines() if line.strip()]
        return " | ".join(lines[-_TAIL:]) or "(empty)"


class Supervisor:
    """Use as a context manager: on leaving, all parts have ended."""

    def __init__(self, lock: int, say: Callable[[str], None], stopping: Callable[[], bool]) -> None:
        self._lock = lock
        self._say = say
        self._stopping = stopping
        self._parts: list[Part] = []

    def start(self, part: Part) -> None:
        """Returns when it is ready. Raises PartError, Interrupted."""
        self._parts.append(part)
        self._spawn(part)

    def check(self) -> list[Part]:
        """Restarts parts that have died; returns those. Raises PartError for one that died again."""
        restarted = []
        for part in self._parts:
            if part.exit_code is None:
                continue
            if part.restarts:
                raise PartError(
                    f"the {part.name} ended again (exit code {part.exit_code}); "
                    f"see {part.log}, which ends: {part.tail()}"
                )
            part.restarts += 1
            code = part.exit_code
            _end_group(part)
            self._spawn(part)
            self._say(f"the {part.name} ended by itself (exit code {code}) and was restarted, once; see {part.log}")
            restarted.append(part)
        return restarted

    def _spawn(self, part: Part) -> None:
        with part.log.open("ab") as log:
            part.child = subprocess.Popen(
                [
                    *(sys.executable, "-m", "modelcanary_cli.child"),
                    *(str(os.getpid()), str(self._lock), part.package),
                    *part.arguments,
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=(self._lock,),
                start_new_session=True,
            )
        deadline = time.monotonic() + _START
        while not _answers(part.ready):
            if self._stopping():
                raise Interrupted
            if part.exit_code is not None:
                raise PartError(
                    f"the {part.name} does not start (exit code {part.exit_code}); "
                    f"see {part.log}, which ends: {part.tail()}"
                )
            if time.monotonic() > deadline:
                raise PartError(
                    f"the {part.name} is not ready after {_START:.0f} s; see {part.log}, which ends: {part.tail()}"
                )
            time.sleep(0.05)

    def end(self) -> None:
        """Ends the parts, the last started first, each given the time to drain."""
        while self._parts:
            part = self._parts.pop()
            if part.child is None:
                continue
            if part.child.poll() is None:
                part.child.send_signal(signal.SIGTERM)
                try:
                    part.child.wait(_END)
                except subprocess.TimeoutExpired:
                    self._say(f"the {part.name} did not end within {_END:.0f} s and is killed")
            _end_group(part)
            part.child.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end()


def _end_group(part: Part) -> None:
    """Ends what a part has left behind, and waits a moment for it: it may hold the part's port."""
    if part.child is None:
        return
    deadline = time.monotonic() + _GROUP_END
    with contextlib.suppress(ProcessLookupError):
        while time.monotonic() < deadline:
            os.killpg(part.child.pid, signal.SIGKILL)
            time.sleep(0.02)


def _answers(url: str) -> bool:
    try:
        return httpx.get(url, timeout=2.0).status_code == httpx.codes.OK
    except httpx.HTTPError:
        return False
