"""Are labels missing more often where one class is predicted? Then the labels that came tell less than they seem.

Asked by `gate`; a bias is reported and holds a promotion, it never rolls back.
"""

import math

import numpy as np

from modelcanary_gate.evidence import Coverage

#: Matured pairs of a predicted class before its missing rate is believed.
_ENOUGH = 100
#: A difference of missing rates that matters, and how sure it has to be in standard errors.
_MATTERS = 0.1
_SURE = 4.0


def biased_class(coverage: Coverage) -> int | None:
    """The group of predicted classes whose missing rate differs most from the others', if it clearly does.

    Compares each group with all others (two proportions), for both models' predictions.
    """
    worst, found = _SURE, None
    for matured, missing in (coverage.baseline, coverage.candidate):
        total, gone = float(matured.sum()), float(missing.sum())
        for group in np.flatnonzero((matured >= _ENOUGH) & (total - matured >= _ENOUGH)).tolist():
            n, m = float(matured[group]), total - float(matured[group])
            here, elsewhere = float(missing[group]) / n, (gone - float(missing[group])) / m
            pooled = gone / total
            error = math.sqrt(pooled * (1 - pooled) * (1 / n + 1 / m))
            if abs(here - elsewhere) >= _MATTERS and error > 0 and abs(here - elsewhere) / error > worst:
                worst, found = abs(here - elsewhere) / error, group
    return found
