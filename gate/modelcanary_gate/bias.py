"""Are labels missing more often where one class is predicted? Then the labels that came tell less than they seem.

Asked by `gate`, where it holds a verdict by the loss, and by the ledger, which counts no pair by a maturity at which
labels are missing so. A bias never decides anything.
"""

import math

import numpy as np
from numpy.typing import NDArray

from modelcanary_gate.evidence import Coverage

Floats = NDArray[np.float64]

#: Pairs of a predicted class before its missing rate is believed.
_ENOUGH = 100
#: A difference of missing rates that matters, and how sure it has to be in standard errors. A tenth of one class whose
#: labels never come moves no verdict that the margin leaves (docs/design/statistics.md, Late labels).
MATTERS = 0.15
_SURE = 4.0


def biased_class(coverage: Coverage) -> int | None:
    """The group of predicted classes whose missing rate differs most from the others', if it clearly does.

    For both models' predictions. What the maturity is known to have left out is no bias: it was weighed.
    """
    found = [worst for part in (coverage.baseline, coverage.candidate) if (worst := uneven(part[0], part[1]))]
    return max(found)[1] if found else None


def uneven(matured: Floats, missing: Floats, matters: float = MATTERS) -> tuple[float, int] | None:
    """How sure it is, in standard errors, and of which group, that labels are missing at another rate than elsewhere.

    Compares each group, (groups,), with all others (two proportions); None where no difference is clear and matters.
    """
    total, gone = float(matured.sum()), float(missing.sum())
    worst: tuple[float, int] | None = None
    for group in np.flatnonzero((matured >= _ENOUGH) & (total - matured >= _ENOUGH)).tolist():
        n, m = float(matured[group]), total - float(matured[group])
        here, elsewhere = float(missing[group]) / n, (gone - float(missing[group])) / m
        pooled = min(1.0, max(0.0, gone / total))
        error = math.sqrt(pooled * (1 - pooled) * (1 / n + 1 / m))
        apart = abs(here - elsewhere)
        if apart >= matters and error > 0 and apart / error > (worst[0] if worst is not None else _SURE):
            worst = apart / error, group
    return worst
