"""Asks the candidate: a bounded pool of connections with a bounded queue, a time limit and a breaker.

The scorer offers requests and hears of each answer by a callback, failures included: a failure of the candidate is a
datum, once it was there at all. What there is no room for is shed, and the reason is returned. It must not know what
a request is for, nor read an answer.
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, Generic, TypeVar

from modelcanary_gate.vocabulary import Outcome
from modelcanary_sidecar.breaker import Breaker, BreakerState
from modelcanary_sidecar.capture import LiveAnswer
from modelcanary_sidecar.shadow_connection import Request, ShadowConnection

T = TypeVar("T")

#: Of all that waits for one candidate or is in flight, what it answers included. One request alone may be larger.
HELD_BYTES: Final = 8 << 20


class Shed(StrEnum):
    """Why a captured request was not sent to the candidate."""

    QUEUE = "candidateQueue"  # too many wait for the candidate
    QUEUE_BYTES = "candidateBytes"  # what waits for it, or is in flight, is too large
    BREAKER = "breaker"  # the candidate failed several times in a row
    UNREACHED = "candidateUnreached"  # nobody has accepted a connection yet: its address may be on its way to the node
    STOPPED = "stopped"  # the run, or the sidecar, ended first


@dataclass(frozen=True, slots=True)
class ShadowLimits:
    """Bounds of one candidate's pool. Seconds and bytes."""

    timeout: float = 2.0  # from the request sent to the answer whole
    connections: int = 64
    body_bytes: int = 1 << 20
    queue: int = 256
    held_bytes: int = HELD_BYTES
    connect_time: float = 1.0
    appear_time: float = 5.0  # so long its address may refuse before that is a failure of the candidate
    connecting: int = 4  # at a time
    pause: float = 0.1  # between two attempts while nobody is there: each costs more than a request
    #: Model servers close idle connections after 2 s (gunicorn) or 5 s (uvicorn): ours must be shorter.
    idle: float = 1.5


class Shadow(Generic[T]):
    """A pool for one candidate. `run` it in a task; it ends after `stop`."""

    def __init__(
        self,
        host: str,
        port: int,
        limits: ShadowLimits,
        on_answer: Callable[[T, LiveAnswer], None],
        on_shed: Callable[[T, Shed], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._host, self._port = host, port
        self._limits = limits
        self._on_answer, self._on_shed = on_answer, on_shed
        self._clock = clock
        self._breaker = Breaker()
        self._queue: deque[tuple[T, Request, int, bool]] = deque()  # with bytes, and is it asked for the second time
        self._held = 0  # bytes of all that waits or is in flight
        self._idle: list[ShadowConnection[T]] = []  # the last one used is used first
        self._busy: dict[ShadowConnection[T], int] = {}  # bytes, in the order in which they were asked
        self._again: set[ShadowConnection[T]] = set()  # asked for the second time
        self._open = 0
        self._connecting = 0
        self._unreached_until = clock() + limits.appear_time
        self._connect_from = 0.0  # the next attempt is not before this
        self._tasks: asyncio.TaskGroup | None = None
        self._stopping = asyncio.Event()

    async def run(self) -> None:
        """Opens connections and ends late requests, until `stop`."""
        interval = min(0.1, max(0.01, self._limits.timeout / 10))
        async with asyncio.TaskGroup() as tasks:
            self._tasks = tasks
            try:
                while not self._stopping.is_set():
                    self._sweep()
                    self._connect_for_queue()
                    await _set_within(self._stopping, interval)
            finally:
                self._tasks = None
                self.stop()

    def stop(self) -> None:
        """Sheds all that waits or is in flight, at once; nothing is answered after it."""
        self._stopping.set()
        self._shed_queue(Shed.STOPPED)
        for connection in [*self._busy, *self._idle]:
            connection.give_up(Outcome.REFUSED)

    # what the scorer sees

    def offer(self, item: T, head: bytes, body: bytes = b"", beside: int = 0) -> Shed | None:
        """Take a request; or the reason why not. `beside`: bytes that the item holds and that are not sent."""
        size = len(head) + len(body) + beside
        if self._stopping.is_set():
            return Shed.STOPPED
        if len(self._queue) >= self._limits.queue:
            return Shed.QUEUE
        if self._held and self._held + size > self._limits.held_bytes:
            return Shed.QUEUE_BYTES
        if not self._breaker.allow(self._clock()):
            return Shed.BREAKER
        self._held += size
        while self._idle:
            connection = self._idle.pop()
            if connection.open:
                self._start(connection, item, (head, body), size, again=False)
                return None
        self._queue.append((item, (head, body), size, False))
        self._connect_for_queue()
        return None

    @property
    def queued(self) -> int:
        return len(self._queue)

    @property
    def held(self) -> int:
        """Bytes of what waits or is in flight."""
        return self._held

    @property
    def in_flight(self) -> int:
        return len(self._busy)

    @property
    def connections(self) -> int:
        return self._open

    def breaker(self) -> BreakerState:
        return self._breaker.state(self._clock())

    # what connections tell

    def opened(self, connection: ShadowConnection[T]) -> None:
        self._open += 1
        self._unreached_until = 0.0

    def received(self, connection: ShadowConnection[T], size: int) -> None:
        self._held += size
        self._busy[connection] += size
        if self._held > self._limits.held_bytes and self._held > self._busy[connection]:
            item = connection.withdraw()
            self._held -= self._busy.pop(connection)
            self._again.discard(connection)
            if item is not None:
                self._on_shed(item, Shed.QUEUE_BYTES)

    def answered(self, connection: ShadowConnection[T], item: T, answer: LiveAnswer) -> None:
        self._held -= self._busy.pop(connection, 0)
        self._again.discard(connection)
        if self._stopping.is_set():
            self._on_shed(item, Shed.STOPPED)
            return
        if connection.open:
            self._serve(connection)
        self._report(item, answer)

    def stale(self, connection: ShadowConnection[T], item: T, request: Request) -> None:
        size = self._busy.pop(connection, 0)
        self._held -= size
        if self._stopping.is_set():
            self._on_shed(item, Shed.STOPPED)
        elif connection in self._again:
            self._report(item, LiveAnswer(Outcome.REFUSED, 0, 0.0, b"", b""))
        else:
            # Its neighbours are as old: only a new connection says whether the candidate is there.
            neighbours, self._idle = self._idle, []
            for neighbour in neighbours:
                neighbour.give_up(Outcome.REFUSED)
            self._queue.appendleft((item, request, size, True))
            self._held += size
            self._connect_for_queue()
        self._again.discard(connection)

    def closed(self, connection: ShadowConnection[T]) -> None:
        self._open -= 1
        if connection in self._idle:
            self._idle.remove(connection)
        self._connect_for_queue()

    # inside

    def _start(self, connection: ShadowConnection[T], item: T, request: Request, size: int, *, again: bool) -> None:
        if again:
            self._again.add(connection)
        self._busy[connection] = size
        connection.ask(item, request)

    def _serve(self, connection: ShadowConnection[T]) -> None:
        """A connection is free: the next in the queue, or it idles."""
        if self._queue:
            item, request, size, again = self._queue.popleft()
            self._start(connection, item, request, size, again=again)
        else:
            self._idle.append(connection)

    def _report(self, item: T, answer: LiveAnswer) -> None:
        if answer.failure is None:
            self._breaker.succeeded()
        elif self._breaker.failed(self._clock()):
            self._shed_queue(Shed.BREAKER)
        self._on_answer(item, answer)

    def _shed_queue(self, reason: Shed) -> None:
        queue, self._queue = self._queue, deque()
        for item, _, size, _ in queue:
            self._held -= size
            self._on_shed(item, reason)

    def _connect_for_queue(self) -> None:
        limits = self._limits
        if self._clock() < self._connect_from:
            return
        while (
            self._tasks is not None
            and self._connecting < min(len(self._queue), limits.connecting)
            and self._open + self._connecting < limits.connections
        ):
            self._connecting += 1
            self._tasks.create_task(self._connect())

    async def _connect(self) -> None:
        loop = asyncio.get_running_loop()
        connection = self._made()
        try:
            async with asyncio.timeout(self._limits.connect_time):
                await loop.create_connection(lambda: connection, self._host, self._port)
        except (OSError, UnicodeError):  # a TimeoutError is the former; names that are none raise the latter
            connection.unmade()
            self._connecting -= 1
            now = self._clock()
            if now < self._unreached_until:
                self._connect_from = now + self._limits.pause
                self._shed_queue(Shed.UNREACHED)
            elif self._queue:
                item, _, size, _ = self._queue.popleft()
                self._held -= size
                self._report(item, LiveAnswer(Outcome.REFUSED, 0, 0.0, b"", b""))
            return
        self._connecting -= 1
        if not connection.open or self._stopping.is_set():
            connection.give_up(Outcome.REFUSED)
        else:
            self._serve(connection)

    def _made(self) -> ShadowConnection[T]:
        return ShadowConnection(self, self._limits.body_bytes, self._clock)

    def _sweep(self) -> None:
        now = self._clock()
        late = now - self._limits.timeout
        for connection in [*self._busy]:
            if connection.since > late:
                break
            connection.give_up(Outcome.TIMEOUT)
        while self._idle and self._idle[0].since < now - self._limits.idle:
            self._idle.pop(0).give_up(Outcome.REFUSED)


async def _set_within(event: asyncio.Event, seconds: float) -> bool:
    try:
        async with asyncio.timeout(seconds):
            return await event.wait()
    except TimeoutError:
        return False
