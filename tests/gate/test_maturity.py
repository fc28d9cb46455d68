"""The learned maturity against delays whose distribution is known."""

import numpy as np
import pytest

from modelcanary_gate.maturity import DELAY_EDGES, ENOUGH_LABELS, Cohort, delay_bucket, learn_maturity

MINUTE = 60.0


def _cohorts(delays_of: object, now: float, *, per_cohort: int = 500, width: float = 5 * MINUTE) -> list[Cohort]:
    """Pairs come evenly from time 0 on; a label has come when its delay is over by `now`."""
    rng = np.random.default_rng(4)
    cohorts = []
    for start in np.arange(0.0, now, width):
        times = start + rng.random(per_cohort) * width
        times = times[times < now]
        delays = delays_of(rng, len(times))  # type: ignore[operator]
        came = delays[times + delays <= now]
        counts = np.bincount([delay_bucket(d) for d in came], minlength=len(DELAY_EDGES))
        cohorts.append(Cohort(newest=float(times.max()), delays=tuple(counts.tolist())))
    return cohorts


def _exponential(rng: np.random.Generator, n: int) -> np.ndarray:
    return rng.exponential(60 * MINUTE, n)


@pytest.mark.parametrize("coverage", [0.5, 0.8, 0.95])
def test_is_the_quantile_of_the_delay_once_the_tail_can_be_seen(coverage: float) -> None:
    found = learn_maturity(_cohorts(_exponential, 12 * 3600.0), 12 * 3600.0, coverage)
    assert found == pytest.approx(-np.log(1 - coverage) * 3600, rel=0.16)  # a bucket is 17% wide


def test_young_labels_do_not_shorten_it() -> None:
    """Of the labels in hand after 4 h, 80% came sooner than the 80% quantile: the estimate corrects for it."""
    now = 4 * 3600.0
    cohorts = _cohorts(_exponential, now)
    seen = np.sum([cohort.delays for cohort in cohorts], axis=0)
    naive = DELAY_EDGES[np.argmax(np.cumsum(seen) >= 0.8 * seen.sum())]
    found = learn_maturity(cohorts, now, 0.8)
    truth = -np.log(0.2) * 3600
    assert found is not None
    assert naive < 0.85 * truth
    assert abs(found - truth) < abs(naive - truth) / 2


def test_missing_labels_do_not_matter() -> None:
    """Where people label 5% of all, what counts is the delay of those."""

    def sparse(rng: np.random.Generator, n: int) -> np.ndarray:
        return np.where(rng.random(n) < 0.05, rng.exponential(10 * MINUTE, n), np.inf)

    found = learn_maturity(_cohorts(sparse, 6 * 3600.0), 6 * 3600.0, 0.9)
    assert found == pytest.approx(-np.log(0.1) * 600, rel=0.2)


def test_is_unknown_until_enough_labels_have_come() -> None:
    delays = [0] * len(DELAY_EDGES)
    delays[10] = ENOUGH_LABELS - 1
    assert learn_maturity([Cohort(0.0, tuple(delays))], 1e6, 0.8) is None
    delays[10] += 1
    assert learn_maturity([Cohort(0.0, tuple(delays))], 1e6, 0.8) == pytest.approx(DELAY_EDGES[10])


def test_is_unknown_while_no_cohort_is_older_than_the_delays() -> None:
    delays = [0] * len(DELAY_EDGES)
    delays[60] = 1000
    assert learn_maturity([Cohort(0.0, tuple(delays))], DELAY_EDGES[59], 0.8) is None


def test_buckets_hold_what_their_edges_say() -> None:
    assert delay_bucket(0.0) == 0
    for bucket in (0, 1, 50, 131):
        assert delay_bucket(float(DELAY_EDGES[bucket])) == bucket
        assert delay_bucket(float(DELAY_EDGES[bucket]) * 1.001) == bucket + 1
    assert delay_bucket(1e12) == len(DELAY_EDGES) - 1
