"""Turns a model's answers, in whichever form they come, into log-probabilities.

Called by the sidecar for what a server answered and by the cli for what a file holds. It knows nothing of
protocols or files: it takes numbers and names the row that cannot be used.

Logits never pass through a softmax, so that a probability too small for a float keeps its logarithm. A
probability of 0 becomes -inf; `losses` clips it. Rows that nearly sum to 1 (servers round to a few decimals)
are divided by their sum: what is left over would otherwise be an advantage of the model that rounds up.
"""

import math
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from modelcanary_gate.errors import DataError, NonFiniteError
from modelcanary_gate.spec import SUM_TOLERANCE, Task, Values

Floats = NDArray[np.float64]


def log_probabilities(values: ArrayLike, kind: Values, task: Task) -> Floats:
    """Log-probabilities (n, C) of `values` (n, C); of (n,) or (n, 1) too, where one number stands for two.

    One number stands for two classes with `binaryScore` (the probability of the second class) and with
    logits of a binary task. For multilabel each column is the probability of that label by itself.
    Raises DataError, or NonFiniteError, naming the first row that cannot be used.
    """
    array = _matrix(values)
    if kind is Values.BINARY_SCORE:
        return _from_binary_score(array)
    if kind is Values.LOGITS:
        return _from_logits(array, task)
    if task is not Task.MULTILABEL and array.shape[1] < 2 and len(array):
        raise DataError(
            f"{array.shape[1]} value per row where one per class is needed; "
            "if it is the probability of the second class, set values: binaryScore"
        )
    if kind is Values.PROBABILITIES:
        return _from_probabilities(array, task)
    return _from_log_probabilities(array, task)


def log_complement(log_p: Floats) -> Floats:
    """log(1 - p) from log p, without the loss of digits of 1 - exp(log p) at either end (Mächler 2012)."""
    with np.errstate(divide="ignore"):
        near_one, near_zero = np.log(-np.expm1(log_p)), np.log1p(-np.exp(log_p))
    complement: Floats = np.where(log_p > -math.log(2.0), near_one, near_zero)
    return complement


def first_row(bad: NDArray[np.bool_]) -> int | None:
    """The first row of which any element is bad."""
    if not bad.any():
        return None
    return int(np.argmax(bad.reshape(len(bad), -1).any(axis=1)))


def _matrix(values: ArrayLike) -> Floats:
    try:
        array = np.asarray(values)
        numeric = array.dtype.kind in "fiu" or (
            # Servers that encode JSON strictly send null for NaN.
            array.dtype.kind == "O" and all(x is None or type(x) in (int, float) for x in array.flat)
        )
        if not numeric and array.size:
            raise DataError(f"numbers are needed, not {_dtype_in_words(array.dtype)}")
        array = array.astype(np.float64, copy=False)  # nothing below writes into it
    except ValueError as error:
        raise DataError("the rows are of unequal lengths") from error
    except OverflowError as error:
        raise DataError("a number is too large") from error
    if array.ndim == 1:
        array = array[:, np.newaxis]
    if array.ndim != 2:
        raise DataError(f"an array of rows is needed, not one of {array.ndim} dimensions")
    return array


def _dtype_in_words(dtype: np.dtype[Any]) -> str:
    words = {"U": "text", "S": "text", "b": "booleans", "O": "a mixture", "c": "complex numbers"}
    return words.get(dtype.kind, str(dtype))


def _require_finite(array: Floats, what: str) -> None:
    row = first_row(~np.isfinite(array))
    if row is not None:
        bad = array[row][~np.isfinite(array[row])][0]
        raise NonFiniteError(f"a {what} is {bad}, not a finite number", row=row)


def _from_probabilities(p: Floats, task: Task) -> Floats:
    lowest = p.min(initial=1.0)
    if not lowest >= 0.0:  # NaN is not either
        _require_finite(p, "probability")
        row = first_row(p < 0.0)
        raise DataError(f"a probability is {p[row].min():.6g}, below 0; logits need values: logits", row=row)
    if task is Task.MULTILABEL:
        _require_finite(p, "probability")
        _require_at_most_one(p)
        return _log(np.minimum(p, 1.0))
    sums: Floats = p.sum(axis=1)
    if not np.abs(sums - 1.0).max(initial=0.0) <= SUM_TOLERANCE:
        _require_finite(p, "probability")
        _require_sum_of_one(sums)
    logs = np.log(p) if lowest > 0.0 else _log(p)
    logs -= np.log(sums)[:, np.newaxis]
    return logs


def _from_binary_score(score: Floats) -> Floats:
    if score.shape[1] != 1 and len(score):
        raise DataError(f"{score.shape[1]} values per row where values: binaryScore is one number")
    _require_finite(score, "score")
    row = first_row(score < 0.0)
    if row is not None:
        raise DataError(
            f"a score is {score[row, 0]:.6g}, below 0; a score is a probability, logits need values: logits",
            row=row,
        )
    _require_at_most_one(score)
    positive = np.minimum(score.reshape(-1), 1.0)
    with np.errstate(divide="ignore"):
        return np.stack([np.log1p(-positive), np.log(positive)], axis=1)


def _from_logits(x: Floats, task: Task) -> Floats:
    _require_finite(x, "logit")
    if task is Task.MULTILABEL:
        return _log_sigmoid(x)
    if task is Task.BINARY and x.shape[1] == 1:
        return np.concatenate([_log_sigmoid(-x), _log_sigmoid(x)], axis=1)
    if x.shape[1] < 2 and len(x):
        raise DataError(f"{x.shape[1]} logit per row where one per class is needed")
    # Shifted first: a large common offset costs no digits of the differences.
    shifted: Floats = x - x.max(axis=1, keepdims=True, initial=-np.inf)
    return shifted - _log_sum_exp(shifted)


def _from_log_probabilities(log_p: Floats, task: Task) -> Floats:
    row = first_row(np.isnan(log_p) | (log_p == np.inf))  # -inf is the logarithm of 0
    if row is not None:
        raise NonFiniteError("a log-probability is NaN or +inf, not a finite number", row=row)
    if task is Task.MULTILABEL:
        row = first_row(log_p > SUM_TOLERANCE)
        if row is not None:
            raise DataError(f"a log-probability is {log_p[row].max():.6g}, above 0", row=row)
        return np.minimum(log_p, 0.0)
    total = _log_sum_exp(log_p)
    with np.errstate(over="ignore"):
        _require_sum_of_one(np.exp(total[:, 0]))
    return log_p - total


def _require_at_most_one(p: Floats) -> None:
    row = first_row(p > 1.0 + SUM_TOLERANCE)
    if row is not None:
        raise DataError(f"a probability is {p[row].max():.6g}, above 1; percentages must be divided by 100", row=row)


def _require_sum_of_one(sums: Floats) -> None:
    row = first_row(np.abs(sums - 1.0) > SUM_TOLERANCE)
    if row is not None:
        off = sums[row] - 1.0
        raise DataError(
            f"the probabilities sum to {sums[row]:.6g}, {abs(off):.3g} {'above' if off > 0 else 'below'} 1 "
            f"(allowed: {SUM_TOLERANCE:g})",
            row=row,
        )


def _log(p: Floats) -> Floats:
    with np.errstate(divide="ignore"):
        return np.log(p)


def _log_sigmoid(x: Floats) -> Floats:
    logs: Floats = -np.logaddexp(0.0, -x)
    return logs


def _log_sum_exp(x: Floats) -> Floats:
    """(n, 1); -inf for a row of -inf, which no sum of 1 can have."""
    top = x.max(axis=1, keepdims=True, initial=-np.inf)
    shift = np.where(np.isfinite(top), top, 0.0)
    with np.errstate(divide="ignore"):
        total: Floats = shift + np.log(np.exp(x - shift).sum(axis=1, keepdims=True))
    return total
