"""What live processes of one sidecar share: each one's figures, and whether they are to leave.

Made by `main` before it starts them: with several, the one that answers on the admin port exports the sum and
passes `/drain` on. Memory that they have in common, without locks: each writes only its own place.
"""

import mmap
import struct

import msgspec

from modelcanary_sidecar.figures import Figures

#: Figures of one process, twice: one copy is read while the other is written.
_COPY = 8 << 10
_LENGTH = struct.Struct("<I")
_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Figures).decode


class Board:
    def __init__(self, workers: int) -> None:
        self.workers = workers
        self._memory = mmap.mmap(-1, 1 + workers * (1 + 2 * _COPY))

    def leave(self) -> None:
        self._memory[0] = 1

    @property
    def leaving(self) -> bool:
        return bool(self._memory[0])

    def write(self, worker: int, figures: Figures) -> None:
        start = 1 + worker * (1 + 2 * _COPY)
        data = _encode(figures)[: _COPY - _LENGTH.size]
        fresh = 1 - self._memory[start]
        at = start + 1 + fresh * _COPY
        self._memory[at : at + _LENGTH.size + len(data)] = _LENGTH.pack(len(data)) + data
        self._memory[start] = fresh

    def read(self, worker: int) -> Figures:
        start = 1 + worker * (1 + 2 * _COPY)
        at = start + 1 + self._memory[start] * _COPY
        (length,) = _LENGTH.unpack_from(self._memory, at)
        if not length:
            return Figures()
        at += _LENGTH.size
        return _decode(self._memory[at : at + length])

    def total(self) -> Figures:
        """The sum over all processes."""
        total = self.read(0)
        for worker in range(1, self.workers):
            total.add(self.read(worker))
        return total
