"""The boundary's reference values are in test_golden; here: what the interval does."""

import math

import numpy as np
import pytest

from modelcanary_gate.confidence import mean_interval


def test_contains_the_mean_and_narrows_with_pairs() -> None:
    lower, upper = mean_interval(1000, 0.3, 1.0, 1.0)
    assert lower < 0.3 < upper
    assert upper - 0.3 == pytest.approx(0.3 - lower)
    wider = mean_interval(250, 0.3, 1.0, 1.0)
    assert wider[1] - wider[0] > 1.8 * (upper - lower)


def test_a_design_effect_counts_as_fewer_pairs() -> None:
    assert mean_interval(1000, 0.0, 1.0, 4.0) == pytest.approx(mean_interval(250, 0.0, 1.0, 1.0))


def test_says_nothing_about_one_pair() -> None:
    assert mean_interval(1, 0.3, 0.0, 1.0) == (-math.inf, math.inf)


def test_a_few_equal_differences_have_no_width_of_zero() -> None:
    assert mean_interval(8, 0.1335, 0.0, 1.0) == (-math.inf, math.inf)
    assert mean_interval(8, 0.0, 0.0, 1.0) == (0.0, 0.0)  # an identical candidate


def test_covers_the_mean_at_every_look() -> None:
    """At most 5% of 400 runs of 200 looks ever leave the interval, where a plain 95% interval is left by most."""
    rng = np.random.default_rng(3)
    sums = rng.exponential(1.0, (400, 200, 50)).sum(axis=2).cumsum(axis=1) - 50 * np.arange(1, 201)
    n = 50 * np.arange(1, 201)
    half = np.array([mean_interval(k, 0.0, 1.0, 1.0)[1] for k in n])
    plain = 1.96 / np.sqrt(n)
    left = (np.abs(sums / n) > half).any(axis=1).mean()
    left_plain = (np.abs(sums / n) > plain).any(axis=1).mean()
    assert left <= 0.05
    assert left_plain > 0.2
