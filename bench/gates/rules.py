"""The rules that others gate by, on the same block sums, looked at after every block.

Called by the scenarios. Each rule answers, per run and look, whether it says roll back and whether promote; (R, B)
booleans. Where a tool has settings, they are its documented defaults or the example of its documentation.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from bench.gates.pools import BOUND, Array
from bench.gates.sums import PROMOTE, ROLLBACK, RunSums
from numpy.typing import NDArray
from scipy.special import gammainc, gammaln, log_ndtr, ndtri

Flags = NDArray[np.bool_]
Rule = Callable[[RunSums], tuple[Flags, Flags]]

ALPHA = 0.001
PROMOTE_ALPHA = 0.005
#: Mann-Whitney waits for this many blocks: Kayenta takes 50 points as the least for a judgement
MIN_POINTS = 50


@dataclass(frozen=True, slots=True)
class Ruled:
    rollback: Array  # look (from 1) of the first alarm per run, inf where there is none
    promote: Array
    flips: Array


def apply(rule: Rule, sums: RunSums) -> Ruled:
    bad, good = rule(sums)
    verdict = np.where(bad, -1, np.where(good, 1, 0))
    return Ruled(first(bad), first(good), (np.diff(verdict, axis=1) != 0).sum(axis=1).astype(np.float64))


def first(flags: Flags) -> Array:
    look: Array = flags.argmax(axis=1) + 1.0
    look[~flags.any(axis=1)] = np.inf
    return look


def flagger(sums: RunSums) -> tuple[Flags, Flags]:
    """A metric template on a rolling mean: every 1,000 pairs, 2% worse is a failed check; 5 fail, 10 promote."""
    worse = rolling(sums.c, 10) / rolling(sums.b, 10) - 1
    checked = np.zeros(worse.shape[1], dtype=np.bool_)
    checked[9::10] = True
    failed, passed = (worse > 0.02) & checked, (worse <= 0.02) & checked
    return np.cumsum(failed, axis=1) >= 5, np.cumsum(passed, axis=1) >= 10


def kayenta(sums: RunSums) -> tuple[Flags, Flags]:
    """Mann-Whitney at 98% with a tolerance of a quarter, on block means, users split between the models."""
    z = mann_whitney(sums.c / sums.n, sums.split / sums.n)
    return z > 2.326 / 0.75, np.zeros(z.shape, dtype=np.bool_)


def mann_whitney(candidate: Array, baseline: Array) -> Array:
    """z of 'the candidate's points are larger', on all points up to each look, (R, B); −inf before MIN_POINTS."""
    looks = candidate.shape[1]
    count = np.arange(1, looks + 1.0)
    z = np.empty(candidate.shape)
    for run, (c, b) in enumerate(zip(candidate, baseline, strict=True)):
        larger = c[:, None] > b[None, :]
        # one more point of each: the new c against all b so far, and the earlier c against the new b
        row = np.cumsum(larger, axis=1, dtype=np.int32).diagonal()
        column = np.cumsum(larger, axis=0, dtype=np.int32).diagonal() - larger.diagonal()
        u = np.cumsum(row + column)
        z[run] = (u - count**2 / 2 - 0.5) / np.sqrt(count**2 * (2 * count + 1) / 12)
    z[:, : MIN_POINTS - 1] = -np.inf
    return z


def t_test(sums: RunSums, alpha: float = 0.01) -> tuple[Flags, Flags]:
    """The paired t-test, one-sided at 1%, read at every look as if it were the only one."""
    z = -float(ndtri(alpha))
    return tuple(mean * np.sqrt(sums.pairs / variance) > z for mean, variance in _moments(sums))  # type: ignore[return-value]


def thresholds(sums: RunSums) -> tuple[Flags, Flags]:
    """Two thresholds on a rolling mean of 2,000 pairs: above 3% for 5 looks, below 1% for 20."""
    worse = rolling(sums.c, 20) / rolling(sums.b, 20) - 1
    enough = sums.pairs >= 2000
    return in_a_row((worse > 0.03) & enough, 5), in_a_row((worse < 0.01) & enough, 20)


def asymptotic(sums: RunSums) -> tuple[Flags, Flags]:
    """The asymptotic confidence sequence (Waudby-Smith et al. 2024), one-sided, from 1,000 pairs on."""
    flags = []
    for (mean, variance), alpha in zip(_moments(sums), (ALPHA, PROMOTE_ALPHA), strict=True):
        s = sums.pairs * mean / np.sqrt(variance)
        log_e = one_sided_normal_mixture(s, sums.pairs, one_sided_rho(5000.0, alpha))
        flags.append((log_e >= -math.log(alpha)) & (sums.pairs >= 1000))
    return flags[0], flags[1]


def empirical_bernstein(sums: RunSums) -> tuple[Flags, Flags]:
    """The gamma-exponential mixture with the empirical variance (Howard et al. 2021), of contrasts ≥ −L."""
    flags = []
    for contrast, alpha in ((ROLLBACK, ALPHA), (PROMOTE, PROMOTE_ALPHA)):
        x, xx = sums.x[:, :, contrast], sums.xx[:, :, contrast]
        total = np.cumsum(x, axis=1)
        # the mean of earlier blocks predicts the next: 0 for the first
        predicted = np.concatenate([np.zeros((len(x), 1)), total[:, :-1] / sums.pairs[:-1]], axis=1)
        v = np.cumsum(xx - 2 * predicted * x + sums.n * predicted**2, axis=1)
        log_e = gamma_exponential_mixture(np.maximum(total, 0.0), v, one_sided_rho(1000.0, alpha), BOUND)
        flags.append((log_e >= -math.log(alpha)) & (total > 0))
    return flags[0], flags[1]


#: In the order of the table.
RULES: dict[str, Rule] = {
    "Flagger-style: rolling mean, threshold 2%, 5 failures": flagger,
    "Kayenta-style: Mann-Whitney 98%, split traffic": kayenta,
    "paired t-test at 1%, repeated": t_test,
    "two thresholds on a rolling mean": thresholds,
    "asymptotic confidence sequence": asymptotic,
    "empirical-Bernstein confidence sequence": empirical_bernstein,
}


def _moments(sums: RunSums) -> list[tuple[Array, Array]]:
    """(mean, variance) of both contrasts up to each look."""
    found = []
    for contrast in (ROLLBACK, PROMOTE):
        mean = np.cumsum(sums.x[:, :, contrast], axis=1) / sums.pairs
        square = np.cumsum(sums.xx[:, :, contrast], axis=1) / sums.pairs
        found.append((mean, np.maximum(square - mean**2, 1e-18)))
    return found


def rolling(values: Array, window: int) -> Array:
    """Sums over the last `window` blocks, or all of them at first."""
    total = np.cumsum(values, axis=1)
    total[:, window:] -= total[:, :-window].copy()
    return total


def in_a_row(flags: Flags, looks: int) -> Flags:
    out = np.zeros_like(flags)
    total = np.cumsum(flags, axis=1)
    out[:, looks - 1 :] = total[:, looks - 1 :] - np.pad(total[:, :-looks], ((0, 0), (1, 0))) == looks
    return out


def one_sided_rho(v: float, alpha: float) -> float:
    """The precision that is best at intrinsic time `v`, one-sided: Howard et al. 2021, (3.4) with 2α."""
    level = 2 * math.log(1 / (2 * alpha))
    return v / (level + math.log(1 + level))


def one_sided_normal_mixture(s: Array, v: Array, rho: float) -> Array:
    """log of the one-sided normal mixture: Howard et al. 2021, proposition 6."""
    spread = v + rho
    return np.asarray(0.5 * np.log(4 * rho / spread) + s * s / (2 * spread) + log_ndtr(s / np.sqrt(spread)))


def gamma_exponential_mixture(s: Array, v: Array, rho: float, c: float) -> Array:
    """log of the gamma-exponential mixture with scale `c`: Howard et al. 2021, proposition 9."""
    a, shape = rho / c**2, (v + rho) / c**2
    w = (c * s + v) / c**2 + a
    with np.errstate(divide="ignore"):
        constant = a * np.log(a) - gammaln(a) - np.log(gammainc(a, a))
        tail = gammaln(shape) + np.log(gammainc(shape, w)) - shape * np.log(w)
    return np.asarray(constant + tail + (c * s + v) / c**2)
