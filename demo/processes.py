"""Processes that the demo starts, each in a process group of its own and ended by it: none outlives the demo.

Called by `serving` and `rounds`.
"""

import contextlib
import os
import signal
import socket
import subprocess
from pathlib import Path
from types import TracebackType
from typing import IO, Self

GRACE = 15.0


class Process:
    """A child with its output in a file. Used as a context manager; leaving it ends the child's whole group."""

    def __init__(self, command: list[str], log: Path, *, cwd: Path | None = None, pipe: bool = False) -> None:
        self.log = log
        with open(log, "ab") as out:
            # A session of its own: Ctrl-C in the terminal reaches the demo alone, which ends its children in order.
            self._child = subprocess.Popen(
                command,
                stdout=subprocess.PIPE if pipe else out,
                stderr=out,
                stdin=subprocess.DEVNULL,
                cwd=cwd,
                env={**os.environ, "PYTHONUNBUFFERED": "1"},
                start_new_session=True,
            )

    @property
    def stdout(self) -> IO[bytes]:
        if self._child.stdout is None:
            raise ValueError("started without a pipe")
        return self._child.stdout

    @property
    def returncode(self) -> int | None:
        return self._child.poll()

    def interrupt(self) -> None:
        if self.returncode is None:
            self._child.send_signal(signal.SIGINT)

    def wait(self, seconds: float) -> int | None:
        """The exit code, or None when it goes on."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            return self._child.wait(seconds)
        return None

    def end(self) -> None:
        if self.returncode is None:
            self._signal(signal.SIGTERM)
            self.wait(GRACE)
        self._signal(signal.SIGKILL)  # what is left of its group, if anything
        self._child.wait()
        if self._child.stdout is not None:
            self._child.stdout.close()

    def _signal(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._child.pid, number)

    def tail(self, lines: int = 12) -> str:
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end()


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
