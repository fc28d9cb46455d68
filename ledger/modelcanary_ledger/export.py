"""A run's pairs and labels as lines of JSON, streamed: what a verdict can be computed from again.

Called by `app`, in threads of its own. Stores read for it through connections of their own, a slice at a time, so
that it neither holds up the writer nor keeps a segment from being dropped; here is how files are read. Fields are
those that `modelcanary replay` reads.
"""

import sqlite3
from bisect import bisect_left
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from modelcanary_gate.maturity import Maturity
from modelcanary_ledger.run import OUTCOMES, Weighing, label_class
from modelcanary_ledger.segment import connect_reading
from modelcanary_ledger.store import AGREED, Slice, first_pid, run_of
from modelcanary_ledger.texts import progress_of

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
    state.execute("BEGIN")  # what has matured without a label has none here
    labels = {
        pid: (at, value, bool(late), sender, against)
        for pid, at, value, late, sender, against in state.execute(
            "SELECT pid, at, value, late, sender, against FROM label WHERE pid >= ? AND pid <= ?",
            (rows[0][0], rows[-1][0]),
        )
    }
    found = state.execute("SELECT progress FROM run WHERE no = ?", (run_of(rows[0][0]),)).fetchall()
    state.execute("COMMIT")
    return Slice(rows, labels, progress_of(found[0][0]) if found else None)


def _lines(run: str, part: Slice) -> bytes:
    progress = part.progress
    senders = {} if progress is None else {place: sender.name for place, sender in enumerate(progress.senders)}
    weighing = [] if progress is None else progress.weighing
    matured = -1 if progress is None else progress.matured
    lines = []
    for pid, identifier, index, time, bo, bl, b, co, cl, c in part.rows:
        at, value, late, sender, against = part.labels.get(pid, (None, None, False, None, AGREED))
        coverage, weight = _weighed(weighing, pid, value)
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
                "contradicted": against != AGREED,
                "matured": pid <= matured,
                "coverage": coverage,
                "weight": weight,
                "sender": None if sender is None else senders.get(sender),
                "baselineOutcome": OUTCOMES[bo],
                "candidateOutcome": OUTCOMES[co],
                "baselineLatency": bl,
                "candidateLatency": cl,
            }
        )
    return msgspec.json.Encoder().encode_lines(lines)


def _weighed(weighing: list[Weighing], pid: int, value: int | bytes | None) -> tuple[float | None, float | None]:
    """The coverage of a label's class when its pair matured, and what the pair counts; None without such."""
    place = bisect_left(weighing, pid, key=lambda known: known.after) - 1
    if value is None or place < 0:
        return None, None
    known = Maturity(0.0, tuple(weighing[place].coverage))
    group = min(label_class(value), len(known.coverage) - 1)
    return known.coverage[group], float(known.weights()[group])


def _probabilities(column: bytes | None) -> list[float] | None:
    if column is None:
        return None
    values: list[float] = np.exp(np.frombuffer(column, "<f4").astype(np.float64)).tolist()
    return values
