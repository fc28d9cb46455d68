"""One segment: a SQLite file of pairs in the order of their arrival, appended to until it is sealed.

Called by `pairs` (the writer) and `export` (readers). A row is never changed; a sealed segment never changes at
all, so readers open it as immutable. The file alone decides what was recorded: a batch, its pairs and its id
commit in one transaction of this file.
"""

import sqlite3
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from modelcanary_ledger.store import JoinRow, first_pid, run_of

_COLUMNS = 12
_ROWS_PER_STATEMENT = 64
_SCHEMA = """
CREATE TABLE IF NOT EXISTS pair (
  pid INTEGER PRIMARY KEY, hash INTEGER NOT NULL, key BLOB NOT NULL, id TEXT NOT NULL, idx INTEGER NOT NULL,
  time REAL NOT NULL, bo INTEGER NOT NULL, bl REAL NOT NULL, b BLOB, co INTEGER NOT NULL, cl REAL NOT NULL, c BLOB
);
CREATE TABLE IF NOT EXISTS batch (
  no INTEGER PRIMARY KEY, id TEXT NOT NULL, run INTEGER NOT NULL, dropped TEXT
);
"""

#: (pid, hash, key, id, index, time, outcome, latency, log-probabilities of the baseline, the same of the candidate)
PairRecord = tuple[int, int, bytes, str, int, float, int, float, bytes | None, int, float, bytes | None]


def connect(path: Path) -> sqlite3.Connection:
    """A writer's connection. FULL is what makes a commit durable: WAL alone syncs at checkpoints only."""
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=5.0)
    for pragma in (
        "journal_mode=WAL",
        "synchronous=FULL",
        "wal_autocheckpoint=2000",
        "journal_size_limit=16777216",
        # There may be nowhere to put a temporary file: in a container only the state's directory is writable.
        "temp_store=MEMORY",
    ):
        connection.execute(f"PRAGMA {pragma}")
    return connection


def connect_reading(path: Path, *, sealed: bool) -> sqlite3.Connection:
    uri = f"{path.absolute().as_uri()}?mode=ro" + ("&immutable=1" if sealed else "")
    connection = sqlite3.connect(uri, uri=True, isolation_level=None, check_same_thread=False, timeout=5.0)
    connection.execute("PRAGMA cache_size=-512")
    connection.execute("PRAGMA temp_store=MEMORY")
    return connection


def marks(count: int) -> str:
    return ",".join("?" * count)


class Segment:
    """Rows of one file, through one connection. It must not know what a run or a label is."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self.connection = connection

    @classmethod
    def create(cls, path: Path) -> "Segment":
        """Opens the file for appending; makes it where it is not there yet."""
        connection = connect(path)
        connection.executescript(_SCHEMA)
        return cls(connection)

    def insert_pairs(self, rows: Sequence[PairRecord]) -> None:
        # One statement for many rows: each step of SQLite gives up the interpreter's lock and must win it back.
        for start in range(0, len(rows), _ROWS_PER_STATEMENT):
            part = rows[start : start + _ROWS_PER_STATEMENT]
            values = ",".join(["(" + marks(_COLUMNS) + ")"] * len(part))
            self.connection.execute(f"INSERT INTO pair VALUES {values}", [value for row in part for value in row])

    def insert_batch(self, number: int, batch: str, run: int, dropped: str | None) -> None:
        self.connection.execute("INSERT INTO batch VALUES (?,?,?,?)", (number, batch, run, dropped))

    def keys(self, pids: Sequence[int]) -> set[bytes]:
        return {key for (key,) in self._by_pid("key", pids)}

    def join_rows(self, pids: Sequence[int]) -> Iterable[JoinRow]:
        return map(JoinRow._make, self._by_pid("pid,id,idx,time,b,c,0", pids))

    def scan(self, columns: str, after: int, last: int, limit: int) -> list[tuple[Any, ...]]:
        """Up to `limit` rows with after < pid ≤ last, in order."""
        return self.connection.execute(
            f"SELECT {columns} FROM pair WHERE pid > ? AND pid <= ? ORDER BY pid LIMIT ?",
            (after, last, limit),
        ).fetchall()

    def ranges(self) -> dict[int, tuple[int, int]]:
        """First and last pid of each run. By steps along the key: grouping all rows would sort them first."""
        found: dict[int, tuple[int, int]] = {}
        step = "SELECT min(pid), (SELECT max(pid) FROM pair WHERE pid < ?) FROM pair WHERE pid >= ?"
        (first,) = self.connection.execute("SELECT min(pid) FROM pair").fetchone()
        while first is not None:
            run = run_of(first)
            above = first_pid(run + 1)
            following, last = self.connection.execute(step, (above, above)).fetchone()
            found[run] = (first, last)
            first = following
        return found

    def batches(self, after: int) -> list[tuple[int, int, str]]:
        """(number, run, dropped as JSON) of later batches that report drops."""
        return self.connection.execute(
            "SELECT no, run, dropped FROM batch WHERE no > ? AND dropped IS NOT NULL ORDER BY no", (after,)
        ).fetchall()

    def recent_batches(self, limit: int) -> list[tuple[int, str]]:
        """(number, id), oldest first."""
        rows = self.connection.execute("SELECT no, id FROM batch ORDER BY no DESC LIMIT ?", (limit,))
        return rows.fetchall()[::-1]

    def close(self) -> None:
        self.connection.close()

    def _by_pid(self, columns: str, pids: Sequence[int]) -> list[tuple[Any, ...]]:
        rows: list[tuple[Any, ...]] = []
        for start in range(0, len(pids), 256):
            part = sorted(pids[start : start + 256])
            rows += self.connection.execute(
                f"SELECT {columns} FROM pair WHERE pid IN ({marks(len(part))})", part
            ).fetchall()
        return rows
