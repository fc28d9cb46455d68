"""The socket between one live process and the scorer, and what travels on it.

One `SOCK_SEQPACKET` pair, made by `main` before both are started and kept open by it, so that a scorer that
was restarted goes on where the last one ended. Live to scorer: captured requests, and counts of what was
dropped. Scorer to live: news (instructions, whether it sheds, its figures), and which of the large messages, that
go through shared memory (`room`), it has read. Nothing here waits: what cannot be sent at once is dropped and
counted. It must not know HTTP, nor what is done with a captured request.
"""

import os
import socket
import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

import msgspec

from modelcanary_gate.protocol import Instructions
from modelcanary_sidecar.capture import Captured, pack, unpack
from modelcanary_sidecar.errors import FrameError
from modelcanary_sidecar.room import Readable, Written, make_file

#: Larger messages go through shared memory: a socket's buffer holds 208 KiB by default, and one message must
#: not take the room of many.
LARGE: Final = 48 << 10
#: What waits to go as one message: a scorer that is woken for many pairs at a time takes half as long for each.
TOGETHER: Final = 1 << 20
_BUFFER: Final = 4 << 20
_SO_SNDBUFFORCE: Final = 32

_CAPTURED, _IN_ROOM, _DROPPED, _NEWS, _READ = b"C", b"R", b"D", b"N", b"T"
_PLACE = struct.Struct("<QII")


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


@dataclass(frozen=True, slots=True)
class End:
    """What a process needs to serve one end."""

    messages: socket.socket
    room: int  # the descriptor of a file of `room`

    def close(self) -> None:
        self.messages.close()
        os.close(self.room)


def make_ends() -> tuple[End, End]:
    """The live process's end and the scorer's; neither blocks."""
    sockets = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    for one in sockets:
        one.setblocking(False)
        try:
            one.setsockopt(socket.SOL_SOCKET, _SO_SNDBUFFORCE, _BUFFER)
        except PermissionError:  # not root in this namespace: as much as the system grants
            one.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _BUFFER)
    file = make_file()
    return End(sockets[0], file), End(sockets[1], os.dup(file))


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
        end: End,
        soon: Soon | None = None,
        lost: Callable[[int], None] = lambda count: None,
        later: Soon | None = None,
    ) -> None:
        self._end, self._socket = end, end.messages
        self._room = Written(end.room)
        self._soon = soon
        self._later = later or soon
        self._lost = lost
        self._due_soon = self._due_later = False  # `flush` will be called
        self._parts: list[bytes] = []
        self._size = 0
        self._waiting = 0

    def fileno(self) -> int:
        return self._socket.fileno()

    @property
    def large_waiting(self) -> int:
        """Bytes of large messages that the scorer has not read."""
        return self._room.waiting

    def offer(self, captured: Captured) -> bool:
        parts, size = pack(captured)
        if size > TOGETHER:
            return self._send_in_room(b"".join(parts))
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
            return self._send_in_room(captured)
        try:
            self._socket.send(_CAPTURED + captured)
        except OSError:  # no room (EAGAIN), or no scorer: either way they are not mirrored
            return False
        return True

    def _send_in_room(self, captured: bytes) -> bool:
        place = self._room.write(captured)
        if place is None:
            return False
        try:
            self._socket.send(_IN_ROOM + _PLACE.pack(*place))
        except OSError:
            self._room.forget()
            return False
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
            elif kind == _READ:
                self._room.read(int(message[1:]))
            elif not kind:
                return None
            else:
                raise FrameError(f"unknown kind of message {kind!r}")

    def close(self) -> None:
        self._room.close()
        self._end.close()


class ScorerEnd:
    """The scorer's end: `receive` until None whenever `fileno()` is readable; `tell` what changed."""

    def __init__(self, end: End) -> None:
        self._end, self._socket = end, end.messages
        self._room = Readable(end.room)
        self._buffer = bytearray(LARGE + 4096)
        self._view = memoryview(self._buffer)

    def fileno(self) -> int:
        return self._socket.fileno()

    def receive(self) -> list[Captured] | Dropped | None:
        """The next message, None when there is none now (or never again). Raises FrameError."""
        try:
            size = self._socket.recv_into(self._buffer)
        except (BlockingIOError, ConnectionError):
            return None
        if not size:
            return None
        kind = bytes(self._view[:1])
        if kind == _CAPTURED:
            return unpack(bytes(self._view[1:size]))
        if kind == _IN_ROOM:
            return self._in_room(bytes(self._view[1:size]))
        if kind == _DROPPED:
            try:
                return _decode_dropped(self._view[1:size])
            except msgspec.DecodeError as error:
                raise FrameError(f"counts of dropped requests cannot be read: {error}") from error
        raise FrameError(f"unknown kind of message {kind!r}")

    def _in_room(self, place: bytes) -> list[Captured]:
        try:
            number, start, size = _PLACE.unpack(place)
        except struct.error as error:
            raise FrameError(f"a place in shared memory cannot be read: {error}") from error
        try:
            return unpack(self._room.memory, start, self._room.end_of(start, size))
        finally:
            self._try_send(_READ + b"%d" % number)  # if it is not heard, then with the next

    def tell(self, news: News) -> bool:
        return self._try_send(_NEWS + _encode_news(news))

    def _try_send(self, message: bytes) -> bool:
        try:
            self._socket.send(message)
        except OSError:
            return False
        return True

    def close(self) -> None:
        self._room.close()
        self._end.close()
