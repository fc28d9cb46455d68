"""Delays per stretch of time: bounded, and kept as they were counted."""

import numpy as np
import pytest

from modelcanary_ledger.delays import MAX_COHORTS, Delays
from modelcanary_ledger.join import time_in

NOW = 1_800_000_000.0


def test_cohorts_double_rather_than_grow():
    delays = Delays()
    rng = np.random.default_rng(5)
    total = 0
    for step in range(300):
        times = NOW + 100 * step + rng.random(20) * 100
        delays.add(times, rng.exponential(30, 20))
        total += 20
        assert len(delays.cohorts) <= MAX_COHORTS
    assert sum(int(counts.sum()) for counts in delays.cohorts.values()) == total
    assert delays.length == 10 * 2**5
    assert all(start % delays.length == 0 for start in delays.cohorts)
    assert delays.doubled


def test_the_delay_is_learned_from_them():
    delays = Delays()
    rng = np.random.default_rng(6)
    times = NOW + rng.random(5000) * 600
    delays.add(times, rng.exponential(30, 5000))
    assert delays.learn(NOW + 36000, 0.8) == pytest.approx(-30 * np.log(0.2), rel=0.2)
    assert Delays().learn(NOW, 0.8) is None


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
