"""How late labels come, per stretch of request time: what the gate learns the maturity from.

Called by `join`. A run keeps at most `MAX_COHORTS` stretches; when there would be more, they double in length.
"""

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from modelcanary_gate.maturity import DELAY_EDGES, Cohort, learn_maturity

MAX_COHORTS = 128
_FIRST_LENGTH = 10.0


class Delays:
    """Counts of labels by delay, (buckets,) per cohort; a cohort is named by its start in seconds."""

    def __init__(self, length: float = _FIRST_LENGTH) -> None:
        self.length = length
        self.cohorts: dict[float, NDArray[np.int64]] = {}
        self.changed: set[float] = set()
        self.doubled = False  # every stored cohort has to be replaced

    def add(self, times: NDArray[np.float64], delays: NDArray[np.float64]) -> None:
        """Labels by the time of their request and how long after it they came."""
        starts = np.floor(times / self.length) * self.length
        buckets = np.minimum(np.searchsorted(DELAY_EDGES, delays), len(DELAY_EDGES) - 1)
        for start in np.unique(starts).tolist():
            counts = np.bincount(buckets[starts == start], minlength=len(DELAY_EDGES)).astype(np.int64)
            self._merge(start, counts)
        while len(self.cohorts) > MAX_COHORTS:
            self._double()

    def load(self, rows: Iterable[tuple[float, bytes]]) -> None:
        for start, counts in rows:
            self.cohorts[start] = np.frombuffer(counts, np.int64)

    def learn(self, now: float, min_coverage: float) -> float | None:
        """Seconds after which a pair may count; None while too few labels are known."""
        rows = [
            # The youngest pair may be as young as the stretch allows.
            Cohort(min(start + self.length, now), tuple(counts.tolist()))
            for start, counts in sorted(self.cohorts.items())
        ]
        return learn_maturity(rows, now, min_coverage) if rows else None

    def _merge(self, start: float, counts: NDArray[np.int64]) -> None:
        known = self.cohorts.get(start)
        self.cohorts[start] = counts if known is None else known + counts
        self.changed.add(start)

    def _double(self) -> None:
        old, self.cohorts = self.cohorts, {}
        self.length *= 2
        self.changed, self.doubled = set(), True
        for start, counts in old.items():
            self._merge(float(np.floor(start / self.length) * self.length), counts)
