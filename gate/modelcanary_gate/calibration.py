"""Are the probabilities as large as they should be? Reliability bins, and their debiased error.

The usual binned calibration error is biased: a perfectly calibrated model shows 0.026 at 1,000 samples in 15
bins. The squared form minus its own sampling variance is unbiased per bin (Kumar, Liang & Ma, "Verified
uncertainty calibration", NeurIPS 2019, section 5).
"""

import math
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

BINS = 15


@dataclass(frozen=True, slots=True)
class Reliability:
    """Sums per bin of confidence, (BINS,) each; two of them add."""

    n: Floats
    confidence: Floats
    correct: Floats
    gap_squares: Floats  # Σ (confidence − correct)²

    @classmethod
    def empty(cls) -> Self:
        return cls(*(np.zeros(BINS) for _ in range(4)))

    @classmethod
    def of(cls, confidence: Floats, correct: NDArray[np.bool_]) -> Self:
        """From the predicted class's probability, (n,), and whether it was right, (n,); NaN rows are left out."""
        known = ~np.isnan(confidence)
        confidence, hit = confidence[known], correct[known].astype(np.float64)
        bins = np.minimum((confidence * BINS).astype(np.int64), BINS - 1)
        columns = (np.ones_like(hit), confidence, hit, (confidence - hit) ** 2)
        return cls(*(np.bincount(bins, column, BINS).astype(np.float64) for column in columns))

    def __add__(self, other: Self) -> Self:
        return type(self)(
            self.n + other.n,
            self.confidence + other.confidence,
            self.correct + other.correct,
            self.gap_squares + other.gap_squares,
        )

    def error(self) -> float | None:
        """Root of the debiased mean squared gap between confidence and accuracy; None below two samples a bin."""
        squared = self._squared()
        return None if squared is None else math.sqrt(max(0.0, squared[0]))

    def clearly(self) -> float | None:
        """The error that is there beyond one standard error of its estimate: what a veto goes by."""
        squared = self._squared()
        return None if squared is None else math.sqrt(max(0.0, squared[0] - squared[1]))

    def _squared(self) -> tuple[float, float] | None:
        """(debiased mean squared gap, its standard error from the normal approximation of each bin's gap)."""
        enough = self.n >= 2
        if not enough.any():
            return None
        n = self.n[enough]
        gap = (self.confidence - self.correct)[enough] / n
        # rounding leaves a bin of equal gaps a little below zero
        variance = np.maximum(0.0, self.gap_squares[enough] / n - gap**2) / (n - 1)
        weight = n / n.sum()
        spread = 4 * gap**2 * variance + 2 * variance**2
        return float(np.sum(weight * (gap**2 - variance))), math.sqrt(float(np.sum(weight**2 * spread)))
