"""The segment that is appended to: its file, what it holds, and where each id is, in memory.

Called by `pairs`. The dictionary of ids is bounded by the segment's size, and is read back from the file at a
start; when the segment is sealed it becomes a sorted file.
"""

import sqlite3
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from modelcanary_ledger.catalogue import SegmentInfo
from modelcanary_ledger.idindex import write_index
from modelcanary_ledger.segment import PairRecord, Segment


class OpenSegment:
    """What was committed (`info`, `lookup`), and what the transaction under way adds (`staged`)."""

    def __init__(self, path: Path, no: int, now: float, *, batches: int) -> None:
        """Opens or makes the file. `batches` is the number of the last batch of the segments before."""
        self.segment = Segment.create(path)
        self.info = SegmentInfo(no, now, batches=batches)
        self._ids: dict[int, int | tuple[int, ...]] = {}
        self._load()
        self.staged = self._copy()
        self._rows: list[PairRecord] = []

    def begin(self) -> None:
        self.segment.connection.execute("BEGIN IMMEDIATE")
        self.staged = self._copy()

    def append(self, rows: Sequence[PairRecord], run: int) -> None:
        """Adds pairs of one run, in the order of their numbers."""
        if not rows:
            return
        self.segment.insert_pairs(rows)
        staged = self.staged
        first, _ = staged.ranges.get(run, (rows[0][0], 0))
        staged.ranges[run] = (first, rows[-1][0])
        staged.rows += len(rows)
        times, keys = [row[5] for row in rows], [row[2] for row in rows]
        staged.oldest, staged.newest = min(staged.oldest, *times), max(staged.newest, *times)
        staged.first_key, staged.last_key = min(staged.first_key, *keys), max(staged.last_key, *keys)
        self._rows += rows

    def append_batch(self, name: str, run: int, dropped: str | None) -> None:
        self.staged.batches += 1
        self.segment.insert_batch(self.staged.batches, name, run, dropped)

    def commit(self) -> None:
        self.segment.connection.execute("COMMIT")
        self.info = self.staged
        for row in self._rows:
            self._remember(row[1], row[0])
        self._rows = []

    def rollback(self) -> None:
        # Some errors, a full disk among them, have ended the transaction already.
        if self.segment.connection.in_transaction:
            self.segment.connection.execute("ROLLBACK")
        self.staged = self._copy()
        self._rows = []

    def lookup(self, hashed: int) -> tuple[int, ...]:
        """Pids of committed pairs whose id has this hash."""
        hit = self._ids.get(hashed)
        return () if hit is None else _pids(hit)

    def write_index(self, path: Path) -> None:
        # Generators: lists of all the numbers would take as much memory again as the dictionary.
        count = self.info.rows
        hashes = (hashed for hashed, hit in self._ids.items() for _ in _pids(hit))
        pids = (pid for hit in self._ids.values() for pid in _pids(hit))
        write_index(path, np.fromiter(hashes, np.int64, count), np.fromiter(pids, np.int64, count))

    def checkpoint(self) -> None:
        """Makes the file as readers of a sealed segment need it: whole, without its write-ahead log."""
        row = self.segment.connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        if row[0]:
            raise sqlite3.OperationalError("the write-ahead log of the segment is still being read")

    def _copy(self) -> SegmentInfo:
        return replace(self.info, ranges=dict(self.info.ranges))

    def _remember(self, hashed: int, pid: int) -> None:
        hit = self._ids.get(hashed)
        if hit is None:
            self._ids[hashed] = pid
        else:
            self._ids[hashed] = (*_pids(hit), pid)

    def _load(self) -> None:
        connection, info = self.segment.connection, self.info
        rows, oldest, newest, first_key, last_key = connection.execute(
            "SELECT count(*), min(time), max(time), min(key), max(key) FROM pair"
        ).fetchone()
        info.batches = connection.execute("SELECT ifnull(max(no), ?) FROM batch", (info.batches,)).fetchone()[0]
        if not rows:
            return
        info.rows, info.oldest, info.newest = rows, oldest, newest
        info.first_key, info.last_key = first_key, last_key
        info.opened = min(info.opened, newest)
        info.ranges = self.segment.ranges()
        self._ids = dict(connection.execute("SELECT hash, pid FROM pair"))
        if len(self._ids) < rows:  # an id was used more than once
            self._ids = {}
            for hashed, pid in connection.execute("SELECT hash, pid FROM pair"):
                self._remember(hashed, pid)


def _pids(hit: int | tuple[int, ...]) -> tuple[int, ...]:
    """A tuple is kept only where an id was used more than once."""
    return hit if isinstance(hit, tuple) else (hit,)
