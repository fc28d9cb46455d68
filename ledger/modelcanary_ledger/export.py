"""A run's pairs and labels as lines of JSON, streamed: what a verdict can be computed from again.

Called by `app`, in threads of its own. It reads through connections of its own, a slice at a time, so that it
neither holds up the writer nor keeps a file from being dropped. Fields are those that `modelcanary replay` reads.
"""

import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from modelcanary_ledger.run import OUTCOMES, Progress
from modelcanary_ledger.segment import connect_reading, first_pid, run_of

_progress = msgspec.json.Decoder(Progress).decode
_SLICE = 1000
_COLUMNS = "pid, id, idx, time, bo, bl, b, co, cl, c"


def export_lines(directory: Path, run_no: int, run: str) -> Iterator[bytes]:
    """Each a part of the answer: whole lines, in order of arrival."""
    after, last = first_pid(run_no), first_pid(run_no + 1) - 1
    state = connect_reading(directory / "state.db", sealed=False)
    try:
        numbers = [no for (no,) in state.execute("SELECT no FROM segment ORDER BY no").fetchall()]
        for no in numbers:
            path = directory / f"pairs-{no:08d}.db"
            try:
                segment = connect_reading(path, sealed=False)
                rows = _slice(segment, after, last)
            except sqlite3.OperationalError:
                continue  # dropped since, or not made yet
            try:
                while rows:
                    yield _lines(state, run, rows)
                    after = rows[-1][0]
                    rows = _slice(segment, after, last)
            finally:
                segment.close()
    finally:
        state.close()


def _slice(segment: sqlite3.Connection, after: int, last: int) -> list[tuple[Any, ...]]:
    return segment.execute(
        f"SELECT {_COLUMNS} FROM pair WHERE pid > ? AND pid <= ? ORDER BY pid LIMIT ?", (after, last, _SLICE)
    ).fetchall()


def _lines(state: sqlite3.Connection, run: str, rows: list[tuple[Any, ...]]) -> bytes:
    labels = {
        pid: (at, value, late, sender)
        for pid, at, value, late, sender in state.execute(
            "SELECT pid, at, value, late, sender FROM label WHERE pid >= ? AND pid <= ?", (rows[0][0], rows[-1][0])
        )
    }
    senders = _senders(state, run_of(rows[0][0])) if any(label[3] is not None for label in labels.values()) else {}
    lines = []
    for pid, identifier, index, time, bo, bl, b, co, cl, c in rows:
        at, value, late, sender = labels.get(pid, (None, None, 0, None))
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
                "late": bool(late),
                "sender": senders.get(sender),
                "baselineOutcome": OUTCOMES[bo],
                "candidateOutcome": OUTCOMES[co],
                "baselineLatency": bl,
                "candidateLatency": cl,
            }
        )
    return msgspec.json.Encoder().encode_lines(lines)


def _senders(state: sqlite3.Connection, run: int) -> dict[int, str]:
    """Names by their place, read after the labels that refer to them: the list only grows."""
    rows = state.execute("SELECT progress FROM run WHERE no = ?", (run,)).fetchall()
    return {place: sender.name for (text,) in rows for place, sender in enumerate(_progress(text).senders)}


def _probabilities(column: bytes | None) -> list[float] | None:
    if column is None:
        return None
    values: list[float] = np.exp(np.frombuffer(column, "<f4").astype(np.float64)).tolist()
    return values
