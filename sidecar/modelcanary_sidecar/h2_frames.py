"""Where one HTTP/2 frame ends and another may begin, in what a server sends: for the one frame that is ours to add.

`splice` asks it about connections that are passed through. Pure. It must not know what the frames mean (RFC 9113, 4.1).
"""

import struct
from typing import Final

#: To a client, NO_ERROR and the highest stream there can be: begin nothing new here, what is under way goes on (6.8).
GOAWAY: Final = b"\x00\x00\x08\x07\x00" + bytes(4) + b"\x7f\xff\xff\xff" + bytes(4)

_HEAD: Final = struct.Struct(">BHBBI")  # length in 24 bits, type, flags, stream
_HEADERS, _SETTINGS, _PUSH_PROMISE, _CONTINUATION = 1, 4, 5, 9
_ACK: Final = 1
_END_HEADERS: Final = 4


class Frames:
    """Of one connection, from the server's first byte."""

    __slots__ = ("_head", "_in_block", "_left", "_opaque", "_seen", "answered")

    def __init__(self) -> None:
        self._head = b""
        self._left = 0  # bytes to come of the present frame
        self._in_block = False  # headers that go on in the next frame: none may come between (6.10)
        self._seen = False  # the server's SETTINGS, which have to be first (3.4)
        self._opaque = False  # this is no HTTP/2
        self.answered = False  # something was said on a stream

    @property
    def between(self) -> bool:
        """A frame may come now."""
        return self._seen and not (self._opaque or self._left or self._head or self._in_block)

    def passed(self, data: bytes) -> int:
        """The last place in `data`, which goes on its way, where a frame may come; -1 where there is none."""
        last, at, length = -1, 0, len(data)
        while at < length and not self._opaque:
            if self._left:
                step = min(self._left, length - at)
                self._left -= step
                at += step
            else:
                piece = data[at : at + _HEAD.size - len(self._head)]
                at += len(piece)
                self._head += piece
                if len(self._head) == _HEAD.size:
                    self._begin(*_HEAD.unpack(self._head))
                    self._head = b""
            if self.between:
                last = at
        return last

    def _begin(self, high: int, low: int, kind: int, flags: int, stream: int) -> None:
        if not self._seen and (kind != _SETTINGS or stream or flags & _ACK):
            self._opaque = True
            return
        self._seen = True
        self._left = high << 16 | low
        self.answered = self.answered or bool(stream)
        if kind in (_HEADERS, _PUSH_PROMISE, _CONTINUATION):
            self._in_block = not flags & _END_HEADERS
