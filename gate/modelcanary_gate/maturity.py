"""When a pair is old enough to count, and how much: where labels of one class come sooner, early labels lie.

The ledger asks with the delays it has seen, of the labels that came, per class of labels. Labels of young pairs can
only have short delays (right truncation), so a delay's distribution is estimated by the reverse-time hazard of Lagakos,
Barraj & De Gruttola, Biometrika 75(3), 1988; in cohorts it is the chain ladder of actuaries.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

#: Upper edges of the delay buckets, in seconds: from 50 ms to 60 days, 15% apart.
DELAY_EDGES = np.geomspace(0.05, 60 * 86400.0, 133)
#: Labels that have to have come before a delay is learned from them.
ENOUGH_LABELS = 300
#: Labels of a class before it has a curve of its own; those of rarer classes share one.
ENOUGH_OF_CLASS = 100
#: A curve tells of a delay when it was watched for this many times as long. Sooner it still rises where it ends, and
#: the share of labels to come cannot be seen: labels of an hour's mean delay look, after ten minutes, like labels that
#: take five. Exponential delays are waited for until 75% of them are in where 80% are asked for.
WATCHED = 2.0


@dataclass(frozen=True, slots=True)
class Cohort:
    """Pairs of one stretch of time, and the delays of the labels that came for them."""

    newest: float  # seconds since the epoch: the request time of the youngest pair
    #: labels, (groups of classes, buckets); bucket i ends at DELAY_EDGES[i], the last one holds all later
    delays: NDArray[np.integer]


@dataclass(frozen=True, slots=True)
class Maturity:
    """`seconds` after its request a pair counts. `coverage`: per group of label classes, the share of the labels that
    ever come which is in by then."""

    seconds: float
    coverage: tuple[float, ...]

    def weights(self) -> Floats:
        """(groups,): what a labelled pair counts, at most 1; the class whose labels are slowest counts in full.

        Inverse-probability weights, 1/coverage, times a constant. A constant changes no null hypothesis, and a weight
        of at most 1 leaves a contrast within its bounds: the bets need not be made smaller.
        """
        coverage = np.asarray(self.coverage, dtype=np.float64)
        return np.asarray(coverage.min() / coverage)


def learn_maturity(
    cohorts: Iterable[Cohort], now: float, min_coverage: float, *, declared: float | None = None
) -> Maturity | None:
    """When `min_coverage` of the labels of each class that eventually arrive are in; None while unknown.

    A cohort tells about delays up to the age of its youngest pair only; with cohorts younger than the delays
    themselves the tail cannot be seen, and the answer grows as they age: callers never let it shrink.
    `declared`: the time is given, and only the coverage is asked for, at least `min_coverage` for each class.
    """
    rows = [(now - cohort.newest, np.asarray(cohort.delays, dtype=np.float64)) for cohort in cohorts]
    if sum(float(delays.sum()) for _, delays in rows) < ENOUGH_LABELS:
        return None
    ages = np.array([age for age, _ in rows])
    counts = np.stack([delays for _, delays in rows])  # (cohorts, groups, buckets)
    known = counts.sum(axis=(0, 2)) >= ENOUGH_OF_CLASS
    parts = [counts[:, group] for group in np.flatnonzero(known).tolist()]
    rare = counts[:, ~known].sum(axis=1)
    shared = len(parts)  # the place of the curve that rare classes have: their own if there are enough of them
    parts.append(rare if float(rare.sum()) >= ENOUGH_OF_CLASS else counts.sum(axis=1))
    curves = [_curve(ages, part) for part in parts]
    if any(curve is None for curve in curves):
        return None
    found = [curve for curve in curves if curve is not None]
    seconds = declared
    if seconds is None:
        seconds = max(float(DELAY_EDGES[int(np.argmax(curve >= min_coverage))]) for curve in found)
    # Of pairs older than the oldest with a label nobody was watching: labels may have begun to come since.
    if ages[counts.any(axis=(1, 2))].max() < WATCHED * seconds:
        return None
    # The last bucket that is over by then.
    bucket = int(np.searchsorted(DELAY_EDGES, seconds * (1 + 1e-9), side="right")) - 1
    within = [float(curve[min(bucket, len(curve) - 1)]) if bucket >= 0 else 0.0 for curve in found]
    place = np.where(known, np.cumsum(known) - 1, shared)
    return Maturity(seconds, tuple(min(1.0, max(min_coverage, within[index])) for index in place.tolist()))


def _curve(ages: Floats, counts: Floats) -> Floats | None:
    """F per bucket, of labels that come within the longest delay that could be seen; from counts (cohorts, buckets).

    F(k−1) = F(k)·(1 − d(k)/R(k)) over the cohorts old enough to have shown a delay in bucket k.
    """
    observable = ages[:, None] >= DELAY_EDGES[None, :]
    arrived = np.where(observable, counts, 0.0).sum(axis=0)
    at_risk = np.where(observable, np.cumsum(counts, axis=1), 0.0).sum(axis=0)
    hazard = np.divide(arrived, at_risk, out=np.zeros_like(arrived), where=at_risk > 0)
    known = np.flatnonzero(at_risk > 0)
    if len(known) == 0:
        return None
    last = int(known[-1])
    # F(last) = 1; each bucket before it by the product of what came later.
    later = np.cumprod((1.0 - hazard[1 : last + 1])[::-1])[::-1]
    return np.append(later, 1.0)
