import numpy as np
import pytest

from modelcanary_gate.trend import Trend


def _trend(times: np.ndarray, weights: np.ndarray, deltas: np.ndarray) -> Trend:
    trend = Trend()
    for time, weight, delta in zip(times, weights, deltas, strict=True):
        trend.push(float(time), float(weight), float(delta))
    return trend


def test_is_the_weighted_least_squares_slope() -> None:
    rng = np.random.default_rng(5)
    times, weights = np.sort(rng.uniform(1e6, 1e6 + 9, 40)), rng.integers(100, 400, 40)
    deltas = 0.02 * times + rng.normal(0.0, 0.1, 40)
    found = _trend(times, weights, deltas).slope(1.0, 1.0)
    assert found is not None
    expected = np.polyfit(times - times[0], deltas, 1, w=np.sqrt(weights))[0]
    assert found[0] == pytest.approx(expected, rel=1e-9)


def test_standard_error_is_that_of_many_repetitions() -> None:
    rng = np.random.default_rng(6)
    times, weights = np.arange(30.0), np.full(30, 200.0)
    slopes = []
    for _ in range(400):
        found = _trend(times, weights, rng.normal(0.0, np.sqrt(2.0 / 200), 30)).slope(2.0, 1.0)
        assert found is not None
        slopes.append(found[0])
    found = _trend(times, weights, np.zeros(30)).slope(2.0, 1.0)
    assert found is not None
    assert found[1] == pytest.approx(np.std(slopes), rel=0.12)


def test_looks_as_far_ahead_as_the_run_is_long() -> None:
    trend = _trend(np.array([5.0, 6.0, 7.0, 9.0]), np.full(4, 10.0), np.array([1.0, 1.5, 2.0, 3.0]))
    found = trend.slope(1.0, 1.0)
    assert found is not None
    assert found[0] == pytest.approx(0.5)
    assert trend.ahead(found[0]) == pytest.approx(3.0 + 4 * 0.5)


def test_autocorrelation_widens_it() -> None:
    trend = _trend(np.arange(5.0), np.ones(5), np.zeros(5))
    narrow, wide = trend.slope(1.0, 1.0), trend.slope(1.0, 9.0)
    assert narrow is not None and wide is not None
    assert wide[1] == pytest.approx(3 * narrow[1])


@pytest.mark.parametrize("times", [np.array([1.0, 2.0]), np.full(5, 7.0)])
def test_needs_three_blocks_of_different_times(times: np.ndarray) -> None:
    assert _trend(times, np.ones(len(times)), np.zeros(len(times))).slope(1.0, 1.0) is None
