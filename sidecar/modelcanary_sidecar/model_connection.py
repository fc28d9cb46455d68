"""One kept-alive connection to a model, which carries one exchange at a time.

A `Pool` starts exchanges on it; it parses the model's answer and delivers it, written anew. Sans-I/O like
`exchange`: its methods have the names of asyncio's callbacks, so that `upstream` is nothing but the two bases
put together. It must not know who asked, nor what is mirrored.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING, Final

import httptools

from modelcanary_sidecar.capture import COPIED
from modelcanary_sidecar.exchange import BROKE_OFF, IDEMPOTENT, MALFORMED, REPLAY_BYTES, Exchange, Failure, Port
from modelcanary_sidecar.heads import MAX_HEAD, MAX_HEADERS, answer_pieces

if TYPE_CHECKING:
    from modelcanary_sidecar.pool import Pool

#: With the usual reason, whatever the model's is: nobody may go by it (RFC 9110, 15.1).
_STATUS_LINES: Final = {status.value: f"HTTP/1.1 {status.value} {status.phrase}".encode() for status in HTTPStatus}
_NO_BODY: Final = frozenset({204, 304})


class ModelConnection:
    """Never used again once the model has sent a byte that was not asked for."""

    __slots__ = (
        "_barren",
        "_bodiless",
        "_chunked",
        "_extra",
        "_finished",
        "_headers",
        "_in_body",
        "_interim",
        "_keep",
        "_out",
        "_parser",
        "_until_close",
        "before",
        "closed",
        "exchange",
        "held",
        "idle_since",
        "pool",
        "port",
        "reused",
        "stalled",
        "written",
    )

    port: Port

    def __init__(self, pool: Pool) -> None:
        self.pool = pool
        self.exchange: Exchange | None = None
        self.closed = False
        self.reused = False
        self.idle_since = 0.0
        self.stalled = False  # the model does not read
        self.written = 0  # bytes, since it was opened
        self.before = 0  # of them, before the exchange it carries
        self._out: list[bytes] = []
        self._headers: list[tuple[bytes, bytes]] = []
        self._parser = httptools.HttpResponseParser(self)
        self._finished = self._in_body = self._extra = self._interim = False
        self._keep = self._chunked = self._until_close = self._bodiless = False
        self._barren = 0  # bytes in a row of which nothing is to be delivered
        self.held = False  # the client does not read

    def unmade(self) -> None:
        """The connection did not come about: the parser, which holds this, must not wait for the collector."""
        if not hasattr(self, "port"):
            del self._parser

    # -- what the pool and the exchange ask for

    def start(self, exchange: Exchange, now: float) -> None:
        self.exchange = exchange
        exchange.connection = self
        exchange.sent = now
        self._finished = self._in_body = self._until_close = False
        self.before = self.written
        self._send(exchange)

    def forward(self) -> None:
        """Send what the exchange has for the model."""
        exchange = self.exchange
        if exchange is not None and exchange.unsent:
            self._send(exchange)

    def _send(self, exchange: Exchange) -> None:
        pieces = exchange.unsent
        exchange.unsent = []
        if len(pieces[-1]) < COPIED:
            pieces = [b"".join(pieces)]
        elif len(pieces) > 1:  # a body behind its head
            pieces = [b"".join(pieces[:-1]), pieces[-1]]
            self.written += len(pieces[1])
        self.written += len(pieces[0])
        kept = exchange.kept
        if kept is not None:
            if self.written - self.before > REPLAY_BYTES:
                exchange.kept = None
            else:
                kept += pieces
        if len(pieces) == 1:
            self.port.write(pieces[0])
        else:
            self.port.writelines(pieces)

    def abort(self) -> None:
        """Leave the exchange, and the connection with it: an answer that is under way cannot be skipped."""
        self.exchange = None
        if not self.closed:
            self.closed = True
            self.port.abort()

    def fail(self, failure: Failure) -> None:
        exchange = self.exchange
        self.abort()
        if exchange is not None:
            exchange.connection = None
            exchange.failed(failure)

    def close_idle(self) -> None:
        self.closed = True
        self.port.close()

    def hold_answer(self) -> None:
        """The client does not read: read no more from the model for now."""
        if not self.held and not self.closed:
            self.held = True
            self.port.pause_reading()

    def release_answer(self) -> None:
        if self.held and not self.closed:
            self.held = False
            self.port.resume_reading()

    def unread_by_model(self) -> bool:
        """True when it is known that nothing of the exchange's request reached the model."""
        return False

    # -- what the connection tells

    def connection_lost(self, error: Exception | None) -> None:
        exchange = self.exchange
        self.exchange = None
        self.closed = True
        del self._parser  # it holds this connection, which would then wait for the garbage collector
        if exchange is not None:
            exchange.connection = None
        if exchange is None:
            self.pool.lost(self)
        elif self._until_close and self._in_body and error is None:
            if self._chunked:
                exchange.deliver(b"0\r\n\r\n")
            self.pool.lost(self)
            exchange.finished(self.pool.clock())
        elif (
            self.reused
            and not exchange.begun
            and exchange.wants_answer()
            and (exchange.head.method in IDEMPOTENT or self.unread_by_model())
            and exchange.rewind()
        ):
            self.pool.again(self, exchange)
        else:
            self.pool.lost(self)
            exchange.failed(BROKE_OFF)

    def eof_received(self) -> None:
        """The transport closes itself, and `connection_lost` says the rest."""

    def pause_writing(self) -> None:
        self.stalled = True
        if self.exchange is not None:
            self.exchange.hold_request()

    def resume_writing(self) -> None:
        self.stalled = False
        if self.exchange is not None:
            self.exchange.release_request()

    def data_received(self, data: bytes) -> None:
        exchange = self.exchange
        if exchange is None:
            self.abort()  # not asked for
            return
        pool = self.pool
        received = pool.clock()
        exchange.begun = True
        exchange.activity = received
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self.fail(MALFORMED)  # we never ask for one
            return
        except httptools.HttpParserError:
            if not self._finished:
                self.fail(MALFORMED)
                return
            self._extra = True
        out = self._out
        if out:
            self._out = []
            if self._barren:
                self._barren = 0
            exchange.deliver(out[0] if len(out) == 1 else b"".join(out))
        elif not self._finished:
            self._barren += len(data)  # a head, or trailers, without an end
            if self._barren > MAX_HEAD or len(self._headers) > MAX_HEADERS:
                self.fail(MALFORMED)
                return
        if not self._finished or self.exchange is not exchange:
            return  # there is more to come, or it was aborted while its last bytes were delivered
        self.exchange = exchange.connection = None
        if self._keep and exchange.complete and not (self._extra or self._bodiless or self.stalled or self.closed):
            if self.held:
                self.release_answer()
            if pool.queue:
                pool.released(self, received)
            else:
                self.idle_since = received
                pool.free.append(self)
        elif not self.closed:
            self.close_idle()
        exchange.finished(received)

    # -- what llhttp tells

    def on_message_begin(self) -> None:
        if self._finished:
            self._extra = True

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers.append((name, value))

    def on_headers_complete(self) -> None:
        exchange = self.exchange
        headers, self._headers = self._headers, []  # what comes from here on are trailers: they are dropped
        if self._extra or exchange is None:
            return
        parser = self._parser
        status = parser.get_status_code()
        self._interim = 100 <= status < 200
        if self._interim:
            return  # we have answered Expect ourselves
        self._in_body = True
        self._keep = parser.should_keep_alive()  # it says False once the message is complete
        read = answer_pieces(headers, self.pool.names, bool(exchange.added_head))
        if read is None or len(headers) > MAX_HEADERS or status < 100:
            raise ValueError("an answer's head that is not forwarded")
        pieces, length, chunked = read
        if exchange.answer_body is not None:
            exchange.answer_headers = b"".join(pieces)[2:] + b"\r\n" if pieces else b""
        exchange.status = status
        out = self._out
        out.append(_STATUS_LINES.get(status) or b"HTTP/1.1 %d " % status)
        out += pieces
        if length is not None and exchange.head.method != b"HEAD" and status not in _NO_BODY:
            self._chunked = False
            out += (b"\r\ncontent-length: ", length)
        else:
            self._frame(exchange, status, length, chunked)
        if exchange.added_head:
            out.append(exchange.added_head)
        if not exchange.keep_alive or self.pool.draining:
            exchange.keep_alive = False
            out.append(b"\r\nconnection: close\r\n\r\n")
        else:
            out.append(b"\r\nconnection: keep-alive\r\n\r\n" if exchange.head.http10 else b"\r\n\r\n")

    def _frame(self, exchange: Exchange, status: int, length: bytes | None, chunked: bool) -> None:
        """Say where an answer ends that has no body, or a body of unknown length."""
        self._chunked = False
        if exchange.head.method == b"HEAD" or status in _NO_BODY:
            if length is not None and status != 204:
                self._out += (b"\r\ncontent-length: ", length)
            if exchange.head.method == b"HEAD":
                self._bodiless = self._finished = True  # llhttp would wait for a body
            return
        self._until_close = not chunked
        if exchange.head.http10:
            exchange.keep_alive = False
        else:
            self._out.append(b"\r\ntransfer-encoding: chunked")
            self._chunked = True

    def on_body(self, piece: bytes) -> None:
        exchange = self.exchange
        if self._extra or exchange is None or self._bodiless or self._interim:
            if self._interim:
                raise ValueError("an interim answer with a body, which none has")
            return
        if self._chunked:
            self._out += (b"%x\r\n" % len(piece), piece, b"\r\n")
        else:
            self._out.append(piece)
        if exchange.answer_body is not None:
            exchange.collect(piece)

    def on_message_complete(self) -> None:
        if self._headers:
            self._headers = []
        if self._interim or self._extra or self._bodiless:
            return
        if self._chunked:
            self._out.append(b"0\r\n\r\n")
        self._finished = True
