"""The store of pairs: appends them once, finds them by the clients' ids, and forgets them a segment at a time.

Called by `sqlite_store`, from one thread. Ids of the open segment are looked up in memory; ids of sealed ones in a
sorted file each, searched for a whole batch of labels at once. It must not know labels.
"""

import logging
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from sqlite3 import Connection
from typing import Any

import msgspec
import numpy as np

from modelcanary_gate.evidence import OUTCOME_CODES
from modelcanary_gate.protocol import PairBatch
from modelcanary_ledger.catalogue import Catalogue, SegmentInfo
from modelcanary_ledger.idindex import id_hash, id_salt
from modelcanary_ledger.opensegment import OpenSegment
from modelcanary_ledger.segment import PairRecord
from modelcanary_ledger.store import SLACK, JoinRow, Wanted, first_pid

log = logging.getLogger(__name__)

#: Batch ids remembered, so that what a resent batch says it dropped is not added twice.
RECENT_BATCHES = 16_384


@dataclass(frozen=True, slots=True)
class StoreLimits:
    """When the open segment is sealed."""

    segment_pairs: int = 262_144
    segment_seconds: float = 3600.0


class PairStore:
    """Append, find, scan. `begin` … `commit` or `rollback` frame the appending; reading needs no frame."""

    def __init__(self, directory: Path, state: Connection, limits: StoreLimits, now: float, *, batches: int) -> None:
        """`batches`: the number of the last batch whose drops are counted; its segment may be dropped since."""
        self._limits = limits
        self._counted_batches = batches
        self._recent: OrderedDict[str, None] = OrderedDict()
        self._keys: set[bytes] = set()  # of the transaction under way
        self._batches: set[str] = set()
        self.catalogue = Catalogue(directory, state)
        for info in self.catalogue.sealed[-1:]:
            self._remember_batches(self.catalogue.reader(info).recent_batches(RECENT_BATCHES))
        for no in self.catalogue.unsealed[:-1]:  # the change to a new segment was cut short
            self._seal(self._opened(no, now))
        unsealed = self.catalogue.unsealed[-1:]
        self._open = self._opened(unsealed[0], now) if unsealed else self._started(now)
        self._next: OpenSegment | None = None
        self._remember_batches(self._open.segment.recent_batches(RECENT_BATCHES))

    # --- appending

    def begin(self, now: float) -> None:
        """Raises sqlite3.OperationalError or OSError where the disk is full."""
        info, limits = self._open.info, self._limits
        if info.rows and (info.rows >= limits.segment_pairs or now - info.opened >= limits.segment_seconds):
            self._rotate(now)
        self._open.begin()

    def record(self, run: int, model: int, batch: PairBatch, now: float, *, after: int) -> int:
        """Appends what is new in a batch; returns how many pairs that was.

        Numbers go on after `after`, which pairs of segments that are dropped by now may have had.
        """
        name = f"{batch.sidecar}\0{batch.batch}"
        if name in self._recent or name in self._batches:
            return 0
        rows = self._new_rows(run, model, batch, now, after)
        self._open.append(rows, run)
        self._open.append_batch(name, run, _dropped(batch))
        self._batches.add(name)
        return len(rows)

    def commit(self) -> None:
        self._open.commit()
        self._remember_batches((0, name) for name in self._batches)
        self._end()

    def rollback(self) -> None:
        self._open.rollback()
        self._end()

    # --- reading

    def last_pid(self, run: int) -> int:
        """The last pair of a run, the one before its first where it has none."""
        for info in reversed(self.segments()):
            if run in info.ranges:
                return info.ranges[run][1]
        return first_pid(run)

    def find(self, wanted: Sequence[Wanted]) -> list[list[JoinRow]]:
        """The pairs with each id and index: none, one, or several where an id was used more than once."""
        pids = [list(self._open.lookup(instance.hash)) for instance in wanted]
        if self.catalogue.sealed:
            self._find_sealed(wanted, pids)
        rows = self._join_rows(set(chain.from_iterable(pids)))
        return [
            [row for pid in found if (row := rows[pid]).id == instance.id and row.instance == instance.index]
            for instance, found in zip(wanted, pids, strict=True)
        ]

    def scan(self, run: int, after: int, columns: str, limit: int) -> list[tuple[Any, ...]]:
        """Up to `limit` rows of a run after a pid, in the order of arrival."""
        rows: list[tuple[Any, ...]] = []
        for info in self.segments():
            first, last = info.ranges.get(run, (0, -1))
            if last > after and len(rows) < limit:
                rows += self._segment(info).scan(columns, max(after, first - 1), last, limit - len(rows))
        return rows

    def dropped_since(self, batch: int) -> list[tuple[int, int, str]]:
        """(number, run, reasons as JSON) of later batches."""
        rows: list[tuple[int, int, str]] = []
        for info in self.segments():
            if info.batches > batch:
                rows += self._segment(info).batches(batch)
        return rows

    @property
    def last_batch(self) -> int:
        return self._open.info.batches

    def segments(self) -> list[SegmentInfo]:
        """What is committed: the open segment is the last."""
        return [*self.catalogue.sealed, self._open.info]

    def close(self) -> None:
        self.catalogue.close()
        for segment in (self._open, self._next):
            if segment is not None:
                segment.segment.close()

    # --- inside

    def _new_rows(self, run: int, model: int, batch: PairBatch, now: float, after: int) -> list[PairRecord]:
        hashes = [id_hash(pair.id, id_salt(model, pair.index)) for pair in batch.pairs]
        known = self._known_keys(batch, hashes)
        codes, keys = OUTCOME_CODES, self._keys
        staged = self._open.staged.ranges
        pid = staged[run][1] if run in staged else max(after, self.last_pid(run))
        rows: list[PairRecord] = []
        for pair, hashed in zip(batch.pairs, hashes, strict=True):
            key = pair.key
            if key in known or key in keys:
                continue
            keys.add(key)
            pid += 1
            base, cand = pair.baseline, pair.candidate
            # A request is not later than its arrival here, whatever the sidecar's clock says.
            time = min(pair.time, now)
            said = (codes[base.outcome], base.latency, base.log_probabilities)
            said_too = (codes[cand.outcome], cand.latency, cand.log_probabilities)
            rows.append((pid, hashed, key, pair.id, pair.index, time, *said, *said_too))
        return rows

    def _known_keys(self, batch: PairBatch, hashes: list[int]) -> set[bytes]:
        """Keys of this batch's ids that were committed before: a pair sent again has the same id."""
        suspects = list(chain.from_iterable(map(self._open.lookup, hashes)))
        known = self._open.segment.keys(suspects) if suspects else set()
        for info in self.catalogue.sealed:
            late = [i for i, pair in enumerate(batch.pairs) if info.holds_key(pair.key)]
            if late:
                found = self.catalogue.index(info).find(np.array([hashes[i] for i in late], dtype=np.int64))
                if found:
                    known |= self.catalogue.reader(info).keys([pid for _, pid in found])
        return known

    def _find_sealed(self, wanted: Sequence[Wanted], pids: list[list[int]]) -> None:
        """Where the time is known, segments around it come first, and end the search if they have the id."""
        hashes = np.array([instance.hash for instance in wanted], dtype=np.int64)
        for near in (True, False):
            for info in reversed(self.catalogue.sealed):
                rows = [
                    i
                    for i, instance in enumerate(wanted)
                    if (instance.around is None and near)
                    or (instance.around is not None and not pids[i] and info.covers(instance.around, SLACK) is near)
                ]
                if rows:
                    for row, pid in self.catalogue.index(info).find(hashes[rows]):
                        pids[rows[row]].append(pid)

    def _join_rows(self, pids: set[int]) -> dict[int, JoinRow]:
        rows: dict[int, JoinRow] = {}
        for info in reversed(self.segments()):
            if not pids:
                break
            here = [pid for pid in pids if info.holds_pid(pid)]
            if here:
                rows.update((row.pid, row) for row in self._segment(info).join_rows(here))
                pids.difference_update(here)
        return rows

    def _segment(self, info: SegmentInfo) -> Any:
        return self._open.segment if info is self._open.info else self.catalogue.reader(info)

    def _remember_batches(self, batches: Any) -> None:
        for _, name in batches:
            self._recent[name] = None
        while len(self._recent) > RECENT_BATCHES:
            self._recent.popitem(last=False)

    def _end(self) -> None:
        self._keys.clear()
        self._batches.clear()

    # --- segments

    def _opened(self, no: int, now: float, batches: int | None = None) -> OpenSegment:
        if batches is None:
            batches = max([self._counted_batches, *(info.batches for info in self.catalogue.sealed[-1:])])
        path = self.catalogue.path(no)
        return OpenSegment(path, no, now, batches=batches)

    def _started(self, now: float, batches: int | None = None) -> OpenSegment:
        no = self.catalogue.next_no
        self.catalogue.announce(no)
        return self._opened(no, now, batches)

    def _rotate(self, now: float) -> None:
        """Each step may fail on a full disk and is then done again; until the last, all goes on as it was."""
        if self._next is None:
            self._next = self._started(now, self._open.info.batches)
        self._seal(self._open)
        self._open, self._next = self._next, None

    def _seal(self, segment: OpenSegment) -> None:
        info = segment.info
        segment.write_index(self.catalogue.index_path(info.no))
        segment.checkpoint()
        self.catalogue.seal(info)
        segment.segment.close()
        log.info("sealed segment %d with %d pairs", info.no, info.rows)


def _dropped(batch: PairBatch) -> str | None:
    return msgspec.json.encode(batch.dropped).decode() if batch.dropped else None
