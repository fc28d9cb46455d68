"""Reads what one client sends as requests: framing, limits, upgrades, and which protocol it is at all.

`Conversation` is built on it and decides what becomes of the requests. Sans-I/O. It must not know answers, nor
in which order they are given.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import httptools

from modelcanary_sidecar.exchange import Port, UserExchange
from modelcanary_sidecar.heads import (
    BAD_REQUEST,
    HEAD_TOO_LARGE,
    MAX_HEAD,
    MAX_HEADERS,
    Headers,
    Refusal,
    RequestHead,
    read_request,
)

if TYPE_CHECKING:
    from modelcanary_sidecar.live_state import LiveState

PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_UPGRADES: Final = 8  # in what is read at once; more than that is no client's way
_UPGRADE_HEADERS: Final = frozenset({b"upgrade", b"http2-settings"})


class RequestReader:
    """llhttp calls the `on_` methods while it is fed; what they note is acted on when it returns."""

    __slots__ = (
        "_barren",
        "_began",
        "_building",
        "_first",
        "_headers",
        "_large",
        "_parser",
        "_refusal",
        "_target",
        "_upgrade",
        "_whole",
        "closing",
        "port",
        "state",
    )

    port: Port

    def __init__(self, state: LiveState) -> None:
        self.state = state
        self.closing = False  # what the client still sends is not read
        self._first: bytes | None = b""  # until it is known which protocol this is
        self._parser = httptools.HttpRequestParser(self)
        self._target = b""
        self._headers: list[tuple[bytes, bytes]] = []
        self._large = False  # a head that ends in what was read last may be too large
        self._whole = True  # a message ended in what was read last: what is behind it has only begun
        self._barren = -1  # bytes of a head, or of chunks and trailers without a body's byte, in a row
        self._began = 0.0  # the head, or the wait for one
        self._refusal: Refusal | None = None
        self._upgrade: tuple[bytes, bytes, list[tuple[bytes, bytes]]] | None = None
        self._building: UserExchange | None = None  # whose request is being read

    # -- what becomes of it

    def _arrived(self, head: RequestHead, keep_alive: bool) -> UserExchange | None:
        """The exchange for a request whose head is here; None: it is refused, and `_refusal` says how."""
        raise NotImplementedError

    def _completed(self, exchange: UserExchange) -> None:
        """A request under a canary weight has been read to its end."""
        raise NotImplementedError

    def _advance(self) -> None:
        """All that came has been read: send it on."""
        raise NotImplementedError

    def _refuse(self, refusal: Refusal) -> None:
        """What the client sends cannot be a request."""
        raise NotImplementedError

    # -- what the connection tells

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
        self._advance()
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
        if len(self._headers) > MAX_HEADERS:  # short lines take thirty times as much as objects
            self._refuse(HEAD_TOO_LARGE if building is None else BAD_REQUEST)
            return
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
        self._building = self._arrived(head, parser.should_keep_alive())

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
        if exchange.canary is not None:
            self._completed(exchange)
