"""The store in PostgreSQL, as one ledger of several sees it: the interface of `modelcanary_ledger.store`.

Made by `main`. Who changes a model holds its row until the commit, so evidence is summed by one ledger at a time, in
the same way as in files; what the others have in memory is read anew when the row's version says so.
"""

import contextlib
import random
import time
from collections.abc import Collection, Iterator, Mapping, Sequence

import msgspec

from modelcanary_ledger.errors import LedgerError, SettingsError, StoreConflict
from modelcanary_ledger.export import SLICE
from modelcanary_ledger.model import Standing
from modelcanary_ledger.postgres.columns import id_of, value_of, value_to
from modelcanary_ledger.postgres.database import Database
from modelcanary_ledger.postgres.held import PostgresHeld
from modelcanary_ledger.postgres.pairs import Pairs
from modelcanary_ledger.postgres.schema import Segments, prepare
from modelcanary_ledger.run import Run
from modelcanary_ledger.store import (
    Arrival,
    ArrivedRow,
    JoinRow,
    LabelRow,
    MaturedRow,
    Slice,
    Wanted,
    first_pid,
)
from modelcanary_ledger.texts import progress_of, row_of, run_from, standing_of, text_of, texts_of

#: How often a group of batches is tried again when another ledger was in the way.
_TRIES = 5
#: Names of batches are remembered for so many seconds: what a batch said it dropped counts once.
_BATCH_SECONDS = 3600.0
#: A model is looked after once in so many seconds, by whichever ledger comes first.
_KEPT_SECONDS = 1.5


class PostgresStore:
    """Through one connection; the export has its own."""

    def __init__(self, url: str, now: float) -> None:
        """Raises SettingsError where the database cannot be used."""
        self._database = Database(url)
        self.held = PostgresHeld(self._database)
        self._pairs = Pairs(self._database)
        self._segments = Segments(self._database)
        try:
            self.source = prepare(self._database)
            self._segments.make(now)
        except LedgerError as error:
            self.close()
            if isinstance(error, SettingsError):
                raise
            raise SettingsError(error.detail, remedy="check the URL and the rights to create tables") from error
        self._last: dict[int, int] = {}  # of each run, when `waiting` was asked

    # --- pairs

    def record(self, arrivals: Sequence[Arrival], now: float) -> list[int]:
        if not arrivals:
            return []
        self._segments.make(now)
        for attempt in range(_TRIES):
            try:
                with self._database.transaction():
                    return self._pairs.record(arrivals, now)
            except StoreConflict as error:
                conflict = error
                time.sleep(random.random() * 0.01 * 2**attempt)
        raise conflict

    def find(self, wanted: Sequence[Wanted]) -> list[list[JoinRow]]:
        return self._pairs.find(wanted)

    def arrived(self, run: int, after: int, limit: int) -> list[ArrivedRow]:
        return self._pairs.arrived(run, after, limit)

    def matured(self, run: int, after: int, limit: int) -> list[MaturedRow]:
        return self._pairs.matured(run, after, limit)

    def last_pid(self, run: int) -> int:
        return self._last.get(run, first_pid(run))

    def has_pairs(self, run: int) -> bool:
        return self._pairs.has_pairs(run)

    def behind(self, runs: Mapping[int, Run]) -> int:
        with self.reading():
            row = self._database.one(
                "SELECT sum(a.last - r.recorded)::bigint FROM run r JOIN arrival a ON a.run = r.no "
                "WHERE a.last > r.recorded"
            )
        return int(row[0] or 0) if row else 0

    def segments(self) -> int:
        with self.reading():
            return self._segments.count()

    def forget(self, runs: Mapping[int, Run], now: float) -> int:
        self._segments.make(now)
        dropped = self._segments.drop_old(now)
        self._segments.clear_strays(now)
        with self._database.transaction():
            self._database.run("DELETE FROM batch WHERE at < %s", now - _BATCH_SECONDS)
        return dropped

    def slices(self, run: int) -> Iterator[Slice]:
        database = self._database.again()
        after = first_pid(run)
        try:
            while True:
                with database.transaction():
                    # What has matured without a label has none here.
                    database.run("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
                    part = _slice(database, run, after)
                if part is None:
                    return
                yield part
                after = part.rows[-1][0]
        finally:
            database.close()

    # --- transactions

    def begin(self) -> None:
        self.held.reset()
        self._last.clear()
        self._database.begin()

    def commit(self) -> None:
        self.held.flush()
        self._database.commit()

    def rollback(self) -> None:
        self._database.rollback()

    @contextlib.contextmanager
    def reading(self) -> Iterator[None]:
        self.begin()
        try:
            yield
        finally:
            self._database.rollback()

    # --- models and runs

    def news(self, known: Mapping[int, int]) -> list[int]:
        with self.reading():
            rows = self._database.rows("SELECT no, said FROM model ORDER BY no")
        return [model for model, said in rows if said > known.get(model, -1)]

    def waiting(self, models: Sequence[int], now: float) -> list[int]:
        rows = self._database.rows(
            "SELECT r.model, r.no, a.last FROM run r JOIN arrival a ON a.run = r.no WHERE a.last > r.recorded "
            "OR (NOT r.agreement AND r.matured < r.recorded AND r.due <= %s)",
            now,
        )
        self._last = {run: last for _, run, last in rows}
        found = {model for model, *_ in rows}
        found.update(model for (model,) in self._database.rows("SELECT DISTINCT model FROM dropped"))
        return [model for model in models if model in found]

    def neglected(self, models: Sequence[int], now: float) -> list[int]:
        rows = self._database.rows("SELECT no FROM model WHERE kept <= %s", now - _KEPT_SECONDS)
        found = {model for (model,) in rows}
        return [model for model in models if model in found]

    def lock(self, model: int, *, wait: bool) -> int | None:
        if wait:
            row = self._database.one("SELECT version FROM model WHERE no = %s FOR UPDATE", model)
        else:
            row = self._database.one("SELECT version FROM model WHERE no = %s FOR UPDATE SKIP LOCKED", model)
        return None if row is None else int(row[0])

    def touch(self, model: int) -> int:
        row = self._database.one("UPDATE model SET version = version + 1 WHERE no = %s RETURNING version", model)
        return 1 if row is None else int(row[0])

    def find_model(self, namespace: str, name: str) -> int | None:
        row = self._database.one("SELECT no FROM model WHERE namespace = %s AND name = %s", namespace, name)
        return None if row is None else int(row[0])

    def new_model(self) -> int:
        return self._next("model")

    def new_run(self) -> int:
        return self._next("run")

    def standing(self, model: int, runs: Mapping[int, Run]) -> Standing:
        (row,) = self._database.rows(
            "SELECT no, namespace, name, epoch, run, instructions, shares, senders, sources FROM model WHERE no = %s",
            model,
        )
        return standing_of(row, runs)

    def save_standing(self, standing: Standing, version: int) -> None:
        self._database.run(
            "INSERT INTO model VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, 0) "
            "ON CONFLICT (no) DO UPDATE SET epoch = excluded.epoch, run = excluded.run, "
            "instructions = excluded.instructions, shares = excluded.shares, senders = excluded.senders, "
            "sources = excluded.sources, "
            "version = excluded.version, said = excluded.said",
            *row_of(standing),
            version,
            version,
        )

    def run_versions(self, model: int) -> dict[int, int]:
        return dict(self._database.rows("SELECT no, version FROM run WHERE model = %s", model))

    def load_run(self, run: int) -> Run:
        (row,) = self._database.rows(
            "SELECT no, model, run, started, spec, progress, loss, traffic, due FROM run WHERE no = %s", run
        )
        cohorts = self._database.rows("SELECT start, counts FROM cohort WHERE run = %s", run)
        loaded = run_from(row[:-1], [(start, bytes(counts)) for start, counts in cohorts])
        loaded.next_due = row[-1]
        return loaded

    def save_spec(self, run: Run, spec: dict[str, object]) -> None:
        self._database.run(
            "INSERT INTO run (no, model, run, digest, started, spec, progress, version, recorded, matured, due, keep, "
            "agreement) VALUES (%s, %s, %s, %s, %s, %s, %s, 0, %s, %s, 0, %s, %s) "
            "ON CONFLICT (no) DO UPDATE SET spec = excluded.spec, keep = excluded.keep",
            *(run.no, run.model, run.run, run.plan.digest, run.started, text_of(spec), text_of(run.progress)),
            *(run.progress.recorded, run.progress.matured, run.spec.labels.max_delay, run.agreement),
        )
        self._database.run("INSERT INTO arrival VALUES (%s, %s) ON CONFLICT DO NOTHING", run.no, first_pid(run.no))

    def save_run(self, run: Run, version: int) -> None:
        progress, loss, traffic, blocks = texts_of(run)
        self._database.run(
            "UPDATE run SET progress = %s, loss = %s, traffic = %s, version = %s, recorded = %s, matured = %s, "
            "due = %s WHERE no = %s",
            *(progress, loss, traffic, version, run.progress.recorded, run.progress.matured, run.next_due, run.no),
        )
        self._database.many("INSERT INTO block VALUES (%s, %s, %s, %s)", blocks)
        if run.delays.doubled:
            self._database.run("DELETE FROM cohort WHERE run = %s", run.no)
        self._database.many(
            "INSERT INTO cohort VALUES (%s, %s, %s) ON CONFLICT (run, start) DO UPDATE SET counts = excluded.counts",
            [(run.no, start, run.delays.stored(start)) for start in run.delays.changed],
        )

    def drop_run(self, run: int) -> None:
        self._database.run("DELETE FROM run WHERE no = %s", run)
        self._database.run("DELETE FROM arrival WHERE run = %s", run)
        self._database.run("DELETE FROM dropped WHERE run = %s", run)
        self._database.run("DELETE FROM block WHERE run = %s", run)
        self._database.run("DELETE FROM cohort WHERE run = %s", run)

    def blocks(self, run: int, stream: int, since: int) -> list[msgspec.Raw]:
        rows = self._database.rows(
            "SELECT body FROM block WHERE run = %s AND stream = %s AND seq >= %s ORDER BY seq", run, stream, since
        )
        return [msgspec.Raw(body.encode()) for (body,) in rows]

    def take_drops(self, models: Collection[int]) -> list[tuple[int, str]]:
        if not models:
            return []
        rows = self._database.rows("DELETE FROM dropped WHERE model = ANY(%s) RETURNING run, reasons", list(models))
        return [(run, reasons) for run, reasons in rows]

    # --- labels

    def labels_of(self, pids: Sequence[int]) -> dict[int, tuple[int | bytes, int | None, int]]:
        rows = self._database.rows(
            "SELECT pid, class, soft, sender, against FROM label WHERE pid = ANY(%s)", list(pids)
        )
        return {pid: (value_of(hard, soft), sender, against) for pid, hard, soft, sender, against in rows}

    def labels_between(self, after: int, last: int) -> dict[int, tuple[float, int | bytes, int]]:
        rows = self._database.rows(
            "SELECT pid, at, class, soft, late FROM label WHERE pid > %s AND pid <= %s", after, last
        )
        return {pid: (at, value_of(hard, soft), int(late)) for pid, at, hard, soft, late in rows}

    def add_labels(self, rows: Sequence[LabelRow]) -> None:
        if rows:
            self._database.copy(
                "COPY label (hour, pid, at, class, soft, late, sender, against) FROM STDIN (FORMAT BINARY)",
                ("int4", "int8", "float8", "int4", "bytea", "bool", "int2", "int2"),
                ((row.place, row.pid, at, *value_to(value), *rest) for row, at, value, *rest in rows),
            )

    def mark_late(self, pids: Sequence[int]) -> None:
        self._database.run("UPDATE label SET late = true WHERE pid = ANY(%s)", list(pids))

    def contradict(self, pids: Mapping[int, int]) -> None:
        self._database.many(
            "UPDATE label SET against = %s WHERE pid = %s", [(against, pid) for pid, against in pids.items()]
        )

    def close(self) -> None:
        self._database.close()

    def _next(self, counter: str) -> int:
        row = self._database.one("UPDATE counter SET value = value + 1 WHERE name = %s RETURNING value", counter)
        if row is None:
            raise StoreConflict(f"the counter of {counter}s is missing")
        return int(row[0])


def _slice(database: Database, run: int, after: int) -> Slice | None:
    found = database.rows(
        "SELECT pid, id, idx, time, bo, bl, b, co, cl, c FROM pair WHERE pid > %s AND pid < %s ORDER BY pid LIMIT %s",
        after,
        first_pid(run + 1),
        SLICE,
    )
    if not found:
        return None
    rows = [(row[0], id_of(row[1]), *row[2:]) for row in found]
    labels = {
        pid: (at, value_of(hard, soft), late, sender, against)
        for pid, at, hard, soft, late, sender, against in database.rows(
            "SELECT pid, at, class, soft, late, sender, against FROM label WHERE pid >= %s AND pid <= %s",
            rows[0][0],
            rows[-1][0],
        )
    }
    found = database.rows("SELECT progress FROM run WHERE no = %s", run)
    return Slice(rows, labels, progress_of(found[0][0]) if found else None)
