"""Labels that came before their pair: kept for a while, in bounds, and joined when the pair is recorded.

Made by `sqlite_store`. Memory holds what the main file holds; changes are written with the transaction they
belong to.
"""

from collections import OrderedDict
from collections.abc import Collection, Sequence

from modelcanary_ledger.idindex import id_hash, id_salt
from modelcanary_ledger.state import State
from modelcanary_ledger.store import HeldLabel

HOLD_SECONDS = 600.0
MAX_HELD = 50_000


class Held:
    """By the hash of model, id and index; oldest first."""

    def __init__(self, state: State) -> None:
        self._labels: OrderedDict[int, HeldLabel] = OrderedDict(
            (id_hash(row[1], id_salt(row[0], row[2])), HeldLabel._make(row)) for row in state.held()
        )
        self._added: dict[int, HeldLabel] = {}
        self._removed: list[HeldLabel] = []

    def any(self, model: int) -> bool:
        return bool(self._labels)

    def seek(self, model: int, hashes: Sequence[int]) -> None:
        """All are in memory."""

    def get(self, hashed: int) -> HeldLabel | None:
        return self._labels.get(hashed)

    def count(self, model: int) -> int:
        return sum(1 for label in self._labels.values() if label.model == model)

    def add(self, hashed: int, label: HeldLabel) -> HeldLabel | None:
        """Keeps a label; returns the oldest one where it had to make room."""
        self._labels[hashed] = label
        self._added[hashed] = label
        if len(self._labels) <= MAX_HELD:
            return None
        return self.remove(next(iter(self._labels)))

    def remove(self, hashed: int) -> HeldLabel:
        label = self._labels.pop(hashed)
        if self._added.pop(hashed, None) is None:
            self._removed.append(label)
        return label

    def contradict(self, hashed: int, against: int) -> None:
        label = self._labels[hashed]
        if hashed not in self._added:
            self._removed.append(label)  # its row is written anew
        self._labels[hashed] = self._added[hashed] = label._replace(against=against)

    def expired(self, models: Collection[int], now: float) -> list[HeldLabel]:
        """Removes and returns what has waited too long, of all models: nobody else has any of them."""
        gone = []
        while self._labels and next(iter(self._labels.values())).at < now - HOLD_SECONDS:
            gone.append(self.remove(next(iter(self._labels))))
        return gone

    def save(self, state: State) -> None:
        state.release((label.model, label.id, label.instance) for label in self._removed)
        state.hold(self._added.values())

    def saved(self) -> None:
        self._added.clear()
        self._removed.clear()
