"""Memory that one live process and the scorer share: what is too large for the socket between them goes through it.

`channel` makes the file, and the scorer's side is here: the live process writes a message (`room.rs`) and sends where
it is, the scorer reads it and says so, and only then is its place free again. A file for each message would cost both
ten times as much, for pages that the kernel must find, clear and take back. It must not know what is in a message.
"""

import mmap
import os
from typing import Final

from modelcanary_sidecar.errors import FrameError

#: No message is larger. What is not written to takes no memory; how much may wait is `room.rs`'s to bound.
SIZE: Final = 64 << 20


def make_file() -> int:
    """Its descriptor. It takes memory where it was written to."""
    file = os.memfd_create("captured", os.MFD_CLOEXEC)
    os.ftruncate(file, SIZE)
    return file


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
