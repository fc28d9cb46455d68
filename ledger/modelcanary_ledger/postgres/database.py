"""One connection to PostgreSQL: transactions, rows, COPY, and what its errors mean to those who asked.

Called by all of this package. A connection that broke is made anew when the next transaction begins. Every wait has
an end: for the connection, for a lock, for a statement, and for a peer that does not answer any more.
"""

import contextlib
import logging
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, LiteralString

import psycopg
from psycopg import errors
from psycopg.conninfo import conninfo_to_dict

from modelcanary_ledger.errors import DiskFull, LedgerError, SettingsError, StoreConflict, StoreError

log = logging.getLogger(__name__)

#: What the server is told of each connection. A ledger that hangs loses its locks by the last one.
_SESSION: tuple[LiteralString, ...] = (
    "SET lock_timeout = '5s'",
    "SET statement_timeout = '30s'",
    "SET idle_in_transaction_session_timeout = '15s'",
)
#: What libpq is told, where the URL does not say otherwise.
_DEFAULTS: dict[str, Any] = {
    "connect_timeout": 5,
    "application_name": "modelcanary-ledger",
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 2,
    "tcp_user_timeout": 15_000,
}
Row = tuple[Any, ...]


class Database:
    """Used by one thread. Raises StoreError, StoreConflict or DiskFull, and nothing of psycopg."""

    def __init__(self, url: str) -> None:
        """Raises SettingsError, without the URL, which may hold a password."""
        try:
            given = conninfo_to_dict(url)
        except psycopg.Error:
            raise SettingsError(
                "--store-url-file: its content is no PostgreSQL URL",
                remedy="write one line: postgresql://user:password@host:5432/database",
            ) from None
        self._options = {**_DEFAULTS, **{name: value for name, value in given.items() if value is not None}}
        self._connection: psycopg.Connection[Row] | None = None

    def again(self) -> "Database":
        """Another connection to the same place, for another thread."""
        other = Database.__new__(Database)
        other._options, other._connection = self._options, None
        return other

    # --- transactions

    def begin(self) -> None:
        if self._connection is None or self._connection.closed:
            self._connect()
        try:
            self.run("BEGIN ISOLATION LEVEL READ COMMITTED")
        except StoreError:  # the server was restarted, say, and only now it is seen
            self._connect()
            self.run("BEGIN ISOLATION LEVEL READ COMMITTED")

    def commit(self) -> None:
        self.run("COMMIT")

    def rollback(self) -> None:
        """Nothing is left of the transaction, whatever the connection is like."""
        if self._connection is not None and not self._connection.closed:
            with contextlib.suppress(LedgerError):
                self.run("ROLLBACK")
                return
        self.close()

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        self.begin()
        try:
            yield
            self.commit()
        except BaseException:
            self.rollback()
            raise

    # --- statements

    def rows(self, statement: LiteralString, *values: Any) -> list[Row]:
        with self._cursor() as cursor:
            return cursor.execute(statement, values or None).fetchall()

    def one(self, statement: LiteralString, *values: Any) -> Row | None:
        with self._cursor() as cursor:
            return cursor.execute(statement, values or None).fetchone()

    def run(self, statement: LiteralString | psycopg.sql.Composed, *values: Any) -> int:
        with self._cursor() as cursor:
            return cursor.execute(statement, values or None).rowcount

    def many(self, statement: LiteralString, rows: Sequence[Row]) -> None:
        if rows:
            with self._cursor() as cursor:
                cursor.executemany(statement, rows)

    def copy(self, statement: LiteralString, types: Sequence[str], rows: Iterable[Row]) -> None:
        with self._cursor() as cursor, cursor.copy(statement) as copy:
            copy.set_types(types)
            for row in rows:
                copy.write_row(row)

    def close(self) -> None:
        if self._connection is not None:
            with contextlib.suppress(psycopg.Error):
                self._connection.close()
            self._connection = None

    # --- inside

    def _connect(self) -> None:
        self.close()
        try:
            self._connection = psycopg.connect(**self._options, autocommit=True)
            for statement in _SESSION:
                self._connection.execute(statement)
        except psycopg.Error as error:
            self.close()
            raise self._mapped(error) from error

    @contextlib.contextmanager
    def _cursor(self) -> Iterator[psycopg.Cursor[Row]]:
        if self._connection is None:
            raise StoreError("there is no connection to PostgreSQL", remedy="send it again in a second")
        try:
            with self._connection.cursor(binary=True) as cursor:
                yield cursor
        except psycopg.Error as error:
            raise self._mapped(error) from error

    def _mapped(self, error: psycopg.Error) -> LedgerError:
        text = str(error).partition("\n")[0]
        match error:
            # Two ledgers met, in one of the ways in which servers say so: nothing is done, and it can be done again.
            case (
                errors.SerializationFailure()
                | errors.DeadlockDetected()
                | errors.LockNotAvailable()
                | errors.UniqueViolation()
                | errors.DuplicateTable()
                | errors.UndefinedTable()  # a partition that was dropped between two looks
            ):
                return StoreConflict(text, remedy="send it again in a second")
            case errors.DiskFull():
                return DiskFull("the disk of the database is full", remedy="make room; nothing was recorded")
            case psycopg.OperationalError() | psycopg.InterfaceError() | errors.ReadOnlySqlTransaction():
                self.close()  # after a failover the address leads to another server
                return StoreError(f"PostgreSQL cannot be used: {text}", remedy="send it again in a second")
            case _:
                return StoreError(f"PostgreSQL refused a statement: {text}", remedy="the ledger's log says more")
