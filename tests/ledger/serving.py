"""A ledger as a process, as tests of its callers and its certificate start it."""

import hashlib
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

SPEC: dict[str, object] = {"model": {"classes": ["cat", "dog", "owl"]}, "labels": {"maturity": "0s"}}


def digest(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()


def instructions(run: str = "r1", epoch: int = 1, **more: object) -> dict[str, object]:
    return {"epoch": epoch, "instructions": {"version": 3, "run": run, "share": 1.0}, "spec": SPEC, **more}


@contextmanager
def ledger(state: Path, *options: str, log: Path | None = None) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """Its URL and its process, which is killed in the end; what it logs goes to `log`."""
    command = [sys.executable, "-m", "modelcanary_ledger", "--listen=127.0.0.1:0", f"--state={state}", *options]
    with (
        Path(log or os.devnull).open("a") as errors,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True) as started,
    ):
        try:
            assert started.stdout is not None
            line = started.stdout.readline()
            assert line, log.read_text() if log else "it did not start"
            yield line.split()[-1], started
        finally:
            started.kill()
