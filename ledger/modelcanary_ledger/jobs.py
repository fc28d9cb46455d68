"""What the event loop hands to the writer's thread, and how the answers, and foreign errors, come back."""

import asyncio
import errno
import sqlite3
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from modelcanary_gate.errors import GateError
from modelcanary_gate.protocol import PairBatch
from modelcanary_ledger.core import Ledger
from modelcanary_ledger.errors import Busy, DiskFull, LedgerError
from modelcanary_ledger.model import Standing
from modelcanary_ledger.transaction import Transaction


@dataclass(frozen=True, slots=True)
class Record:
    standing: Standing
    batch: PairBatch
    future: asyncio.Future[Any]
    rows: int


@dataclass(frozen=True, slots=True)
class Change:
    """Work within a transaction of the store."""

    work: Callable[[Transaction], Any]  # done again where the store says that another ledger was in the way
    future: asyncio.Future[Any]
    rows: int
    model: tuple[str, str]


@dataclass(frozen=True, slots=True)
class Read:
    """Asked of the ledger when all that was acknowledged before is folded."""

    work: Callable[[Ledger, float], Any]
    future: asyncio.Future[Any]
    rows: int = 1


Job = Record | Change | Read


def resolve(outcomes: Sequence[tuple[Job, Any]]) -> None:
    """On the event loop: an error is raised where the job is awaited."""
    for job, outcome in outcomes:
        if job.future.done():
            continue
        if isinstance(outcome, BaseException):
            job.future.set_exception(outcome)
        else:
            job.future.set_result(outcome)


def mapped(error: BaseException) -> LedgerError:
    """Errors of SQLite and the system as ours."""
    # Ours has no code: the log of a segment that should be sealed is still being read.
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_BUSY) & 0xFF
    match error:
        case LedgerError():
            return error
        case sqlite3.OperationalError() if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
            return Busy(f"{error}; nothing was recorded", remedy="send it again in a second")
        case sqlite3.OperationalError() if code == sqlite3.SQLITE_FULL:
            return DiskFull("the disk is full", remedy="make room; nothing was recorded")
        case sqlite3.OperationalError() if code == sqlite3.SQLITE_IOERR:
            # What a file system without room answers where SQLite maps or extends a file.
            return DiskFull(f"the disk cannot be written: {error}", remedy="make room, or replace the disk")
        case OSError() if error.errno in (errno.ENOSPC, errno.EDQUOT):
            return DiskFull("the disk is full", remedy="make room; nothing was recorded")
        case GateError():
            return LedgerError(f"the evidence could not be summed: {error}")
        case _:
            return LedgerError(f"{type(error).__name__}; the ledger's log says more")
