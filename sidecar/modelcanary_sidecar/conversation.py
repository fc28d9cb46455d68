"""One client's connection: its requests, in order, and their answers, in the same order.

It parses what the client sends, polices the head, makes the exchange and hands it to the pool. Sans-I/O like
`exchange`: its methods have the names of asyncio's callbacks, so that `client` is nothing but the two bases
put together. It must not know what is mirrored, nor how a model is reached.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final

import httptools

from modelcanary_sidecar.exchange import Port, UserExchange
from modelcanary_sidecar.heads import (
    BAD_REQUEST,
    HEAD_TOO_LARGE,
    MAX_HEAD,
    NO_ROOM,
    REQUEST_TIMEOUT,
    Headers,
    Refusal,
    read_request,
)

if TYPE_CHECKING:
    from modelcanary_sidecar.live_state import LiveState

PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
#: After a refusal, what the client still sends is read and forgotten for so long: closing at once would
#: reset the connection, and with it the refusal that the client has not read yet.
LINGER: Final = 2.0

_PIPELINED: Final = 64  # requests that wait for their turn; what is read at once could hold thousands
_UPGRADES: Final = 8  # in what is read at once; more than that is no client's way
_UPGRADE_HEADERS: Final = frozenset({b"upgrade", b"http2-settings"})

# Why the client is not read from, as bits.
_MODEL, _PIPELINE, _CLIENT = 1, 2, 4


class Conversation:
    """llhttp calls the `on_` methods while it is fed; what they note is acted on when it returns."""

    __slots__ = (
        "_barren",
        "_began",
        "_building",
        "_current",
        "_first",
        "_headers",
        "_held",
        "_large",
        "_parser",
        "_refusal",
        "_stalled_at",
        "_target",
        "_upgrade",
        "_waiting",
        "_whole",
        "closing",
        "deadline",
        "port",
        "stalled",
        "state",
    )

    port: Port

    def __init__(self, state: LiveState) -> None:
        self.state = state
        self.closing = False
        self.deadline = 0.0  # of lingering
        self._first: bytes | None = b""  # until it is known which protocol this is
        self._parser = httptools.HttpRequestParser(self)
        self._target = b""
        self._headers: list[tuple[bytes, bytes]] = []
        self._large = False
        self._whole = True  # a message ended in what was read last: what is behind it has only begun
        self._barren = -1  # bytes of a head, or of chunks and trailers without a body's byte, in a row
        self._began = 0.0  # the head, or the wait for one
        self._refusal: Refusal | None = None
        self._upgrade: tuple[bytes, bytes, list[tuple[bytes, bytes]]] | None = None
        self._building: UserExchange | None = None  # whose request is being read
        self._current: UserExchange | None = None  # whose answer is due
        self._waiting: deque[UserExchange] = deque()  # pipelined behind it
        self._held = 0
        self.stalled = False  # the client does not read what it was sent
        self._stalled_at = 0.0

    # -- what the connection tells

    def opened(self, port: Port) -> None:
        self.port = port
        state = self.state
        self._began = state.tick
        state.conversations.add(self)
        if len(state.conversations) > state.limits.clients:
            self._say(NO_ROOM)

    def connection_lost(self, error: Exception | None) -> None:
        self.state.conversations.discard(self)
        self.closing = True
        del self._parser  # it holds this conversation, which would then wait for the garbage collector
        current = self._current
        self._current = self._building = None
        if current is not None:
            current.abandon()
        for exchange in self._waiting:
            exchange.abandon()
        self._waiting.clear()

    def eof_received(self) -> None:
        """The transport closes itself: a client that has left is not answered."""

    def pause_writing(self) -> None:
        self.stalled = True
        self._stalled_at = self.state.tick
        current = self._current
        if current is not None:
            current.hold_answer()

    def resume_writing(self) -> None:
        self.stalled = False
        if self._current is not None:
            self._current.release_answer()
        else:
            self._resume(_CLIENT)
            self._next()

    def data_received(self, data: bytes) -> None:
        if self.closing:
            return
        if self._first is not None:
            data = self._recognise(self._first + data)
            if not data:
                return
        building = self._building
        self._whole = False
        self._large = self._barren >= 0 or len(data) > MAX_HEAD  # else no head that ends in it is too large
        upgrades = 0
        while True:
            try:
                self._parser.feed_data(data)
            except httptools.HttpParserUpgrade as upgrade:
                upgrades += 1
                if self._upgrade is not None and upgrades <= _UPGRADES:
                    data = self._without_upgrade(self._upgrade, data[upgrade.args[0] :])
                    continue
                self._refusal = self._refusal or BAD_REQUEST
            except httptools.HttpParserError:
                self._refusal = self._refusal or BAD_REQUEST
            break
        if self._refusal is not None:
            self._refuse(self._refusal)
            return
        current = self._current
        if current is not None and current.unsent:
            if current.connection is None and not current.queued:
                self.state.baseline.dispatch(current)
            else:
                self._forward(current)
        if not self._whole and self._building is building:
            self._endure(len(data))

    def _recognise(self, first: bytes) -> bytes:
        """What to parse as HTTP/1.1, if anything: HTTP/2 with prior knowledge is passed through."""
        if PREFACE.startswith(first[: len(PREFACE)]):
            if len(first) < len(PREFACE):
                self._first = first
                return b""
            self._first = None
            self.closing = True
            self.state.conversations.discard(self)
            self.state.pass_through(self.port, first)
            return b""
        self._first = None
        return first

    def _without_upgrade(self, upgrade: tuple[bytes, bytes, Headers], rest: bytes) -> bytes:
        """What to parse instead: the request again, in plain HTTP/1.1, as RFC 9110, 7.8 allows.

        llhttp takes an upgrade for the end of HTTP and does not frame the request's body, which would then
        be read as a request of its own.
        """
        self._upgrade = None
        self._parser = httptools.HttpRequestParser(self)
        method, target, headers = upgrade
        lines = [b"%b %b HTTP/1.1\r\n" % (method, target)]
        for name, value in headers:
            lower = name.lower()
            if lower == b"connection":
                tokens = [token.strip() for token in value.split(b",")]
                left = b", ".join(token for token in tokens if token.lower() not in _UPGRADE_HEADERS)
                lines.append(b"Connection: %b\r\n" % left if left else b"")
            elif lower not in _UPGRADE_HEADERS:
                lines.append(b"%b: %b\r\n" % (name, value))
        return b"".join(lines) + b"\r\n" + rest

    def _endure(self, size: int) -> None:
        """Bound what is read without a message, or a piece of its body, coming of it."""
        building = self._building
        if building is not None:
            building.activity = self.state.clock()
        if self._barren < 0:
            self._barren = 0  # something came of this one
            if building is None:
                self._began = self.state.tick
            return
        self._barren += size
        if self._barren > MAX_HEAD:
            self._refuse(HEAD_TOO_LARGE if building is None else BAD_REQUEST)

    # -- what llhttp tells

    def on_url(self, piece: bytes) -> None:
        self._target += piece

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers.append((name, value))

    def on_headers_complete(self) -> None:
        self._barren = -1
        self._building = None
        headers, self._headers = self._headers, []  # what comes from here on are trailers: they are dropped
        target, self._target = self._target, b""
        if self._refusal is not None:
            return
        parser = self._parser
        state = self.state
        method = parser.get_method()
        version = parser.get_http_version()
        if parser.should_upgrade():
            if method == b"CONNECT" or version != "1.1":
                self._refusal = BAD_REQUEST
            else:
                self._upgrade = (method, target, headers)
            return
        head = read_request(method, target, version, headers, state.names, state.authority)
        if isinstance(head, Refusal):
            self._refusal = head
            return
        if self._large and len(head) > MAX_HEAD:
            self._refusal = HEAD_TOO_LARGE
            return
        if len(self._waiting) >= _PIPELINED:
            self._refusal = NO_ROOM
            return
        exchange = state.begin(self, head, parser.should_keep_alive())
        exchange.unsent = head.hand_over()
        self._building = exchange
        if self._current is None and not self.stalled:
            self._current = exchange
            if head.expects:
                self.port.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        else:
            self._waiting.append(exchange)
            self._hold(_PIPELINE)

    def on_body(self, piece: bytes) -> None:
        exchange = self._building
        if exchange is None:
            return
        self._barren = -1
        if exchange.head.chunked:
            exchange.unsent += (b"%x\r\n" % len(piece), piece, b"\r\n")
        else:
            exchange.unsent.append(piece)
        if exchange.body is not None:
            exchange.keep_body(piece)

    def on_message_complete(self) -> None:
        self._whole = True
        self._barren = -1
        if self._headers:
            self._headers = []
        exchange = self._building
        if exchange is None:
            return
        if exchange.head.chunked:
            exchange.unsent.append(b"0\r\n\r\n")
        exchange.complete = True
        self._building = None
        if exchange.canary is not None and exchange is self._current:
            exchange.canary.ask()  # else when its turn comes: the candidate's answer is given at once

    # -- towards the model

    def _forward(self, exchange: UserExchange) -> None:
        connection = exchange.connection
        if connection is not None:
            exchange.activity = now = self.state.clock()
            if exchange.complete:
                exchange.asked = now
            connection.forward()
        elif exchange.queued:
            self._hold(_MODEL)
        else:
            self.state.baseline.dispatch(exchange)

    def hold(self) -> None:
        """The model takes no more of the request for now."""
        self._hold(_MODEL)

    def release(self) -> None:
        self._resume(_MODEL)

    def _hold(self, why: int) -> None:
        if not self._held and not self.closing:
            self.port.pause_reading()
        self._held |= why

    def _resume(self, why: int) -> None:
        if self._held & why:
            self._held &= ~why
            if not self._held and not self.closing:
                self.port.resume_reading()

    # -- what becomes of answers

    def answered(self, exchange: UserExchange) -> None:
        """The answer that was due has been written."""
        self._current = None
        if not exchange.complete:
            self._linger()
        elif not exchange.keep_alive:
            self.closing = True
            self.port.close()
        elif self._held or self._waiting or self.stalled or self._refusal is not None:
            self._resume(_MODEL)
            if self.stalled:
                self._hold(_CLIENT)  # no further answer before it has read this one
            else:
                self._next()
        else:
            self._began = self.state.tick

    def unanswered(self, exchange: UserExchange, refusal: Refusal) -> None:
        """There is no answer, or not all of it."""
        if exchange is not self._current:
            return
        self._current = None
        if exchange.delivered:
            self.state.figures.broken_off += 1
            self.closing = True
            self.port.abort()  # the only way to say that an answer is not whole
        else:
            self._say(refusal)

    def _next(self) -> None:
        """Go on with what the client has sent already."""
        if self._waiting:
            exchange = self._waiting.popleft()
            self._current = exchange
            if not self._waiting:
                self._resume(_PIPELINE)
            if exchange.head.expects and not exchange.complete:
                self.port.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            self._forward(exchange)
            if exchange.canary is not None and exchange.complete:
                exchange.canary.ask()
        elif self._refusal is not None:
            self._say(self._refusal)

    def _refuse(self, refusal: Refusal) -> None:
        """What the client sends cannot be a request. Earlier ones are answered first."""
        self._refusal = refusal
        current = self._current
        building = self._building
        self._building = None
        if building is not None and building is not current and building in self._waiting:
            self._waiting.remove(building)
            building.abandon()
        if self._waiting or (current is not None and building is not current):
            self._hold(_PIPELINE)
            if current is not None and current.unsent:
                self._forward(current)
            return
        self._current = None
        if current is None:
            self._say(refusal)
            return
        begun = current.delivered
        current.abandon()
        if begun:
            self.closing = True
            self.port.abort()
        else:
            self._say(refusal)

    def _say(self, refusal: Refusal) -> None:
        self.state.figures.refuse(refusal.status)
        self.port.write(refusal.answer())
        self._linger()

    def _linger(self) -> None:
        for exchange in self._waiting:
            exchange.abandon()
        self._waiting.clear()
        if self._held:
            self._held = 0
            self.port.resume_reading()
        self.closing = True
        self.deadline = self.state.tick + LINGER
        self.port.write_eof()

    # -- now and then

    def sweep(self, now: float) -> None:
        limits = self.state.limits
        if self.stalled and now - self._stalled_at > limits.client_idle:
            self.port.abort()  # it takes nothing; closing would wait until it does
        elif self.deadline:
            if now >= self.deadline:
                self.port.abort()
        elif self.closing or self._current is not None:
            return
        elif self._barren >= 0 and self._building is None:
            if now - self._began > limits.head_time:
                self._refuse(REQUEST_TIMEOUT)
        elif now - self._began > limits.client_idle:
            self.close_idle()

    def close_idle(self) -> None:
        """Close it if no request is under way."""
        if self._current is None and not self._waiting and not self.closing:
            self.closing = True
            self.port.close()
