"""What all conversations of one live process share: the pools, the instructions, what is captured and counted.

`live` makes it and sweeps it; conversations and exchanges ask it. Sans-I/O: it is handed a clock, a way to
open connections and a way to offer what was captured. It must not know an event loop.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING

from modelcanary_sidecar.capture import Captured, LiveAnswer
from modelcanary_sidecar.channel import News
from modelcanary_sidecar.exchange import Exchange, Port, UserExchange
from modelcanary_sidecar.figures import Drop, Figures
from modelcanary_sidecar.heads import Names, RequestHead, id_text
from modelcanary_sidecar.instructions import Standing
from modelcanary_sidecar.pool import Pool
from modelcanary_sidecar.sampler import Sampler
from modelcanary_sidecar.settings import Limits

if TYPE_CHECKING:
    from modelcanary_sidecar.conversation import Conversation

#: Without news from the scorer for so long there is none: nothing is captured.
SILENCE = 5.0


class LiveState:
    def __init__(
        self,
        *,
        connect: Callable[[Pool, Exchange | None], None],
        clock: Callable[[], float],
        wall_clock: Callable[[], float],
        offer: Callable[[Captured], bool],
        pass_through: Callable[[Port, bytes], None],
        authority: str,
        limits: Limits,
        workers: int = 1,
    ) -> None:
        self.clock = clock
        self.tick = clock()  # the time as of the last sweep
        self.limits = limits
        self.authority = authority.encode()
        self.pass_through = pass_through
        self.figures = Figures()
        self.standing = Standing()
        self.sampler = Sampler()
        self.names = Names(self.standing.instructions.idHeader)
        self.conversations: set[Conversation] = set()
        self.draining = False
        self.max_body = 0
        self.shedding = False
        self.scorer_figures: dict[str, float] = {}
        self._wall_clock = wall_clock
        self._offer = offer
        self._workers = workers
        self._capturing = False
        self._paths: frozenset[bytes] = frozenset()
        self._last_news = float("-inf")
        self._unique = os.urandom(4).hex()
        self._minted = 0
        self.baseline = Pool(
            connect,
            clock=clock,
            names=self.names,
            limit=limits.connections,
            waiting=limits.waiting,
            waiting_time=limits.waiting_time,
            answer_time=limits.answer_time,
            idle=limits.upstream_idle,
        )

    # -- each request

    def begin(self, conversation: Conversation, head: RequestHead, keep_alive: bool) -> UserExchange:
        """The exchange for a request, with its id, and whether it is captured."""
        exchange = UserExchange(self, conversation, head, self.clock())
        exchange.keep_alive = keep_alive and not self.draining
        if head.id is None:
            self._mint(exchange, head)
        if self._capturing and head.method == b"POST":
            self._choose(exchange, head)
        return exchange

    def _mint(self, exchange: UserExchange, head: RequestHead) -> None:
        """An id for a request that came without one, for both models and for the client."""
        self._minted += 1
        milliseconds = int(self._wall_clock() * 1000.0)
        exchange.id = id = f"{milliseconds:012x}{self._unique}{self._minted:012x}"
        exchange.minted = True
        exchange.added_head = line = b"%b: %b\r\n" % (self.names.id_header, id.encode())
        head.add(line)

    def _choose(self, exchange: UserExchange, head: RequestHead) -> None:
        """Capture it, or count why not."""
        if self._paths and head.target.partition(b"?")[0] not in self._paths:
            return
        if not exchange.minted:
            id = id_text(head.id or b"")
            if id is None:
                self.figures.drop(Drop.ID)
                return
            exchange.id = id
        admitted = self.sampler.admit(exchange.id)
        if admitted is None:
            return
        if not admitted:
            self.figures.drop(Drop.RATE)
        elif self.shedding:
            self.figures.drop(Drop.SHED)
        else:
            exchange.capture(self.max_body, self._wall_clock())

    def offer(self, exchange: UserExchange, baseline: LiveAnswer, candidate: LiveAnswer | None = None) -> None:
        """Hand a captured exchange to the scorer, after the user has the answer."""
        head = exchange.head
        instructions = self.standing.instructions
        body = exchange.body or []
        captured = Captured(
            exchange.id,
            exchange.minted,
            exchange.time,
            instructions.run,
            head.method,
            head.target,
            head.to_mirror(instructions.mirror.forwardCredentials),
            body[0] if len(body) == 1 else b"".join(body),
            baseline,
            candidate,
        )
        if self._offer(captured):
            self.figures.captured += 1
        else:
            self.figures.drop(Drop.QUEUE)

    # -- now and then

    def hear(self, news: News) -> None:
        """What the scorer tells: instructions, and how it fares."""
        now = self.clock()
        self._last_news = now
        self.shedding = news.shedding
        self.scorer_figures = news.figures
        changed = self.standing.hear(news.instructions, news.heard)
        if changed:
            instructions = self.standing.instructions
            self._paths = frozenset(path.encode() for path in instructions.model.paths)
            self.max_body = instructions.mirror.maxBodyBytes
            if instructions.idHeader.encode() != self.names.id_header:
                self.names = self.baseline.names = Names(instructions.idHeader)
        self._settle(now)

    def _settle(self, now: float) -> None:
        share = self.standing.share()
        self._capturing = share > 0.0 and now - self._last_news < SILENCE
        self.sampler.set(share, self.standing.instructions.mirror.maxPairsPerSecond / self._workers, now)

    def sweep(self) -> None:
        """Time limits, rates and gauges."""
        now = self.clock()
        self.tick = now
        self._settle(now)
        self.sampler.sweep(now)
        self.baseline.sweep(now)
        for conversation in list(self.conversations):
            conversation.sweep(now)
        figures = self.figures
        figures.clients = len(self.conversations)
        figures.connections = len(self.baseline.connections)
        figures.in_flight = self.baseline.busy
        figures.waiting = self.baseline.waiting
        figures.retries = self.baseline.retries

    def drain(self) -> None:
        """Say `Connection: close` from now on."""
        self.draining = self.baseline.draining = True

    @property
    def idle(self) -> bool:
        return not self.baseline.busy and not self.baseline.waiting
