"""Memory that one live process and the scorer share: what is too large for the socket between them goes through it.

`channel` makes the file and has both sides here: the live process writes a message and sends where it is, the
scorer reads it and says so, and only then is its place free again. A file for each message would cost both ten times
as much, for pages that the kernel must find, clear and take back. It must not know what is in a message.
"""

import mmap
import os
from collections import deque
from typing import Final, NamedTuple

from modelcanary_sidecar.errors import FrameError

#: Bytes that may wait for the scorer; beyond them messages are dropped. All of them count for the pod.
SIZE: Final = 8 << 20
#: What is not given back to the system.
_KEPT: Final = 2 << 20


class Place(NamedTuple):
    number: int  # of the message; they are read in this order
    start: int
    size: int


def make_file() -> int:
    """Its descriptor. It takes memory where it was written to."""
    file = os.memfd_create("captured", os.MFD_CLOEXEC)
    os.ftruncate(file, SIZE)
    return file


class Written:
    """The live process's side."""

    def __init__(self, file: int) -> None:
        self._memory = mmap.mmap(file, SIZE)
        self._waiting: deque[Place] = deque()
        self._number = 0
        self._highest = 0  # what was written to, and not given back

    @property
    def waiting(self) -> int:
        """Bytes that the scorer has not read."""
        return sum([place.size for place in self._waiting])

    def write(self, message: bytes) -> Place | None:
        """Where it is; None if there is no room."""
        size = len(message)
        start = self._free(size)
        if start is None:
            return None
        self._number += 1
        place = Place(self._number, start, size)
        self._memory[start : start + size] = message
        self._waiting.append(place)
        self._highest = max(self._highest, start + size)
        return place

    def _free(self, size: int) -> int | None:
        """The first place of so many bytes: what is written to again and again is little."""
        end = 0
        for _, start, length in sorted(self._waiting, key=lambda place: place.start):
            if end + size <= start:
                return end
            end = start + length
        return end if end + size <= SIZE else None

    def forget(self) -> None:
        """The last one written: it was not sent."""
        self._waiting.pop()

    def read(self, number: int) -> None:
        """The scorer has read that one, and thus those before."""
        waiting = self._waiting
        while waiting and waiting[0].number <= number:
            waiting.popleft()
        if self._highest > _KEPT and all(place.start + place.size <= _KEPT for place in waiting):
            self._memory.madvise(mmap.MADV_REMOVE, _KEPT, self._highest - _KEPT)
            self._highest = _KEPT

    def close(self) -> None:
        self._memory.close()


class Readable:
    """The scorer's side."""

    def __init__(self, file: int) -> None:
        self.memory = mmap.mmap(file, SIZE, access=mmap.ACCESS_READ)

    def end_of(self, start: int, size: int) -> int:
        """Of a message that begins there. Raises FrameError where none can be."""
        if start + size > SIZE:
            raise FrameError(f"a message of {size} bytes at {start} is beyond what is shared")
        return start + size

    def close(self) -> None:
        self.memory.close()
