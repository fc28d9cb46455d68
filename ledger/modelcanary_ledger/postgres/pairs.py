"""Pairs in PostgreSQL: appended once by COPY, found by the clients' ids, read in the order of arrival.

Called by `store`. Who appends to a run holds its row in `arrival` until the commit: so the numbers of a run's pairs
are given in the order in which they are committed, and a cursor that has passed a number has missed nothing.
"""

from collections.abc import Collection, Iterable, Sequence
from hashlib import blake2b

from modelcanary_gate.evidence import OUTCOME_CODES
from modelcanary_gate.protocol import Pair
from modelcanary_ledger.idindex import id_hash, id_salt
from modelcanary_ledger.postgres.columns import id_of, id_to
from modelcanary_ledger.postgres.database import Database, Row
from modelcanary_ledger.postgres.schema import HOUR, hour_of
from modelcanary_ledger.store import SLACK, Arrival, ArrivedRow, JoinRow, MaturedRow, Wanted, first_pid
from modelcanary_ledger.texts import text_of

_COPY = "COPY pair (hour, pid, model, hash, key, id, idx, time, bo, bl, b, co, cl, c) FROM STDIN (FORMAT BINARY)"
_TYPES = (
    *("int4", "int8", "int4", "int8", "bytea", "bytea", "int4", "float8"),
    *("int2", "float8", "bytea", "int2", "float8", "bytea"),
)
#: Labels whose requests were made in more different hours are looked for everywhere at once.
_MAX_RANGES = 4


class Pairs:
    """Within transactions that the caller frames."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def record(self, arrivals: Sequence[Arrival], now: float) -> list[int]:
        """How many pairs of each batch are new."""
        fresh = self._fresh_batches(arrivals, now)
        last = self._last([one.run for one in arrivals])  # without those that another ledger has dropped
        self._note_dropped([one for one in arrivals if one.run in last], fresh)
        known = self._known_keys([pair for one in arrivals for pair in one.batch.pairs])
        rows: list[Row] = []
        recorded: list[int] = []
        for one in arrivals:
            before = len(rows)
            if one.run in last and fresh.pop(_name(one), False):
                for pair in one.batch.pairs:
                    key = (pair.key, one.model)
                    if key not in known:
                        known.add(key)
                        last[one.run] += 1
                        rows.append(_row(one, pair, last[one.run], now))
            recorded.append(len(rows) - before)
        if rows:
            self._database.copy(_COPY, _TYPES, rows)
            self._database.many(
                "UPDATE arrival SET last = %s WHERE run = %s AND last <> %s",
                [(number, run, number) for run, number in last.items()],
            )
        return recorded

    def find(self, wanted: Sequence[Wanted]) -> list[list[JoinRow]]:
        found: dict[int, list[JoinRow]] = {}
        ranges: dict[tuple[int, int], list[int]] = {}
        for one in wanted:
            if one.around is not None:
                span = int((one.around - SLACK) // HOUR), int((one.around + SLACK) // HOUR)
                ranges.setdefault(span, []).append(one.hash)
        if len(ranges) <= _MAX_RANGES:
            for (first, last), hashes in ranges.items():
                _collect(
                    found,
                    self._database.rows(
                        "SELECT hash, pid, id, idx, time, b, c, hour FROM pair "
                        "WHERE hash = ANY(%s) AND hour BETWEEN %s AND %s ORDER BY pid",
                        hashes,
                        first,
                        last,
                    ),
                )
        missing = [one.hash for one in wanted if not _is_near(found.get(one.hash, ()), one.around)]
        if missing:
            for hashed in missing:
                found.pop(hashed, None)
            _collect(
                found,
                self._database.rows(
                    "SELECT hash, pid, id, idx, time, b, c, hour FROM pair WHERE hash = ANY(%s) ORDER BY pid", missing
                ),
            )
        return [
            [row for row in found.get(one.hash, ()) if row.id == one.id and row.instance == one.index] for one in wanted
        ]

    def arrived(self, run: int, after: int, limit: int) -> list[ArrivedRow]:
        rows = self._database.rows(
            "SELECT pid, hash, time, bo, bl, co, cl, id, idx, b, c, hour FROM pair "
            "WHERE pid > %s AND pid < %s ORDER BY pid LIMIT %s",
            after,
            first_pid(run + 1),
            limit,
        )
        return [(*row[:7], id_of(row[7]), *row[8:]) for row in rows]

    def matured(self, run: int, after: int, limit: int) -> list[MaturedRow]:
        return self._database.rows(
            "SELECT pid, time, bo, co, b, c FROM pair WHERE pid > %s AND pid < %s ORDER BY pid LIMIT %s",
            after,
            first_pid(run + 1),
            limit,
        )

    def has_pairs(self, run: int) -> bool:
        # Who records now is waited for, and who comes later finds out whether there still is such a run.
        self._last([run])
        found = self._database.rows(
            "SELECT 1 FROM pair WHERE pid > %s AND pid < %s LIMIT 1", first_pid(run), first_pid(run + 1)
        )
        return bool(found)

    def _fresh_batches(self, arrivals: Sequence[Arrival], now: float) -> dict[bytes, bool]:
        """Names of batches that were not there yet."""
        rows = self._database.rows(
            # Sorted: two that insert the same names never wait for each other.
            "INSERT INTO batch SELECT name, %s FROM unnest(%s::bytea[]) AS name ORDER BY name "
            "ON CONFLICT DO NOTHING RETURNING name",
            now,
            sorted({_name(one) for one in arrivals}),
        )
        return {bytes(name): True for (name,) in rows}

    def _note_dropped(self, arrivals: Sequence[Arrival], fresh: Collection[bytes]) -> None:
        """What new batches say that they dropped, for `take_drops`."""
        named = {_name(one): one for one in arrivals}
        self._database.many(
            "INSERT INTO dropped VALUES (%s, %s, %s, %s)",
            [
                (name, one.model, one.run, text_of(one.batch.dropped))
                for name, one in named.items()
                if name in fresh and one.batch.dropped
            ],
        )

    def _last(self, runs: Iterable[int]) -> dict[int, int]:
        """The last number of each run, which nobody else gives on until the commit."""
        rows = self._database.rows(
            "SELECT run, last FROM arrival WHERE run = ANY(%s) ORDER BY run FOR UPDATE", sorted(set(runs))
        )
        return dict(rows)

    def _known_keys(self, pairs: Sequence[Pair]) -> set[tuple[bytes, int]]:
        if not pairs:
            return set()
        hours = [hour_of(pair.key) for pair in pairs]
        rows = self._database.rows(
            "SELECT key, model FROM pair WHERE key = ANY(%s) AND hour BETWEEN %s AND %s",
            [pair.key for pair in pairs],
            min(hours),
            max(hours),
        )
        return {(bytes(key), model) for key, model in rows}


def _name(one: Arrival) -> bytes:
    """A name is whatever a sidecar sends, and of any length."""
    name = f"{one.model}\0{one.batch.sidecar}\0{one.batch.batch}"
    return blake2b(name.encode("utf-8", "surrogatepass"), digest_size=16).digest()


def _row(one: Arrival, pair: Pair, pid: int, now: float) -> Row:
    base, cand = pair.baseline, pair.candidate
    return (
        *(hour_of(pair.key), pid, one.model, id_hash(pair.id, id_salt(one.model, pair.index)), pair.key),
        # A request is not later than its arrival here, whatever the sidecar's clock says.
        *(id_to(pair.id), pair.index, min(pair.time, now)),
        *(OUTCOME_CODES[base.outcome], base.latency, base.log_probabilities),
        *(OUTCOME_CODES[cand.outcome], cand.latency, cand.log_probabilities),
    )


def _is_near(rows: Iterable[JoinRow], around: float | None) -> bool:
    """Whether the search has its pair: one of another time may not be the only one of its id."""
    return around is not None and any(abs(row.time - around) <= SLACK for row in rows)


def _collect(found: dict[int, list[JoinRow]], rows: Iterable[Row]) -> None:
    for hashed, pid, identifier, index, time, b, c, hour in rows:
        found.setdefault(hashed, []).append(JoinRow(pid, id_of(identifier), index, time, b, c, hour))
