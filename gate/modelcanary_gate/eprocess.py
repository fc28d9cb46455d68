"""Evidence as wealth: log-wealth of a mixture of bets, with restarts, discounted for autocorrelation.

Folded by `gate`, block by block; every function works on arrays with any leading axes (contrasts, or
runs × contrasts in a simulation). Knows no roles, thresholds or verdicts.

- Betting: Waudby-Smith & Ramdas, JRSS-B 86(1), 2024: a gambler who stakes a share λ on `x > 0` multiplies the
  wealth by `1 + λx`; under the null `E[x] ≤ 0` the expected wealth never exceeds 1, at any stopping time.
- Restarts: a mixture over the block at which the regression starts, after Shin, Ramdas & Rinaldo, "E-detectors",
  New England Journal of Statistics in Data Science, 2024.
- The discount divides a block's log-wealth by φ ≥ 1, which keeps it a test under the conditional null (Jensen).
  Under dependence between blocks its error is calibrated by simulation, not guaranteed.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Discount:
    """How the design effect is estimated; the defaults are the outcome of the simulations."""

    prior: float = 2.0  # φ before anything is known
    prior_blocks: float = 8.0  # the weight of the prior, in blocks
    levels: int = 8  # superblocks of 1, 2, 4 … 128 blocks
    few: int = 4  # superblocks before level 0 is believed
    many: int = 32  # superblocks before a higher level is believed
    #: The two largest differences of a level count for at most this many times the mean of the others. A regression
    #: that starts mid-run makes two such at the most, and would hide behind its own φ.
    outlier: float = 6.0


class DesignEffect:
    """φ: by how much neighbouring blocks resemble each other more than independent pairs would.

    The largest, over dyadic levels, of the mean of `(ΔX̄)² / (1/n + 1/n′)` over successive superblocks, over the
    within-block variance. Successive differences, whose two largest are cut, do not take a shift of the mean for
    autocorrelation.
    """

    def __init__(self, shape: tuple[int, ...], discount: Discount) -> None:
        self._discount = discount
        levels = discount.levels
        self._blocks = 0
        self._within = np.zeros(shape)  # Σ (x − block mean)²
        self._freedom = 0.0
        self._open_sum = np.zeros((levels, *shape))
        self._open_n = np.zeros(levels)
        self._last_mean = np.zeros((levels, *shape))
        self._last_n = np.zeros(levels)
        self._squares = np.zeros((levels, *shape))
        self._largest = np.zeros((2, levels, *shape))
        self._complete = np.zeros(levels, dtype=np.int64)  # superblocks

    def value(self) -> Floats:
        """φ from the blocks pushed so far, ≥ 1; read it before the block that it discounts is pushed."""
        blocks, discount = self._blocks, self._discount
        needed = np.full(discount.levels, discount.many)
        needed[0] = discount.few
        known = (self._complete >= needed) & (self._complete >= 2)
        found = np.ones(self._within.shape)
        if known.any() and self._freedom > 0:
            differences = (self._complete[known] - 1).reshape(-1, *([1] * self._within.ndim))
            variance = self._within / self._freedom
            largest = self._largest[:, known]
            others = self._squares[known] - largest.sum(axis=0)
            usual = discount.outlier * others / np.maximum(differences - 2, 1)
            ratio = (others + np.minimum(largest, usual).sum(axis=0)) / differences
            ratio = np.divide(ratio, variance, out=np.ones_like(ratio), where=variance > 0)
            found = np.maximum(1.0, ratio.max(axis=0))
        weight = discount.prior_blocks
        return np.maximum(1.0, (weight * discount.prior + blocks * found) / (weight + blocks))

    def push(self, n: float, x: Floats, xx: Floats) -> None:
        """Adds a block of `n` pairs with sums `x` and sums of squares `xx`."""
        self._within += np.maximum(xx - x * x / n, 0.0)
        self._freedom += n - 1
        self._blocks += 1
        self._open_sum += x
        self._open_n += n
        for level in range(self._discount.levels):
            if self._blocks % (1 << level):
                break  # no higher level is complete either
            count = self._open_n[level]
            mean = self._open_sum[level] / count
            if self._complete[level]:
                spread = 1 / count + 1 / self._last_n[level]
                square = (mean - self._last_mean[level]) ** 2 / spread
                self._squares[level] += square
                first, second = self._largest[:, level]
                self._largest[1, level] = np.maximum(second, np.minimum(first, square))
                self._largest[0, level] = np.maximum(first, square)
            self._last_mean[level] = mean
            self._last_n[level] = count
            self._open_sum[level] = 0.0
            self._open_n[level] = 0.0
            self._complete[level] += 1


#: Restarts are spread over this many blocks; a run has about 1,300 at the most.
RESTART_BLOCKS = 1000
#: The prior weight of 'it was so from the start'.
FIRST_WEIGHT = 0.5


def restart_weight(block: int, *, first: float = FIRST_WEIGHT, blocks: int = RESTART_BLOCKS) -> float:
    """Prior weight that the regression starts with the given block, counted from 0; the weights sum to 1."""
    if block == 0:
        return first
    return (1 - first) / (blocks - 1) if block < blocks else 0.0


class Wealth:
    """log M per contrast: M is an e-process of 'x has mean ≤ 0', compared with 1/α by Ville's inequality."""

    def __init__(self, restarts: NDArray[np.bool_], grid_size: int) -> None:
        """`restarts` says per contrast whether a change within the run is looked for."""
        self._restarts = restarts
        self._grid_size = grid_size
        self._log = np.full((*restarts.shape, grid_size), -np.inf)
        self._unspent = 1.0
        self._blocks = 0

    def push(self, log_wealth: Floats, phi: Floats) -> None:
        """Adds a block's Σ ln(1 + λx), (…, grid), discounted by φ, (…)."""
        weight = restart_weight(self._blocks)
        stake = np.where(self._restarts, weight, 1.0 if self._blocks == 0 else 0.0)
        with np.errstate(divide="ignore"):
            log_stake = np.log(stake)
        self._log = np.logaddexp(self._log, log_stake[..., None]) + log_wealth / phi[..., None]
        self._unspent = max(0.0, self._unspent - weight)
        self._blocks += 1

    def log_evidence(self) -> Floats:
        """log M, (…): the mean over the bets, plus the stakes of starts that are still to come."""
        if self._blocks == 0:
            return np.zeros(self._restarts.shape)
        mixed: Floats = np.logaddexp.reduce(self._log, axis=-1) - np.log(self._grid_size)
        if self._unspent <= 0:
            return mixed
        started: Floats = np.logaddexp(mixed, np.log(self._unspent))
        return np.where(self._restarts, started, mixed)

    def log_bets(self) -> Floats:
        """log-wealth of each bet, (…, grid)."""
        return self._log
