"""The store in files: one process, one directory. Pairs commit in the open segment, all else in the main file.

Made by `main`. Nothing ever has to commit in two files at once (docs/design/ledger.md says why that is enough).
"""

import contextlib
import fcntl
import logging
import sqlite3
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TextIO

import msgspec

from modelcanary_gate.errors import GateError
from modelcanary_ledger.errors import SettingsError
from modelcanary_ledger.export import file_slices
from modelcanary_ledger.held import Held
from modelcanary_ledger.model import Standing
from modelcanary_ledger.pairs import PairStore, StoreLimits
from modelcanary_ledger.run import Run
from modelcanary_ledger.state import State
from modelcanary_ledger.store import (
    KEEP_SECONDS,
    Arrival,
    ArrivedRow,
    JoinRow,
    LabelRow,
    MaturedRow,
    Slice,
    Wanted,
    first_pid,
)

log = logging.getLogger(__name__)

_LABELS_PER_DELETE = 16_384
_ARRIVED = "pid, hash, time, bo, bl, co, cl, id, idx, b, c, 0"
_MATURED = "pid, time, bo, co, b, c"


class SqliteStore:
    """Everything under one directory."""

    def __init__(self, directory: Path, now: float, limits: StoreLimits | None = None) -> None:
        """Raises SettingsError where the directory cannot be used."""
        self._directory = directory
        self._lock = _lock(directory)
        try:
            self.state = State(directory / "state.db")
            self.source = self.state.source
            self._batches = self.state.batch_cursor()
            self.pairs = PairStore(
                directory, self.state.connection, limits or StoreLimits(), now, batches=self._batches
            )
            self.held = Held(self.state)
            self._clear_labels()
        except (sqlite3.Error, OSError, GateError, msgspec.MsgspecError) as error:
            self._lock.close()
            raise SettingsError(
                f"--state {directory}: cannot be read ({error})",
                remedy="use the version that wrote it, make room if the disk is full, or name an empty directory",
            ) from error

    # --- pairs

    def record(self, arrivals: Sequence[Arrival], now: float) -> list[int]:
        """Raises sqlite3.Error or OSError, with nothing recorded."""
        pairs = self.pairs
        pairs.begin(now)
        try:
            recorded = [pairs.record(one.run, one.model, one.batch, now, after=one.after) for one in arrivals]
            pairs.commit()
        except BaseException:
            pairs.rollback()
            raise
        return recorded

    def find(self, wanted: Sequence[Wanted]) -> list[list[JoinRow]]:
        return self.pairs.find(wanted)

    def arrived(self, run: int, after: int, limit: int) -> list[ArrivedRow]:
        return self.pairs.scan(run, after, _ARRIVED, limit)

    def matured(self, run: int, after: int, limit: int) -> list[MaturedRow]:
        return self.pairs.scan(run, after, _MATURED, limit)

    def last_pid(self, run: int) -> int:
        return self.pairs.last_pid(run)

    def has_pairs(self, run: int) -> bool:
        return any(run in info.ranges for info in self.pairs.segments())

    def behind(self, runs: Mapping[int, Run]) -> int:
        return sum(max(0, self.last_pid(no) - run.progress.recorded) for no, run in runs.items())

    def segments(self) -> int:
        return len(self.pairs.segments())

    def forget(self, runs: Mapping[int, Run], now: float) -> int:
        dropped = 0
        for info in list(self.pairs.catalogue.sealed):
            within = [runs[no] for no in info.ranges]
            keep = max((run.spec.labels.max_delay for run in within), default=0.0)
            if now < info.newest + keep + KEEP_SECONDS:
                continue
            if any(not _is_folded(run, info.ranges[run.no][1]) for run in within):
                continue
            self.pairs.catalogue.drop(info)
            for first, last in info.ranges.values():
                for start in range(first, last + 1, _LABELS_PER_DELETE):
                    self.state.drop_labels(start, min(last, start + _LABELS_PER_DELETE - 1))
            log.info("dropped segment %d with %d pairs", info.no, info.rows)
            dropped += 1
        return dropped

    def slices(self, run: int) -> Iterator[Slice]:
        return file_slices(self._directory, run)

    # --- transactions

    def begin(self) -> None:
        self.state.connection.execute("BEGIN IMMEDIATE")

    def commit(self) -> None:
        self.held.save(self.state)
        self.state.connection.execute("COMMIT")
        self.held.saved()

    def rollback(self) -> None:
        if self.state.connection.in_transaction:
            self.state.connection.execute("ROLLBACK")
        self.held = Held(self.state)
        self._batches = self.state.batch_cursor()

    def reading(self) -> contextlib.AbstractContextManager[None]:
        """Nobody else writes, and on a full disk a transaction could not begin."""
        return contextlib.nullcontext()

    # --- models and runs: nobody else changes them, so one version is enough

    def news(self, known: Mapping[int, int]) -> list[int]:
        return [] if known else self.state.models()

    def waiting(self, models: Sequence[int], now: float) -> list[int]:
        return list(models)

    def neglected(self, models: Sequence[int], now: float) -> list[int]:
        return list(models)

    def lock(self, model: int, *, wait: bool) -> int | None:
        return 0

    def touch(self, model: int) -> int:
        return 0

    def find_model(self, namespace: str, name: str) -> int | None:
        return None

    def new_model(self) -> int:
        return max(self.state.models(), default=0) + 1

    def new_run(self) -> int:
        return self.state.last_run() + 1

    def standing(self, model: int, runs: Mapping[int, Run]) -> Standing:
        return self.state.standing(model, runs)

    def save_standing(self, standing: Standing, version: int) -> None:
        self.state.save_standing(standing)

    def run_versions(self, model: int) -> dict[int, int]:
        return dict.fromkeys(self.state.runs_of(model), 0)

    def load_run(self, run: int) -> Run:
        return self.state.load_run(run)

    def save_spec(self, run: Run, spec: dict[str, object]) -> None:
        self.state.save_spec(run, spec)

    def save_run(self, run: Run, version: int) -> None:
        self.state.save_run(run)

    def drop_run(self, run: int) -> None:
        self.state.drop_run(run)

    def blocks(self, run: int, stream: int, since: int) -> list[msgspec.Raw]:
        return self.state.blocks(run, stream, since)

    def take_drops(self, models: Collection[int]) -> list[tuple[int, str]]:
        last = self.pairs.last_batch
        if last <= self._batches:
            return []
        drops = [(run, reasons) for _, run, reasons in self.pairs.dropped_since(self._batches)]
        self._batches = last
        self.state.set_batch_cursor(last)
        return drops

    # --- labels

    def labels_of(self, pids: Sequence[int]) -> dict[int, tuple[int | bytes, int | None, int]]:
        return self.state.labels_of(pids)

    def labels_between(self, after: int, last: int) -> dict[int, tuple[float, int | bytes, int]]:
        return self.state.labels_between(after, last)

    def add_labels(self, rows: Sequence[LabelRow]) -> None:
        self.state.add_labels(rows)

    def mark_late(self, pids: Sequence[int]) -> None:
        self.state.mark_late(pids)

    def contradict(self, pids: Mapping[int, int]) -> None:
        self.state.contradict(pids)

    def close(self) -> None:
        self.pairs.close()
        self.state.connection.close()
        self._lock.close()

    def _clear_labels(self) -> None:
        """Of pairs whose segment is dropped: all are gone but those that a crash in between has left."""
        for run, recorded in self.state.recorded().items():
            kept = [info.ranges[run][0] for info in self.pairs.segments() if run in info.ranges]
            self.state.drop_labels(first_pid(run), min(kept, default=recorded + 1) - 1)


def _is_folded(run: Run, last: int) -> bool:
    return last <= run.progress.recorded and (run.agreement or last <= run.progress.matured)


def _lock(directory: Path) -> TextIO:
    try:
        directory.mkdir(parents=True, exist_ok=True)
        file = (directory / "lock").open("w")
    except OSError as error:
        raise SettingsError(
            f"--state {directory}: {error.strerror}", remedy="name a directory that can be written"
        ) from error
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        file.close()
        raise SettingsError(
            f"--state {directory}: another ledger uses this directory", remedy="end it, or name another"
        ) from None
    return file
