"""The demo, as `make demo` runs it: both verdicts, the users unharmed, and nothing left when it is interrupted."""

import os
import re
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

pytestmark = [pytest.mark.servers, pytest.mark.timeout(1200)]


@contextmanager
def demo(out: Path, mark: str) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        # A shell's background jobs ignore Ctrl-C, and what they start inherits that.
        ["env", "--default-signal=INT", sys.executable, "-m", "demo", str(out)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "MODELCANARY_TEST": mark, "PYTHONUNBUFFERED": "1"},
    )
    try:
        yield process
    finally:
        process.terminate()
        process.communicate(timeout=90)


def started_by(mark: str) -> list[str]:
    """Command lines of living processes that inherited the mark."""
    found = []
    for place in Path("/proc").glob("[0-9]*"):
        try:
            if f"MODELCANARY_TEST={mark}".encode() in (place / "environ").read_bytes():
                found.append((place / "cmdline").read_bytes().replace(b"\0", b" ").decode())
        except OSError:
            continue  # ended meanwhile, or not ours to see
    return found


def test_both_verdicts_are_right_and_no_user_saw_a_failure(tmp_path: Path) -> None:
    mark = str(uuid.uuid4())
    with demo(tmp_path / "out", mark) as process:
        said, _ = process.communicate()
    assert process.returncode == 0, said
    assert re.search(r"verdict +RollBack \(LossRegression\) +Promote \(CandidateNoWorse\)", said), said
    assert re.search(r"  failed +0 +0\n", said), said
    assert re.search(r"  refused +0 +0\n", said), said
    for name in ("shuffled", "better"):
        assert "<html" in (tmp_path / "out" / f"{name}.html").read_text()
    assert started_by(mark) == []


def test_an_interrupt_ends_everything(tmp_path: Path) -> None:
    mark = str(uuid.uuid4())
    with demo(tmp_path / "out", mark) as process:
        assert process.stdout is not None
        lines = []
        for line in process.stdout:
            lines.append(line)
            if "pairs judged" in line:  # a look: servers, ledger, sidecar and users are all there
                break
        else:
            pytest.fail("".join(lines))
        assert len(started_by(mark)) >= 5
        process.send_signal(signal.SIGINT)
        rest, _ = process.communicate(timeout=90)
        assert process.returncode == 130, rest
        assert "Traceback" not in rest
        deadline = time.monotonic() + 5
        while started_by(mark) and time.monotonic() < deadline:
            time.sleep(0.05)
        assert started_by(mark) == []
