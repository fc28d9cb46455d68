"""One stream of blocks folded into evidence: wealth, design effect, triggers and running totals per contrast.

`gate` keeps two: of matured labelled pairs, and of all answered pairs.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from modelcanary_gate.contrasts import GRID_SIZE, Contrast
from modelcanary_gate.eprocess import DesignEffect, Discount, Wealth
from modelcanary_gate.evidence import ContrastSums
from modelcanary_gate.hysteresis import Trigger

Floats = NDArray[np.float64]


class Stream:
    """Folds blocks in order. `restarts` says per contrast whether a change within the run is looked for."""

    def __init__(
        self,
        contrasts: Sequence[Contrast],
        triggers: Sequence[Trigger],
        restarts: Sequence[bool],
        discount: Discount,
    ) -> None:
        m = len(contrasts)
        self.contrasts = contrasts
        self.triggers = triggers
        self.n = 0
        self.blocks = 0
        self.x = np.zeros(m)
        self.xx = np.zeros(m)
        self.log_evidence: Floats = np.zeros(m)
        self._whole = np.zeros((m, GRID_SIZE))
        prior = np.array([contrast.prior() for contrast in contrasts]).reshape(m, GRID_SIZE)
        self._log_prior = np.log(prior)
        self._wealth = Wealth(np.array(restarts, dtype=np.bool_), prior)
        self._effect = DesignEffect((m,), discount)
        self._phi = self._effect.value()

    def push(self, n: int, sums: ContrastSums) -> None:
        """Adds a block of `n` pairs. Triggers are the caller's to push: they depend on more than one contrast."""
        self._wealth.push(sums.log)
        self._effect.push(n, sums.x, sums.xx)
        self._whole += sums.log
        self.x += sums.x
        self.xx += sums.xx
        self.n += n
        self.blocks += 1
        self._phi = self._effect.value()
        self.log_evidence = self._wealth.log_evidence(self._phi)

    def phi(self, index: int) -> float:
        return float(self._phi[index])

    def mean(self, index: int) -> float:
        """Mean of a contrast, 0 before the first pair."""
        return float(self.x[index]) / self.n if self.n else 0.0

    def variance(self, index: int) -> float:
        """Variance of a contrast between pairs."""
        if self.n < 2:
            return 0.0
        return max(0.0, float(self.xx[index]) / self.n - self.mean(index) ** 2)

    def standard_error(self, index: int) -> float:
        """Of the mean, inflated by √φ for autocorrelation."""
        return float(np.sqrt(self.phi(index) * self.variance(index) / self.n)) if self.n else float("inf")

    def pairs_to_go(self, index: int) -> float | None:
        """Pairs until the evidence reaches its threshold, if it grows on as it did so far; None if it does not."""
        if self.n == 0:
            return None
        wealth = self._whole[index] / self._phi[index]
        growth = wealth / self.n
        rising = growth > 0
        if not rising.any():
            return None
        goal = self.triggers[index].threshold - self._log_prior[index]
        with np.errstate(over="ignore"):  # growth may be next to nothing
            pairs = ((goal - wealth)[rising] / growth[rising]).min()
        return max(0.0, float(pairs)) if np.isfinite(pairs) else None
