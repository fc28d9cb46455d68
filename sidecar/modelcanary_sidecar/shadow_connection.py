"""One kept-alive connection to the candidate: one request at a time, and what came back for it.

`shadow` opens these and hands out requests. The candidate is untrusted: whatever it sends, or fails to send,
ends as a `LiveAnswer`, in bounded memory. Nothing here knows why a request is made, nor when one is late: the
pool ends late ones.
"""

import asyncio
import time
from collections.abc import Callable
from typing import Final, Generic, Protocol, TypeVar, cast

import httptools

from modelcanary_gate.vocabulary import Outcome
from modelcanary_sidecar.capture import COPIED, LiveAnswer

#: Bytes of an answer's head.
HEAD_CAP = 64 << 10
_FRAMING = frozenset({b"content-length", b"transfer-encoding"})
_DROPPED_HEADERS = _FRAMING | {b"connection", b"keep-alive", b"trailer"}
#: What becomes of a header, by its name as it was sent: a candidate sends the same few over and over.
_known: dict[bytes, int] = {}
_KEPT, _DROPPED, _FRAMES = range(3)
_REMEMBERED = 256  # names, of at most so many bytes
_LONGEST_REMEMBERED = 64


def _learn(name: bytes) -> int:
    lower = name.lower()
    kind = _FRAMES if lower in _FRAMING else _DROPPED if lower in _DROPPED_HEADERS else _KEPT
    if len(name) <= _LONGEST_REMEMBERED:
        if len(_known) >= _REMEMBERED:
            _known.clear()
        _known[name] = kind
    return kind


T = TypeVar("T")

#: Head and body.
Request = tuple[bytes, bytes]
_NONE: Final = (b"", b"")


class Pool(Protocol[T]):
    """What a connection tells its pool."""

    def opened(self, connection: "ShadowConnection[T]") -> None:
        """It counts from now on, until `closed`."""

    def received(self, connection: "ShadowConnection[T]", size: int) -> None:
        """So many bytes of an answer that is to go on: the pool may withdraw the request."""

    def answered(self, connection: "ShadowConnection[T]", item: T, answer: LiveAnswer) -> None:
        """The connection is free again, or closed (`open` says)."""

    def stale(self, connection: "ShadowConnection[T]", item: T, request: Request) -> None:
        """The candidate had closed the idle connection before the request reached it: ask again."""

    def closed(self, connection: "ShadowConnection[T]") -> None:
        """The connection is gone, after anything else that is told of it."""


class ShadowConnection(asyncio.Protocol, Generic[T]):
    """Made for each connection to the candidate; `ask` when it is idle."""

    __slots__ = (
        "_body",
        "_body_cap",
        "_body_size",
        "_clock",
        "_extra",
        "_framed",
        "_head_size",
        "_headers",
        "_in_body",
        "_item",
        "_keep",
        "_parser",
        "_pool",
        "_received",
        "_request",
        "_served",
        "_status",
        "_transport",
        "_whole",
        "open",
        "since",
    )

    def __init__(self, pool: Pool[T], body_cap: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._pool = pool
        self._body_cap = body_cap
        self._clock = clock
        self._item: T | None = None
        self._request = _NONE
        self._transport: asyncio.Transport | None = None
        self.open = True
        self.since = clock()  # the request was sent, or the connection became idle
        self._served = 0
        self._parser = httptools.HttpResponseParser(self)
        self._headers: list[bytes] = []  # in pieces: joining once is cheaper than formatting each line
        self._body: list[bytes] = []
        self._status = 0
        self._begin()

    def _begin(self) -> None:
        """Before each answer; the parser goes on behind the one before."""
        self._head_size = self._body_size = 0
        self._received = False  # a byte of the answer
        self._framed = False  # by length or chunks; else the answer ends with the connection
        self._in_body = self._keep = self._whole = self._extra = False

    @property
    def busy(self) -> bool:
        return self._item is not None

    def unmade(self) -> None:
        """The connection did not come about: the parser, which holds this, must not wait for the collector."""
        if self._transport is None:
            del self._parser

    def ask(self, item: T, request: Request) -> None:
        """Send `request` at once; the pool hears of the answer."""
        self._item, self._request = item, request
        self.since = self._clock()
        if self._transport is not None:
            head, body = request
            if len(body) < COPIED:
                self._transport.write(head + body)
            else:
                self._transport.writelines((head, body))

    def give_up(self, outcome: Outcome) -> None:
        """End the request in flight, if any, with `outcome`; the connection is not used again."""
        self._fail(outcome)

    def withdraw(self) -> T | None:
        """Leave the request in flight, of which nothing is told any more; the connection is not used again."""
        item, self._item, self._request = self._item, None, _NONE
        self._headers, self._body = [], []
        self._shut()
        return item

    # asyncio's side

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._transport.set_write_buffer_limits(0)  # uvloop then sends at once, not at the end of the turn
        self._pool.opened(self)

    def data_received(self, data: bytes) -> None:
        if self._item is None:
            self._shut()  # nobody asked: what follows cannot be told apart from an answer
            return
        self._received = True
        before = self._body_size
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            if not self._whole:
                self._fail(Outcome.UNDECODABLE)
                return
            self._extra = True
        if self._head_size > HEAD_CAP or self._body_size > self._body_cap:
            self._fail(Outcome.TOO_LARGE)
        elif self._whole:
            self._finish()
        else:
            if not self._in_body or self._body_size == before:
                self._head_size += len(
                    data
                )  # whatever it is made of: names and trailers that never end are not told us
            self._pool.received(self, len(data))

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self.open = False
        del self._parser  # it holds this connection, which would then wait for the garbage collector
        if self._item is not None:
            if exc is None and self._in_body and not self._framed:
                self._finish()
            elif self._served and not self._received:
                item, self._item = self._item, None
                self._pool.stale(self, item, self._request)
            else:
                self._fail(Outcome.REFUSED)
        self._pool.closed(self)

    # llhttp's side

    def on_message_begin(self) -> None:
        if self._whole:
            self._extra = True  # a second answer to one request

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._in_body or self._extra:
            return  # trailers
        self._head_size += len(name) + len(value)
        kind = _known.get(name)
        if kind is None:
            kind = _learn(name)
        if kind == _KEPT:
            if self._head_size <= HEAD_CAP:
                self._headers += (name, b": ", value, b"\r\n")
        elif kind == _FRAMES:
            self._framed = True

    def on_headers_complete(self) -> None:
        if self._extra:
            return
        self._status = self._parser.get_status_code()
        if self._status < 200:
            self._headers.clear()  # 103 and its like: the answer comes behind it
            return
        self._keep = self._parser.should_keep_alive()  # after the message it says False
        self._in_body = True

    def on_body(self, piece: bytes) -> None:
        if self._extra:
            return
        self._body_size += len(piece)
        if self._body_size <= self._body_cap:
            self._body.append(piece)

    def on_message_complete(self) -> None:
        if self._in_body:
            self._whole = True

    # ends

    def _finish(self) -> None:
        now = self._clock()
        body = self._body
        whole = body[0] if len(body) == 1 else b"".join(body)
        answer = LiveAnswer(None, self._status, now - self.since, b"".join(self._headers), whole)
        self._served += 1
        self._end(answer, now, reusable=self._keep and self._framed and not self._extra)

    def _fail(self, outcome: Outcome) -> None:
        now = self._clock()
        self._end(LiveAnswer(outcome, 0, now - self.since, b"", b""), now, reusable=False)

    def _end(self, answer: LiveAnswer, now: float, *, reusable: bool) -> None:
        item, self._item, self._request = self._item, None, _NONE
        self._headers, self._body = [], []
        if reusable and self.open:
            self._begin()
            self.since = now
        else:
            self._shut()
        if item is not None:
            self._pool.answered(self, item, answer)

    def _shut(self) -> None:
        self.open = False
        if self._transport is not None:
            self._transport.abort()
