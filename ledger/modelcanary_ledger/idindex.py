"""Where a client's id is among the pairs of a sealed segment: sorted hashes in a file, searched many at a time.

Called by `pairs`. It is derived from the segment and written anew when it is missing or damaged, so its loss
loses nothing. A B-tree would dirty one page per random id; sorting once per segment costs 16 bytes per pair.
"""

import mmap
import os
import struct
import zlib
from hashlib import blake2b
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Int64s = NDArray[np.int64]

_HEADER = struct.Struct("<8sQI")
_MAGIC = b"mc-ids-1"
_SIZE = 64  # of the header, so that the hashes are aligned


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

    def intact(self) -> bool:
        """Whether the checksum holds."""
        return bool(zlib.crc32(memoryview(self._map)[_SIZE:]) == self._checksum)

    def find(self, hashes: Int64s) -> list[tuple[int, int]]:
        """(position in `hashes`, pid) of every pair whose id has such a hash."""
        if not len(self._hashes):
            return []
        left = np.searchsorted(self._hashes, hashes)
        hit = np.flatnonzero(self._hashes[np.minimum(left, len(self._hashes) - 1)] == hashes)
        if not len(hit):
            return []
        right = np.searchsorted(self._hashes, hashes[hit], side="right")
        found: list[tuple[int, int]] = []
        for position, start, end in zip(hit.tolist(), left[hit].tolist(), right.tolist(), strict=True):
            found.extend((position, pid) for pid in self._pids[start:end].tolist())
        return found

    def forget_pages(self) -> None:
        """Lets go of the pages that searches have touched; they stay in the system's cache."""
        self._map.madvise(mmap.MADV_DONTNEED)
