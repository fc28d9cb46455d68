"""Evidence as wealth: log-wealth of a mixture of bets, with restarts, discounted for autocorrelation.

Folded by `gate`, block by block; every function works on arrays with any leading axes (contrasts, or
runs × contrasts in a simulation). Knows no roles, thresholds or verdicts.

- Betting: Waudby-Smith & Ramdas, JRSS-B 86(1), 2024: a gambler who stakes a share λ on `x > 0` multiplies the
  wealth by `1 + λx`; under the null `E[x] ≤ 0` the expected wealth never exceeds 1, at any stopping time.
- Restarts: a mixture over the block at which the regression starts, after Shin, Ramdas & Rinaldo, "E-detectors",
  New England Journal of Statistics in Data Science, 2024.
- The discount raises each wealth W of the mixture to the power 1/φ, φ ≥ 1, with the φ known now, also for the
  blocks that are past. By Jensen's inequality the mean of W^(1/φ) is at most (mean of W)^(1/φ): where it reaches
  1/α, the mixture itself has, so Ville's inequality holds whatever φ does. Under dependence between blocks its error is
  calibrated by simulation, not guaranteed.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Discount:
    """How the design effect is estimated; the defaults are the outcome of the simulations."""

    prior: float = 2.0  # φ before anything is known
    prior_blocks: float = 16.0  # the weight of the prior, in blocks
    levels: int = 8  # superblocks of 1, 2, 4 … 128 blocks
    few: int = 4  # superblocks before level 0 is believed
    many: int = 24  # superblocks before a higher level is believed
    #: The two largest differences of a level count for at most this many times the mean of the others. A regression
    #: that starts mid-run makes two such at the most, and would hide behind its own φ.
    outlier: float = 7.0
    #: A burst that lies across an edge makes neighbours alike, and their difference small: what a level finds beyond 1
    #: is raised by this many pairs over its superblock's, but never by more than `edge_most`.
    edge: float = 60.0
    edge_most: float = 0.6
    #: Standard errors that a higher level has to exceed what it finds by: the largest of eight noisy numbers is not 1.
    doubt: float = 1.0


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
        self._n = 0.0
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
        """φ from the blocks pushed so far, ≥ 1."""
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
            superblock = (self._n / blocks * 2.0 ** np.arange(discount.levels)[known]).reshape(differences.shape)
            raised = 1 + np.minimum(discount.edge / superblock, discount.edge_most)
            # The variance of a mean of k squared successive differences is about 3/k of its square.
            doubt = np.where(np.arange(discount.levels)[known] > 0, discount.doubt, 0.0).reshape(differences.shape)
            ratio = 1 + raised * (ratio - 1) - doubt * np.sqrt(3 / differences)
            found = np.maximum(1.0, ratio.max(axis=0))
        weight = discount.prior_blocks
        return np.maximum(1.0, (weight * discount.prior + blocks * found) / (weight + blocks))

    def push(self, n: float, x: Floats, xx: Floats) -> None:
        """Adds a block of `n` pairs with sums `x` and sums of squares `xx`."""
        self._within += np.maximum(xx - x * x / n, 0.0)
        self._freedom += n - 1
        self._blocks += 1
        self._n += n
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


#: The prior weight of 'it was so from the start'.
FIRST_WEIGHT = 0.75
#: Half of the other weight goes to the first this many blocks; it never ends.
RESTART_BLOCKS = 500


def unspent_weight(block: int, *, first: float = FIRST_WEIGHT, half: int = RESTART_BLOCKS) -> float:
    """Prior weight that the regression starts after the given block, counted from 0."""
    return (1 - first) * half / (half + block)


def restart_weight(block: int) -> float:
    """Prior weight that the regression starts with the given block, counted from 0; the weights sum to 1."""
    return FIRST_WEIGHT if block == 0 else unspent_weight(block - 1) - unspent_weight(block)


#: The powers 1/φ that wealth is kept for, rising; between two of them, log M lies below the chord (it is convex), which
#: reaches a level only where one of its ends does: so Ville's inequality holds for the chord, too.
_POWERS = 1 / np.array([np.inf, 30.0, 10.0, 6.0, 4.0, 3.0, 2.4, 2.0, 1.7, 1.45, 1.25, 1.1, 1.0])


class Wealth:
    """log M per contrast: M is an e-process of 'x has mean ≤ 0', compared with 1/α by Ville's inequality."""

    def __init__(self, restarts: NDArray[np.bool_], prior: Floats) -> None:
        """`restarts`, (…), says per contrast whether a change within the run is looked for; `prior`, (…, grid), how
        the stake is split over its bets, each row with the sum 1."""
        self._restarts = restarts
        self._log_prior = np.log(prior)[..., None, :]
        self._log = np.full((*restarts.shape, len(_POWERS), prior.shape[-1]), -np.inf)
        self._blocks = 0

    def push(self, log_wealth: Floats) -> None:
        """Adds a block's Σ ln(1 + λx), (…, grid)."""
        weight = restart_weight(self._blocks)
        if self._blocks == 0:
            self._log[:] = np.log(np.where(self._restarts, weight, 1.0))[..., None, None]
        else:
            self._log[self._restarts] = np.logaddexp(self._log[self._restarts], np.log(weight))
        self._log += log_wealth[..., None, :] * _POWERS[:, None]
        self._blocks += 1

    def log_evidence(self, phi: Floats) -> Floats:
        """log M, (…), at the design effects `phi`, (…): over the bets, and the starts that are past and to come."""
        if self._blocks == 0:
            return np.zeros(self._restarts.shape)
        power = 1 / np.maximum(phi, 1.0)
        above = np.clip(np.searchsorted(_POWERS, power), 1, len(_POWERS) - 1)
        part = (power - _POWERS[above - 1]) / (_POWERS[above] - _POWERS[above - 1])
        return self._at(above - 1) * (1 - part) + self._at(above) * part

    def _at(self, index: NDArray[np.intp]) -> Floats:
        """log M at one of the powers, (…)."""
        log = np.take_along_axis(self._log, index[..., None, None], axis=-2)
        mixed: Floats = np.logaddexp.reduce((log + self._log_prior)[..., 0, :], axis=-1)
        return np.where(self._restarts, np.logaddexp(mixed, np.log(unspent_weight(self._blocks - 1))), mixed)
