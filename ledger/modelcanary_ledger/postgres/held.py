"""Labels that came before their pair, in a table: what one ledger holds, any other joins when the pair comes.

Made by `store`. Within a transaction, and for models that it has entered, what was sought is in memory.
"""

from collections.abc import Collection, Sequence

from modelcanary_ledger.held import HOLD_SECONDS, MAX_HELD
from modelcanary_ledger.postgres.columns import id_of, id_to, value_of, value_to
from modelcanary_ledger.postgres.database import Database
from modelcanary_ledger.store import HeldLabel


class PostgresHeld:
    """By the hash of model, id and index."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._sought: dict[int, HeldLabel | None] = {}  # in this transaction
        self._added: dict[int, HeldLabel] = {}

    def reset(self) -> None:
        self._sought.clear()
        self._added.clear()

    def any(self, model: int) -> bool:
        return bool(self._added) or bool(self._database.rows("SELECT 1 FROM held WHERE model = %s LIMIT 1", model))

    def count(self, model: int) -> int:
        row = self._database.one("SELECT count(*) FROM held WHERE model = %s", model)
        return int(row[0]) if row else 0

    def seek(self, model: int, hashes: Sequence[int]) -> None:
        missing = [hashed for hashed in hashes if hashed not in self._sought]
        if not missing:
            return
        self._sought.update(dict.fromkeys(missing))
        for hashed, *columns in self._database.rows(
            "SELECT hash, model, id, idx, at, class, soft, sender, against FROM held "
            "WHERE model = %s AND hash = ANY(%s)",
            model,
            missing,
        ):
            self._sought[hashed] = _label(*columns)

    def get(self, hashed: int) -> HeldLabel | None:
        return self._sought.get(hashed)

    def add(self, hashed: int, label: HeldLabel) -> HeldLabel | None:
        """What is beyond the bound goes with what has waited too long, a moment later."""
        self._sought[hashed] = self._added[hashed] = label
        return None

    def remove(self, hashed: int) -> HeldLabel:
        label = self._sought[hashed]
        if label is None:
            raise KeyError(hashed)
        self._sought[hashed] = None
        if self._added.pop(hashed, None) is None:
            self._database.run("DELETE FROM held WHERE model = %s AND hash = %s", label.model, hashed)
        return label

    def contradict(self, hashed: int, against: int) -> None:
        label = self._sought[hashed]
        if label is None:
            raise KeyError(hashed)
        self._sought[hashed] = label._replace(against=against)
        if hashed in self._added:
            self._added[hashed] = label._replace(against=against)
        else:
            self._database.run(
                "UPDATE held SET against = %s WHERE model = %s AND hash = %s", against, label.model, hashed
            )

    def expired(self, models: Collection[int], now: float) -> list[HeldLabel]:
        self.flush()
        gone: list[HeldLabel] = []
        for model in models:
            self._database.run("UPDATE model SET kept = %s WHERE no = %s", now, model)
            bound = self._database.one(
                "SELECT at FROM held WHERE model = %s ORDER BY at DESC OFFSET %s LIMIT 1", model, MAX_HELD
            )
            before = max(now - HOLD_SECONDS, bound[0] if bound else 0.0)
            gone += [
                _label(*columns)
                for columns in self._database.rows(
                    "DELETE FROM held WHERE model = %s AND at < %s "
                    "RETURNING model, id, idx, at, class, soft, sender, against",
                    model,
                    before,
                )
            ]
        self._sought.clear()
        return gone

    def flush(self) -> None:
        """Writes what was added, before the transaction commits."""
        self._database.many(
            "INSERT INTO held (hash, model, id, idx, at, class, soft, sender, against) "
            "VALUES (%s,%s,%s,%s,%s,%s,%s,%s,%s)",
            [
                (hashed, one.model, id_to(one.id), one.instance, one.at, *value_to(one.value), one.sender, one.against)
                for hashed, one in self._added.items()
            ],
        )
        self._added.clear()


def _label(
    model: int,
    identifier: bytes,
    index: int,
    at: float,
    hard: int | None,
    soft: bytes | None,
    sender: str,
    against: int,
) -> HeldLabel:
    return HeldLabel(model, id_of(identifier), index, at, value_of(hard, soft), sender, against)
