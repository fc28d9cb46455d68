"""How late labels come, per stretch of request time: what the gate learns the maturity from.

Called by `run`, `join` and `fold`. A run keeps at most `MAX_COHORTS` stretches; when there would be more, they double
in length. Labels are counted by their own class, whose delay is what biases a loss, and, with the pairs, by the class
that the baseline predicted: that is all that is known of a label that has not come.
"""

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from modelcanary_gate.bias import MATTERS, uneven
from modelcanary_gate.maturity import DELAY_EDGES, Cohort, Maturity, learn_maturity

MAX_COHORTS = 128
#: Groups of classes with a curve of their own; the last holds all further classes. Bounds a run's memory to 1.2 MB.
MAX_CURVES = 8
_FIRST_LENGTH = 10.0
_BUCKETS = len(DELAY_EDGES)

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


class Delays:
    """Counts per cohort, which is named by its start in seconds: (2 × groups, buckets + 1).

    The first half of the rows are labels by their own class, the second half labels by the predicted class and, in the
    last column, pairs.
    """

    def __init__(self, classes: int, length: float = _FIRST_LENGTH) -> None:
        self.groups = max(1, min(classes, MAX_CURVES))
        self.length = length
        self.cohorts: dict[float, NDArray[np.int32]] = {}
        self.changed: set[float] = set()
        self.doubled = False  # every stored cohort has to be replaced

    def add_pairs(self, times: Floats, predicted: Ints) -> None:
        """Pairs that can be scored, by the time of their request and the class that the baseline predicted."""
        self._count(times, self._group(predicted) + self.groups, np.full(len(times), _BUCKETS))

    def add(self, times: Floats, delays: Floats, classes: Ints, predicted: Ints) -> None:
        """Labels by the time of their request, how long after it they came, and the two classes; −1: none."""
        buckets = np.minimum(np.searchsorted(DELAY_EDGES, delays), _BUCKETS - 1)
        self._count(times, self._group(np.maximum(classes, 0)), buckets)
        known = predicted >= 0
        self._count(times[known], self._group(predicted[known]) + self.groups, buckets[known])

    def load(self, rows: Iterable[tuple[float, bytes]]) -> None:
        for start, stored in rows:
            places, counts = np.frombuffer(stored, "<i4").reshape(2, -1)
            cohort = self._empty()
            cohort.reshape(-1)[places] = counts
            self.cohorts[start] = cohort

    def stored(self, start: float) -> bytes:
        """A cohort for the disk: where it is not 0, and what it is there."""
        flat = self.cohorts[start].reshape(-1)
        places = np.flatnonzero(flat)
        return np.stack([places, flat[places]]).astype("<i4").tobytes()

    def learn(
        self, now: float, min_coverage: float, *, declared: float | None = None, earlier: "Sequence[Delays]" = ()
    ) -> Maturity | None:
        """When pairs may count; None while that is unknown.

        `earlier`: of the model's runs before; how late a label is does not depend on the candidate. It is unknown, too,
        while labels of pairs that old are missing far more often where one class is predicted: of a class whose labels
        are all still on their way, there is no delay to learn from. What is admitted anyway, by `min_coverage` and
        later by the gate, is no reason to wait.
        """
        rows = [cohort for delays in (*earlier, self) if delays.groups == self.groups for cohort in delays._rows(now)]
        found = learn_maturity(rows, now, min_coverage, declared=declared) if rows else None
        if found is None or (declared is None and self._missing(now, found.seconds, MATTERS + 1 - min_coverage)):
            return None
        return found

    def _missing(self, now: float, seconds: float, matters: float) -> bool:
        old = [counts for start, counts in self.cohorts.items() if start + self.length <= now - seconds]
        if not old:
            return False
        counts: Floats = np.stack(old).sum(axis=0, dtype=np.float64)[self.groups :]
        # The last bucket that is over by then.
        within = int(np.searchsorted(DELAY_EDGES, seconds * (1 + 1e-9), side="right"))
        pairs = counts[:, _BUCKETS]
        return uneven(pairs, pairs - counts[:, :within].sum(axis=1), matters) is not None

    def _rows(self, now: float) -> Iterator[Cohort]:
        for start, counts in sorted(self.cohorts.items()):
            # The youngest pair may be as young as the stretch allows.
            yield Cohort(min(start + self.length, now), counts[: self.groups, :_BUCKETS])

    def _group(self, classes: Ints) -> Ints:
        return np.minimum(classes, self.groups - 1)

    def _count(self, times: Floats, rows: Ints, columns: NDArray[np.intp]) -> None:
        if not len(times):
            return
        starts = np.floor(times / self.length) * self.length
        for start in np.unique(starts).tolist():
            here = starts == start
            counts = self._empty()
            np.add.at(counts, (rows[here], columns[here]), 1)
            self._merge(start, counts)
        while len(self.cohorts) > MAX_COHORTS:
            self._double()

    def _empty(self) -> NDArray[np.int32]:
        return np.zeros((2 * self.groups, _BUCKETS + 1), dtype=np.int32)

    def _merge(self, start: float, counts: NDArray[np.int32]) -> None:
        known = self.cohorts.get(start)
        self.cohorts[start] = counts if known is None else known + counts
        self.changed.add(start)

    def _double(self) -> None:
        old, self.cohorts = self.cohorts, {}
        self.length *= 2
        self.changed, self.doubled = set(), True
        for start, counts in old.items():
            self._merge(float(np.floor(start / self.length) * self.length), counts)
