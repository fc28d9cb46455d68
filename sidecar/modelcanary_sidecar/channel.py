"""The socket between one live process and the scorer, and what travels on it: the scorer's side.

One `SOCK_SEQPACKET` pair, made by `supervisor` before both are started and kept open by it, so that a scorer that
was restarted goes on where the last one ended. Live to scorer: captured requests, and counts of what was
dropped. Scorer to live: news (instructions, and whether it sheds), and which of the large messages, that go through
shared memory (`room`), it has read. Nothing here waits: what cannot be sent at once is dropped and counted. The live
process's side is `sidecar/live/src/channel.rs`. It must not know HTTP, nor what is done with a captured request.
"""

import os
import socket
import struct
from dataclasses import dataclass
from typing import Final

import msgspec

from modelcanary_gate.protocol import Instructions
from modelcanary_sidecar.capture import Captured, unpack
from modelcanary_sidecar.errors import FrameError
from modelcanary_sidecar.room import Readable, make_file

#: Larger messages go through shared memory: a socket's buffer holds 208 KiB by default, and one message must
#: not take the room of many.
LARGE: Final = 48 << 10
_BUFFER: Final = 4 << 20
_SO_SNDBUFFORCE: Final = 32

_CAPTURED, _IN_ROOM, _DROPPED, _NEWS, _READ = b"C", b"R", b"D", b"N", b"T"
_PLACE = struct.Struct("<QII")


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


_decode_dropped = msgspec.msgpack.Decoder(Dropped).decode
_encode_news = msgspec.msgpack.Encoder().encode


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
