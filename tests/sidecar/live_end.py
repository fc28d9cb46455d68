"""The live process's end of the channel, played by a test: it hands the scorer what it likes, when it likes."""

import os
import socket
import struct

import msgspec

from modelcanary_gate.vocabulary import Outcome
from modelcanary_sidecar.capture import Captured, LiveAnswer
from modelcanary_sidecar.channel import LARGE, Dropped, News

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

    def __init__(self, end: socket.socket) -> None:
        self._socket = end
        self.large_waiting = 0  # bytes in memory files that the scorer has not taken yet

    def offer(self, *captured: Captured) -> bool:
        """As one message."""
        message = b"".join(map(pack, captured))
        if len(message) > LARGE:
            return self._send_in_file(message)
        return self._send(b"C" + message)

    def report_dropped(self, run: str, counts: dict[str, int]) -> bool:
        return self._send(b"D" + msgspec.msgpack.encode(Dropped(run, counts)))

    def _send(self, message: bytes) -> bool:
        try:
            self._socket.send(message)
        except OSError:  # no room, or no scorer
            return False
        return True

    def _send_in_file(self, message: bytes) -> bool:
        file = os.memfd_create("captured", os.MFD_CLOEXEC)
        try:
            os.write(file, message)
            socket.send_fds(self._socket, [b"F"], [file])
        except OSError:
            return False
        finally:
            os.close(file)
        self.large_waiting += len(message)
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
                self.large_waiting = max(0, self.large_waiting - int(message[1:]))
            elif kind == b"H":
                self.large_waiting = 0  # what the scorer before this one had taken is gone with it
            else:
                assert not kind, f"unknown kind of message {kind!r}"
                return None

    def close(self) -> None:
        self._socket.close()
