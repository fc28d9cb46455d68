"""The one thread that writes: what comes within a few milliseconds shares a commit, and is answered after it.

Called by `app` from the event loop. Work is bounded in rows; what is beyond is refused as Busy. It must not know
HTTP; the clock is handed in.
"""

import asyncio
import contextlib
import logging
import queue
import sqlite3
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from modelcanary_gate.protocol import PairBatch
from modelcanary_ledger.core import Ledger
from modelcanary_ledger.errors import Busy, DiskFull, LedgerError, StoreConflict, StoreError
from modelcanary_ledger.jobs import Change, Job, Read, Record, mapped, resolve
from modelcanary_ledger.model import Standing
from modelcanary_ledger.transaction import Transaction

log = logging.getLogger(__name__)
T = TypeVar("T")

MAX_ROWS_WAITING = 60_000
_MAX_JOBS_WAITING = 2_000
_ROWS_PER_GROUP = 8_000
_GATHER_SECONDS = 0.002
_FOLD_SECONDS = 0.25
_UPKEEP_SECONDS = 2.0
_TRIES = 5
_STEPS_PER_FOLD = 4  # in the background, between groups
_STEPS_PER_READ = 16  # before an answer to a reader: enough to be up to date, unless much has matured at once


@dataclass(slots=True)
class Tallies:
    """What `metrics` shows; written by the writer's thread alone."""

    commits: int = 0
    commit_seconds: float = 0.0
    pairs: int = 0
    refused_full: int = 0
    failures: int = 0
    segments: int = 0
    held: int = 0
    behind: int = 0


class Writer:
    """Start it, hand it work, stop it: `stop` commits and folds what is still waiting."""

    def __init__(self, ledger: Ledger, clock: Callable[[], float], has_room: Callable[[], bool] = lambda: True) -> None:
        self.tallies = Tallies()
        self.rows_waiting = 0
        self._ledger = ledger
        self._clock = clock
        self._has_room = has_room
        self._queue: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._jobs_waiting = 0
        self._thread = threading.Thread(target=self._run, name="writer", daemon=True)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._next_fold = 0.0
        self._next_upkeep = 0.0
        self._more = False  # to fold than was folded the last time

    @property
    def alive(self) -> bool:
        return self._thread.is_alive()

    def start(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._thread.start()

    async def stop(self) -> None:
        self._queue.put(None)
        await asyncio.to_thread(self._thread.join, 30.0)

    # --- from the event loop

    async def record(self, standing: Standing, batch: PairBatch) -> int | None:
        """New pairs that were recorded; None where the run is not known."""
        recorded: int | None = await self._submit(
            lambda future, rows: Record(standing, batch, future, rows), len(batch.pairs) + 1
        )
        return recorded

    async def change(self, work: Callable[[Transaction], T], rows: int = 1, *, model: tuple[str, str]) -> T:
        """`model`: namespace and name of what is changed."""
        result: T = await self._submit(lambda future, rows: Change(work, future, rows, model), rows)
        return result

    async def read(self, work: Callable[[Ledger, float], T]) -> T:
        result: T = await self._submit(lambda future, rows: Read(work, future, rows), 1)
        return result

    async def _submit(self, make: Callable[[asyncio.Future[Any], int], Job], rows: int) -> Any:
        if self.rows_waiting + rows > MAX_ROWS_WAITING and self._jobs_waiting:
            raise Busy(f"{self.rows_waiting} rows are waiting to be written", remedy="send it again in a second")
        if self._jobs_waiting >= _MAX_JOBS_WAITING or not self.alive:
            raise Busy("the writer does not keep up", remedy="send it again in a second")
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self.rows_waiting += rows
        self._jobs_waiting += 1
        self._queue.put(make(future, rows))
        try:
            return await future
        finally:
            self.rows_waiting -= rows
            self._jobs_waiting -= 1

    # --- in the thread

    def _run(self) -> None:
        stopping = False
        while not stopping:
            group, stopping = self._gather()
            try:
                self._write(group)
            except Exception as error:
                self.tallies.failures += 1
                log.exception("a group of %d jobs failed", len(group))
                self._answer([(job, mapped(error)) for job in group if not job.future.done()])
        self._fold(_STEPS_PER_READ, wait=False)

    def _gather(self) -> tuple[list[Job], bool]:
        """What came since the last commit, or within a few milliseconds from now."""
        group: list[Job] = []
        rows = 0
        try:
            job = self._queue.get(timeout=0.001 if self._more else _FOLD_SECONDS)
            while True:
                if job is None:
                    return group, True
                group.append(job)
                rows += job.rows
                if rows >= _ROWS_PER_GROUP:
                    break
                if len(group) == 1 and self._queue.empty():
                    time.sleep(_GATHER_SECONDS)
                job = self._queue.get_nowait()
        except queue.Empty:
            pass
        return group, False

    def _write(self, group: Sequence[Job]) -> None:
        started = time.perf_counter()
        records = [job for job in group if isinstance(job, Record)]
        if records:
            self._answer(self._record(records))
        # By model: two ledgers that change several take them in the same order, and never wait for each other.
        changes = sorted((job for job in group if isinstance(job, Change)), key=lambda job: job.model)
        if changes:
            self._answer(self._change(changes))
        if records or changes:
            self.tallies.commits += 1
            self.tallies.commit_seconds += time.perf_counter() - started
        reads = [job for job in group if isinstance(job, Read)]
        if reads:
            self._fold(_STEPS_PER_READ, wait=True)
            self._answer([(job, self._look(job)) for job in reads])
        elif self._more or time.monotonic() >= self._next_fold:
            self._fold(_STEPS_PER_FOLD, wait=False)

    def _record(self, jobs: Sequence[Record]) -> list[tuple[Job, Any]]:
        if not self._has_room():
            self.tallies.refused_full += len(jobs)
            full = DiskFull("too little room is left on the disk", remedy="make room; nothing was recorded")
            return [(job, full) for job in jobs]
        try:
            results = self._ledger.record([(job.standing, job.batch) for job in jobs], self._clock())
        except (sqlite3.Error, OSError, DiskFull) as error:
            self.tallies.refused_full += len(jobs)
            log.error("%d batches were not recorded: %s", len(jobs), error)
            return [(job, mapped(error)) for job in jobs]
        except StoreError as error:
            log.error("%d batches were not recorded: %s", len(jobs), error)
            return [(job, error) for job in jobs]
        self.tallies.pairs += sum(filter(None, results))
        return list(zip(jobs, results, strict=True))

    def _change(self, jobs: Sequence[Change]) -> list[tuple[Job, Any]]:
        for tries in range(_TRIES, 0, -1):
            try:
                with self._ledger.transaction(self._clock()) as transaction:
                    results = [self._attempt(job.work, transaction) for job in jobs]
            except (sqlite3.Error, OSError, StoreError, DiskFull) as error:
                if isinstance(error, StoreConflict) and tries > 1:
                    continue  # another ledger was in the way, and nothing was done
                log.error("%d changes were not written: %s", len(jobs), error)
                return [(job, mapped(error)) for job in jobs]
            break
        return list(zip(jobs, results, strict=True))

    def _fold(self, steps: int, *, wait: bool) -> None:
        """What this writes is derived, so a failure loses nothing: it is folded another time.

        `wait`: also for another ledger that folds the same now.
        """
        self._next_fold = time.monotonic() + _FOLD_SECONDS
        upkeep = time.monotonic() >= self._next_upkeep
        self._more = False
        try:
            self._ledger.refresh()
            with self._ledger.transaction(self._clock()) as transaction:
                if upkeep:  # first: what matures is judged by all that is known
                    transaction.learn()
                self._more = transaction.fold(steps, wait=wait)
            if upkeep:
                self._next_upkeep = time.monotonic() + _UPKEEP_SECONDS
                self._ledger.forget(self._clock())
            tallies, ledger = self.tallies, self._ledger
            tallies.segments, tallies.held, tallies.behind = ledger.segments(), ledger.held(), ledger.behind()
        except StoreConflict as error:
            log.info("folded another time: %s", error)
        except (sqlite3.Error, OSError, StoreError, DiskFull) as error:
            self._more = False
            log.error("the evidence was not written: %s", error)

    def _look(self, job: Read) -> Any:
        try:
            return job.work(self._ledger, self._clock())
        except LedgerError as error:
            return error

    @staticmethod
    def _attempt(work: Callable[[Transaction], Any], transaction: Transaction) -> Any:
        """An error of ours has changed nothing and is this job's alone; any other ends the group."""
        try:
            return work(transaction)
        except (StoreError, DiskFull):
            raise
        except LedgerError as error:
            return error

    def _answer(self, outcomes: Sequence[tuple[Job, Any]]) -> None:
        if outcomes and self._loop is not None:
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
                self._loop.call_soon_threadsafe(resolve, outcomes)
