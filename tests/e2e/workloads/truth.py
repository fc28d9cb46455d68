"""What is true in the scenarios' world: the classes' probabilities, given a request's numbers.

Read by `model`, which answers them more or less well, and by `load`, which draws the labels. Runs in the pods: standard
library only.
"""

import math
from collections.abc import Sequence

CLASSES = ("red", "green", "blue")
FEATURES = 4
_WEIGHTS = ((2.0, -1.0, 0.5, 1.0), (-1.5, 2.0, 1.0, -0.5), (0.0, -1.0, -2.0, 1.5))


def probabilities(row: Sequence[float], mix: float) -> list[float]:
    """`mix` of the answer is no knowledge at all: 0 is as good as a model can be here."""
    logits = [sum(weight * value for weight, value in zip(weights, row, strict=True)) for weights in _WEIGHTS]
    top = max(logits)
    parts = [math.exp(logit - top) for logit in logits]
    total = sum(parts)
    return [(1.0 - mix) * part / total + mix / len(CLASSES) for part in parts]
