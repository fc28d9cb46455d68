"""The memory that the processes of one sidecar share: how far it is to leave, and what each of them counts.

`main` makes it before it starts them. Without locks: each writes only its own place, and every cell whole, in 8 bytes.
`main` writes the stage, each live process its cells (`figures.CELLS`), the scorer what it counts by name. The other
side of the live processes' is `sidecar/live/src/board.rs`. It must not know what is done with the numbers.
"""

import mmap
import os
import struct
from collections.abc import Mapping
from typing import Final

import msgspec

from modelcanary_sidecar.drain import Phase
from modelcanary_sidecar.figures import CELLS, Cells, Figures, figures

_CELL: Final = 8
#: Behind the stage; a live process's place is a page, and begins where no other's cells are in the processor's cache.
_FIRST: Final = 64
_PLACE: Final = 4096
#: What the scorer counts, twice, behind the number of the copy that holds: one is read while the other is written.
_COPY: Final = 32 << 10
_LENGTH = struct.Struct("<I")

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(dict[str, float]).decode


class Board:
    """`file` is what a live process maps; a scorer that is forked has the board itself."""

    def __init__(self, workers: int) -> None:
        self.workers = workers
        self._scorer = _FIRST + workers * _PLACE
        size = self._scorer + _CELL + 2 * _COPY
        self.file = os.memfd_create("board", os.MFD_CLOEXEC)
        os.ftruncate(self.file, size)
        self._memory = mmap.mmap(self.file, size)
        view = memoryview(self._memory)
        self._stage = view[:_CELL].cast("Q")
        self._holds = view[self._scorer : self._scorer + _CELL].cast("Q")
        places = range(_FIRST, self._scorer, _PLACE)
        self._places = [view[place : place + _CELL * len(CELLS)].cast("d") for place in places]

    @property
    def stage(self) -> Phase:
        """Of the drain, as the live processes are to act on it."""
        return Phase(self._stage[0])

    @stage.setter
    def stage(self, stage: Phase) -> None:
        self._stage[0] = stage

    def cells(self, worker: int) -> Cells:
        """A live process's; all 0 before it has written any."""
        return Cells(self._places[worker].tolist())

    def figures(self) -> Figures:
        """Of all live processes together."""
        return figures(self.cells(worker) for worker in range(self.workers))

    def report(self, counted: Mapping[str, float]) -> None:
        """By the scorer, and by no other. A name may carry a label's value behind a colon: `pairs:timeout`."""
        data = _encode(counted)
        if len(data) > _COPY - _LENGTH.size:
            raise ValueError(f"{len(counted)} figures of the scorer are {len(data)} bytes, more than the board holds")
        fresh = 1 - self._holds[0]
        at = self._scorer + _CELL + fresh * _COPY
        self._memory[at : at + _LENGTH.size + len(data)] = _LENGTH.pack(len(data)) + data
        self._holds[0] = fresh

    def scorer_figures(self) -> dict[str, float]:
        """As of the scorer's last report; empty before the first."""
        at = self._scorer + _CELL + self._holds[0] * _COPY
        (length,) = _LENGTH.unpack_from(self._memory, at)
        at += _LENGTH.size
        return _decode(self._memory[at : at + length]) if length else {}
