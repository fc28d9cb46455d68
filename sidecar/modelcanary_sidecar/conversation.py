"""One client's connection: its requests, in order, and their answers, in the same order.

A `RequestReader` that hands its requests to the pool, one at a time, and writes the answers. Sans-I/O like
`exchange`: its methods have the names of asyncio's callbacks, so that `client` is nothing but the two bases
put together. It must not know what is mirrored, nor how a model is reached.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final

from modelcanary_sidecar.exchange import Port, UserExchange
from modelcanary_sidecar.heads import NO_ROOM, REQUEST_TIMEOUT, Refusal, RequestHead
from modelcanary_sidecar.request_reader import RequestReader

if TYPE_CHECKING:
    from modelcanary_sidecar.live_state import LiveState

#: After a refusal, what the client still sends is read and forgotten for so long: closing at once would
#: reset the connection, and with it the refusal that the client has not read yet.
LINGER: Final = 2.0

_PIPELINED: Final = 64  # requests that wait for their turn; what is read at once could hold thousands

#: Bytes a second of a request's body, beyond the time that a head has: slower clients are refused.
_SLOWEST: Final = 500.0

# Why the client is not read from, as bits.
_MODEL, _PIPELINE, _CLIENT = 1, 2, 4


class Conversation(RequestReader):
    __slots__ = ("_current", "_held", "_stalled_at", "_waiting", "deadline", "stalled")

    def __init__(self, state: LiveState) -> None:
        super().__init__(state)
        self.deadline = 0.0  # of lingering
        self.stalled = False  # the client does not read what it was sent
        self._stalled_at = 0.0
        self._held = 0
        self._current: UserExchange | None = None  # whose answer is due
        self._waiting: deque[UserExchange] = deque()  # pipelined behind it

    # -- what the connection tells

    def opened(self, port: Port) -> None:
        self.port = port
        state = self.state
        self._began = state.arrived = state.tick
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

    # -- what the reader has read

    def _arrived(self, head: RequestHead, keep_alive: bool) -> UserExchange | None:
        if len(self._waiting) >= _PIPELINED:
            self._refusal = NO_ROOM
            return None
        exchange = self.state.begin(self, head, keep_alive)
        exchange.unsent = head.hand_over()
        if self._current is None and not self.stalled:
            self._current = exchange
            if head.expects:
                self.port.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        else:
            self._waiting.append(exchange)
            self._hold(_PIPELINE)
        return exchange

    def _completed(self, exchange: UserExchange) -> None:
        if exchange.canary is not None and exchange is self._current:
            exchange.canary.ask()  # else when its turn comes: the candidate's answer is given at once

    def _advance(self) -> None:
        current = self._current
        if current is not None and current.unsent:
            if current.connection is None and not current.queued:
                self.state.baseline.dispatch(current)
            else:
                self._forward(current)

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
        self._began = self.state.tick
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
            self._say(refusal, exchange.head.method)

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
            self._say(refusal, current.head.method)

    def _say(self, refusal: Refusal, method: bytes = b"") -> None:
        self.state.figures.refuse(refusal.status)
        self.port.write(refusal.answer(method))
        self._linger()

    def _linger(self) -> None:
        for exchange in self._waiting:
            exchange.abandon()
        self._waiting.clear()
        if self._held:
            self._held = 0
            self.port.resume_reading()
        self.closing = True
        self._headers = []  # of a head that is not one: it may be large
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
        elif self.closing:
            return
        elif self._current is not None:
            if self._drips(self._current, now):
                self._refuse(REQUEST_TIMEOUT)
        elif self._barren >= 0 and self._building is None:
            if now - self._began > limits.head_time:
                self._refuse(REQUEST_TIMEOUT)
        elif now - self._began > limits.client_idle:
            self.close_idle(now)

    def _drips(self, exchange: UserExchange, now: float) -> bool:
        """Whether its body comes so slowly that it only keeps a connection to the model from others."""
        connection = exchange.connection
        if exchange.complete or connection is None or exchange is not self._building:
            return False
        came = connection.written - connection.before
        return now - exchange.sent > self.state.limits.head_time + came / _SLOWEST

    def close_idle(self, before: float) -> None:
        """Close it if no request is under way and none has been since; one that has just come may have one coming."""
        if self._current is None and not self._waiting and not self.closing and self._began <= before:
            if self.unread():
                return
            self.closing = True
            self.port.close()

    def unread(self) -> bool:
        """Whether the client has sent something that has not been read: closing would lose it."""
        return False
