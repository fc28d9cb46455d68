"""Where a client's id is among the pairs of a sealed segment: sorted hashes in a file, searched many at a time.

Called by `pairs`. It is derived from the segment and written anew when it is missing or damaged, so its loss
loses nothing. A B-tree would dirty one page per random id; sorting once per segment costs 16 bytes per pair.
"""

import mmap
import os
import struct
import zlib
from functools import lru_cache
from hashlib import blake2b
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Int64s = NDArray[np.int64]

_HEADER = struct.Struct("<8sQI")
_MAGIC = b"mc-ids-1"
_SIZE = 64  # of the header, so that the hashes are aligned
#: One hash in so many is kept in memory while the file is open: the search on disk begins there.
_STRIDE = 256


@lru_cache(maxsize=10_000)
def id_salt(model: int, index: int) -> bytes:
    """What makes the same id of another model, or of another instance of the request, hash elsewhere."""
    return model.to_bytes(8, "little") + index.to_bytes(8, "little")


def id_hash(identifier: str, salt: bytes) -> int:
    """64 bits, signed, as SQLite and numpy hold them."""
    digest = blake2b(identifier.encode("utf-8", "surrogatepass"), digest_size=8, salt=salt).digest()
    return int.from_bytes(digest, "little", signed=True)


def write_index(path: Path, hashes: Int64s, pids: Int64s) -> None:
    """Writes both columns in the order of the hashes; whole or not at all."""
    order = np.argsort(hashes, kind="stable")
    body = np.ascontiguousarray(hashes[order]).tobytes() + np.ascontiguousarray(pids[order]).tobytes()
    header = _HEADER.pack(_MAGIC, len(hashes), zlib.crc32(body)).ljust(_SIZE, b"\0")
    temporary = path.with_suffix(".tmp")
    with temporary.open("wb") as file:
        file.write(header)
        file.write(body)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


class IdIndex:
    """One segment's index, mapped into memory while it is open."""

    def __init__(self, path: Path) -> None:
        """Raises ValueError or OSError where the file is missing, cut short or of another make."""
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            if size < _SIZE:
                raise ValueError(f"{path.name} is cut short")
            self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        magic, count, self._checksum = _HEADER.unpack_from(self._map)
        if magic != _MAGIC or size != _SIZE + 16 * count:
            raise ValueError(f"{path.name} is not an index of {count} ids")
        self._hashes: Int64s = np.frombuffer(self._map, np.int64, count, _SIZE)
        self._pids: Int64s = np.frombuffer(self._map, np.int64, count, _SIZE + 8 * count)
        self._fence: Int64s = self._hashes[::_STRIDE].copy()
        self._forget_pages()

    def intact(self) -> bool:
        """Whether the checksum holds."""
        found = zlib.crc32(memoryview(self._map)[_SIZE:])
        self._forget_pages()
        return bool(found == self._checksum)

    def find(self, hashes: Int64s) -> list[tuple[int, int]]:
        """(position in `hashes`, pid) of every pair whose id has such a hash."""
        count = len(self._hashes)
        if not count:
            return []
        left = self._first_not_below(hashes)
        found: list[tuple[int, int]] = []
        for position in np.flatnonzero(self._hashes[np.minimum(left, count - 1)] == hashes).tolist():
            at = int(left[position])
            while at < count and self._hashes[at] == hashes[position]:
                found.append((position, int(self._pids[at])))
                at += 1
        self._forget_pages()
        return found

    def _first_not_below(self, hashes: Int64s) -> NDArray[np.intp]:
        """As np.searchsorted, but in all of a batch at once, and touching one or two pages per hash."""
        last = len(self._hashes) - 1
        below = np.maximum(np.searchsorted(self._fence, hashes) - 1, 0) * _STRIDE
        step = _STRIDE // 2
        while step:
            further = np.minimum(below + step, last)
            below = np.where(self._hashes[further] < hashes, further, below)
            step //= 2
        found: NDArray[np.intp] = below + (self._hashes[below] < hashes)
        return found

    def _forget_pages(self) -> None:
        """Lets go of the pages that were touched, so that they are not ours; they stay in the system's cache."""
        self._map.madvise(mmap.MADV_DONTNEED)
