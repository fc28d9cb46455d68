"""Real processes against a real model of raw sockets: connections, signals, backpressure, the way to the end."""

import os
import re
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import TypeVar

import pytest

from modelcanary_gate.protocol import Instructions, MirrorLimits
from modelcanary_sidecar.capture import Captured
from modelcanary_sidecar.channel import News, ScorerEnd, socket_pair

T = TypeVar("T")
DEADLINE = 20.0
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
POST = b"POST /infer HTTP/1.1\r\nHost: a\r\nX-Request-Id: i\r\nContent-Length: 2\r\n\r\n{}"

#: The live process alone: the test is its scorer.
LIVE = """
import socket, sys
from modelcanary_sidecar.board import Board
from modelcanary_sidecar.live import Sockets, run
from modelcanary_sidecar.main import bind, bound
from modelcanary_sidecar.settings import read_settings
settings = read_settings(sys.argv[2:], {})
listener, admin = bind("listen", settings.listen), bind("admin", settings.admin)
print(f"listening on {bound(listener)}, admin on {bound(admin)}", file=sys.stderr, flush=True)
run(settings, Sockets(listener, admin, socket.socket(fileno=int(sys.argv[1]))), Board(1), 0)
"""


def until(found: Callable[[], T]) -> T:
    """Poll for a condition."""
    deadline = time.monotonic() + DEADLINE
    while True:
        if value := found():
            return value
        assert time.monotonic() < deadline, "it did not come about in time"
        time.sleep(0.01)


class Connection:
    """The model's end of one connection."""

    def __init__(self, end: socket.socket) -> None:
        self.socket = end
        end.settimeout(DEADLINE)
        self.buffer = b""

    def request(self) -> bytes:
        """The next request, whole; empty at the end of the connection."""
        while b"\r\n\r\n" not in self.buffer:
            if not self._more():
                return b""
        head, _, rest = self.buffer.partition(b"\r\n\r\n")
        match = re.search(rb"content-length: (\d+)", head, re.IGNORECASE)
        length = int(match[1]) if match else 0
        while len(rest) < length:
            if not self._more():
                return b""
            rest = self.buffer.partition(b"\r\n\r\n")[2]
        self.buffer = rest[length:]
        return head + b"\r\n\r\n" + rest[:length]

    def _more(self) -> bool:
        data = self.socket.recv(1 << 16)
        self.buffer += data
        return bool(data)

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def close(self) -> None:
        self.socket.close()


def answer_all(connection: Connection) -> None:
    while connection.request():
        connection.send(OK)


class RawModel:
    """A model whose every connection is a script."""

    def __init__(self) -> None:
        self.script: Callable[[Connection], None] = answer_all
        self.connections: list[Connection] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._threads: list[threading.Thread] = []
        self._accepting = threading.Thread(target=self._accept)
        self._accepting.start()

    def _accept(self) -> None:
        while True:
            try:
                end, _ = self._listener.accept()
            except OSError:
                return
            connection = Connection(end)
            self.connections.append(connection)
            thread = threading.Thread(target=self._play, args=(self.script, connection))
            self._threads.append(thread)
            thread.start()

    @staticmethod
    def _play(script: Callable[[Connection], None], connection: Connection) -> None:
        with suppress(OSError):
            script(connection)

    def stop(self) -> None:
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for connection in self.connections:
            with suppress(OSError):
                connection.socket.shutdown(socket.SHUT_RDWR)
            connection.close()
        for thread in [self._accepting, *self._threads]:
            thread.join(DEADLINE)
            assert not thread.is_alive()


class Process:
    """A sidecar, and the ports that it said."""

    def __init__(self, command: list[str], *, pass_fds: tuple[int, ...] = ()) -> None:
        self.popen = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, pass_fds=pass_fds)
        self.lines: list[str] = []
        self._reader = threading.Thread(target=self._read)
        self._reader.start()
        said = until(lambda: next((line for line in self.lines if "listening on" in line), None))
        self.port, self.admin = (int(port) for port in re.findall(r"127\.0\.0\.1:(\d+)", said)[:2])

    def _read(self) -> None:
        assert self.popen.stderr is not None
        self.lines += iter(self.popen.stderr.readline, "")

    def _read_all(self) -> None:
        self._reader.join(DEADLINE)

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), DEADLINE)

    def ask(self, message: bytes = POST) -> bytes:
        """On a connection of its own, up to its end or to the end of the answer."""
        with self.connect() as client:
            client.sendall(message)
            return receive_answer(client)

    def admin_says(self, path: str, method: str = "GET") -> str:
        with socket.create_connection(("127.0.0.1", self.admin), DEADLINE) as client:
            client.sendall(f"{method} {path} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
            return receive_all(client).decode()

    def metric(self, name: str) -> float:
        found = re.search(rf"^modelcanary_sidecar_{name}(?:{{.*}})? (\S+)$", self.admin_says("/metrics"), re.M)
        return float(found[1]) if found else 0.0

    def children(self) -> list[int]:
        task = f"/proc/{self.popen.pid}/task/{self.popen.pid}/children"
        with open(task) as file:
            return [int(child) for child in file.read().split()]

    def stop(self) -> int:
        if self.popen.poll() is None:
            self.popen.send_signal(signal.SIGTERM)
        code = self.popen.wait(DEADLINE)
        self._reader.join(DEADLINE)
        assert self.popen.stderr is not None
        self.popen.stderr.close()
        return code


def receive_all(client: socket.socket) -> bytes:
    client.settimeout(DEADLINE)
    return b"".join(iter(lambda: client.recv(1 << 16), b""))


def receive_answer(client: socket.socket) -> bytes:
    """One answer with a Content-Length, or all there is."""
    client.settimeout(DEADLINE)
    data = b""
    while True:
        head, end, body = data.partition(b"\r\n\r\n")
        match = re.search(rb"content-length: (\d+)", head, re.IGNORECASE)
        if end and match and len(body) >= int(match[1]):
            return data
        piece = client.recv(1 << 16)
        if not piece:
            return data
        data += piece


@pytest.fixture
def model() -> Iterator[RawModel]:
    model = RawModel()
    yield model
    model.stop()


@pytest.fixture
def start(model: RawModel) -> Iterator[Callable[..., Process]]:
    """The whole sidecar; its ledger is not there."""
    processes: list[Process] = []

    def make(*options: str) -> Process:
        command = [sys.executable, "-m", "modelcanary_sidecar.main", "--ledger", "http://127.0.0.1:9", "--name", "x"]
        command += ["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"]
        command += ["--upstream", f"http://127.0.0.1:{model.port}", "--drain-delay", "0s", *options]
        processes.append(Process(command))
        return processes[-1]

    yield make
    for process in processes:
        process.stop()


@pytest.fixture
def live(model: RawModel) -> Iterator[Callable[..., tuple[Process, ScorerEnd]]]:
    """A live process alone, and the scorer's end of its channel."""
    started: list[tuple[Process, ScorerEnd]] = []

    def make(*options: str) -> tuple[Process, ScorerEnd]:
        end, scorer = socket_pair()
        command = [sys.executable, "-c", LIVE, str(end.fileno()), "--ledger", "http://x", "--name", "x"]
        command += ["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"]
        command += ["--upstream", f"http://127.0.0.1:{model.port}", "--drain-delay", "0s", *options]
        process = Process(command, pass_fds=(end.fileno(),))
        end.close()
        started.append((process, ScorerEnd(scorer)))
        return started[-1]

    yield make
    for process, scorer in started:
        process.stop()
        scorer.close()


def tell(process: Process, scorer: ScorerEnd, instructions: Instructions) -> None:
    """Until it has been heard: what is captured shows it."""

    def heard() -> bool:
        scorer.tell(News(instructions, time.monotonic()))
        process.ask(POST.replace(b"/infer", b"/probe"))
        return scorer.receive() is not None

    until(heard)


def captured_by(scorer: ScorerEnd) -> Captured:
    """The next captured request that is not one of `tell`'s."""
    while True:
        message = until(scorer.receive)
        if isinstance(message, Captured) and message.target != b"/probe":
            return message


EVERYTHING = Instructions(1, "r", "http://127.0.0.1:9", 1.0, mirror=MirrorLimits(maxPairsPerSecond=1e6))


@pytest.mark.parametrize("size", [2, 100_000, 1 << 20])
def test_a_user_is_answered_and_the_pair_arrives_at_the_scorer(live, size: int) -> None:
    process, scorer = live()
    tell(process, scorer, EVERYTHING)
    body = os.urandom(size)
    head = b"POST /infer HTTP/1.1\r\nHost: a\r\nX-Request-Id: me\r\nContent-Length: %d\r\n\r\n" % size
    assert process.ask(head + body) == b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"
    captured = captured_by(scorer)
    assert (captured.id, captured.run, captured.body) == ("me", "r", body)
    assert (captured.baseline.status, captured.baseline.body) == (200, b"ok")
    assert 0.0 < captured.baseline.latency < DEADLINE


def test_a_scorer_that_does_not_read_delays_nobody(live) -> None:
    process, scorer = live()
    tell(process, scorer, EVERYTHING)
    head = b"POST /infer HTTP/1.1\r\nHost: a\r\nX-Request-Id: me\r\nContent-Length: 40000\r\n\r\n"
    with process.connect() as client:
        for _ in range(400):  # 16 MB, much more than the channel holds
            client.sendall(head + bytes(40_000))
            assert receive_answer(client).startswith(b"HTTP/1.1 200 ")
    assert 'reason="queue"' in process.admin_says("/metrics")
    assert process.metric("captured_total") > 10


def test_a_connection_that_the_model_closed_first_costs_nobody_an_answer(model: RawModel, start) -> None:
    got: list[bytes] = []

    def one_answer(connection: Connection) -> None:
        got.append(connection.request())
        connection.send(OK)  # keep-alive, as far as it says

    model.script = one_answer
    process = start()
    live = process.children()[0]
    with process.connect() as client:
        for n in range(5):
            os.kill(live, signal.SIGSTOP)  # so that the close and the next request meet it together
            if n:
                model.connections[-1].close()
            client.sendall(POST.replace(b"/infer", b"/%d" % n))
            os.kill(live, signal.SIGCONT)
            assert receive_answer(client).startswith(b"HTTP/1.1 200 "), n
    assert [request.split(b" ")[1] for request in got] == [b"/%d" % n for n in range(5)]


def test_beyond_the_connections_and_the_queue_users_are_told_at_once(model: RawModel, start) -> None:
    release = threading.Event()

    def slow(connection: Connection) -> None:
        while connection.request():
            release.wait(DEADLINE)
            connection.send(OK)

    model.script = slow
    process = start("--connections", "1", "--waiting", "1")
    with process.connect() as first, process.connect() as second:
        first.sendall(POST)
        until(lambda: process.metric("in_flight") == 1)
        second.sendall(POST)
        until(lambda: process.metric("waiting") == 1)
        assert process.ask().startswith(b"HTTP/1.1 503 ")
        release.set()
        assert receive_answer(first).endswith(b"ok")
        assert receive_answer(second).endswith(b"ok")
    assert len(model.connections) == 1


def test_a_sidecar_ends_without_failing_a_request(model: RawModel, start) -> None:
    release = threading.Event()

    def slow(connection: Connection) -> None:
        while request := connection.request():
            if b"/slow" in request:
                release.wait(DEADLINE)
            connection.send(OK)

    model.script = slow
    process = start("--drain-delay", "1s")
    assert "200 OK" in process.admin_says("/readyz")
    with process.connect() as in_flight, process.connect() as idle:
        idle.sendall(POST)
        receive_answer(idle)
        in_flight.sendall(POST.replace(b"/infer", b"/slow"))
        until(lambda: process.metric("in_flight") == 1)
        process.popen.send_signal(signal.SIGTERM)
        until(lambda: "503" in process.admin_says("/readyz"))
        answer = process.ask()  # new connections are served still
        assert answer.startswith(b"HTTP/1.1 200 ")
        assert b"connection: close" in answer
        assert receive_all(idle) == b""  # closed, when the delay is over
        until(lambda: refused(process))
        assert process.popen.poll() is None  # one request is still under way
        release.set()
        answer = receive_all(in_flight)
        assert answer.endswith(b"ok")
        assert b"connection: close" in answer
    assert process.popen.wait(DEADLINE) == 0


def refused(process: Process) -> bool:
    try:
        process.connect().close()
    except OSError:
        return True
    return False


def test_a_hook_fails_readiness_and_goes_on_serving(start) -> None:
    process = start()
    assert process.admin_says("/drain", "POST").startswith("HTTP/1.1 202")
    assert "503" in process.admin_says("/readyz")
    until(lambda: b"connection: close" in process.ask())
    assert process.popen.poll() is None


def test_not_ready_while_the_model_is_not(model: RawModel, start) -> None:
    process = start()
    model._listener.shutdown(socket.SHUT_RDWR)
    model._listener.close()
    assert "does not accept" in process.admin_says("/readyz")
    assert "200 OK" in process.admin_says("/healthz")
    assert process.ask().startswith(b"HTTP/1.1 502 ")


def _pushed(send: Callable[[bytes], object], most: int) -> int:
    """How much can be sent before it blocks."""
    piece = bytes(1 << 16)
    pushed = 0
    with suppress(TimeoutError):
        while pushed < most:
            send(piece)
            pushed += len(piece)
    return pushed


def test_a_user_who_does_not_read_stops_the_model(model: RawModel, start) -> None:
    pushed: list[int] = []

    def endless(connection: Connection) -> None:
        connection.request()
        connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n")
        connection.socket.settimeout(1.0)
        pushed.append(_pushed(connection.socket.sendall, 300 << 20))

    model.script = endless
    process = start()
    with process.connect() as client:
        client.sendall(POST)
        until(lambda: pushed)
    assert pushed[0] < 100 << 20


def test_a_model_that_does_not_read_stops_the_user(model: RawModel, start) -> None:
    held = threading.Event()
    model.script = lambda connection: bool(held.wait(DEADLINE)) and None
    process = start("--drain-time", "1s")
    with process.connect() as client:
        client.sendall(b"POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000000\r\n\r\n")
        client.settimeout(1.0)
        pushed = _pushed(client.sendall, 300 << 20)
    held.set()
    assert pushed < 100 << 20


def test_a_user_who_leaves_frees_the_models_connection(model: RawModel, start) -> None:
    left = threading.Event()

    def wait_for_the_end(connection: Connection) -> None:
        connection.request()
        with suppress(ConnectionError):
            connection.socket.recv(1)
        left.set()

    model.script = wait_for_the_end
    process = start()
    with process.connect() as client:
        client.sendall(POST)
        until(lambda: process.metric("in_flight") == 1)
    assert left.wait(DEADLINE)
    until(lambda: process.metric("in_flight") == 0)


def test_a_refusal_is_not_lost_to_a_reset(start) -> None:
    process = start()
    for _ in range(20):
        with process.connect() as client:
            # Much more than what is read before it is refused: closing at once would reset the connection.
            client.sendall(b"POST /x HTTP/1.1\r\nHost: a\r\nX: " + b"a" * 2_000_000 + b"\r\n\r\n")
            assert receive_all(client).startswith(b"HTTP/1.1 431 ")


def test_http2_passes_through_both_ways_and_ends_both_ways(model: RawModel, start) -> None:
    def echo(connection: Connection) -> None:
        while data := connection.socket.recv(1 << 16):
            connection.send(data)
        connection.send(b"bye")
        connection.close()

    model.script = echo
    process = start()
    preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
    payload = os.urandom(3 << 20)
    with process.connect() as client:
        sender = threading.Thread(target=lambda: (client.sendall(preface + payload), client.shutdown(socket.SHUT_WR)))
        sender.start()
        assert receive_all(client) == preface + payload + b"bye"
        sender.join()
    assert process.metric("passed_through_total") == 1


def test_several_processes_serve_on_one_port_and_export_one_sum(start) -> None:
    process = start("--workers", "2")
    assert len(process.children()) == 3
    for _ in range(60):
        assert process.ask().startswith(b"HTTP/1.1 200 ")
    until(lambda: process.metric("requests_total") == 60)
    process.admin_says("/drain")
    until(lambda: all(b"connection: close" in process.ask() for _ in range(20)))  # all of them have heard
    assert process.stop() == 0


def test_users_are_served_while_the_scorer_is_started_again(start) -> None:
    process = start()
    live, scorer = process.children()
    os.kill(scorer, signal.SIGKILL)
    until(lambda: any("the scorer ended (SIGKILL)" in line for line in process.lines))
    assert process.ask().startswith(b"HTTP/1.1 200 ")
    until(lambda: len(process.children()) == 2 and process.children()[0] == live)
    assert process.children()[1] != scorer
    assert process.stop() == 0


def test_a_sidecar_whose_live_process_dies_says_so_by_its_end(start) -> None:
    process = start()
    os.kill(process.children()[0], signal.SIGKILL)
    assert process.popen.wait(DEADLINE) != 0
    process._reader.join(DEADLINE)
    assert any("a live process ended (SIGKILL)" in line for line in process.lines)


def test_nothing_is_left_when_the_sidecar_is_killed(start) -> None:
    process = start()
    children = process.children()
    process.popen.kill()
    process.popen.wait(DEADLINE)
    until(lambda: not any(_running(child) for child in children))


def _running(process: int) -> bool:
    try:
        with open(f"/proc/{process}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_a_port_in_use_is_one_line_and_exit_code_3(model: RawModel) -> None:
    command = [sys.executable, "-m", "modelcanary_sidecar.main", "--ledger", "http://x", "--name", "x"]
    command += ["--upstream", "http://127.0.0.1:1", "--admin", "127.0.0.1:0", "--listen", f"127.0.0.1:{model.port}"]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE, check=False)
    assert ended.returncode == 3
    assert re.fullmatch(
        rf"modelcanary-sidecar: --listen: cannot listen on 127\.0\.0\.1:{model.port}: .*; choose .*\n", ended.stderr
    )


def test_a_model_that_hangs_up_at_once_leaves_nothing_behind(model: RawModel, start) -> None:
    def hang_up(connection: Connection) -> None:
        connection.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.close()

    model.script = hang_up
    process = start("--connections", "2")
    for _ in range(40):
        assert process.ask().startswith(b"HTTP/1.1 502 ")
    model.script = answer_all
    until(lambda: process.ask().startswith(b"HTTP/1.1 200 "))
    until(lambda: process.metric("model_connections") <= 1)


def test_a_scorer_that_ends_during_the_drain_is_no_error(model: RawModel, start) -> None:
    """A service manager signals every process of a group at once."""
    process = start("--drain-delay", "1s")
    _, scorer = process.children()
    process.popen.send_signal(signal.SIGTERM)
    os.kill(scorer, signal.SIGKILL)
    process.popen.wait(DEADLINE)
    process._reader.join(DEADLINE)
    assert not any("Traceback" in line for line in process.lines)
