"""What live processes of one sidecar share: each one's figures, whether they are to leave, and which of them have.

Made by `main` before it starts them: with several, the one that answers on the admin port exports the sum, and
passes a drain on. Memory that they have in common, without locks: each writes only its own place.
"""

import mmap
import struct

import msgspec

from modelcanary_sidecar.figures import Figures

#: Figures of one process, twice: one copy is read while the other is written.
_COPY = 8 << 10
_LENGTH = struct.Struct("<I")
#: Drains are numbered, so that who has left in an earlier one is not taken for gone in this.
_NUMBER = struct.Struct("<I")
_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Figures).decode


class Board:
    def __init__(self, workers: int) -> None:
        self.workers = workers
        self._figures = _NUMBER.size * (1 + workers)
        self._memory = mmap.mmap(-1, self._figures + workers * (1 + 2 * _COPY))

    # -- leaving; odd numbers are drains, even ones the time between them

    def leave(self) -> None:
        """By the process that answers on the admin port, and by no other."""
        if not self.leaving:
            self._write_number(0, self._number(0) + 1)

    def stay(self) -> None:
        """By the same."""
        if self.leaving:
            self._write_number(0, self._number(0) + 1)

    @property
    def leaving(self) -> bool:
        return bool(self._number(0) % 2)

    def tell_gone(self, worker: int, gone: bool) -> None:
        """By each: nobody is connected to it any more."""
        self._write_number(1 + worker, self._number(0) if gone else 0)

    @property
    def all_gone(self) -> bool:
        number = self._number(0)
        return bool(number % 2) and all(self._number(1 + worker) == number for worker in range(self.workers))

    def _number(self, place: int) -> int:
        (number,) = _NUMBER.unpack_from(self._memory, place * _NUMBER.size)
        return int(number)

    def _write_number(self, place: int, number: int) -> None:
        _NUMBER.pack_into(self._memory, place * _NUMBER.size, number)

    # -- figures

    def write(self, worker: int, figures: Figures) -> None:
        start = self._figures + worker * (1 + 2 * _COPY)
        data = _encode(figures)[: _COPY - _LENGTH.size]
        fresh = 1 - self._memory[start]
        at = start + 1 + fresh * _COPY
        self._memory[at : at + _LENGTH.size + len(data)] = _LENGTH.pack(len(data)) + data
        self._memory[start] = fresh

    def read(self, worker: int) -> Figures:
        start = self._figures + worker * (1 + 2 * _COPY)
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
