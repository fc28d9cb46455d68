import numpy as np
import pytest

from modelcanary_gate.latency import LatencyHistogram

RNG = np.random.default_rng(8)


@pytest.mark.parametrize("q", [0.01, 0.5, 0.9, 0.99, 0.999])
def test_quantiles_are_right_to_two_percent(q: float) -> None:
    seconds = RNG.lognormal(-5.0, 1.0, 20_000)
    found = LatencyHistogram.of(seconds).quantile(q)
    assert found == pytest.approx(np.quantile(seconds, q, method="inverted_cdf"), rel=0.021)


def test_parts_add_up_to_the_whole() -> None:
    seconds = RNG.lognormal(-5.0, 1.0, 1000)
    assert LatencyHistogram.of(seconds[:300]) + LatencyHistogram.of(seconds[300:]) == LatencyHistogram.of(seconds)


def test_leaves_out_what_is_no_latency() -> None:
    histogram = LatencyHistogram.of(np.array([np.nan, -1.0, 0.0, 1.0]))
    assert histogram.n == 2
    assert LatencyHistogram().quantile(0.5) is None
