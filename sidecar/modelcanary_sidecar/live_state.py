"""What all conversations of one live process share: the pools, the instructions, what is captured and counted.

`live` makes it and sweeps it; conversations and exchanges ask it. Sans-I/O: it is handed a clock, a way to
open connections and a way to offer what was captured. It must not know an event loop.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from modelcanary_gate.protocol import Instructions
from modelcanary_gate.sampling import position
from modelcanary_sidecar.canary import Canary, Given, breaker_for_users
from modelcanary_sidecar.capture import Captured, LiveAnswer
from modelcanary_sidecar.channel import News
from modelcanary_sidecar.errors import SettingsError
from modelcanary_sidecar.exchange import Exchange, Port, UserExchange
from modelcanary_sidecar.figures import Drop, Figures
from modelcanary_sidecar.heads import Names, RequestHead, id_text
from modelcanary_sidecar.instructions import Standing
from modelcanary_sidecar.pool import Pool
from modelcanary_sidecar.sampler import Sampler
from modelcanary_sidecar.settings import Address, Limits, http_address

if TYPE_CHECKING:
    from modelcanary_sidecar.conversation import Conversation

_log = logging.getLogger(__name__)
Connect = Callable[[Pool, Exchange | None], None]
#: Without news from the scorer for so long there is none: nothing is captured, and that is counted.
SILENCE = 5.0
#: After the way to the scorer was full, nothing is captured for so long: it would be packed to be thrown away.
_FULL = 0.02
#: Of the bodies that all live processes collect for pairs while the baseline is asked; one alone may be larger.
HELD_BYTES: Final = 8 << 20
_COMPLAINT_EVERY = 60.0  # seconds between two logged faults of ours


class LiveState:
    def __init__(
        self,
        *,
        connect: Callable[[Address], Connect],
        clock: Callable[[], float],
        wall_clock: Callable[[], float],
        offer: Callable[[Captured], bool],
        pass_through: Callable[[Port, bytes], None],
        later: Callable[[float, Callable[[], None]], object],
        model: Address,
        limits: Limits,
        workers: int = 1,
    ) -> None:
        self.clock = clock
        self.tick = clock()  # the time as of the last sweep
        self.limits = limits
        self.authority = str(model).encode()
        self.later = later  # call it once, after so many seconds
        self.pass_through = pass_through
        self.figures = Figures()
        self.standing = Standing()
        self.sampler = Sampler()
        self.names = Names(self.standing.instructions.idHeader)
        self.conversations: set[Conversation] = set()
        self.arrived = self.tick  # when the last client came, as of a sweep
        self.draining = False
        self.max_body = 0
        self.held = 0  # bytes of requests and answers under way that are kept for their pairs
        self.most_held = HELD_BYTES // workers
        self.forward_credentials = False
        self.grace = 0.0  # that the candidate has over the baseline, under a weight
        self.candidate: Pool | None = None  # only under a weight: else it is the scorer that asks
        self.breaker = breaker_for_users()  # of the candidate, for users
        self.shedding = False  # there is no use in capturing: the scorer has no room, or
        self.candidate_full = False  # the candidate has none, or fails too often
        self._scorer_full = False
        self.scorer_figures: dict[str, float] = {}
        self._wall_clock = wall_clock
        self._offer = offer
        self._connect = connect
        self._candidate_is: tuple[object, ...] | None = None
        self._weight = 0.0
        self._lease_ends = 0.0
        self._workers = workers
        self._capturing = False
        self._paths: frozenset[bytes] = frozenset()
        self._last_news = self.tick
        self._silent = False
        self._full_until = float("-inf")
        self._complained = float("-inf")
        self._unique = os.urandom(4).hex()
        self._minted = 0
        self.baseline = Pool(
            connect(model),
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
        if self.draining or not keep_alive:
            exchange.keep_alive = False
        if head.id is None:
            self._mint(exchange, head)
        if self._capturing and head.method == b"POST":
            try:
                self._choose(exchange, head)
            except Exception:  # noqa: BLE001 - the seam between users and mirroring: no fault there may cost an answer
                self._fault()
        return exchange

    def _mint(self, exchange: UserExchange, head: RequestHead) -> None:
        """An id for a request that came without one, for both models and for the client."""
        self._minted += 1
        milliseconds = int(self._wall_clock() * 1000.0)
        exchange.id = id = f"{milliseconds:012x}{self._unique}{self._minted:012x}"
        exchange.minted = True
        line, value = self.names.id_line, id.encode()
        exchange.added_head = line + value
        head.add(line, value)

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
        record = False
        if admitted is False:
            self.figures.drop(Drop.RATE)
        elif admitted and self._silent:
            self.figures.drop(Drop.SILENCE)
        elif admitted and self.shedding:
            self.figures.drop(Drop.SHED)
        elif admitted and exchange.started < self._full_until:
            self.figures.drop(Drop.QUEUE)
        elif admitted:
            record = True
        moved = (
            self._weight > 0.0
            and exchange.started < self._lease_ends
            and position(exchange.id, self.standing.run) < self._weight
        )
        if moved and not self.breaker.allow(exchange.started):
            self.figures.count_canary(Given.SKIPPED)
            moved = False
        if record or moved:
            exchange.body = []
            exchange.answer_body = []
            exchange.room = self.max_body
            exchange.time = self._wall_clock()
        if moved:
            exchange.canary = Canary(self, exchange, record)

    def offer(self, exchange: UserExchange, baseline: LiveAnswer, candidate: LiveAnswer | None = None) -> None:
        """Hand a captured exchange to the scorer, after the user has the answer."""
        head = exchange.head
        body = exchange.body or []
        exchange.let_go()
        try:
            offered = self._offer(
                Captured(
                    exchange.id,
                    exchange.minted,
                    exchange.time,
                    self.standing.instructions.run,
                    head.method,
                    head.target,
                    head.to_mirror(self.forward_credentials),
                    body[0] if len(body) == 1 else b"".join(body),
                    baseline,
                    candidate,
                )
            )
        except Exception:  # noqa: BLE001 - the seam between users and mirroring: no fault there may cost a connection
            self._fault()
            return
        if offered:
            self.figures.captured += 1
        else:
            self.figures.drop(Drop.QUEUE)

    def lost(self, count: int) -> None:
        """So many that the way to the scorer had taken found no room on it."""
        self.figures.drop(Drop.QUEUE, count)
        self._full_until = self.clock() + _FULL

    def _fault(self) -> None:
        """Something in us is wrong that concerns mirroring only."""
        self.figures.drop(Drop.FAULT)
        now = self.clock()
        if now >= self._complained + _COMPLAINT_EVERY:
            self._complained = now
            _log.exception("a request is not mirrored")

    # -- now and then

    def hear(self, news: News) -> None:
        """What the scorer tells: instructions, and how it fares."""
        now = self.clock()
        self._last_news = now
        self._scorer_full = news.shedding
        self.scorer_figures = news.figures
        changed = self.standing.hear(news.instructions, news.heard)
        if changed:
            instructions = self.standing.instructions
            self._paths = frozenset(path.encode() for path in instructions.model.paths)
            self.max_body = instructions.mirror.maxBodyBytes
            self.forward_credentials = instructions.mirror.forwardCredentials
            self.grace = instructions.grace
            self._weight = self.standing.weight(self.standing.heard)
            self._reach_candidate(instructions)
            if instructions.idHeader.encode() != self.names.id_header:
                self.names = self.baseline.names = Names(instructions.idHeader)
                self._candidate_is = None
        self._lease_ends = self.standing.lease_ends()
        self._settle(now)

    def _reach_candidate(self, instructions: Instructions) -> None:
        """Have connections to the candidate while there is a weight, and to no other."""
        mirror = instructions.mirror
        wanted = (instructions.candidate, mirror.maxInFlight, mirror.timeout) if self._weight else None
        if wanted == self._candidate_is:
            return
        self._candidate_is = wanted
        self.breaker = breaker_for_users()
        if self.candidate is not None:
            self.candidate.close()
            self.candidate = None
        if wanted is None or instructions.candidate is None:
            return
        try:
            address = http_address("candidate", instructions.candidate)
        except SettingsError as error:
            _log.error("users stay with the baseline: %s", error)
            self._weight = 0.0
            return
        self.candidate = Pool(
            self._connect(address),
            clock=self.clock,
            names=self.names,
            limit=mirror.maxInFlight,
            waiting=mirror.maxInFlight,
            waiting_time=mirror.timeout,
            answer_time=mirror.timeout,
            idle=self.limits.upstream_idle,
            whole_answers=True,
        )
        self.candidate.draining = self.draining

    def _settle(self, now: float) -> None:
        self.shedding = self._scorer_full or self.candidate_full
        share = self.standing.share()
        self._capturing = share > 0.0
        self.figures.weight = self._weight if now < self._lease_ends else 0.0
        silent = now - self._last_news >= SILENCE
        if silent != self._silent:
            self._silent = silent
            if silent:
                _log.error("the scorer has said nothing for %.0f s: users are served, nothing is mirrored", SILENCE)
            else:
                _log.info("the scorer is heard again")
        self.sampler.set(share, self.standing.instructions.mirror.maxPairsPerSecond / self._workers, now)

    def sweep(self) -> None:
        """Time limits, rates and gauges."""
        now = self.clock()
        self.tick = now
        self._settle(now)
        self.sampler.sweep(now)
        self.baseline.sweep(now)
        if self.candidate is not None:
            self.candidate.sweep(now)
        for conversation in list(self.conversations):
            conversation.sweep(now)
        figures = self.figures
        figures.clients = len(self.conversations)
        figures.connections = len(self.baseline.connections)
        figures.in_flight = self.baseline.busy
        figures.waiting = self.baseline.waiting
        figures.retries = self.baseline.retries
        figures.silence = now - self._last_news
        figures.share = 0.0 if self._silent else self.sampler.adapted

    def drain(self, draining: bool) -> None:
        """Say `Connection: close` from now on, or no more."""
        self.draining = self.baseline.draining = draining
        if self.candidate is not None:
            self.candidate.draining = draining

    @property
    def idle(self) -> bool:
        """Nothing is under way: neither model is asked, and clients have taken what they were sent."""
        pools = [self.baseline] if self.candidate is None else [self.baseline, self.candidate]
        return not (
            any(pool.busy or pool.waiting or pool.opening for pool in pools)
            or any(conversation.stalled for conversation in self.conversations)
        )

    def close(self) -> None:
        """At the end."""
        self.baseline.close()
        if self.candidate is not None:
            self.candidate.close()
