"""What goes over the wire to a model's server, byte for byte: noted on its way, kept in files, answered from them.

`real_servers` puts a `Wire` in front of each server; the tests ask it what passed. It knows HTTP/1.1's framing, and
nothing of models.
"""

import json
import socket
import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import urlsplit

from tests.listening import listening


@dataclass(frozen=True, slots=True)
class Exchange:
    request: bytes
    answer: bytes

    @property
    def target(self) -> str:
        return self.request.split(b" ", 2)[1].decode()

    @property
    def asked(self) -> Any:
        return json.loads(self.request.partition(b"\r\n\r\n")[2] or b"null")

    @property
    def status(self) -> int:
        return int(self.answer.split(b" ", 2)[1])

    @property
    def body(self) -> bytes:
        """Of the answer, without the frames of its chunks."""
        head, _, body = self.answer.partition(b"\r\n\r\n")
        if b"transfer-encoding: chunked" not in head.lower():
            return body
        whole = b""
        while body:
            size, _, body = body.partition(b"\r\n")
            whole, body = whole + body[: int(size, 16)], body[int(size, 16) + 2 :]
        return whole

    @property
    def key(self) -> str:
        """What it is known by when it is asked again: neither headers nor the order of fields."""
        return f"{self.request.split(b' ', 1)[0].decode()} {self.target} {json.dumps(self.asked, sort_keys=True)}"


class Wire:
    """At `url`: either a way to the server at `upstream`, or what `known` has, as often as it is asked."""

    def __init__(self, upstream: str = "", known: list[Exchange] | None = None) -> None:
        self.upstream = upstream
        self.passed: list[Exchange] = []
        self.unknown: list[str] = []
        self.url = ""
        self._lock = threading.Lock()
        self._known = {exchange.key: exchange for exchange in known or []}

    def exchanges(self) -> list[Exchange]:
        with self._lock:
            return list(self.passed)

    def pass_on(self, request: bytes, out: BinaryIO) -> bool:
        """Whether the connection may be used again."""
        pieces = [b""]
        for piece in self._from_server(request) if self.upstream else self._from_known(request):
            out.write(pieces[-1])
            pieces.append(piece)
        answer = b"".join(pieces)
        with self._lock:  # before whoever asked has all of it, and looks here
            self.passed.append(Exchange(request, answer))
        out.write(pieces[-1])
        return b"connection: close" not in answer.partition(b"\r\n\r\n")[0].lower()

    def _from_known(self, request: bytes) -> Iterator[bytes]:
        key = Exchange(request, b"").key
        with self._lock:
            known = self._known.get(key)
            if known is None:
                self.unknown.append(key)
        yield known.answer if known else b"HTTP/1.1 599 Not Recorded\r\nContent-Length: 0\r\n\r\n"

    def _from_server(self, request: bytes) -> Iterator[bytes]:
        address = urlsplit(self.upstream)
        with socket.create_connection((address.hostname, address.port), timeout=120) as upstream:
            upstream.sendall(request)
            with upstream.makefile("rb") as answer:
                head = _head(answer)
                yield head
                yield from _body(head, answer)

    @contextmanager
    def serving(self) -> Iterator["Wire"]:
        server = _Server(("127.0.0.1", 0), type("Bound", (_Handler,), {"wire": self}))
        with listening(server) as self.url:
            yield self


class _Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
    allow_reuse_address = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A user that went away; what tests expect, they look for in what passed."""


class _Handler(socketserver.StreamRequestHandler):
    wire: Wire

    def handle(self) -> None:
        while True:
            head = _head(self.rfile)
            if not head:
                return
            if not self.wire.pass_on(head + b"".join(_body(head, self.rfile)), self.wfile):
                return


def _head(stream: BinaryIO) -> bytes:
    lines = []
    while True:
        line = stream.readline()
        lines.append(line)
        if line in (b"\r\n", b""):
            return b"".join(lines)


def _body(head: bytes, stream: BinaryIO) -> Iterator[bytes]:
    fields = dict(line.lower().split(b":", 1) for line in head.split(b"\r\n")[1:] if b":" in line)
    if fields.get(b"transfer-encoding", b"").strip() == b"chunked":
        size = 1
        while size:
            line = stream.readline()
            size = int(line, 16)
            yield line + stream.read(size + 2)
    else:
        yield stream.read(int(fields.get(b"content-length", b"0")))


def save(path: Path, about: dict[str, str], exchanges: list[Exchange]) -> None:
    """A line says what it is; each one behind it is a request and its answer, the first of those asked alike."""
    first = {exchange.key: exchange for exchange in reversed(exchanges)}
    kept = [exchange for exchange in exchanges if first[exchange.key] is exchange]
    lines = [about, *({"request": e.request.decode(), "answer": e.answer.decode()} for e in kept)]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines), "utf-8")


def load(path: Path) -> tuple[dict[str, str], list[Exchange]]:
    about, *lines = map(json.loads, path.read_text("utf-8").rstrip("\n").split("\n"))
    return about, [Exchange(line["request"].encode(), line["answer"].encode()) for line in lines]
