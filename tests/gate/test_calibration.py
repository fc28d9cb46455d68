import numpy as np
import pytest

from modelcanary_gate.calibration import BINS, Reliability


def _calibrated(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    confidence = rng.beta(5, 1.5, n)
    return confidence, rng.random(n) < confidence


def _plugin_error(bins: Reliability) -> float:
    """The usual estimate: mean absolute gap, weighted by the bins' sizes."""
    filled = bins.n > 0
    return float(np.abs(bins.confidence - bins.correct)[filled].sum() / bins.n.sum())


def test_a_calibrated_model_shows_next_to_nothing_where_the_usual_estimate_is_biased() -> None:
    errors, plugin = [], []
    for seed in range(200):
        bins = Reliability.of(*_calibrated(1000, seed))
        error = bins.error()
        assert error is not None
        errors.append(error)
        plugin.append(_plugin_error(bins))
    assert np.mean(plugin) > 0.02
    assert np.median(errors) < 0.01


def test_what_is_clearly_there_is_seldom_noise() -> None:
    noise = [Reliability.of(*_calibrated(1000, seed)).clearly() for seed in range(200)]
    assert np.mean([error is not None and error > 0.02 for error in noise]) < 0.2
    confidence, correct = _calibrated(1000, 1)
    clearly = Reliability.of(np.minimum(confidence + 0.1, 0.999), correct).clearly()
    assert clearly is not None and clearly > 0.06


def test_finds_overconfidence() -> None:
    confidence, correct = _calibrated(5000, 1)
    error = Reliability.of(np.minimum(confidence + 0.1, 0.999), correct).error()
    assert error == pytest.approx(0.09, abs=0.02)


def test_parts_add_up_to_the_whole() -> None:
    confidence, correct = _calibrated(500, 2)
    whole = Reliability.of(confidence, correct)
    parts = Reliability.of(confidence[:123], correct[:123]) + Reliability.of(confidence[123:], correct[123:])
    assert parts.error() == pytest.approx(whole.error(), abs=1e-12)
    assert parts.n.tolist() == whole.n.tolist()


def test_certainty_falls_into_the_last_bin_and_unknown_is_left_out() -> None:
    bins = Reliability.of(np.array([1.0, np.nan, 0.0]), np.array([True, True, False]))
    assert bins.n.tolist() == [1.0, *[0.0] * (BINS - 2), 1.0]


def test_is_unknown_without_two_samples_in_a_bin() -> None:
    assert Reliability.empty().error() is None
    assert Reliability.of(np.array([0.1, 0.9]), np.array([True, True])).error() is None


def test_equal_confidences_have_an_error() -> None:
    for confidence in (0.7, 0.8, 0.95):
        bins = Reliability.of(np.full(400, confidence), np.ones(400, dtype=bool))
        assert bins.error() == pytest.approx(1 - confidence, abs=1e-6)
        assert bins.clearly() == pytest.approx(1 - confidence, abs=1e-6)
