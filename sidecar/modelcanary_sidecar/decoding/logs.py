"""One row of numbers to log-probabilities, in plain Python.

The same mathematics as `modelcanary_gate.probabilities`, for answers so small that starting numpy costs more
than the work; tests hold the two equal. `rows` calls it, and finds out why where a row has none (None).
Comparisons are written such that NaN fails them.
"""

import math
from collections.abc import Callable, Sequence

from modelcanary_gate.spec import SUM_TOLERANCE, Task, Values

_INF = math.inf

Logs = Callable[[Sequence[float]], list[float] | None]


def logs_of(values: Values, task: Task) -> Logs:
    """The function that reads a row of these values; None from it says that the row cannot be used."""
    multilabel = task is Task.MULTILABEL
    match values:
        case Values.PROBABILITIES:
            return _of_each if multilabel else _of_probabilities
        case Values.BINARY_SCORE:
            return _of_score
        case Values.LOGITS:
            return _of_each_logit if multilabel else _of_logits
        case Values.LOG_PROBABILITIES:
            return _of_each_log if multilabel else _of_log_probabilities


def _of_probabilities(row: Sequence[float]) -> list[float] | None:
    total = sum(row)
    if not abs(total - 1.0) <= SUM_TOLERANCE or not min(row) >= 0.0:
        return None
    shift = math.log(total)
    try:
        return [math.log(p) - shift for p in row]
    except ValueError:  # a probability of 0
        return [math.log(p) - shift if p > 0.0 else -_INF for p in row]


def _of_each(row: Sequence[float]) -> list[float] | None:
    """Multilabel: each number is a probability by itself."""
    if not all(0.0 <= p <= 1.0 + SUM_TOLERANCE for p in row):
        return None
    return [math.log(min(p, 1.0)) if p > 0.0 else -_INF for p in row]


def _of_score(row: Sequence[float]) -> list[float] | None:
    p = row[0]
    if not 0.0 <= p <= 1.0 + SUM_TOLERANCE:
        return None
    p = min(p, 1.0)
    return [math.log1p(-p) if p < 1.0 else -_INF, math.log(p) if p > 0.0 else -_INF]


def _of_logits(row: Sequence[float]) -> list[float] | None:
    if not all(map(math.isfinite, row)):
        return None
    if len(row) == 1:  # of the second of two classes
        return [_log_sigmoid(-row[0]), _log_sigmoid(row[0])]
    return _normalised(row)


def _of_each_logit(row: Sequence[float]) -> list[float] | None:
    return [_log_sigmoid(x) for x in row] if all(map(math.isfinite, row)) else None


def _of_log_probabilities(row: Sequence[float]) -> list[float] | None:
    if not all(x < _INF for x in row) or not abs(sum_of_exp(row) - 1.0) <= SUM_TOLERANCE:
        return None
    return _normalised(row)


def _of_each_log(row: Sequence[float]) -> list[float] | None:
    return [min(x, 0.0) for x in row] if all(x <= SUM_TOLERANCE for x in row) else None


def _normalised(row: Sequence[float]) -> list[float]:
    """Less the largest first: a large offset that all logits share would take their digits with it."""
    top = max(row)
    below = [x - top for x in row]
    shift = math.log(sum([math.exp(x) for x in below]))
    return [x - shift for x in below]


def sum_of_exp(row: Sequence[float]) -> float:
    """Infinity where the sum is beyond what a float can hold."""
    return sum([math.exp(x) for x in row]) if max(row) < 700.0 else _INF


def _log_sigmoid(x: float) -> float:
    return -math.log1p(math.exp(-x)) if x >= 0.0 else x - math.log1p(math.exp(x))
