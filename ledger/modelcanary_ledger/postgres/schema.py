"""The tables, and the segments of pairs and labels: one partition of each per hour, dropped whole.

Called by `store`. The hour is that of the pair's key, which is the same however often the pair is sent: so a key is
unique in its partition. What no partition is for (clocks that are far off) is in a default one, `stray`.
"""

import logging
import uuid
from typing import LiteralString

from psycopg import sql

from modelcanary_ledger.errors import SettingsError, StoreConflict, StoreError
from modelcanary_ledger.postgres.database import Database
from modelcanary_ledger.store import KEEP_SECONDS

log = logging.getLogger(__name__)

SCHEMA = "1"
HOUR = 3600
#: Partitions are made this many hours ahead: more than any restart of all ledgers takes.
AHEAD = 3
_TRIES = 10

_TABLES: tuple[LiteralString, ...] = (
    "CREATE TABLE IF NOT EXISTS meta (name text PRIMARY KEY, value text NOT NULL)",
    "CREATE TABLE IF NOT EXISTS counter (name text PRIMARY KEY, value integer NOT NULL)",
    """CREATE TABLE IF NOT EXISTS model (
      no integer PRIMARY KEY, namespace text NOT NULL, name text NOT NULL, epoch bigint NOT NULL, run integer NOT NULL,
      instructions text NOT NULL, shares text NOT NULL, senders text NOT NULL,
      sources text NOT NULL, version bigint NOT NULL, said bigint NOT NULL, kept double precision NOT NULL,
      UNIQUE (namespace, name))""",
    """CREATE TABLE IF NOT EXISTS run (
      no integer PRIMARY KEY, model integer NOT NULL, run text NOT NULL, digest text NOT NULL,
      started double precision NOT NULL, spec text NOT NULL, progress text NOT NULL, loss text, traffic text,
      version bigint NOT NULL, recorded bigint NOT NULL, matured bigint NOT NULL, due double precision NOT NULL,
      keep double precision NOT NULL, agreement boolean NOT NULL)""",
    "CREATE INDEX IF NOT EXISTS run_model ON run (model)",
    "CREATE TABLE IF NOT EXISTS arrival (run integer PRIMARY KEY, last bigint NOT NULL)",
    """CREATE TABLE IF NOT EXISTS block (
      run integer NOT NULL, stream smallint NOT NULL, seq integer NOT NULL, body text NOT NULL,
      PRIMARY KEY (run, stream, seq))""",
    """CREATE TABLE IF NOT EXISTS cohort (
      run integer NOT NULL, start double precision NOT NULL, counts bytea NOT NULL, PRIMARY KEY (run, start))""",
    """CREATE TABLE IF NOT EXISTS held (
      model integer NOT NULL, hash bigint NOT NULL, id bytea NOT NULL, idx integer NOT NULL,
      at double precision NOT NULL, class integer, soft bytea, sender text NOT NULL, against smallint NOT NULL,
      PRIMARY KEY (model, hash))""",
    "CREATE INDEX IF NOT EXISTS held_at ON held (model, at)",
    "CREATE TABLE IF NOT EXISTS batch (name bytea PRIMARY KEY, at double precision NOT NULL)",
    "CREATE INDEX IF NOT EXISTS batch_at ON batch (at)",
    """CREATE TABLE IF NOT EXISTS dropped (
      batch bytea PRIMARY KEY, model integer NOT NULL, run integer NOT NULL, reasons text NOT NULL)""",
    "CREATE TABLE IF NOT EXISTS segment (hour integer PRIMARY KEY)",
    """CREATE TABLE IF NOT EXISTS pair (
      hour integer NOT NULL, pid bigint NOT NULL, model integer NOT NULL, hash bigint NOT NULL, key bytea NOT NULL,
      id bytea NOT NULL, idx integer NOT NULL, time double precision NOT NULL, bo smallint NOT NULL,
      bl double precision NOT NULL, b bytea, co smallint NOT NULL, cl double precision NOT NULL, c bytea,
      PRIMARY KEY (pid, hour), UNIQUE (key, model, hour)) PARTITION BY RANGE (hour)""",
    "CREATE INDEX IF NOT EXISTS pair_hash ON pair (hash)",
    """CREATE TABLE IF NOT EXISTS label (
      hour integer NOT NULL, pid bigint NOT NULL, at double precision NOT NULL, class integer, soft bytea,
      late boolean NOT NULL, sender smallint, against smallint NOT NULL,
      PRIMARY KEY (pid, hour)) PARTITION BY RANGE (hour)""",
    "CREATE TABLE IF NOT EXISTS pair_stray PARTITION OF pair DEFAULT",
    "CREATE TABLE IF NOT EXISTS label_stray PARTITION OF label DEFAULT",
)

#: Runs with pairs in a partition that are not folded, or whose labels are waited for.
_NEEDED = """
SELECT 1 FROM run r WHERE EXISTS (SELECT 1 FROM {pairs} p WHERE p.pid BETWEEN {first} AND {last}) AND (
  r.keep + {end} > %s
  OR EXISTS (SELECT 1 FROM {pairs} p WHERE p.pid > r.recorded AND p.pid <= {last})
  OR (NOT r.agreement AND EXISTS (SELECT 1 FROM {pairs} p WHERE p.pid > r.matured AND p.pid <= {last}))
) LIMIT 1
"""
_FIRST, _LAST = sql.SQL("(r.no::bigint << 40)"), sql.SQL("((r.no + 1)::bigint << 40)")


def prepare(database: Database) -> str:
    """Makes the tables where they are missing; returns the name of this ledger. Raises LedgerError."""
    for number in range(_TRIES):
        try:
            with database.transaction():
                if number:  # not there at the first look
                    for statement in _TABLES:
                        database.run(statement)
                for name, value in (("schema", SCHEMA), ("source", uuid.uuid4().hex[:12])):
                    database.run("INSERT INTO meta VALUES (%s, %s) ON CONFLICT DO NOTHING", name, value)
                for name in ("model", "run"):
                    database.run("INSERT INTO counter VALUES (%s, 0) ON CONFLICT DO NOTHING", name)
                found: dict[str, str] = dict(database.rows("SELECT name, value FROM meta"))
        except StoreConflict as error:  # not there yet, or another ledger makes them now
            reason = error
            continue
        if found["schema"] != SCHEMA:
            raise SettingsError(
                f"the database has tables of another version ({found['schema']}, not {SCHEMA})",
                remedy="use the version that made them, or name an empty database",
            )
        return found["source"]
    raise SettingsError(reason.detail, remedy="start it again") from reason


def hour_of(key: bytes) -> int:
    """Of a pair, from its key's 6 bytes of milliseconds."""
    return int.from_bytes(key[:6], "big") // (1000 * HOUR)


class Segments:
    """Which hours have partitions; makes them ahead and drops them."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._hours: set[int] = set()
        self._refused: set[int] = set()

    def make(self, now: float) -> None:
        """Those of the hour before, this one and some to come. Outside of a transaction."""
        present = int(now // HOUR)
        if not self._hours.issuperset(range(present - 1, present + AHEAD)):
            with self._database.transaction():
                self._hours = {hour for (hour,) in self._database.rows("SELECT hour FROM segment")}
        wanted = [h for h in range(present - 1, present + AHEAD) if h not in self._hours and h not in self._refused]
        for hour in wanted:
            try:
                self._make(hour)
                self._hours.add(hour)
            except StoreConflict:
                return  # another ledger makes it
            except StoreError as error:
                # Its hour has pairs already, of a clock that was ahead: they stay in the default partition, with those
                # that come.
                log.warning("no partition for hour %d: %s", hour, error.detail)
                self._refused.add(hour)

    def count(self) -> int:
        row = self._database.one("SELECT count(*) FROM segment")
        return int(row[0]) if row else 0

    def drop_old(self, now: float) -> int:
        """Partitions that nobody needs any more; outside of a transaction."""
        with self._database.transaction():
            hours = [
                hour
                for (hour,) in self._database.rows("SELECT hour FROM segment ORDER BY hour")
                if hour < now // HOUR - 1 and not self._needed(hour, now)  # later ones are made anew
            ]
        return sum(self._drop(hour, now) for hour in hours)

    def clear_strays(self, now: float) -> None:
        """Rows of the default partition, one by one: there are few."""
        with self._database.transaction():
            self._database.run(
                "WITH gone AS (DELETE FROM pair_stray p USING run r WHERE r.no = p.pid >> 40 "
                "AND p.time < %s - r.keep AND p.pid <= r.recorded AND (r.agreement OR p.pid <= r.matured) "
                "RETURNING p.pid) DELETE FROM label_stray WHERE pid IN (SELECT pid FROM gone)",
                now - KEEP_SECONDS,
            )

    def _make(self, hour: int) -> None:
        with self._database.transaction():
            if self._database.one("SELECT 1 FROM segment WHERE hour = %s", hour):
                return
            self._database.run("INSERT INTO segment VALUES (%s)", hour)
            for table in ("pair", "label"):
                self._database.run(
                    sql.SQL("CREATE TABLE {} PARTITION OF {} FOR VALUES FROM ({}) TO ({})").format(
                        _partition(table, hour), sql.Identifier(table), sql.Literal(hour), sql.Literal(hour + 1)
                    )
                )

    def _drop(self, hour: int, now: float) -> bool:
        try:
            with self._database.transaction():
                # In the order in which all take them: parents first, pairs before labels.
                self._database.run("LOCK TABLE ONLY pair, ONLY label IN ACCESS EXCLUSIVE MODE")
                known = self._database.one("SELECT 1 FROM segment WHERE hour = %s", hour)
                if known is None or self._needed(hour, now):  # asked again: now nobody else adds to it
                    return False
                self._database.run("DELETE FROM segment WHERE hour = %s", hour)
                for table in ("label", "pair"):
                    self._database.run(sql.SQL("DROP TABLE {}").format(_partition(table, hour)))
        except StoreConflict as error:
            log.info("hour %d is dropped later: %s", hour, error.detail)
            return False
        self._hours.discard(hour)
        log.info("dropped the pairs and labels of hour %d", hour)
        return True

    def _needed(self, hour: int, now: float) -> bool:
        statement = sql.SQL(_NEEDED).format(
            pairs=_partition("pair", hour), first=_FIRST, last=_LAST, end=sql.Literal((hour + 1) * HOUR + KEEP_SECONDS)
        )
        return self._database.run(statement, now) > 0


def _partition(table: str, hour: int) -> sql.Identifier:
    return sql.Identifier(f"{table}_{hour}")
