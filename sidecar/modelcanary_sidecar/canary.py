"""A user's request under a canary weight: the candidate is asked on the live path, and the baseline too.

The user gets the candidate's answer, unless it is an error, malformed, or later than the baseline's by more than the
grace: then the baseline's. Until that is settled the baseline's answer is held. Either way both answers make a pair.
After some failures in a row no user's request goes to the candidate for a while, lest each of them wait out the grace
in vain; they are mirrored like all others. `LiveState` makes a `Canary` for an exchange, which passes on what the two
connections tell. It must not know how a share or a weight is decided.
"""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING

import msgspec

from modelcanary_gate.vocabulary import Outcome
from modelcanary_sidecar.breaker import Breaker
from modelcanary_sidecar.capture import LiveAnswer, header
from modelcanary_sidecar.exchange import Exchange, Failure

if TYPE_CHECKING:
    from modelcanary_sidecar.exchange import UserExchange
    from modelcanary_sidecar.live_state import LiveState


class Given(StrEnum):
    """Whose answer the user got; where it was not the candidate's, why."""

    CANDIDATE = "candidate"
    ERROR = "error"  # a status other than 2xx
    MALFORMED = "malformed"
    LATE = "late"  # by more than the grace
    REFUSED = "refused"  # no connection, or it broke
    TIMEOUT = "timeout"  # of mirror.timeout
    TOO_LARGE = "tooLarge"  # either's answer, or the request
    UNASKED = "unasked"  # the baseline had answered before the request was whole
    SKIPPED = "skipped"  # the candidate failed too often in a row


_WHY = {
    Outcome.TIMEOUT: Given.TIMEOUT,
    Outcome.REFUSED: Given.REFUSED,
    Outcome.UNDECODABLE: Given.MALFORMED,
    Outcome.TOO_LARGE: Given.TOO_LARGE,
}


#: Of which a user's request says nothing about the candidate.
_NO_FAULT = frozenset({Given.TOO_LARGE, Given.UNASKED})


def breaker_for_users() -> Breaker:
    """Each probe is a user who may have to wait: fewer of them, and later, than of mirrored copies."""
    return Breaker(threshold=5, first=1.0, longest=15.0, probes=1)


def fault(answer: LiveAnswer) -> Given | None:
    """Why a candidate's answer must not be given to a user; None if it may."""
    if answer.failure is not None:
        return _WHY[answer.failure]
    if not 200 <= answer.status < 300:
        return Given.ERROR
    kind = (header(answer.headers, b"content-type") or b"").lower()
    if kind.startswith(b"text/html"):  # a proxy's page, or a framework's: no model answers so
        return Given.MALFORMED
    if b"json" in kind and answer.status != 204 and not header(answer.headers, b"content-encoding"):
        # Binary tensors follow their JSON; a bare NaN is no JSON, and no answer for a user.
        prefix = header(answer.headers, b"inference-header-content-length")
        try:
            body = answer.body[: int(prefix)] if prefix is not None and prefix.isdigit() else answer.body
            msgspec.json.decode(body, type=msgspec.Raw)
        except (ValueError, RecursionError):  # of which DecodeError is one; more digits than int() reads, another
            return Given.MALFORMED
    return None


class CandidateAsk(Exchange):
    """The candidate's leg. What it delivers is kept until it is whole."""

    def __init__(self, canary: Canary, asked: UserExchange, now: float, room: int) -> None:
        super().__init__(asked.head, now)
        self._canary: Canary | None = canary
        self.pieces: list[bytes] = []
        self.keep_alive = asked.keep_alive
        self.added_head = asked.added_head
        self.complete = True
        self.answer_body = []
        self.room = room

    def wants_answer(self) -> bool:
        return self._canary is not None

    def deliver(self, data: bytes) -> None:
        if self._canary is not None:
            self.pieces.append(data)

    def finished(self, received: float) -> None:
        canary, self._canary = self._canary, None
        if canary is not None:
            canary.candidate_answered(self.answer(received - self.sent))

    def failed(self, failure: Failure) -> None:
        canary, self._canary = self._canary, None
        if canary is not None:
            canary.candidate_answered(self.answer(canary.state.clock() - self.started, failure.outcome))

    def outgrown(self) -> None:
        connection = self.connection
        canary, self._canary = self._canary, None
        if connection is not None:
            connection.abort()
        if canary is not None:
            canary.candidate_answered(self.answer(canary.state.clock() - self.sent, Outcome.TOO_LARGE))

    def abandon(self) -> None:
        self._canary = None
        self.pieces = []
        self.withdraw()


class Canary:
    """Settles whose answer a user gets, once; then waits for the other one, for the pair."""

    def __init__(self, state: LiveState, exchange: UserExchange, record: bool) -> None:
        self.state = state
        self._exchange = exchange
        self._record = record  # the pair goes to the scorer
        self._breaker = state.breaker
        self._given: Given | None = None
        self._ask: CandidateAsk | None = None
        self._held: list[bytes] = []  # of the baseline's answer
        self._baseline: LiveAnswer | None = None
        self._baseline_failure: Failure | None = None
        self._candidate: LiveAnswer | None = None

    def ask(self) -> None:
        """The request is whole, and it is its turn: ask the candidate, too."""
        state, exchange = self.state, self._exchange
        if self._given is not None:
            return  # it has been settled already: too large, or answered before it was whole
        pool = state.candidate
        if pool is None or exchange.body is None:
            self._settle(Given.REFUSED)
            return
        self._ask = ask = CandidateAsk(self, exchange, state.clock(), state.max_body)
        body = b"".join(exchange.body)
        ask.unsent = [exchange.head.to_candidate(state.forward_credentials, len(body)), body]
        pool.dispatch(ask)

    # -- what the baseline's connection tells

    def passes(self, data: bytes) -> bool:
        """Whether a piece of the baseline's answer goes to the user now."""
        if self._given is None:
            self._held.append(data)
            return False
        return self._given is not Given.CANDIDATE

    def baseline_answered(self, answer: LiveAnswer, failure: Failure | None) -> None:
        self._baseline = answer
        self._baseline_failure = failure
        if self._given is None and not self._exchange.complete:
            self._settle(Given.UNASKED)
        elif self._given is None:
            self.state.later(self.state.grace, self._grace_over)
        else:
            self._conclude()

    def outgrown(self) -> None:
        """The baseline's answer is too large to be held."""
        self._record = False
        if self._given is None:
            self._settle(Given.TOO_LARGE)

    def abandon(self) -> None:
        """The client has left."""
        self._record = False
        if self._given is None:
            self._given = Given.REFUSED
            self._breaker.undecided()
        if self._ask is not None:
            self._ask.abandon()
        self._end()

    # -- what the candidate's connection tells

    def candidate_answered(self, answer: LiveAnswer) -> None:
        self._candidate = answer
        why = fault(answer)
        if self._given is None:
            self._settle(Given.CANDIDATE if why is None else why)
        else:
            self._conclude()

    # -- the decision

    def _grace_over(self) -> None:
        if self._given is None:
            self._settle(Given.LATE)

    def _settle(self, given: Given) -> None:
        self._given = given
        self.state.figures.count_canary(given)
        self._tell_breaker(given)
        exchange = self._exchange
        if given is Given.CANDIDATE and self._ask is not None:
            exchange.keep_alive = self._ask.keep_alive
            exchange.deliver_from_candidate(b"".join(self._ask.pieces))
        elif self._held and self._baseline_failure is None:  # of an answer that broke off, nothing was said yet
            exchange.deliver(b"".join(self._held))
        self._held = []
        self._conclude()

    def _tell_breaker(self, given: Given) -> None:
        asked_wrongly = given is Given.ERROR and self._candidate is not None and self._candidate.status < 500
        if given is Given.CANDIDATE:
            self._breaker.succeeded()
        elif given in _NO_FAULT or asked_wrongly:
            self._breaker.undecided()
        else:
            self._breaker.failed(self.state.clock())

    def _conclude(self) -> None:
        """Whatever is due now: the end of the baseline's answer to the user, and the pair."""
        baseline, candidate = self._baseline, self._candidate
        if baseline is None:
            return
        if self._given is not Given.CANDIDATE:
            self._exchange.end_of_answer(self._baseline_failure)
        if self._record and candidate is not None:
            self._record = False
            self.state.offer(self._exchange, baseline, candidate)
        if candidate is not None or self._ask is None:
            self._end()

    def _end(self) -> None:
        """Neither model will say more: the exchange, its bodies with it, is not left to the garbage collector."""
        self._exchange.canary = None
        self._exchange.let_go()
