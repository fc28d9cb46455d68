import numpy as np
import pytest
from sklearn.metrics import log_loss

from modelcanary_gate.errors import DataError
from modelcanary_gate.scoring import from_losses, score, score_agreement
from modelcanary_gate.spec import Analysis, Loss, Model, Spec, Task

RNG = np.random.default_rng(2)
SPEC = Spec(model=Model(classes=("a", "b", "c")))


def _log_p(n: int) -> np.ndarray:
    return np.log(RNG.dirichlet([1.0, 1.0, 1.0], n))


def test_losses_are_scikit_learns() -> None:
    baseline, candidate, labels = _log_p(500), _log_p(500), RNG.integers(0, 3, 500)
    pairs = score(SPEC, baseline, candidate, labels)
    assert pairs.baseline_loss.mean() == pytest.approx(log_loss(labels, np.exp(baseline)), rel=1e-9)
    assert pairs.candidate_loss.mean() == pytest.approx(log_loss(labels, np.exp(candidate)), rel=1e-9)
    assert pairs.label.tolist() == labels.tolist()


def test_predictions_are_the_most_probable_class() -> None:
    baseline, candidate = _log_p(50), _log_p(50)
    pairs = score(SPEC, baseline, candidate, np.zeros(50, dtype=np.int64))
    assert pairs.candidate_predicted.tolist() == candidate.argmax(axis=1).tolist()
    assert pairs.baseline_confidence == pytest.approx(np.exp(baseline).max(axis=1))


def test_certain_soft_labels_are_labels() -> None:
    baseline, candidate, labels = _log_p(40), _log_p(40), RNG.integers(0, 3, 40)
    hard, soft = score(SPEC, baseline, candidate, labels), score(SPEC, baseline, candidate, np.eye(3)[labels])
    assert soft.baseline_loss == pytest.approx(hard.baseline_loss)


def test_an_impossible_label_costs_the_bound() -> None:
    log_p = np.array([[0.0, -np.inf, -np.inf]])
    pairs = score(SPEC, log_p, log_p, np.array([1]))
    assert pairs.baseline_loss[0] == pytest.approx(-np.log(1e-4))


def test_multilabel_has_no_single_class() -> None:
    spec = Spec(model=Model(classes=("a", "b", "c"), task=Task.MULTILABEL))
    log_p = np.log(RNG.uniform(0.1, 0.9, (20, 3)))
    pairs = score(spec, log_p, log_p, RNG.integers(0, 2, (20, 3)))
    assert set(pairs.label.tolist()) == {-1}
    assert np.isnan(pairs.baseline_confidence).all()


def test_agreement_is_zero_with_oneself_and_kl_with_another() -> None:
    spec = Spec(model=SPEC.model, analysis=Analysis(loss=Loss(clip_epsilon=1e-12)))
    baseline, candidate = _log_p(30), _log_p(30)
    same = score_agreement(spec, baseline, baseline)
    assert same.candidate_loss == pytest.approx(same.baseline_loss)
    other = score_agreement(spec, baseline, candidate)
    kl = (np.exp(baseline) * (baseline - candidate)).sum(axis=1)
    assert other.candidate_loss - other.baseline_loss == pytest.approx(kl, abs=1e-9)


def test_losses_are_clipped_to_the_bound() -> None:
    assert from_losses(SPEC, np.array([50.0]), np.array([1.0])).baseline_loss[0] == pytest.approx(-np.log(1e-4))


@pytest.mark.parametrize(("value", "words"), [(np.nan, "row 1.*not a number"), (-0.5, "row 1.*-0.5.*never negative")])
def test_losses_that_are_none_name_their_row(value: float, words: str) -> None:
    with pytest.raises(DataError, match=words):
        from_losses(SPEC, np.array([1.0, value]), np.array([1.0, 1.0]))
