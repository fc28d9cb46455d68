"""The ledger without HTTP, threads or a clock: what is recorded, joined, folded and forgotten, at a given `now`.

Called by `writer`, from its one thread, and by tests. Pairs commit in the open segment, all else in the main
file, so nothing ever has to commit in two files at once (docs/design/ledger.md says why that is enough).
"""

import contextlib
import fcntl
import logging
import sqlite3
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import msgspec

from modelcanary_gate.blocks_json import loss_block_to_json, traffic_block_to_json
from modelcanary_gate.errors import GateError
from modelcanary_gate.protocol import PairBatch
from modelcanary_ledger.books import Books
from modelcanary_ledger.errors import NotFound, SettingsError
from modelcanary_ledger.model import Standing
from modelcanary_ledger.pairs import PairStore, StoreLimits
from modelcanary_ledger.run import Run
from modelcanary_ledger.segment import first_pid
from modelcanary_ledger.state import LOSS, TRAFFIC, State
from modelcanary_ledger.transaction import Transaction

log = logging.getLogger(__name__)

#: A segment is kept this much longer than the labels of its pairs are waited for.
KEEP_SECONDS = 60.0
#: Runs of a model whose evidence is kept; older ones go when their pairs are gone.
KEEP_RUNS = 20
_LABELS_PER_DELETE = 16_384


@dataclass(frozen=True, slots=True)
class Evidence:
    """`GET …/evidence`: blocks from `since` on, and counts as of `now`."""

    run: str
    source: str
    specDigest: str
    startedAt: float
    now: float
    maturity: float | None
    counts: dict[str, object]
    loss: list[msgspec.Raw]
    traffic: list[msgspec.Raw]
    next: str


class Ledger:
    """Everything under one directory."""

    def __init__(self, directory: Path, now: float, limits: StoreLimits | None = None) -> None:
        """Raises SettingsError where the directory cannot be used."""
        limits = limits or StoreLimits()
        self._lock = _lock(directory)
        self._clock = now
        try:
            state = State(directory / "state.db")
            self._books = Books(
                state, PairStore(directory, state.connection, limits, now, batches=state.batch_cursor())
            )
            self._clear_labels()
        except (sqlite3.Error, OSError, GateError, msgspec.MsgspecError) as error:
            self._lock.close()
            raise SettingsError(
                f"--state {directory}: cannot be read ({error})",
                remedy="use the version that wrote it, make room if the disk is full, or name an empty directory",
            ) from error

    @property
    def standings(self) -> dict[tuple[str, str], Standing]:
        """By (namespace, name). Other threads may read it: it is only ever replaced."""
        return self._books.standings

    # --- one group of batches

    def record(self, batches: Sequence[tuple[Standing, PairBatch]], now: float) -> list[int | None]:
        """Appends batches in one transaction: new pairs of each, None where its run is not known here.

        Raises sqlite3.Error or OSError, with nothing recorded.
        """
        now, pairs = self._now(now), self._books.pairs
        pairs.begin(now)
        try:
            recorded: list[int | None] = []
            for standing, batch in batches:
                run = self._books.find_run(standing, batch.run)
                if run is None:
                    recorded.append(None)
                    continue
                recorded.append(pairs.record(run.no, standing.no, batch, now, after=run.progress.recorded))
            pairs.commit()
        except BaseException:
            pairs.rollback()
            raise
        return recorded

    # --- one transaction of the main file

    @contextlib.contextmanager
    def transaction(self, now: float) -> Iterator[Transaction]:
        """All of it commits, or none: then what is in memory is read back."""
        connection = self._books.state.connection
        connection.execute("BEGIN IMMEDIATE")
        try:
            transaction = Transaction(self._books, self._now(now))
            yield transaction
            transaction.finish()
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            self._books.read_back()
            raise
        transaction.committed()

    # --- reading

    def evidence(
        self, standing: Standing, name: str | None, since: tuple[int, int], now: float, *, unclosed: bool = False
    ) -> Evidence:
        """`unclosed`: with the two blocks that still grow, at the end: all that was counted, not what is judged."""
        run = self._named(standing, name)
        loss = self._books.state.blocks(run.no, LOSS, since[0])
        traffic = self._books.state.blocks(run.no, TRAFFIC, since[1])
        if unclosed:
            loss.append(msgspec.Raw(msgspec.json.encode(loss_block_to_json(run.plan, run.loss.block))))
            traffic.append(msgspec.Raw(msgspec.json.encode(traffic_block_to_json(run.plan, run.traffic.block))))
        counts = msgspec.to_builtins(run.progress.counts)
        known = run.progress.counts
        # Without labels nothing is waited for.
        counts["unlabelled"] = 0 if run.agreement else known.scored - known.labelled - known.missing
        counts["unmatched"] = known.unmatched
        counts["senders"] = {
            sender.name: {name: count for name, count in asdict(sender).items() if name != "name"}
            for sender in run.progress.senders
        }
        if run.no == standing.run:
            counts["unmatched"] += self._books.held.count(standing.no)
        return Evidence(
            run.run,
            f"{self._books.state.source}.{run.no}",
            run.plan.digest,
            run.started,
            self._now(now),
            run.progress.maturity,
            counts,
            loss,
            traffic,
            f"{run.loss.block.seq}.{run.traffic.block.seq}",
        )

    def evidence_version(self, standing: Standing, name: str | None) -> str:
        """Another one as soon as anything that readers see has changed, within this process."""
        run = self._named(standing, name)
        return f"{self._books.state.source}.{run.no}.{run.version}"

    def classes_of(self, standing: Standing, name: str) -> int | None:
        """How many classes a run has; None where it is not known. Safe from other threads."""
        run = self._books.find_run(standing, name)
        return None if run is None else run.classes

    def run_number(self, standing: Standing, name: str | None) -> int:
        return self._named(standing, name).no

    @property
    def held(self) -> int:
        return len(self._books.held)

    def segments(self) -> int:
        return len(self._books.pairs.segments())

    def behind(self) -> int:
        """Pairs recorded and not folded yet."""
        books = self._books
        return sum(max(0, books.pairs.last_pid(no) - run.progress.recorded) for no, run in books.runs.items())

    # --- upkeep

    def forget(self, now: float) -> int:
        """Drops segments whose labels are not waited for any more; returns how many."""
        now, books = self._now(now), self._books
        dropped = 0
        for info in list(books.pairs.catalogue.sealed):
            runs = [books.runs[no] for no in info.ranges]
            keep = max((run.spec.labels.max_delay for run in runs), default=0.0)
            if now < info.newest + keep + KEEP_SECONDS:
                continue
            if any(not _is_folded(run, info.ranges[run.no][1]) for run in runs):
                continue
            books.pairs.catalogue.drop(info)
            for first, last in info.ranges.values():
                for start in range(first, last + 1, _LABELS_PER_DELETE):
                    books.state.drop_labels(start, min(last, start + _LABELS_PER_DELETE - 1))
            log.info("dropped segment %d with %d pairs", info.no, info.rows)
            dropped += 1
        self._forget_runs()
        return dropped

    def _clear_labels(self) -> None:
        """Of pairs whose segment is dropped: all are gone but those that a crash in between has left."""
        books = self._books
        for run in books.runs.values():
            kept = [info.ranges[run.no][0] for info in books.pairs.segments() if run.no in info.ranges]
            books.state.drop_labels(first_pid(run.no), min(kept, default=run.progress.recorded + 1) - 1)

    def _forget_runs(self) -> None:
        books = self._books
        needed = {no for info in books.pairs.segments() for no in info.ranges}
        for standing in books.standings.values():
            runs = sorted(run.no for run in books.runs.values() if run.model == standing.no)
            for no in runs[:-KEEP_RUNS]:
                if no not in needed and no != standing.run:
                    books.state.drop_run(no)
                    books.drop_run(no)

    def close(self) -> None:
        self._books.pairs.close()
        self._books.state.connection.close()
        self._lock.close()

    # --- inside

    def _named(self, standing: Standing, name: str | None) -> Run:
        books = self._books
        run = books.runs.get(standing.run) if name is None else books.find_run(standing, name)
        if run is None:
            raise NotFound(
                f"{standing.namespace}/{standing.name} has no run {name or 'yet'}",
                field="run",
                remedy="put its instructions first",
            )
        return run

    def _now(self, now: float) -> float:
        """A clock that was set back stands still for us."""
        self._clock = max(self._clock, now)
        return self._clock


def _is_folded(run: Run, last: int) -> bool:
    return last <= run.progress.recorded and (run.agreement or last <= run.progress.matured)


def _lock(directory: Path):  # type: ignore[no-untyped-def]
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
