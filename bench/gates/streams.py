"""In which order a run meets the rows of a pool: independent, or in bursts.

Called by the scenarios. A stream is an array of row numbers, one per labelled pair.
"""

from collections.abc import Callable

import numpy as np
from bench.gates.pools import Pool
from numpy.typing import NDArray
from scipy.special import ndtri

Rows = NDArray[np.int32]
#: draws the rows of one run: (random generator, pairs) -> (pairs,) row numbers
Stream = Callable[[np.random.Generator, int], Rows]

MEAN_BURST = 20
#: share of the contrast's variance that the pairs of one burst have in common
BURST_CORRELATION = 0.05


def independent(pool: Pool) -> Stream:
    """Every pair drawn by itself."""
    size = len(pool.baseline)

    def draw(rng: np.random.Generator, pairs: int) -> Rows:
        return rng.integers(0, size, pairs, dtype=np.int32)

    return draw


def bursts(pool: Pool, *, mean: int = MEAN_BURST, correlation: float = BURST_CORRELATION) -> Stream:
    """Users who send several requests in a row, of geometric length, and whose pairs resemble each other.

    Rows are put in an order in which neighbours share `correlation` of the variance of the equal
    candidate's contrast (by rank); a burst is drawn from a narrow window (1% of the pool) of that order.
    """
    size = len(pool.baseline)
    window = max(5, size // 200)
    fixed = np.random.default_rng(5)
    rank = np.argsort(np.argsort(pool.contrast("equal")))
    key = np.sqrt(correlation) * ndtri((rank + 0.5) / size)
    order = np.argsort(key + np.sqrt(1 - correlation) * fixed.standard_normal(size)).astype(np.int32)

    def draw(rng: np.random.Generator, pairs: int) -> Rows:
        lengths = rng.geometric(1 / mean, pairs // mean + 200)
        while lengths.sum() < pairs:
            lengths = np.concatenate([lengths, rng.geometric(1 / mean, pairs // mean + 200)])
        centre = np.repeat(rng.integers(0, size, len(lengths)), lengths)[:pairs]
        return np.asarray(order[(centre + rng.integers(-window, window + 1, pairs)) % size])

    return draw
