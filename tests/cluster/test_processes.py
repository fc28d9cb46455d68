"""Exactly what was started is ended, and nothing that has its id later."""

import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.cluster.errors import ClusterError
from tests.cluster.processes import Processes


@pytest.fixture
def processes(tmp_path: Path) -> Iterator[Processes]:
    made = Processes(tmp_path)
    yield made
    for name in made.names():
        made.end(name)


def test_a_process_is_known_by_its_name_until_it_is_ended(processes: Processes) -> None:
    pid = processes.start("sleeper", ["sleep", "60"])
    another = Processes(processes.folder)  # as another command of the harness sees it
    assert another.id_of("sleeper") == pid == processes.id_of("sleeper")
    processes.end("sleeper")
    assert processes.id_of("sleeper") is None
    assert not Path(f"/proc/{pid}").exists()
    assert processes.names() == []


def test_one_that_will_not_end_is_killed(processes: Processes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.cluster.processes._GRACE", 0.3)
    processes.start("stubborn", ["sh", "-c", "trap '' TERM; echo set; while :; do sleep 0.05; done"])
    processes.wait("stubborn", "trap", lambda: "set" in processes.log("stubborn").read_text(), 10.0)
    processes.end("stubborn")
    assert processes.id_of("stubborn") is None


def test_a_process_that_got_the_id_later_is_left_alone(processes: Processes) -> None:
    other = subprocess.Popen(["sleep", "60"])
    try:
        (processes.folder / "pid").mkdir()
        (processes.folder / "pid" / "old").write_text(f"{other.pid} 1")
        assert processes.id_of("old") is None
        processes.end("old")
        assert other.poll() is None
    finally:
        other.kill()
        other.wait()


def test_waiting_ends_with_the_log_of_what_failed(processes: Processes) -> None:
    processes.start("failing", ["sh", "-c", "echo no disk; exit 3"])
    with pytest.raises(ClusterError, match=r"failing ended before readiness:\nno disk"):
        processes.wait("failing", "readiness", lambda: False)
    processes.start("slow", ["sh", "-c", "echo thinking; sleep 60"])
    with pytest.raises(ClusterError, match="no readiness within 0 s; the log of slow ends"):
        processes.wait("slow", "readiness", lambda: False, 0.2)


def test_a_command_that_is_not_there_says_so(processes: Processes) -> None:
    with pytest.raises(ClusterError, match="thing cannot be started"):
        processes.start("thing", ["/nonexistent/program"])


_STARTS_AND_IS_KILLED = """
import os, signal, sys, time
from pathlib import Path
from tests.cluster.processes import Processes

pid = Processes(Path(sys.argv[1]), bound=True).start("child", ["sleep", "60"])
while Path(f"/proc/{pid}/comm").read_text() != "sleep\\n":  # it asks for the signal first
    time.sleep(0.01)
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.skipif(shutil.which("setpriv") is None, reason="bound processes need setpriv")
def test_bound_processes_end_with_the_one_that_started_them(tmp_path: Path) -> None:
    project = Path(__file__).parents[2]
    command = [sys.executable, "-c", _STARTS_AND_IS_KILLED, str(tmp_path)]
    run = subprocess.run(command, cwd=project, capture_output=True, text=True, timeout=60, check=False)
    assert run.returncode == -signal.SIGKILL, run.stderr
    assert (tmp_path / "pid" / "child").is_file()
    deadline = time.monotonic() + 10
    while Processes(tmp_path).id_of("child") is not None and time.monotonic() < deadline:
        time.sleep(0.01)
    assert Processes(tmp_path).id_of("child") is None
