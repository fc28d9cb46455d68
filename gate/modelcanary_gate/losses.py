"""Cross-entropy of answers against labels, per pair, in nats and bounded.

Called by `scoring` with the log-probabilities that `probabilities` made. It must not know where numbers come
from, nor average them: it returns one loss per row, and refuses NaN by naming the row, so that the callers
count such rows apart first.

Every class's -log p is capped at L = -ln(epsilon): one label that a model held for impossible costs L, not
infinity. The gate's bets need that bound, and a verdict depends on it, so epsilon is part of every
specification.

Class weights multiply, as torch's cross_entropy does with reduction="none": nothing is divided by their sum.
A common factor changes no verdict by a relative margin; an absolute margin is in the weighted nats.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from modelcanary_gate.errors import DataError, NonFiniteError
from modelcanary_gate.probabilities import Floats, first_row, log_complement
from modelcanary_gate.spec import SUM_TOLERANCE

#: One per class, positive.
Weights = Sequence[float] | Floats


def loss_bound(epsilon: float, class_weights: Weights | None = None) -> float:
    """L: no loss of this module, with this epsilon and these weights, is above it."""
    _require_epsilon(epsilon)
    return -math.log(epsilon) * (1.0 if class_weights is None else float(np.max(class_weights)))


def cross_entropy(
    log_p: Floats,
    labels: NDArray[np.integer[Any]],
    *,
    epsilon: float,
    label_smoothing: float = 0.0,
    class_weights: Weights | None = None,
    focal_gamma: float = 0.0,
) -> Floats:
    """Losses (n,) of log-probabilities (n, C) where row i's class is labels[i], 0 to C-1.

    With smoothing s the target is 1-s on the label plus s/C on every class. Focal (Lin et al. 2017, eq. 4):
    each class's term is multiplied by (1-p)^gamma.
    """
    nll = _capped(log_p, epsilon)
    labels = _class_indices(labels, nll.shape)
    terms = _focal(nll, focal_gamma) * _weights(class_weights, nll.shape[1])
    losses: Floats = np.take_along_axis(terms, labels[:, np.newaxis], axis=1)[:, 0]
    if label_smoothing:
        losses = (1.0 - label_smoothing) * losses + label_smoothing * terms.mean(axis=1)
    return losses


def soft_cross_entropy(
    log_p: Floats,
    targets: Floats,
    *,
    epsilon: float,
    label_smoothing: float = 0.0,
    class_weights: Weights | None = None,
    focal_gamma: float = 0.0,
) -> Floats:
    """Losses (n,) of log-probabilities (n, C) against soft labels (n, C), rows that sum to 1."""
    nll = _capped(log_p, epsilon)
    targets = _targets(targets, nll.shape)
    sums = targets.sum(axis=1)
    row = first_row(np.abs(sums - 1.0) > SUM_TOLERANCE)
    if row is not None:
        raise DataError(f"the soft label sums to {sums[row]:.6g}, not to 1", row=row)
    targets = targets / sums[:, np.newaxis]
    if label_smoothing:
        targets = (1.0 - label_smoothing) * targets + label_smoothing / nll.shape[1]
    terms = _focal(nll, focal_gamma) * _weights(class_weights, nll.shape[1])
    return _row_sums(targets * terms)


def multilabel_cross_entropy(
    log_p: Floats,
    targets: Floats,
    *,
    epsilon: float,
    label_smoothing: float = 0.0,
    class_weights: Weights | None = None,
    focal_gamma: float = 0.0,
) -> Floats:
    """Losses (n,): the mean over C labels of each label's binary loss.

    log_p (n, C) holds the logarithm of each label's own probability, targets (n, C) are 0 to 1. Smoothing s
    makes a target t (1-s)·t + s/2: each label is a choice between two. Weights multiply a label's loss.
    """
    positive = _capped(log_p, epsilon)
    targets = _targets(targets, positive.shape)
    negative = _capped_complement(log_p, epsilon)
    if label_smoothing:
        targets = (1.0 - label_smoothing) * targets + label_smoothing / 2.0
    terms = targets * _focal(positive, focal_gamma) + (1.0 - targets) * _focal(negative, focal_gamma)
    return _row_means(terms * _weights(class_weights, positive.shape[1]))


def agreement(
    baseline_log_p: Floats,
    candidate_log_p: Floats,
    *,
    epsilon: float,
    multilabel: bool = False,
) -> tuple[Floats, Floats]:
    """Entropy of the baseline (n,) and cross-entropy of the candidate against it (n,).

    Their difference is KL(baseline‖candidate): how much the candidate differs, never how good it is. Both
    are capped alike, so an identical candidate has a difference of exactly 0, and the cap can make it
    negative by no more than ln(1 + C·epsilon). For multilabel both are means over the labels.
    """
    own, other = _capped(baseline_log_p, epsilon), _capped(candidate_log_p, epsilon)
    if own.shape != other.shape:
        raise DataError(f"the baseline's answers are {own.shape}, the candidate's {other.shape}")
    p = np.exp(np.minimum(baseline_log_p, 0.0), dtype=np.float64)
    if not multilabel:
        return _row_sums(p * own), _row_sums(p * other)
    not_own = _capped_complement(baseline_log_p, epsilon)
    not_other = _capped_complement(candidate_log_p, epsilon)
    return _row_means(p * own + (1.0 - p) * not_own), _row_means(p * other + (1.0 - p) * not_other)


def _capped(log_p: Floats, epsilon: float) -> Floats:
    """-log p within [0, L], of log-probabilities that may be -inf but not NaN."""
    _require_epsilon(epsilon)
    if log_p.ndim != 2 or log_p.shape[1] == 0:
        raise DataError(f"log-probabilities of n rows and C classes are needed, not {log_p.shape}")
    row = first_row(np.isnan(log_p))
    if row is not None:
        raise NonFiniteError("a log-probability is NaN; such pairs are counted apart", row=row)
    row = first_row(log_p > SUM_TOLERANCE)
    if row is not None:
        raise DataError(f"a log-probability is {log_p[row].max():.6g}, above 0", row=row)
    # In float64 whatever came: the rounding of float32 must not grow over the sums.
    return np.clip(-log_p.astype(np.float64), 0.0, -math.log(epsilon))


def _capped_complement(log_p: Floats, epsilon: float) -> Floats:
    """-log(1 - p) within [0, L]."""
    return _capped(log_complement(np.minimum(log_p, 0.0).astype(np.float64)), epsilon)


def _require_epsilon(epsilon: float) -> None:
    if not 0.0 < epsilon < 1.0:
        raise DataError(f"clipEpsilon is {epsilon}, not between 0 and 1")


def _class_indices(labels: NDArray[np.integer[Any]], shape: tuple[int, ...]) -> NDArray[np.integer[Any]]:
    rows, classes = shape
    if labels.shape != (rows,):
        raise DataError(f"labels are {labels.shape} where {rows} rows need one each")
    if labels.dtype.kind not in "iu":
        raise DataError(f"labels are {labels.dtype} where class indices are needed")
    row = first_row((labels < 0) | (labels >= classes))
    if row is not None:
        raise DataError(f"the label is {labels[row]}, outside of the classes 0 to {classes - 1}", row=row)
    return labels


def _targets(targets: Floats, shape: tuple[int, ...]) -> Floats:
    if targets.shape != shape:
        raise DataError(f"targets are {targets.shape} where the answers are {shape}")
    row = first_row(~np.isfinite(targets))
    if row is not None:
        raise NonFiniteError("a target is NaN or infinite", row=row)
    row = first_row((targets < 0.0) | (targets > 1.0 + SUM_TOLERANCE))
    if row is not None:
        raise DataError(f"the targets {targets[row].tolist()} are not all between 0 and 1", row=row)
    return np.minimum(targets, 1.0).astype(np.float64)


def _weights(class_weights: Weights | None, classes: int) -> Floats:
    if class_weights is None:
        return np.ones(classes)
    weights = np.asarray(class_weights, dtype=np.float64)
    if weights.shape != (classes,):
        raise DataError(f"{weights.size} class weights where the answers have {classes} classes")
    if not (np.isfinite(weights).all() and (weights > 0.0).all()):
        raise DataError("class weights must be positive and finite")
    return weights


def _focal(nll: Floats, gamma: float) -> Floats:
    """(1-p)^gamma·(-log p), with the p of the capped loss."""
    if gamma == 0.0:
        return nll
    modulated: Floats = (-np.expm1(-nll)) ** gamma * nll
    return modulated


def _row_sums(terms: Floats) -> Floats:
    sums: Floats = terms.sum(axis=1)
    return sums


def _row_means(terms: Floats) -> Floats:
    means: Floats = terms.mean(axis=1)
    return means
