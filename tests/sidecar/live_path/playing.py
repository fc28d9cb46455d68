"""A live process between clients and a model that the test itself plays, step by step, over real sockets.

What has come is waited for; that nothing has is looked at behind `settle`: what was sent before has been acted on then.
"""

import os
import queue
import re
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from tests.sidecar.framing.peers import Kernel
from tests.sidecar.live_path.processes import (
    DEADLINE,
    Connection,
    Process,
    RawModel,
    answer_all,
    start_live,
    tell,
    until,
)

from modelcanary_gate.protocol import Instructions


@dataclass(frozen=True, slots=True)
class Answer:
    """One whole answer, as a client has read it."""

    status: int
    head: bytes  # as it came, with its empty line
    body: bytes  # without chunks

    def header(self, name: str) -> str | None:
        found = re.findall(rf"\r\n{name}: *([^\r]*)\r\n".encode(), self.head, re.IGNORECASE)
        assert len(found) <= 1, f"{name} twice"
        return found[0].decode("latin-1") if found else None


class Client(Connection):
    """One client."""

    def __init__(self, end: socket.socket, kernel: Kernel) -> None:
        super().__init__(end)
        end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._kernel = kernel

    def sends(self, data: bytes, *, by: int = 0) -> None:
        """By so many bytes, each piece read by itself. Who has hung up meanwhile does not get the rest."""
        with suppress(ConnectionError):
            if by:
                self._kernel.send_slowly(self.socket, data, by)
            else:
                self.socket.sendall(data)

    def answer(self, method: str = "POST") -> Answer:
        """The next one, whole."""
        head = self.take_until(b"\r\n\r\n")
        status = int(head[9:12])
        length = re.search(rb"\r\ncontent-length: (\d+)\r\n", head)
        if method == "HEAD" or status in (204, 304) or status < 200:
            body = b""
        elif length:
            body = self.take(int(length[1]))
        elif b"\r\ntransfer-encoding: chunked\r\n" in head:
            body = take_chunks(self)
        else:
            assert b"\r\nconnection: close\r\n" in head
            body = self.rest()
        return Answer(status, head, body)

    def is_closed(self) -> bool:
        """Wait until the sidecar has ended the connection; nothing more came."""
        return self.rest() == b""


def take_chunks(connection: Connection) -> bytes:
    """A chunked body, to its end, joined: where it was cut is nobody's business."""
    body = b""
    while size := int(connection.take_until(b"\r\n"), 16):
        body += connection.take(size)
        assert connection.take(2) == b"\r\n"
    assert connection.take(2) == b"\r\n"
    return body


def small_window(process: Process) -> socket.socket:
    """A client that has hardly any room for what it has not read."""
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    client.settimeout(DEADLINE)
    client.connect(("127.0.0.1", process.port))
    return client


@contextmanager
def stopped(process: int) -> Iterator[None]:
    """It stands still, and has begun to when this goes on."""
    os.kill(process, signal.SIGSTOP)
    try:
        until(lambda: Path(f"/proc/{process}/stat").read_text().rpartition(") ")[2][0] == "T")
        yield
    finally:
        os.kill(process, signal.SIGCONT)


class PlayedModel(RawModel):
    """Its connections are handed to the test, in the order in which they came."""

    def __init__(self) -> None:
        self._came: queue.SimpleQueue[Connection] = queue.SimpleQueue()
        super().__init__()
        self.script = self._hand_over

    def _hand_over(self, connection: Connection) -> None:
        connection.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._came.put(connection)

    def accepts(self) -> Connection:
        return self._came.get(timeout=DEADLINE)

    @property
    def was_called(self) -> bool:
        """A connection has come that has not been accepted by the test."""
        return not self._came.empty()

    def clear(self) -> None:
        """End all connections, and wait until the sidecar has followed."""
        connections, self.connections = self.connections, []
        threads, self._threads = self._threads, []
        for connection in connections:
            with suppress(OSError):
                connection.socket.shutdown(socket.SHUT_WR)
        for thread in threads:  # no socket may be closed under one that reads it: its number could be another's by then
            thread.join(DEADLINE)
        for connection in connections:
            if connection.socket.fileno() >= 0:
                connection.rest()
                connection.close()
        while not self._came.empty():
            self._came.get().close()

    def answers_by_itself(self, *, still: bool) -> None:
        self.script = answer_all if still else self._hand_over


class Scene:
    """One live process, the model beside it, its clients and its scorer."""

    def __init__(self, *options: str, **limits: float) -> None:
        self.model = PlayedModel()
        self.kernel = Kernel()
        self._clients: list[Client] = []
        try:
            self.process, self.scorer = start_live(self.model.port, *options, **limits)
        except BaseException:
            self.model.stop()
            raise

    def client(self, *, connect: Callable[[], socket.socket] | None = None) -> Client:
        client = Client((connect or self.process.connect)(), self.kernel)
        self._clients.append(client)
        return client

    def settle(self) -> None:
        """What was sent before has been acted on: others have been accepted, read and answered since, twice."""
        for _ in range(2):
            client = self.client()
            client.sends(b"?\r\n\r\n")
            assert client.rest().startswith(b"HTTP/1.1 400 ")
            client.close()

    def count(self, name: str, outcome: str = "") -> float:
        """As of now: what the live process counts, it shows with its sweeps."""
        for _ in range(2):  # the first may have been under way
            before = self.process.metric("scorer_silence_seconds")
            until(lambda before=before: self.process.metric("scorer_silence_seconds") != before)  # type: ignore[misc]
        return self.process.metric(name, outcome)

    @contextmanager
    def stopped(self) -> Iterator[None]:
        """The live process stands still: what happens meanwhile meets it together, in its order."""
        with stopped((self.process.children() or [self.process.popen.pid])[0]):
            yield

    def mirror(self, instructions: Instructions) -> None:
        """Have the live process follow them."""
        self.model.answers_by_itself(still=True)
        tell(self.process, self.scorer, instructions)
        self.model.answers_by_itself(still=False)
        self.model.clear()

    def clear(self) -> None:
        """For the next test: nobody is connected."""
        for client in self._clients:
            client.close()
        self._clients.clear()
        self.model.clear()

    def stop(self) -> None:
        try:
            self.clear()
            assert self.process.stop() == 0
        finally:
            self.scorer.close()
            self.kernel.close()
            self.model.stop()
