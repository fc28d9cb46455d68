"""Captured requests and the candidate's answers, as pairs: one per instance.

The scorer makes a `Pairing` for each set of instructions. It decodes and counts; it knows neither sockets nor
the ledger.
"""

import os
from collections.abc import Callable, Sequence

from modelcanary_gate.protocol import Answer, Instructions, Pair
from modelcanary_gate.sampling import position
from modelcanary_gate.vocabulary import Outcome, Role
from modelcanary_sidecar.asked import id_in, instances
from modelcanary_sidecar.capture import Captured, LiveAnswer
from modelcanary_sidecar.decoding import Cause, Reader, Unread
from modelcanary_sidecar.decoding.reader import Begun
from modelcanary_sidecar.decoding.rows import Row

_NO_ANSWER = "no answer"
#: What a model may answer that knows its probabilities and was not asked for them.
_WITHOUT_PROBABILITIES = (Outcome.LABELS_ONLY, Outcome.TOP_K_ONLY)

#: Called for each answer, or row of one, without log-probabilities.
OnUnread = Callable[[Role, Unread], None]
#: A captured request, the id that labels will come with, and what the model beside the live path said.
Answered = tuple[Captured, str, LiveAnswer]
#: What is read from an answer, and its latency.
_Said = tuple[list[Row] | Unread, float]


class KeyMint:
    """Keys of pairs: 6 bytes of milliseconds, 4 of this process, 6 of a counter. Unique, and nearly in order."""

    def __init__(self, process: bytes | None = None) -> None:
        self._process = os.urandom(4) if process is None else process
        self._count = 0

    def mint(self, time: float) -> bytes:
        self._count += 1
        return int(time * 1000).to_bytes(6, "big") + self._process + self._count.to_bytes(6, "big")


class Pairing:
    """Raises ReadingError where the instructions' way of reading cannot be followed."""

    def __init__(self, instructions: Instructions, keys: KeyMint, on_unread: OnUnread) -> None:
        cap = instructions.mirror.maxBodyBytes
        self._share = instructions.share
        self._observing = instructions.observing
        self._cap = cap
        self._keys = keys
        self._on_unread = on_unread
        self._readers = {role: Reader(instructions.model, role, cap) for role in Role}

    def id_of(self, captured: Captured) -> str | None:
        """The id that labels will come with; None if that id is not in the share.

        A client that sends no header may know its request by the body's `id` (Open Inference V2), which its
        model server echoes. The live path chose the request by the id it minted, without reading the body; the
        ledger discards labels by the id they come with. So only body ids that are themselves in the share
        make pairs: with a share below 1, such clients are mirrored at less than the share, and never wrongly.
        """
        if not captured.minted:
            return captured.id
        found = id_in(captured.headers, captured.body, self._cap)
        if found is None:
            return captured.id
        return found if self._share >= 1.0 or position(found) < self._share else None

    def lacks_probabilities(self, captured: Captured) -> bool:
        """Whether users are answered, and no instance can be scored because the model said less than it knows."""
        if captured.baseline.failure is not None:
            return False
        role = Role.CANDIDATE if self._observing else Role.BASELINE
        answer = captured.baseline
        read = self._readers[role].read(answer.status, answer.headers, answer.body)
        rows = read if isinstance(read, list) else [read]
        return all(isinstance(row, Unread) and row.outcome in _WITHOUT_PROBABILITIES for row in rows)

    def pairs(self, answered: Sequence[Answered]) -> list[Pair]:
        """At least one of each: where neither answer shows its instances, as many as the request has."""
        # Where the candidate was promoted, it is what answered the user.
        own, other = (Role.CANDIDATE, Role.BASELINE) if self._observing else (Role.BASELINE, Role.CANDIDATE)
        begun: list[Begun] = []
        for captured, _, shadow in answered:
            begun += self._begin(own, captured.baseline), self._begin(other, shadow)
        read = iter(self._readers[own].finish(begun))
        found: list[Pair] = []
        for captured, id, shadow in answered:
            live, shadowed = next(read), next(read)
            if self._observing:
                found += self._joined(captured, id, (shadowed, shadow.latency), (live, captured.baseline.latency))
            else:
                found += self._joined(captured, id, (live, captured.baseline.latency), (shadowed, shadow.latency))
        return found

    def _joined(self, captured: Captured, id: str, baseline: _Said, candidate: _Said) -> list[Pair]:
        left, right = baseline[0], candidate[0]
        if isinstance(left, list) and isinstance(right, list) and len(left) != len(right):
            left, right = self._differently_many(captured, left, right)
        if isinstance(left, list):
            count = len(left)
        else:
            count = len(right) if isinstance(right, list) else self._instances(captured) or 1
        lefts = self._answers(Role.BASELINE, left, count, baseline[1])
        rights = self._answers(Role.CANDIDATE, right, count, candidate[1])
        mint, time = self._keys.mint, captured.time
        return [Pair(mint(time), id, index, time, lefts[index], rights[index]) for index in range(count)]

    def _differently_many(
        self, captured: Captured, left: list[Row], right: list[Row]
    ) -> tuple[list[Row] | Unread, list[Row] | Unread]:
        """Nothing says which row belongs to which: the one that answered as many as were asked is believed."""
        if self._instances(captured) == len(right):
            words = f"{len(left)} instances, {len(right)} were asked"
            return Unread(Outcome.UNDECODABLE, Cause.ROW_COUNT, words), right
        words = f"{len(right)} instances, the baseline answered {len(left)}"
        return left, Unread(Outcome.UNDECODABLE, Cause.ROW_COUNT, words)

    def _instances(self, captured: Captured) -> int | None:
        return instances(captured.headers, captured.body, self._cap)

    def _begin(self, role: Role, answer: LiveAnswer) -> Begun:
        if answer.failure is not None:
            return Unread(answer.failure, Cause.NO_ANSWER, _NO_ANSWER)
        return self._readers[role].begin(answer.status, answer.headers, answer.body)

    def _answers(self, role: Role, read: list[Row] | Unread, count: int, latency: float) -> list[Answer]:
        if isinstance(read, Unread):
            self._on_unread(role, read)
            return [Answer(read.outcome, latency)] * count
        answers = []
        for row in read:
            if isinstance(row, Unread):
                self._on_unread(role, row)
                answers.append(Answer(row.outcome, latency))
            else:
                answers.append(Answer(Outcome.OK, latency, row))
        return answers
