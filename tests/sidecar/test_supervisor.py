"""How the processes of a sidecar are started, watched and ended; that they serve is for `live_path` to test."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.sidecar.live_path.processes import DEADLINE, Process, RawModel, receive_all, start_sidecar, until

from modelcanary_sidecar import live
from modelcanary_sidecar.children import Children
from modelcanary_sidecar.errors import MissingProgram
from modelcanary_sidecar.supervisor import Backoff


@pytest.fixture
def start() -> Iterator[Callable[..., Process]]:
    model = RawModel()
    started: list[Process] = []

    def make(*options: str) -> Process:
        started.append(start_sidecar(model.port, *options))
        return started[-1]

    yield make
    for process in started:
        process.stop()
    model.stop()


def test_a_scorer_is_started_again_ever_more_slowly_until_it_is_steady() -> None:
    backoff = Backoff()
    assert [backoff.after(1.0) for _ in range(8)] == [0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0]
    assert backoff.after(61.0) == 0.5


def test_a_program_that_is_missing_is_said_with_the_remedy(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    live.check_installed()
    monkeypatch.setattr(live, "PROGRAM", tmp_path / "modelcanary-live")
    with pytest.raises(MissingProgram, match=r"modelcanary-live is missing.* `make install`"):
        live.check_installed()


def test_a_scorer_that_is_started_again_holds_nobody_elses_connections(start: Callable[..., Process]) -> None:
    """Else who asked on the admin port would wait for the end of an answer until the scorer ends."""
    process = start()
    with process.connect_admin() as client:
        client.sendall(b"GET /healthz HTTP/1.1\r\n")  # not whole: cut off when its time is up
        before = process.children()[1]
        os.kill(before, signal.SIGKILL)
        until(lambda: len(process.children()) == 2 and process.children()[1] != before)
        assert receive_all(client) == b""


def test_a_process_that_cannot_be_made_leaves_signals_as_they_were(monkeypatch: pytest.MonkeyPatch) -> None:
    def fork() -> int:
        raise BlockingIOError("no more processes")

    monkeypatch.setattr(os, "fork", fork)
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    with pytest.raises(BlockingIOError):
        Children(lambda process, status: None).start("none", lambda: 0)
    assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) == before


def test_a_live_process_that_does_not_end_is_killed_and_that_is_no_success(start: Callable[..., Process]) -> None:
    process = start("--drain-time", "100ms")
    stopped = process.children()[0]
    os.kill(stopped, signal.SIGSTOP)
    process.terminate()
    assert process.popen.wait(DEADLINE) == 1
    process._reader.join(DEADLINE)
    assert any(f"process {stopped} did not end in time and is killed" in line for line in process.lines)


def test_an_interrupt_of_all_processes_by_a_terminal_drains(start: Callable[..., Process]) -> None:
    process = start()
    for each in (*process.children(), process.popen.pid):
        os.kill(each, signal.SIGINT)
    assert process.popen.wait(DEADLINE) == 0


def test_signals_of_a_service_manager_to_all_processes_drain(start: Callable[..., Process]) -> None:
    process = start("--drain-delay", "500ms")
    live_process, _ = process.children()
    os.kill(live_process, signal.SIGTERM)
    assert process.ask().startswith(b"HTTP/1.1 200 ")  # it is not the one to decide
    for each in (*process.children(), process.popen.pid):
        os.kill(each, signal.SIGTERM)
    process._told = True
    assert process.ask().startswith(b"HTTP/1.1 200 ")
    assert process.popen.wait(DEADLINE) == 0


def test_what_loading_took_for_a_while_goes_back_to_the_system() -> None:
    program = """if True:
        from modelcanary_sidecar import collector
        def size():
            for line in open("/proc/self/smaps_rollup"):
                if line.startswith("Anonymous:"):
                    return int(line.split()[1])
        passing = [bytes(1000) for _ in range(20_000)]
        last = bytes(1000)  # behind them: the heap does not get shorter by itself
        del passing
        before = size()
        collector.keep()
        print(before - size())"""
    freed = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert int(freed) > 10_000  # kB
