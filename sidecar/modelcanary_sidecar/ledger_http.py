"""HTTP/1.1 to one server, over connections that are kept: what `ledger_client` needs of it, and no more.

A library's client took 10 MiB of each sidecar, for redirects, cookies, proxies and codings that a ledger has not. It
must not know what is asked, nor what an answer means.
"""

import asyncio
import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, cast
from urllib.parse import urlsplit

import httptools

from modelcanary_sidecar.trust import Trust

#: Seconds: for a connection to be made, TLS included; for an answer, from the first byte of its request.
CONNECT_TIME: Final = 2.0
ANSWER_TIME: Final = 5.0
#: Bytes of an answer's body; instructions are a few kilobytes, references of prompts at most a few megabytes.
MOST_ANSWER: Final = 16 << 20
_HEAD: Final = 64 << 10
#: What the ledger's server closes after five seconds must not be used at that moment.
_IDLE: Final = 4.0


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    kind: str  # the Content-Type
    body: bytes


class _Connection(asyncio.Protocol):
    """One request at a time; llhttp calls the `on_` methods while it is fed."""

    def __init__(self, trusted: ssl.SSLContext | None) -> None:
        self.trusted = trusted  # whom it was made to
        self.open = True
        self.idle_since = 0.0
        self._transport: asyncio.Transport | None = None
        self._waiter: asyncio.Future[Answer] | None = None
        self._parser = httptools.HttpResponseParser(self)
        self._keep = False

    def ask(self, head: bytes, body: bytes) -> asyncio.Future[Answer]:
        self._status, self._size = 0, 0
        self._kind = b""
        self._pieces: list[bytes] = []
        waiter: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        if self._transport is None:
            waiter.set_exception(ConnectionError("the connection was closed"))
        else:
            self._waiter = waiter
            self._transport.write(head + body if len(body) < _HEAD else head)
            if len(body) >= _HEAD:
                self._transport.write(body)
        return waiter

    def unmade(self) -> None:
        """If the connection did not come about, the parser, which holds this, must not wait for the collector."""
        if self._transport is None and self.open:
            del self._parser

    def leave(self) -> None:
        """Nobody waits any more: without a whole answer it is not used again."""
        if self._waiter is not None:
            self.close()

    def close(self) -> None:
        self.open = False
        self._waiter = None
        if self._transport is not None:
            self._transport.abort()

    def _fail(self, why: str) -> None:
        waiter = self._waiter
        self.close()
        if waiter is not None and not waiter.done():
            waiter.set_exception(ConnectionError(why))

    # asyncio's side

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def connection_lost(self, error: Exception | None) -> None:
        self._transport = None
        del self._parser  # it holds this connection, which would then wait for the garbage collector
        self._fail(str(error) if error else "the connection was closed before the answer was whole")

    def data_received(self, data: bytes) -> None:
        if self._waiter is None:
            self.close()  # nobody asked
            return
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            self._fail(f"the answer is not HTTP: {error}")
            return
        self._size += len(data)
        if self._size > MOST_ANSWER + _HEAD:
            self._fail(f"the answer is beyond {MOST_ANSWER} bytes")

    # llhttp's side

    def on_message_begin(self) -> None:
        if self._waiter is None:
            self.close()  # a second answer to one request

    def on_header(self, name: bytes, value: bytes) -> None:
        if name.lower() == b"content-type":
            self._kind = value

    def on_headers_complete(self) -> None:
        self._status = self._parser.get_status_code()
        self._keep = self._parser.should_keep_alive()  # once the message is complete, it says False

    def on_body(self, piece: bytes) -> None:
        self._pieces.append(piece)

    def on_message_complete(self) -> None:
        waiter = self._waiter
        if waiter is None or self._status < 200:  # an interim answer: the one that counts is behind it
            return
        self._waiter = None
        answer = Answer(self._status, self._kind.decode("latin-1"), b"".join(self._pieces))
        self._pieces = []
        if not self._keep:
            self.close()
        if not waiter.done():
            waiter.set_result(answer)


class Http:
    """For one server, `url`. `close` it at the end."""

    def __init__(self, url: str, trust: Trust, clock: Callable[[], float] = time.monotonic) -> None:
        parts = urlsplit(url)
        self._host = parts.hostname or ""
        self._port = parts.port or (443 if parts.scheme == "https" else 80)
        self._prefix = parts.path.rstrip("/")
        self._line = f"Host: {parts.netloc.rpartition('@')[2]}\r\nUser-Agent: modelcanary-sidecar\r\n"
        self._trust = trust
        self._clock = clock
        self._idle: list[_Connection] = []  # the last one used is used first

    def close(self) -> None:
        for connection in self._idle:
            connection.close()
        self._idle = []

    async def ask(self, method: str, target: str, headers: dict[str, str], body: bytes) -> Answer:
        """Raises OSError, of which TimeoutError is one; UnicodeError for a name that is none. Nothing is sent twice."""
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        length = f"Content-Length: {len(body)}\r\n" if body or method == "POST" else ""
        head = f"{method} {self._prefix}{target} HTTP/1.1\r\n{self._line}{lines}{length}\r\n".encode("latin-1")
        connection = await self._connection(self._trust.context())
        try:
            async with asyncio.timeout(ANSWER_TIME):
                answer = await connection.ask(head, body)
        finally:
            connection.leave()
        if connection.open:
            connection.idle_since = self._clock()
            self._idle.append(connection)
        return answer

    async def _connection(self, trusted: ssl.SSLContext | None) -> _Connection:
        fresh = self._clock() - _IDLE
        while self._idle:
            connection = self._idle.pop()
            if connection.open and connection.trusted is trusted and connection.idle_since >= fresh:
                return connection
            connection.close()
        loop = asyncio.get_running_loop()
        connection = _Connection(trusted)
        name = self._host if trusted is not None else None
        try:
            async with asyncio.timeout(CONNECT_TIME):
                await loop.create_connection(
                    lambda: connection, self._host, self._port, ssl=trusted, server_hostname=name
                )
        finally:
            connection.unmade()
        return connection
