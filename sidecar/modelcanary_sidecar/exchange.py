"""One request and its answer, between a client and a model: what is still to be sent, kept and told.

A `Conversation` (the client's side) makes it and feeds it the request; a `ModelConnection` takes the request
from it and delivers the answer to it. Sans-I/O: everything is decided synchronously, on events, and what is to
be done is done through `Port`s, which are transports when it runs and recorders when a test plays a
transcript. It must not know an event loop, a socket or a clock other than the one it is handed.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable
from typing import TYPE_CHECKING, Final, Protocol

from modelcanary_gate.vocabulary import Outcome
from modelcanary_sidecar.capture import LiveAnswer
from modelcanary_sidecar.figures import ADDED_BOUNDS, Drop
from modelcanary_sidecar.heads import BAD_GATEWAY, GATEWAY_TIMEOUT, NO_ROOM, Refusal, RequestHead

if TYPE_CHECKING:
    from modelcanary_sidecar.canary import Canary
    from modelcanary_sidecar.conversation import Conversation
    from modelcanary_sidecar.live_state import LiveState
    from modelcanary_sidecar.model_connection import ModelConnection
    from modelcanary_sidecar.pool import Pool

#: Of a request's bytes, kept until the answer begins, for a connection that turns out to have been closed.
REPLAY_BYTES: Final = 256 << 10
IDEMPOTENT: Final = frozenset({b"GET", b"HEAD", b"PUT", b"DELETE", b"OPTIONS", b"TRACE"})


class Port(Protocol):
    """What may be done to a connection. An asyncio transport is one."""

    def write(self, data: bytes) -> None: ...
    def writelines(self, list_of_data: Iterable[bytes]) -> None: ...
    def write_eof(self) -> None: ...
    def pause_reading(self) -> None: ...
    def resume_reading(self) -> None: ...
    def close(self) -> None: ...
    def abort(self) -> None: ...


class Failure:
    """Why there is no answer: what the client is told, and what the pair says."""

    __slots__ = ("outcome", "refusal")

    def __init__(self, refusal: Refusal, outcome: Outcome) -> None:
        self.refusal = refusal
        self.outcome = outcome


UNREACHABLE: Final = Failure(BAD_GATEWAY, Outcome.REFUSED)
BROKE_OFF: Final = Failure(BAD_GATEWAY, Outcome.REFUSED)
MALFORMED: Final = Failure(BAD_GATEWAY, Outcome.UNDECODABLE)
TOO_LATE: Final = Failure(GATEWAY_TIMEOUT, Outcome.TIMEOUT)
OVERLOADED: Final = Failure(NO_ROOM, Outcome.REFUSED)


class Exchange:
    """What a `ModelConnection` needs of a request, whoever asks. Subclasses say what becomes of the answer."""

    __slots__ = (
        "activity",
        "added_head",
        "answer_body",
        "answer_headers",
        "asked",
        "begun",
        "complete",
        "connection",
        "head",
        "keep_alive",
        "kept",
        "pool",
        "queued",
        "room",
        "sent",
        "started",
        "status",
        "unsent",
    )

    def __init__(self, head: RequestHead, started: float) -> None:
        self.head = head
        self.started = self.activity = started  # activity: when a byte last moved
        self.unsent: list[bytes] = []
        self.sent = 0.0  # when its first byte went to the model
        self.asked = 0.0  # when its last did, where that was later: the model's time counts from there
        self.keep_alive = True  # with the client: decides what the answer's head says
        self.added_head = b""  # a header line that the answer gets: the id that we minted
        self.complete = False  # the request has been read to its end
        self.connection: ModelConnection | None = None
        self.queued = False
        self.pool: Pool | None = None  # in which it waits, or has waited
        self.kept: list[bytes] | None = []  # what was sent, for one more try
        self.begun = False  # the answer has begun to arrive
        self.status = 0
        self.answer_headers = b""
        self.answer_body: list[bytes] | None = None  # collected for the pair; None: it is not wanted
        self.room = 0  # bytes that may still be collected

    def rewind(self) -> bool:
        """Make everything unsent again; False when it is not all there any more."""
        kept = self.kept
        if kept is None or self.begun:
            return False
        self.unsent = [*kept, *self.unsent]
        self.kept = None  # one more try, not two
        self.asked = 0.0
        self.connection = None
        return True

    def withdraw(self) -> None:
        """Nobody waits for the answer: the model need not make it."""
        if self.queued and self.pool is not None:
            self.pool.withdraw(self)
        if self.connection is not None:
            self.connection.abort()

    def collect(self, piece: bytes) -> None:
        """A piece of the answer's body, for the pair."""
        self.room -= len(piece)
        if self.room < 0:
            self.answer_body = None
            self.outgrown()
        elif self.answer_body is not None:
            self.answer_body.append(piece)
            self.hold(len(piece))

    def answer(self, latency: float, failure: Outcome | None = None) -> LiveAnswer:
        """What the model said, for the pair."""
        if failure is not None:
            return LiveAnswer(failure, 0, latency, b"", b"")
        body = self.answer_body or ()
        whole = body[0] if len(body) == 1 else b"".join(body)
        return LiveAnswer(None, self.status, latency, self.answer_headers, whole)

    # What a connection to the model tells:

    def wants_answer(self) -> bool:
        """False when nobody waits for it any more."""
        raise NotImplementedError

    def deliver(self, data: bytes) -> None:
        """Bytes of the answer as the client is to get them: head, then body."""
        raise NotImplementedError

    def finished(self, received: float) -> None:
        """The answer has been delivered whole."""
        raise NotImplementedError

    def failed(self, failure: Failure) -> None:
        """There will be no answer, or no more of it."""
        raise NotImplementedError

    def hold(self, size: int) -> None:
        """So many bytes more are kept for the pair."""

    def outgrown(self) -> None:
        """The answer's body is larger than what a pair may hold."""
        raise NotImplementedError

    def hold_request(self) -> None:
        """The model does not read: send no more for now."""

    def release_request(self) -> None:
        """The model reads again."""


class UserExchange(Exchange):
    """A user's request, answered by the baseline; under a canary weight, perhaps by the candidate."""

    __slots__ = ("body", "body_size", "canary", "conversation", "delivered", "held", "id", "minted", "state", "time")

    def __init__(self, state: LiveState, conversation: Conversation, head: RequestHead, now: float) -> None:
        # What Exchange.__init__ sets, without a call: one of these is made for each request.
        self.head = head
        self.started = self.activity = now
        self.unsent = []
        self.sent = self.asked = 0.0
        self.keep_alive = True
        self.added_head = self.answer_headers = b""
        self.kept = []
        self.complete = self.queued = self.begun = False
        self.connection = self.pool = self.answer_body = None
        self.status = self.room = 0
        self.state = state
        self.conversation: Conversation | None = conversation
        self.body: list[bytes] | None = None  # collected for the mirrored copy; None: it is not mirrored
        self.body_size = 0
        self.held = 0  # bytes of both bodies that count for `state.held`, until they are handed on or let go
        self.canary: Canary | None = None
        self.delivered = False  # the client has got some of the answer
        self.id = ""
        self.minted = False
        self.time = 0.0  # of arrival, since the epoch; set where it is mirrored

    # -- the request, as the conversation reads it

    def keep_body(self, piece: bytes) -> None:
        body = self.body
        if body is None:
            return
        state = self.state
        self.body_size += len(piece)
        if self.body_size > state.max_body:
            self.outgrown()
            return
        body.append(piece)
        self.held += len(piece)  # as `hold` does, without a call
        state.held += len(piece)
        if state.held > state.most_held:
            self.hold(0)

    def hold(self, size: int) -> None:
        state = self.state
        self.held += size
        state.held += size
        if state.held > state.most_held and state.held > self.held:  # one alone has its own bound
            self.outgrown(Drop.HELD)

    def let_go(self) -> None:
        """Its bodies are another's, or nobody's."""
        self.state.held -= self.held
        self.held = 0

    def forget(self, reason: Drop) -> None:
        """It is not mirrored after all."""
        if self.body is not None:
            self.body = self.answer_body = None
            self.let_go()
            self.state.figures.drop(reason)

    def abandon(self) -> None:
        """The client has left."""
        self.conversation = None
        if self.canary is not None:
            self.canary.abandon()
        self.forget(Drop.CLIENT_LEFT)
        self.withdraw()

    # -- what the connection to the baseline tells

    def wants_answer(self) -> bool:
        return self.conversation is not None or (self.canary is not None and self.body is not None)

    def deliver(self, data: bytes) -> None:
        if self.canary is not None and not self.canary.passes(data):
            return
        conversation = self.conversation
        if conversation is not None:
            self.delivered = True
            conversation.port.write(data)

    def finished(self, received: float) -> None:
        if self.canary is not None:
            self.canary.baseline_answered(self.answer(received - (self.asked or self.sent)), None)
            return
        state = self.state
        now = state.clock()
        added = self.sent - self.started + now - received
        figures = state.figures  # counted here and not in a method of theirs: this is on every request's way
        histogram = figures.added
        histogram.counts[bisect_left(ADDED_BOUNDS, added)] += 1
        histogram.sum += added
        figures.duration += now - self.started
        conversation = self.conversation
        if conversation is not None:
            conversation.answered(self)
        if self.body is not None:
            state.offer(self, self.answer(received - (self.asked or self.sent)))

    def failed(self, failure: Failure) -> None:
        waited = self.state.clock() - (self.asked or self.sent or self.started)
        if self.canary is not None:
            self.canary.baseline_answered(self.answer(waited, failure.outcome), failure)
            return
        self.end_of_answer(failure)
        if self.body is not None:
            if self.complete and self.sent:
                self.state.offer(self, self.answer(waited, failure.outcome))
            else:
                self.forget(Drop.NOT_SENT)

    def outgrown(self, reason: Drop = Drop.TOO_LARGE) -> None:
        self.forget(reason)
        if self.canary is not None:
            self.canary.outgrown()

    # -- what becomes of the answer

    def end_of_answer(self, failure: Failure | None) -> None:
        """Nothing more of the answer will come to the client."""
        conversation, self.conversation = self.conversation, None
        if conversation is None:
            return
        self.release_answer()  # what the client does not read is no reason to leave the rest unread
        if failure is not None:
            conversation.unanswered(self, failure.refusal)
            return
        now = self.state.clock()
        self.state.figures.answered(self.sent - self.started, now - self.started)
        conversation.answered(self)

    def deliver_from_candidate(self, data: bytes) -> None:
        """The candidate's answer, whole. The baseline's is still awaited, for the pair."""
        conversation = self.conversation
        if conversation is not None:
            self.delivered = True
            conversation.port.write(data)
            self.end_of_answer(None)

    def hold_answer(self) -> None:
        """The client does not read."""
        if self.connection is not None:
            self.connection.hold_answer()

    def release_answer(self) -> None:
        if self.connection is not None:
            self.connection.release_answer()

    def hold_request(self) -> None:
        if self.conversation is not None:
            self.conversation.hold()

    def release_request(self) -> None:
        if self.conversation is not None:
            self.conversation.release()
