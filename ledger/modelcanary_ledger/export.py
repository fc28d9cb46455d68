"""A run's pairs and labels as lines of JSON, streamed: what a verdict can be computed from again.

Called by `app`, in threads of its own. Stores read for it through connections of their own, a slice at a time, so
that it neither holds up the writer nor keeps a segment from being dropped; here is how files are read. Fields are
those that `modelcanary replay` reads.
"""

import sqlite3
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from modelcanary_ledger.run import OUTCOMES
from modelcanary_ledger.segment import connect_reading
from modelcanary_ledger.store import Slice, first_pid, run_of
from modelcanary_ledger.texts import senders_in

#: Rows of one slice.
SLICE = 1000
#: As `Slice` has them.
COLUMNS = "pid, id, idx, time, bo, bl, b, co, cl, c"


def export_lines(slices: Iterable[Slice], run: str) -> Iterator[bytes]:
    """Each a part of the answer: whole lines, in order of arrival."""
    return (_lines(run, part) for part in slices)


def file_slices(directory: Path, run_no: int) -> Iterator[Slice]:
    """A run in the files of a directory."""
    after, last = first_pid(run_no), first_pid(run_no + 1) - 1
    state = connect_reading(directory / "state.db", sealed=False)
    try:
        numbers = [no for (no,) in state.execute("SELECT no FROM segment ORDER BY no").fetchall()]
        for no in numbers:
            path = directory / f"pairs-{no:08d}.db"
            try:
                segment = connect_reading(path, sealed=False)
                rows = _rows(segment, after, last)
            except sqlite3.OperationalError:
                continue  # dropped since, or not made yet
            try:
                while rows:
                    yield _slice(state, rows)
                    after = rows[-1][0]
                    rows = _rows(segment, after, last)
            finally:
                segment.close()
    finally:
        state.close()


def _rows(segment: sqlite3.Connection, after: int, last: int) -> list[tuple[Any, ...]]:
    return segment.execute(
        f"SELECT {COLUMNS} FROM pair WHERE pid > ? AND pid <= ? ORDER BY pid LIMIT ?", (after, last, SLICE)
    ).fetchall()


def _slice(state: sqlite3.Connection, rows: list[tuple[Any, ...]]) -> Slice:
    labels = {
        pid: (at, value, bool(late), sender)
        for pid, at, value, late, sender in state.execute(
            "SELECT pid, at, value, late, sender FROM label WHERE pid >= ? AND pid <= ?", (rows[0][0], rows[-1][0])
        )
    }
    senders: dict[int, str] = {}
    if any(label[3] is not None for label in labels.values()):  # read after the labels: the list only grows
        found = state.execute("SELECT progress FROM run WHERE no = ?", (run_of(rows[0][0]),)).fetchall()
        senders = {place: name for (text,) in found for place, name in senders_in(text).items()}
    return Slice(rows, labels, senders)


def _lines(run: str, part: Slice) -> bytes:
    lines = []
    for pid, identifier, index, time, bo, bl, b, co, cl, c in part.rows:
        at, value, late, sender = part.labels.get(pid, (None, None, False, None))
        lines.append(
            {
                "run": run,
                "id": identifier,
                "index": index,
                "ts": time,
                "baseline": _probabilities(b),
                "candidate": _probabilities(c),
                "label": np.frombuffer(value, "<f8").tolist() if isinstance(value, bytes) else value,
                "labelledAt": at,
                "late": late,
                "sender": None if sender is None else part.senders.get(sender),
                "baselineOutcome": OUTCOMES[bo],
                "candidateOutcome": OUTCOMES[co],
                "baselineLatency": bl,
                "candidateLatency": cl,
            }
        )
    return msgspec.json.Encoder().encode_lines(lines)


def _probabilities(column: bytes | None) -> list[float] | None:
    if column is None:
        return None
    values: list[float] = np.exp(np.frombuffer(column, "<f4").astype(np.float64)).tolist()
    return values
