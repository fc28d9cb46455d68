"""Columns into the baseline's order of classes: by the names in the answer, else by the declared order.

Class order is the trap of this trade: a library sorts its string labels, a server does not say so, and a
model read in the wrong order looks like a model that is always wrong.
"""

from collections.abc import Sequence

from modelcanary_gate.protocol import ModelReading
from modelcanary_gate.spec import Task, Values
from modelcanary_gate.vocabulary import Outcome, Role
from modelcanary_sidecar.decoding.table import some_names
from modelcanary_sidecar.decoding.unreadable import Cause, ReadingError, Unread

#: Answers of one model name their columns alike; a server that does not, does not get to fill the memory.
_REMEMBERED = 16


class Alignment:
    """The order of one role's columns. `order` is None where they are in the baseline's order already."""

    def __init__(self, reading: ModelReading, role: Role) -> None:
        self._classes = reading.classes
        declared = reading.classes
        if role is Role.CANDIDATE and reading.candidateClasses:
            declared = reading.candidateClasses
        if len(set(reading.classes)) != len(reading.classes):
            raise ReadingError("model.classes: a name occurs twice; each class needs a name of its own")
        if sorted(declared) != sorted(reading.classes):
            raise ReadingError("model.candidateClasses: not the same classes as model.classes, in any order")
        least = 1 if reading.task == Task.MULTILABEL else 2
        if len(declared) < least:
            raise ReadingError(f"model.classes: {len(declared)} given; at least {least} are needed")
        if (reading.values == Values.BINARY_SCORE or reading.task == Task.BINARY) and len(declared) != 2:
            raise ReadingError(f"model.classes: {len(declared)} given; a binary task has 2")
        self._single = reading.values == Values.BINARY_SCORE
        self._declared = self._by(declared)
        self._seen: dict[tuple[str, ...], Sequence[int] | Unread | None] = {}

    def order(self, names: tuple[str, ...] | None) -> Sequence[int] | Unread | None:
        """For each class of the baseline its column; or why there is none."""
        if names is None:
            return self._declared
        try:
            return self._seen[names]
        except KeyError:
            if len(self._seen) >= _REMEMBERED:
                self._seen.clear()
            order = self._seen[names] = self._named(names)
            return order

    def _named(self, names: tuple[str, ...]) -> Sequence[int] | Unread | None:
        known = set(self._classes) & set(names)
        if not known:
            return self._declared  # names of something else: `t:0`, `proba`
        if self._single and len(names) == 1:  # the class whose probability the score is
            return self._by((*(name for name in self._classes if name != names[0]), names[0]))
        if len(names) == len(self._classes) == len(known):
            return self._by(names)
        strangers = [name for name in names if name not in known]
        if not strangers and len(names) == len(known):
            return Unread(
                Outcome.TOP_K_ONLY, Cause.TOP_K, f"{len(names)} of {len(self._classes)} classes in the answer"
            )
        return Unread(
            Outcome.CLASS_COUNT,
            Cause.NAMES,
            f"the answer's names {some_names(names)} are not the classes {some_names(self._classes)}",
        )

    def _by(self, names: Sequence[str]) -> Sequence[int] | None:
        order = [list(names).index(name) for name in self._classes]
        return None if order == list(range(len(order))) else order
