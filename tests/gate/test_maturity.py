"""The learned maturity against delays whose distribution is known."""

import numpy as np
import pytest

from modelcanary_gate.maturity import (
    DELAY_EDGES,
    ENOUGH_LABELS,
    ENOUGH_OF_CLASS,
    Cohort,
    Maturity,
    learn_maturity,
)

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
        buckets = np.minimum(np.searchsorted(DELAY_EDGES, came), len(DELAY_EDGES) - 1)
        counts = np.bincount(buckets, minlength=len(DELAY_EDGES))
        cohorts.append(Cohort(newest=float(times.max()), delays=counts[None, :]))
    return cohorts


def _seconds(cohorts: list[Cohort], now: float, coverage: float) -> float | None:
    found = learn_maturity(cohorts, now, coverage)
    return None if found is None else found.seconds


def _exponential(rng: np.random.Generator, n: int) -> np.ndarray:
    return rng.exponential(60 * MINUTE, n)


def test_pairs_from_before_the_first_label_watched_no_delay() -> None:
    """Labels of an hour's mean delay began to be sent ten minutes ago, to a model that was asked for a day."""
    now = 10 * MINUTE
    cohorts = _cohorts(_exponential, now, per_cohort=5000, width=MINUTE)
    old = [Cohort(newest=now - 3600.0 * hours, delays=np.zeros((1, len(DELAY_EDGES)))) for hours in range(1, 24)]
    assert _seconds([*old, *cohorts], now, 0.8) is None


@pytest.mark.parametrize("coverage", [0.5, 0.8, 0.95])
def test_is_the_quantile_of_the_delay_once_the_tail_can_be_seen(coverage: float) -> None:
    found = _seconds(_cohorts(_exponential, 12 * 3600.0), 12 * 3600.0, coverage)
    assert found == pytest.approx(-np.log(1 - coverage) * 3600, rel=0.16)  # a bucket is 17% wide


def test_young_labels_do_not_shorten_it() -> None:
    """Of the labels in hand after 4 h, 80% came sooner than the 80% quantile: the estimate corrects for it."""
    now = 4 * 3600.0
    cohorts = _cohorts(_exponential, now)
    seen = np.sum([cohort.delays[0] for cohort in cohorts], axis=0)
    naive = DELAY_EDGES[np.argmax(np.cumsum(seen) >= 0.8 * seen.sum())]
    found = _seconds(cohorts, now, 0.8)
    truth = -np.log(0.2) * 3600
    assert found is not None
    assert naive < 0.85 * truth
    assert abs(found - truth) < abs(naive - truth) / 2


def test_missing_labels_do_not_matter() -> None:
    """Where people label 5% of all, what counts is the delay of those."""

    def sparse(rng: np.random.Generator, n: int) -> np.ndarray:
        return np.where(rng.random(n) < 0.05, rng.exponential(10 * MINUTE, n), np.inf)

    found = _seconds(_cohorts(sparse, 6 * 3600.0), 6 * 3600.0, 0.9)
    assert found == pytest.approx(-np.log(0.1) * 600, rel=0.2)


def test_is_unknown_until_enough_labels_have_come() -> None:
    delays = np.zeros((1, len(DELAY_EDGES)), np.int32)
    delays[0, 10] = ENOUGH_LABELS - 1
    assert learn_maturity([Cohort(0.0, delays)], 1e6, 0.8) is None
    delays[0, 10] += 1
    assert learn_maturity([Cohort(0.0, delays)], 1e6, 0.8) == Maturity(pytest.approx(DELAY_EDGES[10]), (1.0,))


def test_is_unknown_while_no_cohort_is_older_than_the_delays() -> None:
    delays = np.zeros((1, len(DELAY_EDGES)), np.int32)
    delays[0, 60] = 1000
    assert learn_maturity([Cohort(0.0, delays)], DELAY_EDGES[59], 0.8) is None
    # … and for as long again, in case more of them are on their way.
    assert learn_maturity([Cohort(0.0, delays)], 1.9 * DELAY_EDGES[60], 0.8) is None
    assert learn_maturity([Cohort(0.0, delays)], 2.1 * DELAY_EDGES[60], 0.8) is not None


def test_the_slowest_class_decides_and_counts_in_full() -> None:
    """Learned together, the half that comes at once would hide the half that takes an hour."""
    now = 12 * 3600.0
    slow, fast = (_cohorts(delays, now) for delays in (_exponential, lambda rng, n: rng.exponential(MINUTE, n)))
    cohorts = [Cohort(a.newest, np.concatenate([a.delays, b.delays])) for a, b in zip(slow, fast, strict=True)]
    found = learn_maturity(cohorts, now, 0.8)
    assert found is not None
    assert found.seconds == pytest.approx(-np.log(0.2) * 3600, rel=0.16)
    truth = 1 - np.exp(-found.seconds / 3600)
    assert found.coverage == (pytest.approx(truth, abs=0.03), pytest.approx(1.0))
    assert found.weights().tolist() == [1.0, found.coverage[0]]
    pooled = learn_maturity([Cohort(c.newest, c.delays.sum(axis=0, keepdims=True)) for c in cohorts], now, 0.8)
    assert pooled is not None
    assert pooled.seconds < 0.65 * found.seconds


def test_a_rare_class_has_the_curve_of_the_others() -> None:
    delays = np.zeros((3, len(DELAY_EDGES)), np.int32)
    delays[0, 20], delays[1, 40], delays[2, 60] = 5000, 5000, ENOUGH_OF_CLASS - 1
    found = learn_maturity([Cohort(0.0, delays)], 1e7, 0.8)
    assert found is not None
    assert found.seconds == pytest.approx(DELAY_EDGES[40])
    assert found.coverage[:2] == (1.0, 1.0)
    assert found.coverage[2] == pytest.approx(10000 / (10000 + ENOUGH_OF_CLASS - 1))
    delays[2, 60] += 1
    assert learn_maturity([Cohort(0.0, delays)], 1e7, 0.8).seconds == pytest.approx(DELAY_EDGES[60])  # type: ignore[union-attr]
