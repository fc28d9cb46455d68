"""Confidence sequences for people: an interval of the delta that holds at every look at once.

The normal-mixture boundary of Howard, Ramdas, McAuliffe & Sekhon, "Time-uniform, nonparametric, nonasymptotic
confidence sequences", Annals of Statistics 49(2), 2021, eq. (14); with an estimated variance it is the asymptotic
confidence sequence of Waudby-Smith, Arbour, Sinha, Kennedy & Ramdas, Annals of Statistics 52(6), 2024. It is
shown, and decides nothing.
"""

import math

#: The interval is narrowest about here, in effective pairs.
OPTIMAL_PAIRS = 1000.0
SHOWN_ALPHA = 0.05
_NO_SPREAD = 1e-12


def best_rho(v: float, alpha: float) -> float:
    """The mixture's precision that makes the two-sided boundary tightest at intrinsic time `v`."""
    return v / (2 * math.log(1 / alpha) + math.log(1 + 2 * math.log(1 / alpha)))


def normal_mixture_bound(v: float, alpha: float, rho: float) -> float:
    """Two-sided boundary of a sum at intrinsic time `v`: |S| stays below it at all times, but for `alpha`."""
    return math.sqrt((v + rho) * (math.log(1 + v / rho) + 2 * math.log(1 / alpha)))


def mean_interval(n: float, mean: float, variance: float, phi: float) -> tuple[float, float]:
    """The 95% confidence sequence of a mean at `n` pairs, in the mean's unit.

    `variance` is that of a pair, `phi` the design effect: n correlated pairs tell as much as n/φ others.
    """
    if n < 2 or (mean != 0 and variance <= _NO_SPREAD * mean * mean):
        return -math.inf, math.inf  # a few equal differences say nothing of the others
    effective = n / phi
    bound = normal_mixture_bound(effective, SHOWN_ALPHA, best_rho(OPTIMAL_PAIRS, SHOWN_ALPHA))
    margin = math.sqrt(max(variance, 0.0)) * bound / effective
    return mean - margin, mean + margin
