"""Losses against scikit-learn, scipy and sums written out; bounds and refusals as properties."""

import math
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.special import log_expit, log_softmax
from scipy.stats import entropy
from sklearn.metrics import log_loss

from modelcanary_gate.errors import DataError, NonFiniteError
from modelcanary_gate.losses import (
    agreement,
    cross_entropy,
    loss_bound,
    multilabel_cross_entropy,
    soft_cross_entropy,
)

EPSILON = 1e-4
L = -math.log(EPSILON)
logits = arrays(np.float64, (6, 3), elements=st.floats(-40.0, 40.0))
class_labels = arrays(np.int64, 6, elements=st.integers(0, 2))
simplex = (
    arrays(np.float64, (6, 3), elements=st.floats(0.0, 1.0))
    .map(lambda a: a + 1e-9)
    .map(lambda a: a / a.sum(axis=1, keepdims=True))
)


def test_cross_entropy_is_scikit_learns_log_loss() -> None:
    rng = np.random.default_rng(1)
    log_p = log_softmax(rng.normal(size=(500, 4)), axis=1)
    labels = rng.integers(0, 4, 500)
    ours = cross_entropy(log_p, labels, epsilon=1e-12)
    assert ours.mean() == pytest.approx(log_loss(labels, np.exp(log_p)), rel=1e-12)
    weights = [0.5, 1.0, 2.0, 7.0]
    weighted = cross_entropy(log_p, labels, epsilon=1e-12, class_weights=weights)
    per_row = np.asarray(weights)[labels]
    theirs = log_loss(labels, np.exp(log_p), sample_weight=per_row, normalize=False)
    assert weighted.sum() == pytest.approx(theirs, rel=1e-12)


def test_values_by_hand() -> None:
    log_p = np.log([[0.2, 0.3, 0.5]])
    assert cross_entropy(log_p, np.array([2]), epsilon=EPSILON)[0] == pytest.approx(-math.log(0.5))
    smoothed = cross_entropy(log_p, np.array([2]), epsilon=EPSILON, label_smoothing=0.3)[0]
    assert smoothed == pytest.approx(-(0.1 * math.log(0.2) + 0.1 * math.log(0.3) + 0.8 * math.log(0.5)))
    focal = cross_entropy(log_p, np.array([2]), epsilon=EPSILON, focal_gamma=2.0)[0]
    assert focal == pytest.approx(-(0.5**2) * math.log(0.5))
    # torch.nn.functional.cross_entropy(log p, label, weight, label_smoothing=0.3, reduction="none")
    both = cross_entropy(log_p, np.array([2]), epsilon=EPSILON, label_smoothing=0.3, class_weights=[1, 2, 3])
    expected = -(0.1 * math.log(0.2) + 2 * 0.1 * math.log(0.3) + 3 * 0.8 * math.log(0.5))
    assert both[0] == pytest.approx(expected)


def test_multilabel_values_by_hand() -> None:
    p, t = np.array([[0.9, 0.2]]), np.array([[1.0, 0.0]])
    ours = multilabel_cross_entropy(np.log(p), t, epsilon=EPSILON)
    assert ours[0] == pytest.approx(-(math.log(0.9) + math.log(0.8)) / 2)
    weighted = multilabel_cross_entropy(np.log(p), t, epsilon=EPSILON, class_weights=[4.0, 1.0])
    assert weighted[0] == pytest.approx(-(4 * math.log(0.9) + math.log(0.8)) / 2)
    p3, t3 = np.array([[0.9, 0.2, 0.5]]), np.array([[1.0, 0.0, 0.0]])
    smoothed = multilabel_cross_entropy(np.log(p3), t3, epsilon=EPSILON, label_smoothing=0.2)
    first = 0.9 * math.log(0.9) + 0.1 * math.log(0.1)
    second = 0.1 * math.log(0.2) + 0.9 * math.log(0.8)
    assert smoothed[0] == pytest.approx(-(first + second + math.log(0.5)) / 3)
    focal = multilabel_cross_entropy(np.log(p), t, epsilon=EPSILON, focal_gamma=2.0)
    assert focal[0] == pytest.approx(-(0.01 * math.log(0.9) + 0.04 * math.log(0.8)) / 2)


@given(
    arrays(np.float64, (4, 3), elements=st.floats(-40.0, 40.0)), arrays(np.int64, (4, 3), elements=st.integers(0, 1))
)
def test_multilabel_is_the_mean_of_binary_log_losses(x: np.ndarray, targets: np.ndarray) -> None:
    ours = multilabel_cross_entropy(log_expit(x), targets.astype(float), epsilon=1e-30)
    theirs = -np.where(targets == 1, log_expit(x), log_expit(-x)).mean(axis=1)
    np.testing.assert_allclose(ours, theirs, rtol=1e-9, atol=1e-15)


@given(logits, simplex)
def test_soft_labels_are_a_mean_over_classes(x: np.ndarray, targets: np.ndarray) -> None:
    log_p = log_softmax(x, axis=1)
    by_class = [cross_entropy(log_p, np.full(6, c), epsilon=EPSILON, focal_gamma=1.5) for c in range(3)]
    ours = soft_cross_entropy(log_p, targets, epsilon=EPSILON, focal_gamma=1.5)
    np.testing.assert_allclose(ours, (targets * np.column_stack(by_class)).sum(axis=1), rtol=1e-9, atol=1e-12)


@given(logits, class_labels, st.floats(0.0, 0.9), st.floats(0.0, 5.0))
def test_a_label_is_a_soft_label_with_one_class(
    x: np.ndarray, labels: np.ndarray, smoothing: float, gamma: float
) -> None:
    log_p = log_softmax(x, axis=1)
    weights = [0.5, 1.0, 3.0]
    hard = cross_entropy(
        log_p, labels, epsilon=EPSILON, label_smoothing=smoothing, class_weights=weights, focal_gamma=gamma
    )
    soft = soft_cross_entropy(
        log_p,
        np.eye(3)[labels],
        epsilon=EPSILON,
        label_smoothing=smoothing,
        class_weights=weights,
        focal_gamma=gamma,
    )
    np.testing.assert_allclose(hard, soft, rtol=1e-9, atol=1e-12)


@given(
    arrays(np.float64, (6, 3), elements=st.floats(-1000.0, 1000.0)),
    class_labels,
    simplex,
    st.floats(1e-12, 0.1),
    st.floats(0.0, 0.9),
    st.lists(st.floats(0.01, 50.0), min_size=3, max_size=3),
    st.floats(0.0, 5.0),
)
def test_no_loss_is_outside_of_its_bound(
    x: np.ndarray,
    labels: np.ndarray,
    targets: np.ndarray,
    epsilon: float,
    smoothing: float,
    weights: list[float],
    gamma: float,
) -> None:
    bound = loss_bound(epsilon, weights) * (1 + 1e-12)
    options = {
        "epsilon": epsilon,
        "label_smoothing": smoothing,
        "class_weights": weights,
        "focal_gamma": gamma,
    }
    log_p = log_softmax(x, axis=1)
    for losses in (
        cross_entropy(log_p, labels, **options),
        soft_cross_entropy(log_p, targets, **options),
        multilabel_cross_entropy(log_expit(x), targets, **options),
    ):
        assert losses.shape == (6,)
        assert (losses >= 0.0).all()
        assert (losses <= bound).all()


def test_the_bound_is_reached_and_holds_the_largest_weight() -> None:
    log_p = np.array([[-np.inf, 0.0]])
    assert loss_bound(EPSILON) == pytest.approx(9.2103, abs=1e-4)
    assert cross_entropy(log_p, np.array([0]), epsilon=EPSILON)[0] == loss_bound(EPSILON)
    weighted = cross_entropy(log_p, np.array([0]), epsilon=EPSILON, class_weights=[20.0, 1.0])
    assert weighted[0] == pytest.approx(loss_bound(EPSILON, [20.0, 1.0])) == pytest.approx(20 * L)
    assert loss_bound(EPSILON, np.array([0.5, 0.25])) == pytest.approx(L / 2)
    sure_and_wrong = np.array([[0.0, -np.inf]])  # p = 1 and p = 0
    both = multilabel_cross_entropy(sure_and_wrong, np.array([[0.0, 1.0]]), epsilon=EPSILON)
    assert both[0] == pytest.approx(L)


def test_a_wrong_label_costs_what_epsilon_says() -> None:
    log_p = np.log([[1e-7, 1 - 1e-7]])
    for epsilon, expected in ((1e-3, 1e-3), (1e-5, 1e-5), (1e-9, 1e-7)):
        assert cross_entropy(log_p, np.array([0]), epsilon=epsilon)[0] == pytest.approx(-math.log(expected))


@given(logits, logits)
def test_agreement_is_the_kullback_leibler_divergence(x: np.ndarray, y: np.ndarray) -> None:
    p, q = log_softmax(x, axis=1), log_softmax(y, axis=1)
    own, other = agreement(p, q, epsilon=1e-60)
    np.testing.assert_allclose(own, entropy(np.exp(p), axis=1), rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(other - own, entropy(np.exp(p), np.exp(q), axis=1), rtol=1e-6, atol=1e-9)


@given(logits, logits, st.sampled_from([1e-2, 1e-4, 1e-12]), st.booleans())
def test_agreement_is_zero_with_itself_and_hardly_negative(
    x: np.ndarray, y: np.ndarray, epsilon: float, multilabel: bool
) -> None:
    p, q = (log_expit(x), log_expit(y)) if multilabel else (log_softmax(x, axis=1), log_softmax(y, axis=1))
    own, other = agreement(p, q, epsilon=epsilon, multilabel=multilabel)
    assert (own <= -math.log(epsilon) + 1e-12).all() and (other <= -math.log(epsilon) + 1e-12).all()
    assert (other - own >= -math.log1p(3 * epsilon) - 1e-12).all()
    same = agreement(p, p, epsilon=epsilon, multilabel=multilabel)
    np.testing.assert_array_equal(same[0], same[1])


def test_agreement_of_labels_is_the_mean_of_binary_divergences() -> None:
    p, q = np.array([[0.9, 0.2]]), np.array([[0.6, 0.5]])
    own, other = agreement(np.log(p), np.log(q), epsilon=1e-12, multilabel=True)
    expected = np.mean([entropy([a, 1 - a], [b, 1 - b]) for a, b in zip(p[0], q[0], strict=True)])
    assert (other - own)[0] == pytest.approx(expected)


@pytest.mark.parametrize("gamma", [0.0, 2.0])
def test_float32_columns_give_the_losses_of_float64(gamma: float) -> None:
    near_one = np.log1p([[-1e-7, -0.3], [-0.9, -1e-3]]).astype(np.float32)
    wide, labels, targets = near_one.astype(np.float64), np.array([0, 1]), np.array([[0.5, 0.5], [0.1, 0.9]])
    for function, truth in (
        (cross_entropy, labels),
        (soft_cross_entropy, targets),
        (multilabel_cross_entropy, targets),
    ):
        losses = function(near_one, truth, epsilon=EPSILON, focal_gamma=gamma)  # type: ignore[operator]
        expected = function(wide, truth, epsilon=EPSILON, focal_gamma=gamma)  # type: ignore[operator]
        assert losses.dtype == np.float64
        np.testing.assert_array_equal(losses, expected)
    for multilabel in (False, True):
        narrow = agreement(near_one, near_one[::-1], epsilon=EPSILON, multilabel=multilabel)
        expected = agreement(wide, wide[::-1], epsilon=EPSILON, multilabel=multilabel)
        np.testing.assert_array_equal(narrow, expected)


def test_a_rounded_soft_label_is_divided_by_its_sum() -> None:
    log_p = np.log([[0.5, 0.5]])
    loss = soft_cross_entropy(log_p, np.array([[0.5, 0.5008]]), epsilon=EPSILON)
    assert loss[0] == pytest.approx(math.log(2), rel=1e-12)


def test_no_rows_are_no_losses() -> None:
    assert cross_entropy(np.empty((0, 2)), np.empty(0, dtype=np.int64), epsilon=EPSILON).shape == (0,)
    assert soft_cross_entropy(np.empty((0, 2)), np.empty((0, 2)), epsilon=EPSILON).shape == (0,)


@pytest.mark.parametrize("function", [cross_entropy, soft_cross_entropy, multilabel_cross_entropy])
def test_nan_is_never_averaged(function: object) -> None:
    log_p = np.log([[0.5, 0.5], [0.5, np.nan]])
    labels = np.array([0, 0]) if function is cross_entropy else np.array([[1.0, 0.0]] * 2)
    with pytest.raises(NonFiniteError, match=r"^row 1: a log-probability is NaN"):
        function(log_p, labels, epsilon=EPSILON)  # type: ignore[operator]
    with pytest.raises(NonFiniteError, match=r"^row 1: "):
        agreement(np.log([[0.5, 0.5]] * 2), log_p, epsilon=EPSILON)
    if function is not cross_entropy:
        labels[1, 0] = np.nan
        with pytest.raises(NonFiniteError, match=r"^row 1: a target is NaN"):
            function(np.log([[0.5, 0.5]] * 2), labels, epsilon=EPSILON)  # type: ignore[operator]


HALVES = np.log([[0.5, 0.5]] * 2)


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        (np.array([0, 2]), "row 1: the label is 2, outside of the classes 0 to 1"),
        (np.array([-1, 0]), "row 0: the label is -1, outside"),
        (np.array([0.0, 1.0]), "labels are float64 where class indices are needed"),
        (np.array([0]), "labels are (1,) where 2 rows need one each"),
    ],
)
def test_labels_that_are_no_classes(labels: np.ndarray, words: str) -> None:
    with pytest.raises(DataError, match=re.escape(words)):
        cross_entropy(HALVES, labels, epsilon=EPSILON)


@pytest.mark.parametrize(
    ("targets", "words"),
    [
        ([[0.5, 0.5], [0.5, 0.6]], "row 1: the soft label sums to 1.1, not to 1"),
        ([[1.5, -0.5], [0.5, 0.5]], "row 0: the targets [1.5, -0.5] are not all between 0 and 1"),
        ([[0.5, 0.5]], "targets are (1, 2) where the answers are (2, 2)"),
    ],
)
def test_targets_that_are_no_labels(targets: list[list[float]], words: str) -> None:
    with pytest.raises(DataError, match=re.escape(words)):
        soft_cross_entropy(HALVES, np.array(targets), epsilon=EPSILON)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"epsilon": 0.0}, "clipEpsilon is 0.0, not between 0 and 1"),
        ({"epsilon": EPSILON, "class_weights": [1.0]}, "1 class weights where the answers have 2 classes"),
        ({"epsilon": EPSILON, "class_weights": [1.0, 0.0]}, "class weights must be positive"),
        ({"epsilon": EPSILON, "class_weights": [1.0, math.nan]}, "class weights must be positive"),
        ({"epsilon": EPSILON, "class_weights": [1.0, math.inf]}, "class weights must be positive and finite"),
    ],
)
def test_options_out_of_range(options: dict[str, object], words: str) -> None:
    with pytest.raises(DataError, match=re.escape(words)):
        cross_entropy(HALVES, np.array([0, 1]), **options)  # type: ignore[arg-type]


def test_answers_that_are_no_log_probabilities() -> None:
    with pytest.raises(DataError, match=re.escape("row 0: a log-probability is 0.5, above 0")):
        cross_entropy(np.array([[0.5, -0.5]]), np.array([0]), epsilon=EPSILON)
    with pytest.raises(DataError, match=re.escape("n rows and C classes are needed, not (2,)")):
        cross_entropy(np.array([-0.5, -0.5]), np.array([0]), epsilon=EPSILON)
    with pytest.raises(DataError, match=re.escape("baseline's answers are (2, 2), the candidate's (1, 2)")):
        agreement(HALVES, HALVES[:1], epsilon=EPSILON)
