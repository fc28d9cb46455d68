"""Latencies as a histogram that merges: buckets of 4% width, so that a quantile is right to 2%.

The layout is that of DDSketch (Masson, Rim & Lee, VLDB 12(12), 2019) without collapsing: from a microsecond to
an hour there are 560 buckets.
"""

import math
from collections import Counter
from dataclasses import dataclass, field
from typing import Self

import numpy as np
from numpy.typing import NDArray

_BASE = 1.04
_UNIT = 1e-6  # seconds


@dataclass(frozen=True, slots=True)
class LatencyHistogram:
    """Counts per bucket; bucket k holds latencies from 1.04^k to 1.04^(k+1) microseconds."""

    counts: dict[int, int] = field(default_factory=dict)

    @classmethod
    def of(cls, seconds: NDArray[np.float64]) -> Self:
        known = seconds[seconds >= 0]  # NaN compares false, and is left out with the negative
        buckets = np.floor(np.log(np.maximum(known, _UNIT) / _UNIT) / math.log(_BASE)).astype(np.int64)
        values, counts = np.unique(buckets, return_counts=True)
        return cls(dict(zip(values.tolist(), counts.tolist(), strict=True)))

    def __add__(self, other: Self) -> Self:
        return type(self)(dict(Counter(self.counts) + Counter(other.counts)))

    @property
    def n(self) -> int:
        return sum(self.counts.values())

    def quantile(self, q: float) -> float | None:
        """The q-quantile in seconds, within 2%; None when empty."""
        rank, seen = q * self.n, 0
        for bucket in sorted(self.counts):
            seen += self.counts[bucket]
            if seen >= rank:
                return float(_UNIT * _BASE ** (bucket + 0.5))
        return None
