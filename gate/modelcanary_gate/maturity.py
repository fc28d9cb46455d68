"""When a pair is old enough to count: where labels of one class come sooner, early labels lie.

The ledger asks with the delays it has seen, of the labels that came. Labels of young pairs can only have short
delays (right truncation), so the delay's distribution is estimated by the reverse-time hazard of Lagakos, Barraj &
De Gruttola, Biometrika 75(3), 1988; in cohorts it is the chain ladder of actuaries.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

#: Upper edges of the delay buckets, in seconds: from 50 ms to 60 days, 15% apart.
DELAY_EDGES = np.geomspace(0.05, 60 * 86400.0, 133)
#: Labels that have to have come before a delay is learned from them.
ENOUGH_LABELS = 300


@dataclass(frozen=True, slots=True)
class Cohort:
    """Pairs of one stretch of time, and the delays of the labels that came for them."""

    newest: float  # seconds since the epoch: the request time of the youngest pair
    delays: tuple[int, ...]  # labels per bucket; bucket i ends at DELAY_EDGES[i], the last one holds all later


def delay_bucket(delay: float) -> int:
    """The bucket of a label that came `delay` seconds after its request."""
    return min(int(np.searchsorted(DELAY_EDGES, delay)), len(DELAY_EDGES) - 1)


def learn_maturity(cohorts: Iterable[Cohort], now: float, min_coverage: float) -> float | None:
    """Seconds within which `min_coverage` of the labels that eventually arrive are in; None while unknown.

    A cohort tells about delays up to the age of its youngest pair only; with cohorts younger than the delays
    themselves the tail cannot be seen, and the answer grows as they age: callers never let it shrink.
    """
    rows = [(now - cohort.newest, np.asarray(cohort.delays, dtype=np.float64)) for cohort in cohorts]
    if sum(float(delays.sum()) for _, delays in rows) < ENOUGH_LABELS:
        return None
    ages = np.array([age for age, _ in rows])
    counts = np.stack([delays for _, delays in rows])
    observable = ages[:, None] >= DELAY_EDGES[None, :]
    cumulative = np.cumsum(counts, axis=1)
    # F(k−1) = F(k)·(1 − d(k)/R(k)) over the cohorts old enough to have shown a delay in bucket k.
    arrived = np.where(observable, counts, 0.0).sum(axis=0)
    at_risk = np.where(observable, cumulative, 0.0).sum(axis=0)
    hazard = np.divide(arrived, at_risk, out=np.zeros_like(arrived), where=at_risk > 0)
    known = np.flatnonzero(at_risk > 0)
    if len(known) == 0:
        return None
    last = int(known[-1])
    within = np.ones(last + 1)
    for k in range(last, 0, -1):
        within[k - 1] = within[k] * (1.0 - hazard[k])
    first = int(np.argmax(within >= min_coverage))
    return float(DELAY_EDGES[first])
