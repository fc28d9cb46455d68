"""Delays per stretch of time: bounded, and kept as they were counted."""

import numpy as np
import pytest

from modelcanary_gate.maturity import DELAY_EDGES
from modelcanary_ledger.delays import MAX_COHORTS, MAX_CURVES, Delays
from modelcanary_ledger.join import time_in

NOW = 1_800_000_000.0


def test_cohorts_double_rather_than_grow():
    delays = Delays(2)
    rng = np.random.default_rng(5)
    total = 0
    for step in range(300):
        times = NOW + 100 * step + rng.random(20) * 100
        delays.add(times, rng.exponential(30, 20), rng.integers(0, 2, 20), rng.integers(-1, 2, 20))
        total += 20
        assert len(delays.cohorts) <= MAX_COHORTS
    assert sum(int(counts[:2].sum()) for counts in delays.cohorts.values()) == total
    assert delays.length == 10 * 2**5
    assert all(start % delays.length == 0 for start in delays.cohorts)
    assert delays.doubled


def test_buckets_hold_what_their_edges_say():
    for delay, bucket in [
        (0.0, 0),
        *((DELAY_EDGES[bucket], bucket) for bucket in (0, 1, 50, 131)),
        *((DELAY_EDGES[bucket] * 1.001, bucket + 1) for bucket in (0, 1, 50, 131)),
        (1e12, len(DELAY_EDGES) - 1),
    ]:
        delays = Delays(1)
        delays.add(np.array([NOW]), np.array([delay]), np.array([0]), np.array([-1]))
        (counts,) = delays.cohorts.values()
        assert np.flatnonzero(counts[0]).tolist() == [bucket]


def test_the_delay_is_learned_from_them():
    """Of the slower class; the other's labels are all in by then."""
    delays = _two_speeds(5000)
    found = delays.learn(NOW + 36000, 0.8)
    assert found is not None
    assert found.seconds == pytest.approx(-30 * np.log(0.2), rel=0.2)
    assert found.coverage == (pytest.approx(1.0), pytest.approx(1 - np.exp(-found.seconds / 30), abs=0.02))
    assert found.weights().tolist() == [pytest.approx(found.coverage[1]), 1.0]
    assert Delays(2).learn(NOW, 0.8) is None


def _two_speeds(n: int, *, slow: float = 30.0, until: float = np.inf) -> Delays:
    """Pairs of ten minutes, whose labels come within a second for class 0, after `slow` seconds on average for 1."""
    rng = np.random.default_rng(6)
    delays = Delays(2)
    times, classes = NOW + np.sort(rng.random(n)) * 600, rng.integers(0, 2, n)
    # The models are right in four of five.
    predicted = np.where(rng.random(n) < 0.8, classes, 1 - classes)
    late = np.where(classes == 0, rng.random(n), rng.exponential(slow, n))
    came = times + late <= until
    delays.add_pairs(times[times < until], predicted[times < until])
    delays.add(times[came], late[came], classes[came], predicted[came])
    return delays


def test_nothing_is_learned_while_a_class_has_no_labels_yet():
    """Half of the labels come within a second, the others after an hour: in between, a second would be learned."""
    now = NOW + 600
    delays = _two_speeds(5000, slow=1e6, until=now)
    assert delays.learn(now, 0.8) is None
    missing = Delays(2)  # without predictions that tell the classes apart
    rng = np.random.default_rng(7)
    times = NOW + np.sort(rng.random(5000)) * 600
    missing.add_pairs(times, rng.integers(0, 2, 5000))
    missing.add(times[:2500], np.full(2500, 0.5), np.zeros(2500, np.int64), rng.integers(0, 2, 2500))
    assert missing.learn(now, 0.8) is not None


def test_a_curve_that_still_rises_is_not_believed():
    delays = _two_speeds(5000, slow=3600, until=NOW + 600)
    assert delays.learn(NOW + 600, 0.8) is None


def test_another_run_of_the_model_teaches_at_once():
    """Its labels were as late, whatever the candidate was."""
    earlier = _two_speeds(5000)
    found = Delays(2).learn(NOW + 36000, 0.8, earlier=[earlier])
    assert found == earlier.learn(NOW + 36000, 0.8)
    assert Delays(3).learn(NOW + 36000, 0.8, earlier=[earlier]) is None  # other classes


def test_a_declared_time_has_a_coverage_too():
    found = _two_speeds(5000).learn(NOW + 36000, 0.5, declared=30.0)
    assert found is not None
    assert (found.seconds, found.coverage[0]) == (30.0, pytest.approx(1.0))
    assert found.coverage[1] == pytest.approx(1 - np.exp(-1), abs=0.06)
    bounded = _two_speeds(5000).learn(NOW + 36000, 0.8, declared=10.0)
    assert bounded is not None
    assert bounded.coverage[1] == 0.8  # no weight beyond what minCoverage allows


def test_what_is_stored_reads_back():
    delays = _two_speeds(1000)
    again = Delays(2, delays.length)
    again.load((start, delays.stored(start)) for start in delays.cohorts)
    assert again.cohorts.keys() == delays.cohorts.keys()
    assert all((again.cohorts[start] == counts).all() for start, counts in delays.cohorts.items())
    assert max(len(delays.stored(start)) for start in delays.cohorts) < 2000


def test_classes_beyond_the_last_curve_share_it():
    delays = Delays(100)
    assert delays.groups == MAX_CURVES
    delays.add(np.full(3, NOW), np.full(3, 5.0), np.array([0, 50, 99]), np.array([-1, 7, 99]))
    (counts,) = delays.cohorts.values()
    assert counts.sum(axis=1).tolist() == [1, *[0] * 6, 2, 0, *[0] * 6, 2]


@pytest.mark.parametrize(
    ("identifier", "seconds"),
    [
        (f"{int(NOW * 1000):012x}" + "ab" * 10, NOW),
        ("01a3185c-5000-7abc-8def-0123456789ab", int("01a3185c5000", 16) / 1000),
        ("01a3185c-5000-4abc-8def-0123456789ab", None),  # version 4: random
        ("f" * 32, None),  # far in the future
        ("0" * 32, None),
        ("z" * 32, None),
        ("req-42", None),
    ],
)
def test_the_time_at_the_head_of_an_id(identifier, seconds):
    assert time_in(identifier, NOW) == (None if seconds is None else pytest.approx(seconds))
