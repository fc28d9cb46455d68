"""Sidecars as processes, and a model of raw sockets whose every connection is a script."""

import json
import re
import select
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from itertools import chain
from typing import TypeVar

from modelcanary_gate.protocol import Instructions, MirrorLimits, ModelReading
from modelcanary_sidecar.capture import Captured
from modelcanary_sidecar.channel import News, ScorerEnd, make_ends

T = TypeVar("T")
DEADLINE = 20.0
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
POST = b"POST /infer HTTP/1.1\r\nHost: a\r\nX-Request-Id: i\r\nContent-Length: 2\r\n\r\n{}"

#: A sidecar whose scorer is the test: its end of the channel is there, and its process only waits for its own end.
#: Limits that are no options come as JSON.
LIVE = """
import json, logging, signal, socket, sys
from dataclasses import replace
from modelcanary_sidecar.channel import End
from modelcanary_sidecar.settings import read_settings
from modelcanary_sidecar.supervisor import Supervisor
settings = read_settings(sys.argv[3:], {})
settings = replace(settings, limits=replace(settings.limits, **json.loads(sys.argv[2])))
logging.basicConfig(level=logging.INFO)
supervisor = Supervisor(settings, lambda *given: signal.sigwait((signal.SIGTERM,)))
files = [map(int, pair.split("+")) for pair in sys.argv[1].split(",")]
live_ends = [End(socket.socket(fileno=messages), room) for messages, room in files]
supervisor._channels = [(end, end) for end in live_ends]
sys.exit(supervisor.run())
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
    """The test's end of one connection: a model's, or a client's."""

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

    def take(self, count: int) -> bytes:
        """So many bytes."""
        while len(self.buffer) < count:
            assert self._more(), f"it ended behind {self.buffer!r}"
        taken, self.buffer = self.buffer[:count], self.buffer[count:]
        return taken

    def take_until(self, end: bytes) -> bytes:
        """What comes, up to and with `end`."""
        while end not in self.buffer:
            assert self._more(), f"it ended behind {self.buffer!r}"
        return self.take(self.buffer.index(end) + len(end))

    def rest(self) -> bytes:
        """What comes until the connection ends, in whatever way."""
        with suppress(ConnectionError):
            while self._more():
                pass
        return self.take(len(self.buffer))

    def has_nothing(self) -> bool:
        """Nothing has come, and the connection has not ended."""
        return not self.buffer and not select.select([self.socket], [], [], 0)[0]

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def close(self) -> None:
        self.socket.close()


def answer_all(connection: Connection) -> None:
    while connection.request():
        connection.send(OK)


class RawModel:
    """A model whose every connection is a script."""

    def __init__(self, port: int = 0) -> None:
        self.script: Callable[[Connection], None] = answer_all
        self.connections: list[Connection] = []
        self._listener = socket.create_server(("127.0.0.1", port))
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
        self._told = False  # to end; a second signal could meet an interpreter that has given its handlers up
        self._reader = threading.Thread(target=self._read)
        self._reader.start()
        try:
            said = until(lambda: next((line for line in self.lines if "listening on" in line), None))
        except BaseException:  # nobody else knows it yet; its reader would wait for ever
            self.popen.kill()
            raise
        self.port, self.admin = (int(port) for port in re.findall(r"127\.0\.0\.1:(\d+)", said)[:2])

    def _read(self) -> None:
        assert self.popen.stderr is not None
        self.lines += iter(self.popen.stderr.readline, "")

    def _read_all(self) -> None:
        self._reader.join(DEADLINE)

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), DEADLINE)

    def connect_admin(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.admin), DEADLINE)

    def ask(self, message: bytes = POST) -> bytes:
        """On a connection of its own, up to its end or to the end of the answer."""
        with self.connect() as client:
            client.sendall(message)
            return receive_answer(client)

    def admin_says(self, path: str, method: str = "GET") -> str:
        with self.connect_admin() as client:
            client.sendall(f"{method} {path} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
            return receive_all(client).decode()

    def metric(self, name: str, outcome: str = "") -> float:
        labels = f'[^}}]*outcome="{outcome}"[^}}]*' if outcome else ".*"
        pattern = rf"^modelcanary_sidecar_{name}(?:{{{labels}}})? (\S+)$"
        found = re.search(pattern, self.admin_says("/metrics"), re.M)
        return float(found[1]) if found else 0.0

    def children(self) -> list[int]:
        task = f"/proc/{self.popen.pid}/task/{self.popen.pid}/children"
        with open(task) as file:
            return [int(child) for child in file.read().split()]

    def terminate(self) -> None:
        """SIGTERM, once."""
        if not self._told:
            self._told = True
            self.popen.terminate()

    def stop(self) -> int:
        self.terminate()
        code = self.popen.wait(DEADLINE)
        self._reader.join(DEADLINE)
        assert self.popen.stderr is not None
        self.popen.stderr.close()
        return code


def start_sidecar(model: int, *options: str) -> Process:
    """The whole sidecar before the model on that port; its ledger is not there."""
    command = [sys.executable, "-m", "modelcanary_sidecar.main", "--ledger", "http://127.0.0.1:9", "--name", "x"]
    command += ["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"]
    command += ["--upstream", f"http://127.0.0.1:{model}", "--drain-delay", "0s", *options]
    return Process(command)


def start_live(model: int, *options: str, **limits: float) -> tuple[Process, ScorerEnd]:
    """A sidecar of one live process, whose scorer is the test: the scorer's end of its channel."""
    process, (scorer,) = start_lives(1, model, *options, **limits)
    return process, scorer


def start_lives(count: int, model: int, *options: str, **limits: float) -> tuple[Process, list[ScorerEnd]]:
    """So many live processes."""
    pairs = [make_ends() for _ in range(count)]
    files = [(end.messages.fileno(), end.room) for end, _ in pairs]
    command = [sys.executable, "-c", LIVE, ",".join(f"{messages}+{room}" for messages, room in files)]
    command.append(json.dumps(limits))
    command += ["--ledger", "http://x", "--name", "x", "--workers", str(count)]
    command += ["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"]
    command += ["--upstream", f"http://127.0.0.1:{model}", "--drain-delay", "0s", *options]
    process = Process(command, pass_fds=tuple(chain.from_iterable(files)))
    for end, _ in pairs:
        end.close()
    return process, [ScorerEnd(scorer) for _, scorer in pairs]


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


def tell(process: Process, scorer: ScorerEnd, instructions: Instructions) -> None:
    """Until it has been heard: what is captured shows it."""

    def heard() -> bool:
        scorer.tell(News(instructions, time.monotonic()))
        process.ask(POST.replace(b"/infer", b"/probe"))
        return scorer.receive() is not None

    until(heard)


def captured_by(scorer: ScorerEnd) -> Captured:
    """The next captured request that is not one of `tell`'s, which comes alone."""
    while True:
        message = until(scorer.receive)
        found = [one for one in message if one.target != b"/probe"] if isinstance(message, list) else []
        if found:
            (captured,) = found
            return captured


#: What is captured goes to the scorer as it is: with a patch it is the scorer that asks the candidate.
EVERYTHING = Instructions(
    1,
    "r",
    "http://127.0.0.1:9",
    1.0,
    model=ModelReading(requestPatch={}),
    mirror=MirrorLimits(maxPairsPerSecond=1e6),
)
