"""The live process's end of the channel, played by a test: it hands the scorer what it likes, when it likes."""

import mmap
import struct
from collections import deque

import msgspec

from modelcanary_gate.vocabulary import Outcome
from modelcanary_sidecar.capture import Captured, LiveAnswer
from modelcanary_sidecar.channel import LARGE, Dropped, End, News
from modelcanary_sidecar.room import SIZE

_FAILURES = (None, Outcome.TIMEOUT, Outcome.REFUSED, Outcome.TOO_LARGE, Outcome.UNDECODABLE)


def pack(captured: Captured) -> bytes:
    """As the live process lays it out."""
    texts = (captured.id.encode(), captured.run.encode(), captured.method, captured.target)
    texts += (captured.headers, captured.body)
    has_candidate = captured.candidate is not None
    lengths = struct.pack("<??HHIIII", captured.minted, has_candidate, *map(len, texts))
    baseline, candidate = captured.baseline, captured.candidate
    message = lengths + struct.pack("<d", captured.time) + _answer(baseline) + b"".join(texts)
    message += baseline.headers + baseline.body
    if candidate is not None:
        message += _answer(candidate) + candidate.headers + candidate.body
    return message


def _answer(answer: LiveAnswer) -> bytes:
    failure = _FAILURES.index(answer.failure)
    return struct.pack("<HBdII", answer.status, failure, answer.latency, len(answer.headers), len(answer.body))


class LiveEnd:
    """`offer` and `report_dropped` say whether there was room."""

    def __init__(self, end: End) -> None:
        self._end, self._socket = end, end.messages
        self._memory = mmap.mmap(end.room, SIZE)
        self._waiting: deque[tuple[int, int, int]] = deque()  # number, start and size of what the scorer has not read
        self._number = 0

    @property
    def large_waiting(self) -> int:
        """Bytes of large messages that the scorer has not read."""
        return sum(size for _, _, size in self._waiting)

    def offer(self, *captured: Captured) -> bool:
        """As one message."""
        message = b"".join(map(pack, captured))
        if len(message) > LARGE:
            return self._send_in_room(message)
        return self._send(b"C" + message)

    def report_dropped(self, run: str, counts: dict[str, int]) -> bool:
        return self._send(b"D" + msgspec.msgpack.encode(Dropped(run, counts)))

    def _send(self, message: bytes) -> bool:
        try:
            self._socket.send(message)
        except OSError:  # no room, or no scorer
            return False
        return True

    def _send_in_room(self, message: bytes) -> bool:
        start = sum(self._waiting[-1][1:]) if self._waiting else 0
        if start + len(message) > SIZE:
            return False
        self._memory[start : start + len(message)] = message
        self._number += 1
        if not self._send(b"R" + struct.pack("<QII", self._number, start, len(message))):
            return False
        self._waiting.append((self._number, start, len(message)))
        return True

    def receive(self) -> News | None:
        """The next news, or None when there is none now."""
        while True:
            try:
                message = self._socket.recv(1 << 20)
            except (BlockingIOError, ConnectionError):
                return None
            kind = message[:1]
            if kind == b"N":
                return msgspec.msgpack.decode(message[1:], type=News)
            if kind == b"T":
                while self._waiting and self._waiting[0][0] <= int(message[1:]):
                    self._waiting.popleft()
            else:
                assert not kind, f"unknown kind of message {kind!r}"
                return None

    def close(self) -> None:
        self._memory.close()
        self._end.close()
