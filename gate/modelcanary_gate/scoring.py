"""From what both models said and what turned out to be true, to columns of losses.

Called wherever pairs meet their labels: the ledger, `evaluate` and `replay`.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from modelcanary_gate.errors import DataError, NonFiniteError
from modelcanary_gate.losses import (
    agreement,
    cross_entropy,
    loss_bound,
    multilabel_cross_entropy,
    soft_cross_entropy,
)
from modelcanary_gate.spec import Spec, Task

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class LabelledPairs:
    """Columns of pairs that count: both answers could be scored, the label is known and mature.

    Rows are in order of the requests' time. Losses are in nats, within [0, L].
    """

    baseline_loss: Floats
    candidate_loss: Floats
    label: Ints  # class index; −1 where it is not one class
    baseline_confidence: Floats  # probability of the predicted class; NaN where unknown
    candidate_confidence: Floats
    baseline_predicted: Ints  # class index; −1 where unknown
    candidate_predicted: Ints
    weight: Floats  # (n,), above 0 and at most 1: how much each counts (`maturity`)

    def __len__(self) -> int:
        return len(self.baseline_loss)

    def take(self, rows: slice | NDArray[np.intp] | NDArray[np.bool_]) -> "LabelledPairs":
        return LabelledPairs(*(getattr(self, name)[rows] for name in self.__dataclass_fields__))


def score(
    spec: Spec, baseline: Floats, candidate: Floats, labels: Ints | Floats, weight: Floats | None = None
) -> LabelledPairs:
    """Losses of both models against labels; `weight`, (n,): 1 where it is left out.

    `baseline` and `candidate` are (n, C) log-probabilities in the order of the classes; `labels` are (n,) class
    indices, or (n, C) soft labels or, multilabel, the classes that hold. Raises DataError naming the row.

    Of a language model C is 1, the reference answer: the label was that answer, so nothing is left to look up.
    """
    if spec.model.generates:
        return from_losses(spec, -baseline[:, 0], -candidate[:, 0])
    loss = spec.analysis.loss
    weights = None if loss.class_weights is None else np.asarray(loss.class_weights, dtype=np.float64)
    soft = labels.ndim == 2
    if spec.model.task is Task.MULTILABEL:
        losses = [
            multilabel_cross_entropy(
                log_p,
                labels.astype(np.float64),
                epsilon=loss.clip_epsilon,
                label_smoothing=loss.label_smoothing,
                class_weights=weights,
                focal_gamma=loss.focal_gamma,
            )
            for log_p in (baseline, candidate)
        ]
        return from_losses(spec, losses[0], losses[1], weight)
    function = soft_cross_entropy if soft else cross_entropy
    losses = [
        function(
            log_p,
            labels,  # type: ignore[arg-type]  # `soft` says which
            epsilon=loss.clip_epsilon,
            label_smoothing=loss.label_smoothing,
            class_weights=weights,
            focal_gamma=loss.focal_gamma,
        )
        for log_p in (baseline, candidate)
    ]
    hard = labels.argmax(axis=1) if soft else labels
    return _with_predictions(losses[0], losses[1], hard.astype(np.int64), baseline, candidate, weight)


def score_agreement(spec: Spec, baseline: Floats, candidate: Floats) -> LabelledPairs:
    """Label-free: the baseline's distribution is the target, so the delta is KL(baseline‖candidate) ≥ 0.

    Of a language model the target is one draw from that distribution, the answer that users got: the delta of a pair
    may be negative, and its mean estimates KL.
    """
    if spec.model.generates:
        return from_losses(spec, -baseline[:, 0], -candidate[:, 0])
    multilabel = spec.model.task is Task.MULTILABEL
    entropy, crossed = agreement(baseline, candidate, epsilon=spec.analysis.loss.clip_epsilon, multilabel=multilabel)
    unknown = np.full(len(entropy), -1, dtype=np.int64)
    return _with_predictions(entropy, crossed, unknown, baseline, candidate)


def from_losses(
    spec: Spec, baseline_loss: Floats, candidate_loss: Floats, weight: Floats | None = None
) -> LabelledPairs:
    """Pairs of which only the losses are known, clipped to [0, L]."""
    bound = loss_bound(spec.analysis.loss.clip_epsilon, spec.analysis.loss.class_weights)
    columns = []
    for role, given in (("baseline", baseline_loss), ("candidate", candidate_loss)):
        values = np.asarray(given, dtype=np.float64)
        if np.isnan(values).any():
            row = int(np.isnan(values).argmax())
            raise NonFiniteError(f"the {role}'s loss is not a number; leave the pair out", row=row)
        if (values < 0).any():
            row = int((values < 0).argmax())
            raise DataError(f"the {role}'s loss is {values[row]:g}; a cross-entropy is never negative", row=row)
        columns.append(np.minimum(values, bound))
    unknown = np.full(len(columns[0]), -1, dtype=np.int64)
    confidence = np.full(len(columns[0]), np.nan)
    weight = np.ones(len(unknown)) if weight is None else weight
    return LabelledPairs(columns[0], columns[1], unknown, confidence, confidence, unknown, unknown, weight)


def _with_predictions(
    baseline_loss: Floats,
    candidate_loss: Floats,
    labels: Ints,
    baseline: Floats,
    candidate: Floats,
    weight: Floats | None = None,
) -> LabelledPairs:
    predicted = [log_p.argmax(axis=1).astype(np.int64) for log_p in (baseline, candidate)]
    confidence = [
        np.exp(log_p[np.arange(len(log_p)), top]) for log_p, top in zip((baseline, candidate), predicted, strict=True)
    ]
    weight = np.ones(len(labels)) if weight is None else weight
    return LabelledPairs(
        baseline_loss, candidate_loss, labels, confidence[0], confidence[1], predicted[0], predicted[1], weight
    )
