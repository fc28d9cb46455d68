"""Processes of a measurement: on which core and at which priority they run, what CPU and memory they took.

As root all that is measured runs at real-time priority, so that other work on the machine waits; its rank among
itself is as it ships.
"""

import os
import subprocess
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

LOAD_CORE, PROXY_CORE = 0, 1
REAL_TIME = os.geteuid() == 0
RANK = 20  # among real-time processes
_PATIENCE = 10.0


def pinned(core: int | None, command: Sequence[str], rank: int | None = RANK) -> list[str]:
    """`core` None: any; `rank` None: at normal priority."""
    prefix = [] if core is None else ["taskset", "-c", str(core % (os.cpu_count() or 1))]
    if REAL_TIME and rank is not None:
        prefix += ["chrt", "-f", str(rank)]
    return [*prefix, *command]


class Stage:
    """Starts processes, and ends them all when it is left. `rank`: of those that run at real-time priority."""

    def __init__(self, rank: int = RANK) -> None:
        self._rank = rank
        self._processes: list[subprocess.Popen[str]] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for process in self._processes:
            process.terminate()
        deadline = time.monotonic() + _PATIENCE
        for process in self._processes:
            try:
                process.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            for stream in (process.stdout, process.stderr):
                if stream is not None:
                    stream.close()

    def start(
        self,
        core: int | None,
        command: Sequence[str],
        *,
        real_time: bool = True,
        stdout: int = subprocess.DEVNULL,
        stderr: int = subprocess.DEVNULL,
    ) -> subprocess.Popen[str]:
        whole = pinned(core, command, self._rank if real_time else None)
        process = subprocess.Popen(whole, stdout=stdout, stderr=stderr, text=True)
        self._processes.append(process)
        return process

    def spin(self, program: str) -> None:
        """At idle priority, on every core: a core that sleeps is slow to wake."""
        for core in range(os.cpu_count() or 1):
            self.start(None, ["taskset", "-c", str(core), "chrt", "-i", "0", program], real_time=False)


def tree(pid: int) -> list[int]:
    """The process and all below it."""
    found = [pid]
    for parent in found:
        with suppress(OSError):
            found += [int(child) for child in Path(f"/proc/{parent}/task/{parent}/children").read_text().split()]
    return found


def cpu(pids: Sequence[int]) -> float:
    """Seconds of CPU, of all threads."""
    total = 0
    for pid in pids:
        with suppress(OSError):
            total += time.clock_gettime_ns((~pid << 3) | 2)  # the clock of that process
    return total / 1e9


def memory(pids: Sequence[int]) -> float:
    """MiB of processes that share their memory among each other.

    What is theirs alone, by its share (Pss); the files that they map, as if nobody else did, else a second sidecar
    on the machine would make the first one smaller.
    """
    own, files = 0, 0
    for pid in pids:
        with suppress(OSError):
            rollup, status = (
                _kilobytes(f"/proc/{pid}/{name}", fields)
                for name, fields in (("smaps_rollup", ("Pss_Anon", "Pss_Shmem")), ("status", ("RssFile",)))
            )
            own += rollup
            files = max(files, status)
    return (own + files) / 1024


def _kilobytes(path: str, fields: Sequence[str]) -> int:
    lines = (line.split() for line in Path(path).read_text().splitlines())
    return sum(int(words[1]) for words in lines if words and words[0].rstrip(":") in fields)
