"""The socket between one live process and the scorer, and what travels on it.

One `SOCK_SEQPACKET` pair, made by `main` before both are started and kept open by it, so that a scorer that
was restarted goes on where the last one ended. Live to scorer: captured requests, and counts of what was
dropped. Scorer to live: news (instructions, whether it sheds, its figures), and what it has taken of the
large messages. Nothing here waits: what cannot be sent at once is dropped and counted. It must not know HTTP,
nor what is done with a captured request.
"""

import os
import socket
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

import msgspec

from modelcanary_gate.protocol import Instructions
from modelcanary_sidecar.capture import Captured, pack, unpack
from modelcanary_sidecar.errors import FrameError

#: Larger messages go through a memory file: a socket's buffer holds 208 KiB by default, and one message must
#: not take the room of many.
LARGE: Final = 48 << 10
#: What waits to go as one message: a scorer that is woken for many pairs at a time takes half as long for each.
TOGETHER: Final = 256 << 10
#: Bytes in memory files that the scorer has not taken yet; beyond them large messages are dropped.
LARGE_WAITING: Final = 16 << 20
_BUFFER: Final = 4 << 20
_SO_SNDBUFFORCE: Final = 32

_CAPTURED, _IN_FILE, _DROPPED, _NEWS, _TAKEN, _HELLO = b"C", b"F", b"D", b"N", b"T", b"H"


Soon = Callable[[Callable[[], None]], object]  # call it once, when the event loop has done what is due


@dataclass(frozen=True, slots=True)
class Dropped:
    """Requests that were to be mirrored for a run and were not, since the last such message, by reason."""

    run: str
    counts: dict[str, int]


@dataclass(frozen=True, slots=True)
class News:
    """What the scorer tells the live process: on every change, and each second."""

    instructions: Instructions
    heard: float  # time.monotonic() of the ledger's answer that renewed the lease
    shedding: bool = False  # the scorer has no room: do not capture
    #: for /metrics, by name; a name may carry a label's value behind a colon: `pairs:timeout`
    figures: dict[str, float] = field(default_factory=dict)


_encode_dropped = msgspec.msgpack.Encoder().encode
_decode_dropped = msgspec.msgpack.Decoder(Dropped).decode
_encode_news = msgspec.msgpack.Encoder().encode
_decode_news = msgspec.msgpack.Decoder(News).decode


def socket_pair() -> tuple[socket.socket, socket.socket]:
    """The live process's end and the scorer's; neither blocks."""
    ends = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    for end in ends:
        end.setblocking(False)
        try:
            end.setsockopt(socket.SOL_SOCKET, _SO_SNDBUFFORCE, _BUFFER)
        except PermissionError:  # not root in this namespace: as much as the system grants
            end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _BUFFER)
    return ends


class LiveEnd:
    """The live process's end. `offer` and `report_dropped` say whether the message was taken.

    A message for each request would cost more than all else about mirroring: the scorer is woken, and finds nothing
    of its own in the processor's caches. So what has both answers waits for others until `later`. What the
    candidate must still be asked for waits until `soon`, the end of the event loop's turn, because it must not be
    asked in bursts that the baseline did not see: its latency would be another. `lost` is told how many of those
    that were taken found no room in the socket after all.
    """

    def __init__(
        self,
        end: socket.socket,
        soon: Soon | None = None,
        lost: Callable[[int], None] = lambda count: None,
        later: Soon | None = None,
    ) -> None:
        self._socket = end
        self._soon = soon
        self._later = later or soon
        self._lost = lost
        self._due_soon = self._due_later = False  # `flush` will be called
        self._parts: list[bytes] = []
        self._size = 0
        self._waiting = 0
        self.large_waiting = 0

    def fileno(self) -> int:
        return self._socket.fileno()

    def offer(self, captured: Captured) -> bool:
        parts, size = pack(captured)
        if size > TOGETHER:
            return self._send_in_file(b"".join(parts))
        if self._size + size > TOGETHER:
            self.flush()
        self._parts += parts
        self._size += size
        self._waiting += 1
        if self._soon is None or self._later is None:
            return self.flush()
        if captured.candidate is None:
            if not self._due_soon:
                self._due_soon = True
                self._soon(self._flush_soon)
        elif not self._due_later:
            self._due_later = True
            self._later(self._flush_later)
        return True

    def _flush_soon(self) -> None:
        self._due_soon = False
        self.flush()

    def _flush_later(self) -> None:
        self._due_later = False
        self.flush()

    def flush(self) -> bool:
        """Send what waits."""
        waiting = self._waiting
        if not waiting:
            return True
        message = b"".join(self._parts)
        self._parts = []
        self._size = self._waiting = 0
        if self._send(message):
            return True
        self._lost(waiting)
        return False

    def _send(self, captured: bytes) -> bool:
        if len(captured) > LARGE:
            return self._send_in_file(captured)
        try:
            self._socket.send(_CAPTURED + captured)
        except OSError:  # no room (EAGAIN), or no scorer: either way they are not mirrored
            return False
        return True

    def _send_in_file(self, captured: bytes) -> bool:
        size = len(captured)
        if self.large_waiting + size > LARGE_WAITING:
            return False
        try:
            file = os.memfd_create("captured", os.MFD_CLOEXEC)
        except OSError:
            return False
        try:
            if os.write(file, captured) != size:
                return False
            socket.send_fds(self._socket, [_IN_FILE], [file])
        except OSError:
            return False
        finally:
            os.close(file)
        self.large_waiting += size
        return True

    def report_dropped(self, run: str, counts: dict[str, int]) -> bool:
        try:
            self._socket.send(_DROPPED + _encode_dropped(Dropped(run, counts)))
        except OSError:
            return False
        return True

    def receive(self) -> News | None:
        """The next news, or None when there is none now. Call it until then."""
        while True:
            try:
                message = self._socket.recv(1 << 20)
            except (BlockingIOError, ConnectionError):
                return None
            kind = message[:1]
            if kind == _NEWS:
                try:
                    return _decode_news(message[1:])
                except msgspec.DecodeError as error:
                    raise FrameError(f"news cannot be read: {error}") from error
            elif kind == _TAKEN:
                self.large_waiting = max(0, self.large_waiting - int(message[1:]))
            elif kind == _HELLO:
                self.large_waiting = 0  # what the scorer before this one had taken is gone with it
            elif not kind:
                return None
            else:
                raise FrameError(f"unknown kind of message {kind!r}")

    def close(self) -> None:
        self._socket.close()


class ScorerEnd:
    """The scorer's end: `receive` until None whenever `fileno()` is readable; `tell` what changed."""

    def __init__(self, end: socket.socket) -> None:
        self._socket = end
        self._room = bytearray(LARGE + 4096)
        self._view = memoryview(self._room)
        self._taken = 0  # bytes in memory files, of which the live process has not been told
        self._try_send(_HELLO)

    def fileno(self) -> int:
        return self._socket.fileno()

    def receive(self) -> list[Captured] | Dropped | None:
        """The next message, None when there is none now (or never again). Raises FrameError."""
        ancillary_room = socket.CMSG_LEN(4)
        try:
            size, ancillary, _, _ = self._socket.recvmsg_into([self._room], ancillary_room)
        except (BlockingIOError, ConnectionError):
            return None
        if not size:
            return None
        files = [int.from_bytes(data[:4], "little") for _, _, data in ancillary]
        try:
            kind = bytes(self._view[:1])
            if kind == _CAPTURED:
                return unpack(bytes(self._view[1:size]))
            if kind == _DROPPED:
                return _decode_dropped(self._view[1:size])
            if kind == _IN_FILE and files:
                return self._read_file(files[0])
        except msgspec.DecodeError as error:
            raise FrameError(f"counts of dropped requests cannot be read: {error}") from error
        finally:
            for file in files:
                os.close(file)
        raise FrameError(f"unknown kind of message {kind!r}")

    def _read_file(self, file: int) -> list[Captured]:
        size = os.fstat(file).st_size
        message = os.pread(file, size, 0)
        self._taken += size
        if self._try_send(_TAKEN + b"%d" % self._taken):
            self._taken = 0
        return unpack(message)

    def tell(self, news: News) -> bool:
        return self._try_send(_NEWS + _encode_news(news))

    def _try_send(self, message: bytes) -> bool:
        try:
            self._socket.send(message)
        except OSError:
            return False
        return True

    def close(self) -> None:
        self._socket.close()
