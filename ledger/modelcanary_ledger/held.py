"""Labels that came before their pair: kept for a while, in bounds, and joined when the pair is recorded.

Called by `join` and `fold`. Memory holds what the main file holds; changes are written with the transaction they
belong to.
"""

from collections import OrderedDict
from collections.abc import Iterable
from typing import NamedTuple

from modelcanary_ledger.state import State

HOLD_SECONDS = 600.0
MAX_HELD = 50_000


class HeldLabel(NamedTuple):
    model: int
    id: str
    instance: int
    at: float
    value: int | bytes
    sender: str


class Held:
    """By the hash of model, id and index; oldest first."""

    def __init__(self, labels: Iterable[tuple[int, HeldLabel]]) -> None:
        self._labels: OrderedDict[int, HeldLabel] = OrderedDict(labels)
        self._added: dict[int, HeldLabel] = {}
        self._removed: list[HeldLabel] = []

    def __len__(self) -> int:
        return len(self._labels)

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

    def expired(self, now: float) -> list[HeldLabel]:
        """Removes and returns what has waited too long."""
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
