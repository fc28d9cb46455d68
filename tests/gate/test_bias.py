import numpy as np
import pytest

from modelcanary_gate.bias import biased_class
from modelcanary_gate.evidence import Coverage


def _coverage(matured: list[float], missing: list[float]) -> Coverage:
    even = np.array([matured, [sum(missing) / len(missing)] * len(missing)])
    return Coverage(np.array([matured, missing]), even)


def test_finds_the_class_whose_labels_are_missing() -> None:
    assert biased_class(_coverage([500, 500, 500], [50, 60, 250])) == 2


@pytest.mark.parametrize(
    ("matured", "missing"),
    [
        ([500, 500, 500], [475, 474, 478]),  # few labels, but of every class alike
        ([500, 500, 500], [50, 60, 70]),  # a difference that chance makes
        ([5000, 5000], [0, 500]),  # clear, and too small to matter
        ([500, 500, 500], [-20, 10, 10]),  # what came stands for more than it lacks
        ([90, 1000, 1000], [80, 100, 100]),  # too few to tell
        ([0, 0, 0], [0, 0, 0]),
        ([500, 500, 500], [0, 0, 0]),
    ],
)
def test_leaves_alone_what_is_even_or_unclear(matured: list[float], missing: list[float]) -> None:
    assert biased_class(_coverage(matured, missing)) is None


def test_looks_at_both_models_predictions() -> None:
    even, uneven = np.array([[400.0, 400.0], [40.0, 40.0]]), np.array([[400.0, 400.0], [10.0, 70.0]])
    assert biased_class(Coverage(even, uneven)) is not None
