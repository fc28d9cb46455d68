"""One captured request and the candidate's answer, as pairs: one per instance.

The scorer makes a `Pairing` for each set of instructions. It decodes and counts; it knows neither sockets nor
the ledger.
"""

import os
from collections.abc import Callable

import msgspec

from modelcanary_gate.protocol import Answer, Instructions, Pair
from modelcanary_gate.sampling import position
from modelcanary_gate.vocabulary import Outcome, Role
from modelcanary_sidecar.capture import Captured, LiveAnswer, header
from modelcanary_sidecar.decoding import Cause, Reader, Unread
from modelcanary_sidecar.decoding.rows import Row

#: Longer ids in a body, or what is no text, are not taken for ids.
_ID_CAP = 256
_NO_ANSWER = "no answer"


class _WithId(msgspec.Struct):
    id: str | None = None


_decode_id = msgspec.json.Decoder(_WithId).decode

#: Called for each answer, or row of one, without log-probabilities.
OnUnread = Callable[[Role, Unread], None]


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
        if not captured.minted or b'"id"' not in captured.body:
            return captured.id
        try:
            found = _decode_id(captured.body).id
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return captured.id
        if not found or len(found) > _ID_CAP or not found.isprintable():
            return captured.id
        return found if self._share >= 1.0 or position(found) < self._share else None

    def pairs(self, captured: Captured, id: str, shadow: LiveAnswer) -> list[Pair]:
        """At least one: where neither answer shows its instances, the request counts as one."""
        baseline, candidate = captured.baseline, shadow
        if self._observing:
            # The candidate was promoted: it is what answered the user.
            baseline, candidate = candidate, baseline
        left = self._read(Role.BASELINE, baseline)
        right = self._read(Role.CANDIDATE, candidate)
        if isinstance(left, list) and isinstance(right, list) and len(left) != len(right):
            right = Unread(
                Outcome.UNDECODABLE, Cause.ROW_COUNT, f"{len(right)} instances, the baseline answered {len(left)}"
            )
        count = len(left) if isinstance(left, list) else len(right) if isinstance(right, list) else 1
        lefts = self._answers(Role.BASELINE, left, count, baseline.latency)
        rights = self._answers(Role.CANDIDATE, right, count, candidate.latency)
        mint, time = self._keys.mint, captured.time
        return [Pair(mint(time), id, index, time, lefts[index], rights[index]) for index in range(count)]

    def _read(self, role: Role, answer: LiveAnswer) -> list[Row] | Unread:
        if answer.failure is not None:
            return Unread(answer.failure, Cause.NO_ANSWER, _NO_ANSWER)
        coding = header(answer.headers, b"content-encoding") or b""
        return self._readers[role].read(answer.status, coding, answer.body)

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
