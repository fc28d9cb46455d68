"""The connections to one model: how many there are, which are free, and who waits for one.

Conversations dispatch exchanges here; `upstream` opens the connections. The last used is used first, so that
as few as are needed stay warm. Sans-I/O: it is told what happened and calls `connect` to have one opened. It
must not know which model it is, nor what is asked.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from contextlib import suppress

from modelcanary_sidecar.exchange import BROKE_OFF, OVERLOADED, TOO_LATE, UNREACHABLE, Exchange
from modelcanary_sidecar.heads import Names
from modelcanary_sidecar.model_connection import ModelConnection


class Pool:
    """At most `limit` connections and `waiting` exchanges that wait for one.

    Invariant: as long as exchanges wait and there is room for a connection, one is being opened.
    """

    def __init__(
        self,
        connect: Callable[[Pool, Exchange | None], None],
        *,
        clock: Callable[[], float],
        names: Names,
        limit: int,
        waiting: int,
        waiting_time: float,
        answer_time: float,
        idle: float,
        whole_answers: bool = False,
    ) -> None:
        self._connect = connect
        self.clock = clock
        self.names = names
        self.limit = limit
        self.draining = False
        self.connections: set[ModelConnection] = set()
        self.opening = 0
        self.free: list[ModelConnection] = []
        self.queue: deque[Exchange] = deque()
        self._waiting_limit = waiting
        self._waiting_time = waiting_time
        self._answer_time = answer_time
        self._idle = idle
        self._whole_answers = whole_answers  # the answer time is for all of it, not between two bytes
        self._closed = False
        self.retries = 0

    # -- what conversations ask for

    def dispatch(self, exchange: Exchange) -> None:
        """Send it now, or when there is a connection, or fail it."""
        now = exchange.started
        free = self.free
        while free:
            connection = free.pop()
            if connection.closed:
                continue
            if now - connection.idle_since > self._idle:
                connection.close_idle()  # the model may be closing it at this very moment
                continue
            connection.reused = True
            connection.start(exchange, now)
            return
        if len(self.queue) >= self._waiting_limit:
            exchange.failed(OVERLOADED)
            return
        exchange.queued = True
        exchange.pool = self
        self.queue.append(exchange)
        self._open_if_needed()

    def withdraw(self, exchange: Exchange) -> None:
        """Nobody waits for it any more: it must not take the place of one that is waited for."""
        exchange.queued = False
        with suppress(ValueError):  # not in the queue but about to be tried again
            self.queue.remove(exchange)

    def again(self, lost: ModelConnection, exchange: Exchange) -> None:
        """Try an exchange on a fresh connection: the one it was sent on had been closed by the model."""
        self.connections.discard(lost)
        self.retries += 1
        exchange.queued = True
        self.opening += 1
        self._connect(self, exchange)

    @property
    def waiting(self) -> int:
        return len(self.queue)

    @property
    def busy(self) -> int:
        return sum(1 for connection in self.connections if connection.exchange is not None)

    # -- what connections tell

    def connected(self, connection: ModelConnection, exchange: Exchange | None) -> None:
        if connection.closed:  # again, before we heard that it was open
            self.connect_failed(exchange)
            return
        self.opening -= 1
        self.connections.add(connection)
        if self._closed:
            connection.close_idle()
            if exchange is not None and exchange.wants_answer():
                exchange.failed(BROKE_OFF)
        elif exchange is not None and exchange.wants_answer():
            exchange.queued = False
            connection.start(exchange, self.clock())
            exchange.release_request()
        else:
            self.released(connection, self.clock())

    def connect_failed(self, exchange: Exchange | None) -> None:
        self.opening -= 1
        if exchange is None:
            exchange = self._next_waiting()
        if exchange is not None and exchange.wants_answer():
            exchange.failed(UNREACHABLE)
        self._open_if_needed()

    def released(self, connection: ModelConnection, now: float) -> None:
        exchange = self._next_waiting() if self.queue else None
        if exchange is None:
            connection.idle_since = now
            self.free.append(connection)
        else:
            connection.reused = bool(connection.written)
            exchange.queued = False
            connection.start(exchange, now)
            exchange.release_request()

    def lost(self, connection: ModelConnection) -> None:
        self.connections.discard(connection)
        if connection in self.free:
            self.free.remove(connection)
        self._open_if_needed()

    def _next_waiting(self) -> Exchange | None:
        waiting = self.queue
        while waiting:
            exchange = waiting.popleft()
            if exchange.wants_answer() and exchange.queued:
                return exchange
        return None

    def _open_if_needed(self) -> None:
        while not self._closed and self.opening < len(self.queue) and len(self.connections) + self.opening < self.limit:
            self.opening += 1
            self._connect(self, None)

    # -- now and then

    def sweep(self, now: float) -> None:
        """Time limits, coarse: one pass over the connections instead of a timer per request."""
        for connection in list(self.connections):
            exchange = connection.exchange
            if exchange is None:
                if not connection.closed and now - connection.idle_since > self._idle:
                    connection.close_idle()
            elif not connection.held:  # else it is the client that takes its time
                since = exchange.sent if self._whole_answers else max(exchange.activity, exchange.sent)
                if now - since > self._answer_time:
                    connection.fail(TOO_LATE)
        while self.queue and now - self.queue[0].started > self._waiting_time:
            exchange = self.queue.popleft()
            if exchange.wants_answer():
                exchange.failed(OVERLOADED)

    def close(self) -> None:
        """Be done with this model: what is under way there fails, and what is still opened is closed."""
        self._closed = True
        for connection in list(self.connections):
            if connection.exchange is None:
                connection.close_idle()
            else:
                connection.fail(BROKE_OFF)
        while (exchange := self._next_waiting()) is not None:
            exchange.failed(BROKE_OFF)
