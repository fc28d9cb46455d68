"""Starts processes, keeps their ids, and ends exactly those.

Called by `control_plane` and `node`. An id on disk goes with the moment when its process started, so that a process
that got the same id later is never ended by mistake.
"""

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.cluster.errors import ClusterError

_GRACE = 10.0


@dataclass(frozen=True, slots=True)
class Processes:
    """The processes of one state folder: `log/NAME.log` and `pid/NAME` for each."""

    folder: Path
    #: whether they end with the process that started them, however that ends
    bound: bool = False
    _children: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def start(self, name: str, command: Sequence[str]) -> int:
        for part in ("log", "pid"):
            (self.folder / part).mkdir(parents=True, exist_ok=True)
        full = list(command)
        if self.bound and shutil.which("setpriv"):
            full = ["setpriv", "--pdeathsig", "KILL", *full]
        with self.log(name).open("wb") as log:
            try:
                process = subprocess.Popen(
                    full, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=not self.bound
                )
            except OSError as error:
                raise ClusterError(f"{name} cannot be started: {error}") from error
        self._children[name] = process
        (self.folder / "pid" / name).write_text(f"{process.pid} {_started(process.pid)}")
        return process.pid

    def log(self, name: str) -> Path:
        return self.folder / "log" / f"{name}.log"

    def names(self) -> list[str]:
        return sorted(path.name for path in (self.folder / "pid").glob("*"))

    def id_of(self, name: str) -> int | None:
        """The process's id while it runs."""
        try:
            pid, started = (self.folder / "pid" / name).read_text().split()
        except (OSError, ValueError):
            return None
        child = self._children.get(name)
        if child is not None and child.pid == int(pid) and child.poll() is not None:
            return None
        return int(pid) if _started(int(pid)) == started else None

    def end(self, name: str) -> None:
        """SIGTERM, then SIGKILL."""
        for number in (signal.SIGTERM, signal.SIGKILL):
            pid = self.id_of(name)
            if pid is None:
                break
            os.kill(pid, number)
            deadline = time.monotonic() + _GRACE
            while time.monotonic() < deadline and self.id_of(name) is not None:
                time.sleep(0.02)
        child = self._children.pop(name, None)
        if child is not None:
            child.wait(_GRACE)
        (self.folder / "pid" / name).unlink(missing_ok=True)

    def wait(self, name: str, what: str, is_so: Callable[[], bool], seconds: float = 120.0) -> None:
        """Returns when it is so; raises with the end of the log when the process ends or time is up."""
        deadline = time.monotonic() + seconds
        while not is_so():
            if self.id_of(name) is None:
                raise ClusterError(f"{name} ended before {what}:\n{self._last_words(name)}")
            if time.monotonic() > deadline:
                raise ClusterError(
                    f"no {what} within {seconds:.0f} s; the log of {name} ends:\n{self._last_words(name)}"
                )
            time.sleep(0.1)

    def _last_words(self, name: str) -> str:
        try:
            return "\n".join(self.log(name).read_text(errors="replace").splitlines()[-15:])
        except OSError:
            return "(no log)"


def _started(pid: int) -> str:
    """When a process started, in ticks since the boot; "" for one that has ended."""
    try:
        state, *rest = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return ""
    return "" if state in "ZX" else rest[18]
