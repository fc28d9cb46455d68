"""The main file: models, runs with their evidence, labels, and labels that wait for their pair.

Called by `sqlite_store`, from one thread. It alone decides what was joined and counted: a label, and what
it adds to the evidence, commit in one transaction of this file. Segments are only read for it.
"""

import uuid
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import msgspec

from modelcanary_ledger.model import Standing
from modelcanary_ledger.run import Run
from modelcanary_ledger.segment import connect, marks
from modelcanary_ledger.store import LabelRow
from modelcanary_ledger.texts import progress_of, row_of, run_from, standing_of, text_of, texts_of

_SCHEMA = """
CREATE TABLE IF NOT EXISTS meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS model (
  no INTEGER PRIMARY KEY, namespace TEXT NOT NULL, name TEXT NOT NULL, epoch INTEGER NOT NULL, run INTEGER NOT NULL,
  instructions TEXT NOT NULL, shares TEXT NOT NULL, senders TEXT NOT NULL, sources TEXT NOT NULL,
  UNIQUE (namespace, name)
);
CREATE TABLE IF NOT EXISTS run (
  no INTEGER PRIMARY KEY, model INTEGER NOT NULL, run TEXT NOT NULL, digest TEXT NOT NULL, started REAL NOT NULL,
  spec TEXT NOT NULL, progress TEXT NOT NULL, loss TEXT, traffic TEXT
);
CREATE TABLE IF NOT EXISTS block (
  run INTEGER NOT NULL, stream INTEGER NOT NULL, seq INTEGER NOT NULL, body TEXT NOT NULL,
  PRIMARY KEY (run, stream, seq)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS cohort (
  run INTEGER NOT NULL, start REAL NOT NULL, counts BLOB NOT NULL, PRIMARY KEY (run, start)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS label (
  pid INTEGER PRIMARY KEY, at REAL NOT NULL, value NOT NULL, late INTEGER NOT NULL, sender INTEGER,
  against INTEGER NOT NULL
);
CREATE TABLE IF NOT EXISTS held (
  model INTEGER NOT NULL, id TEXT NOT NULL, idx INTEGER NOT NULL, at REAL NOT NULL, value NOT NULL,
  sender TEXT NOT NULL, against INTEGER NOT NULL, PRIMARY KEY (model, id, idx)
) WITHOUT ROWID;
"""

#: (model, id, index, when it came, value, who sent it, what others have said of it)
HeldRow = tuple[int, str, int, float, int | bytes, str, int]


class State:
    """Tables of the main file, through one connection."""

    def __init__(self, path: Path) -> None:
        self.connection = connect(path)
        self.connection.executescript(_SCHEMA)
        self.source = self._meta("source", uuid.uuid4().hex[:12])

    # --- models

    def models(self) -> list[int]:
        return [no for (no,) in self.connection.execute("SELECT no FROM model ORDER BY no")]

    def standing(self, model: int, runs: Mapping[int, Run]) -> Standing:
        """A model, with the specification of its current run."""
        row = self.connection.execute(
            "SELECT no, namespace, name, epoch, run, instructions, shares, senders, sources FROM model WHERE no = ?",
            (model,),
        ).fetchone()
        return standing_of(row, runs)

    def save_standing(self, standing: Standing) -> None:
        self.connection.execute(
            "INSERT INTO model VALUES (?,?,?,?,?,?,?,?,?) ON CONFLICT (no) DO UPDATE SET epoch = excluded.epoch, "
            "run = excluded.run, instructions = excluded.instructions, shares = excluded.shares, "
            "senders = excluded.senders, sources = excluded.sources",
            row_of(standing),
        )

    # --- runs

    def runs_of(self, model: int) -> list[int]:
        return [no for (no,) in self.connection.execute("SELECT no FROM run WHERE model = ?", (model,))]

    def last_run(self) -> int:
        return int(self.connection.execute("SELECT ifnull(max(no), 0) FROM run").fetchone()[0])

    def recorded(self) -> dict[int, int]:
        """Run → the pair up to which it is folded."""
        rows = self.connection.execute("SELECT no, progress FROM run").fetchall()
        return {no: progress_of(progress).recorded for no, progress in rows}

    def load_run(self, run: int) -> Run:
        row = self.connection.execute(
            "SELECT no, model, run, started, spec, progress, loss, traffic FROM run WHERE no = ?", (run,)
        ).fetchone()
        return run_from(
            row, self.connection.execute("SELECT start, counts FROM cohort WHERE run = ?", (run,)).fetchall()
        )

    def save_spec(self, run: Run, spec: dict[str, object]) -> None:
        """Makes the run, or replaces its specification by one that measures the same."""
        self.connection.execute(
            "INSERT INTO run (no, model, run, digest, started, spec, progress) VALUES (?,?,?,?,?,?,?) "
            "ON CONFLICT (no) DO UPDATE SET spec = excluded.spec",
            (
                run.no,
                run.model,
                run.run,
                run.plan.digest,
                run.started,
                msgspec.json.encode(spec).decode(),
                text_of(run.progress),
            ),
        )

    def save_run(self, run: Run) -> None:
        progress, loss, traffic, blocks = texts_of(run)
        self.connection.execute(
            "UPDATE run SET progress = ?, loss = ?, traffic = ? WHERE no = ?", (progress, loss, traffic, run.no)
        )
        self.connection.executemany("INSERT INTO block VALUES (?,?,?,?)", blocks)
        self._save_delays(run)

    def drop_run(self, run: int) -> None:
        for table, column in (("run", "no"), ("block", "run"), ("cohort", "run")):
            self.connection.execute(f"DELETE FROM {table} WHERE {column} = ?", (run,))

    def blocks(self, run: int, stream: int, since: int) -> list[msgspec.Raw]:
        """Immutable blocks from `since` on, as JSON text."""
        rows = self.connection.execute(
            "SELECT body FROM block WHERE run = ? AND stream = ? AND seq >= ? ORDER BY seq",
            (run, stream, since),
        )
        return [msgspec.Raw(body.encode()) for (body,) in rows]

    # --- labels

    def labels_of(self, pids: Sequence[int]) -> dict[int, tuple[int | bytes, int | None, int]]:
        """pid → (value, sender, what others have said of it)."""
        known: dict[int, tuple[int | bytes, int | None, int]] = {}
        for start in range(0, len(pids), 512):
            part = sorted(pids[start : start + 512])
            rows = self.connection.execute(
                f"SELECT pid, value, sender, against FROM label WHERE pid IN ({marks(len(part))})", part
            )
            known.update((pid, (value, sender, against)) for pid, value, sender, against in rows)
        return known

    def labels_between(self, after: int, last: int) -> dict[int, tuple[float, int | bytes, int]]:
        """pid → (at, value, late) with after < pid ≤ last."""
        rows = self.connection.execute(
            "SELECT pid, at, value, late FROM label WHERE pid > ? AND pid <= ?", (after, last)
        )
        return {pid: (at, value, late) for pid, at, value, late in rows}

    def add_labels(self, rows: Sequence[LabelRow]) -> None:
        for start in range(0, len(rows), 128):
            part = rows[start : start + 128]
            self.connection.execute(
                "INSERT INTO label VALUES " + ",".join(["(?,?,?,?,?,?)"] * len(part)),
                [value for row in part for value in (row[0].pid, *row[1:])],
            )

    def mark_late(self, pids: Iterable[int]) -> None:
        self.connection.executemany("UPDATE label SET late = 1 WHERE pid = ?", ((pid,) for pid in pids))

    def contradict(self, pids: Mapping[int, int]) -> None:
        rows = ((against, pid) for pid, against in pids.items())
        self.connection.executemany("UPDATE label SET against = ? WHERE pid = ?", rows)

    def drop_labels(self, first: int, last: int) -> None:
        self.connection.execute("DELETE FROM label WHERE pid >= ? AND pid <= ?", (first, last))

    # --- held labels

    def held(self) -> list[HeldRow]:
        """Oldest first."""
        return self.connection.execute(
            "SELECT model, id, idx, at, value, sender, against FROM held ORDER BY at"
        ).fetchall()

    def hold(self, rows: Iterable[HeldRow]) -> None:
        self.connection.executemany("INSERT INTO held VALUES (?,?,?,?,?,?,?)", rows)

    def release(self, rows: Iterable[tuple[int, str, int]]) -> None:
        self.connection.executemany("DELETE FROM held WHERE model = ? AND id = ? AND idx = ?", rows)

    # --- small things

    def batch_cursor(self) -> int:
        return int(self._meta("batches", "0"))

    def set_batch_cursor(self, batch: int) -> None:
        self.connection.execute("UPDATE meta SET value = ? WHERE name = 'batches'", (str(batch),))

    def _meta(self, name: str, default: str) -> str:
        self.connection.execute("INSERT OR IGNORE INTO meta VALUES (?, ?)", (name, default))
        row = self.connection.execute("SELECT value FROM meta WHERE name = ?", (name,)).fetchone()
        return str(row[0])

    def _save_delays(self, run: Run) -> None:
        delays = run.delays
        if delays.doubled:
            self.connection.execute("DELETE FROM cohort WHERE run = ?", (run.no,))
        self.connection.executemany(
            "INSERT OR REPLACE INTO cohort VALUES (?,?,?)",
            [(run.no, start, delays.stored(start)) for start in delays.changed],
        )
