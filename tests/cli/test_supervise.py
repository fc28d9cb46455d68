"""Processes of a run: started, restarted once, ended; and ended when their starter is killed."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from modelcanary_cli.addresses import Ports
from modelcanary_cli.supervise import Interrupted, Part, PartError, Supervisor

TOY = """
import http.server, os, sys, threading

def main():
    mode, port = sys.argv[1], int(sys.argv[2])
    if mode == "refuses":
        print("cannot work like this")
        return 7
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            if self.path == "/die":
                os._exit(9)
            self.send_response(503 if mode == "unready" else 200)
            self.end_headers()
            self.wfile.write(str(os.getpid()).encode())
        def log_message(self, *_):
            pass
    http.server.HTTPServer(("127.0.0.1", port), Handler).serve_forever()
"""


def free_port() -> int:
    with Ports() as ports:
        return ports.hold("--port", "127.0.0.1:0").port


def toy(folder: Path, mode: str = "serves") -> Part:
    port = free_port()
    return Part("toy", "toy_part", [mode, str(port)], f"http://127.0.0.1:{port}/", folder / "toy.log")


def eventually(condition: Callable[[], bool], seconds: float = 10.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "did not come true"
        time.sleep(0.02)


def gone(process: int) -> bool:
    """Ended, or ended and not yet collected by whoever adopted it."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "toy_part").mkdir()
    (tmp_path / "toy_part" / "__init__.py").write_text("")
    (tmp_path / "toy_part" / "main.py").write_text(TOY)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    return tmp_path


@pytest.fixture
def lock(place: Path) -> Iterator[int]:
    handle = os.open(place / "lock", os.O_RDWR | os.O_CREAT)
    yield handle
    os.close(handle)


def test_a_part_that_dies_is_restarted_once(place: Path, lock: int) -> None:
    said: list[str] = []
    part = toy(place)
    with Supervisor(lock, said.append, lambda: False) as parts:
        parts.start(part)
        assert parts.check() == []
        first = httpx.get(part.ready).text
        with pytest.raises(httpx.HTTPError):
            httpx.get(part.ready + "die")
        eventually(lambda: part.exit_code is not None)
        assert parts.check() == [part]
        assert httpx.get(part.ready).text != first
        assert "toy ended by itself (exit code 9) and was restarted, once" in said[0]
        with pytest.raises(httpx.HTTPError):
            httpx.get(part.ready + "die")
        eventually(lambda: part.exit_code is not None)
        with pytest.raises(PartError, match="ended again"):
            parts.check()


def test_leaving_ends_all_parts(place: Path, lock: int) -> None:
    with Supervisor(lock, print, lambda: False) as parts:
        part = toy(place)
        parts.start(part)
        process = int(httpx.get(part.ready).text)
    assert gone(process)


def test_a_part_that_refuses_to_start_is_quoted(place: Path, lock: int) -> None:
    with (
        Supervisor(lock, print, lambda: False) as parts,
        pytest.raises(PartError, match=r"exit code 7\).*cannot work like this"),
    ):
        parts.start(toy(place, "refuses"))


def test_waiting_for_a_part_can_be_interrupted(place: Path, lock: int) -> None:
    part = toy(place, "unready")
    with Supervisor(lock, print, lambda: part.exit_code is None) as parts, pytest.raises(Interrupted):
        parts.start(part)
    assert part.exit_code is not None


STARTER = """
import os, sys, time
from pathlib import Path
from modelcanary_cli.supervise import Part, Supervisor
folder, port = Path(sys.argv[1]), sys.argv[2]
lock = os.open(folder / "lock", os.O_RDWR | os.O_CREAT)
with Supervisor(lock, print, lambda: False) as parts:
    parts.start(Part("toy", "toy_part", ["serves", port], f"http://127.0.0.1:{port}/", folder / "toy.log"))
    print("up", flush=True)
    sys.stdin.read()
"""


def test_parts_end_when_their_starter_is_killed(place: Path) -> None:
    port = free_port()
    starter = subprocess.Popen(
        [sys.executable, "-c", STARTER, str(place), str(port)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert starter.stdout is not None
    assert starter.stdin is not None
    assert starter.stdout.readline() == "up\n"
    part = int(httpx.get(f"http://127.0.0.1:{port}/").text)
    starter.send_signal(signal.SIGKILL)
    starter.communicate()
    eventually(lambda: gone(part))
