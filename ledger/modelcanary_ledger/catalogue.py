"""Which segments there are, what each holds, and open files of those that are read now.

Called by `pairs`. What it knows of sealed segments is a table in the main file; a row without a file is a segment
that was dropped, a file without a row is one whose making was cut short: both are cleared at the start.
"""

import contextlib
import logging
import sqlite3
from collections import OrderedDict
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import numpy as np

from modelcanary_ledger.idindex import IdIndex, write_index
from modelcanary_ledger.segment import Segment, connect_reading
from modelcanary_ledger.store import run_of

log = logging.getLogger(__name__)

#: Sealed segments whose files and indexes are kept open; what is beyond is opened as it is asked for.
OPEN_FILES = 24
OPEN_INDEXES = 128

_SCHEMA = """
CREATE TABLE IF NOT EXISTS segment (no INTEGER PRIMARY KEY, sealed INTEGER NOT NULL, info TEXT NOT NULL)
"""


@dataclass(slots=True)
class SegmentInfo:
    """What a segment holds, so that most searches need not open it."""

    no: int
    opened: float
    rows: int = 0
    batches: int = 0  # the number of the last batch
    oldest: float = float(2**53)
    newest: float = 0.0
    first_key: bytes = b"\xff" * 16
    last_key: bytes = b""
    ranges: dict[int, tuple[int, int]] = field(default_factory=dict)  # run → its first and last pid

    def covers(self, time: float, slack: float) -> bool:
        return self.oldest - slack <= time <= self.newest + slack

    def holds_pid(self, pid: int) -> bool:
        first, last = self.ranges.get(run_of(pid), (0, -1))
        return first <= pid <= last

    def holds_key(self, key: bytes) -> bool:
        return self.first_key <= key <= self.last_key


class Catalogue:
    """Sealed segments in order, and the number of the open one."""

    def __init__(self, directory: Path, state: sqlite3.Connection) -> None:
        self._directory = directory
        self._state = state
        self._files: OrderedDict[int, Segment] = OrderedDict()
        self._indexes: OrderedDict[int, IdIndex] = OrderedDict()
        self._intact: set[int] = set()
        state.execute(_SCHEMA)
        self.sealed: list[SegmentInfo] = []
        self.unsealed: list[int] = []
        self.next_no = 1
        for no, sealed, info in state.execute("SELECT no, sealed, info FROM segment ORDER BY no").fetchall():
            self.next_no = no + 1
            if not self.path(no).exists():
                self._forget(no)
            elif sealed:
                self.sealed.append(msgspec.json.decode(info, type=SegmentInfo))
            else:
                self.unsealed.append(no)
        self._clear_strays()

    def path(self, no: int) -> Path:
        return self._directory / f"pairs-{no:08d}.db"

    def index_path(self, no: int) -> Path:
        return self._directory / f"pairs-{no:08d}.ids"

    def announce(self, no: int) -> None:
        """Comes before the file, so that no file is ever unknown."""
        self._state.execute("INSERT INTO segment VALUES (?, 0, '{}')", (no,))
        self.next_no = no + 1

    def seal(self, info: SegmentInfo) -> None:
        body = msgspec.json.encode(info).decode()
        self._state.execute("UPDATE segment SET sealed = 1, info = ? WHERE no = ?", (body, info.no))
        self.sealed.append(info)

    def reader(self, info: SegmentInfo) -> Segment:
        """A sealed segment, opened for reading."""
        segment = self._files.get(info.no)
        if segment is None:
            segment = Segment(connect_reading(self.path(info.no), sealed=True))
            self._files[info.no] = segment
            if len(self._files) > OPEN_FILES:
                self._files.popitem(last=False)[1].close()
        self._files.move_to_end(info.no)
        return segment

    def index(self, info: SegmentInfo) -> IdIndex:
        """Its index, written anew when the file cannot be used."""
        index = self._indexes.get(info.no)
        if index is None:
            path = self.index_path(info.no)
            try:
                index = self._checked(info, IdIndex(path))
            except (OSError, ValueError) as error:
                log.warning("writing the index of segment %d anew: %s", info.no, error)
                rows = self.reader(info).connection.execute("SELECT hash, pid FROM pair").fetchall()
                table = np.array(rows, dtype=np.int64).reshape(-1, 2)
                write_index(path, table[:, 0], table[:, 1])
                index = IdIndex(path)
            self._indexes[info.no] = index
            if len(self._indexes) > OPEN_INDEXES:
                self._indexes.popitem(last=False)
        self._indexes.move_to_end(info.no)
        return index

    def _checked(self, info: SegmentInfo, index: IdIndex) -> IdIndex:
        """Once per process: whether the file is as it was written."""
        if info.no not in self._intact:
            if not index.intact():
                raise ValueError("it is damaged")
            self._intact.add(info.no)
        return index

    def drop(self, info: SegmentInfo) -> None:
        """Deletes a segment whole. Files first: that works, and gives room back, when the disk is full."""
        self._indexes.pop(info.no, None)
        file = self._files.pop(info.no, None)
        if file is not None:
            file.close()
        self._unlink(info.no)
        self.sealed.remove(info)
        self._forget(info.no)

    def close(self) -> None:
        for file in self._files.values():
            file.close()
        self._files.clear()
        self._indexes.clear()

    def _forget(self, no: int) -> None:
        # On a full disk the row stays; the next start finds it without a file.
        with contextlib.suppress(sqlite3.OperationalError):
            self._state.execute("DELETE FROM segment WHERE no = ?", (no,))

    def _unlink(self, no: int) -> None:
        path = self.path(no)
        for file in (path, Path(f"{path}-wal"), Path(f"{path}-shm"), self.index_path(no)):
            file.unlink(missing_ok=True)

    def _clear_strays(self) -> None:
        known = {self.path(no).stem for no in [*self.unsealed, *(info.no for info in self.sealed)]}
        for file in self._directory.glob("pairs-*"):
            if file.name.partition(".")[0] not in known:
                file.unlink(missing_ok=True)
