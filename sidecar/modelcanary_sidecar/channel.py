"""The socket between one live process and the scorer, and what travels on it: the scorer's side.

One `SOCK_SEQPACKET` pair, made by `supervisor` before both are started and kept open by it, so that a scorer that
was restarted goes on where the last one ended. Live to scorer: captured requests, and counts of what was
dropped. Scorer to live: news (instructions, and whether it sheds), and what it has taken of the large messages, which
are bounded. Nothing here waits: what cannot be sent at once is dropped and counted. The live process's side is
`sidecar/live/src/channel.rs`. It must not know HTTP, nor what is done with a captured request.
"""

import os
import socket
from dataclasses import dataclass
from typing import Final

import msgspec

from modelcanary_gate.protocol import Instructions
from modelcanary_sidecar.capture import Captured, unpack
from modelcanary_sidecar.errors import FrameError

#: Larger messages go through a memory file: a socket's buffer holds 208 KiB by default, and one message must
#: not take the room of many.
LARGE: Final = 48 << 10
_BUFFER: Final = 4 << 20
_SO_SNDBUFFORCE: Final = 32

_CAPTURED, _IN_FILE, _DROPPED, _NEWS, _TAKEN, _HELLO = b"C", b"F", b"D", b"N", b"T", b"H"


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
