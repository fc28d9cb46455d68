"""Answers to log-probabilities, against scipy, and every refusal by its words and its row."""

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.special import expit, log_expit, log_softmax

from modelcanary_gate.errors import DataError, NonFiniteError
from modelcanary_gate.probabilities import log_complement, log_probabilities
from modelcanary_gate.spec import SUM_TOLERANCE, Task, Values

MULTI, BINARY, LABELS = Task.MULTICLASS, Task.BINARY, Task.MULTILABEL


def finite(rows: int, columns: int, bound: float = 700.0) -> st.SearchStrategy[np.ndarray]:
    return arrays(np.float64, (rows, columns), elements=st.floats(-bound, bound))


@given(finite(3, 4, 1e6))
def test_logits_are_scipys_log_softmax(x: np.ndarray) -> None:
    np.testing.assert_allclose(log_probabilities(x, Values.LOGITS, MULTI), log_softmax(x, axis=1), rtol=1e-12)


@given(finite(3, 4, 1e6))
def test_logits_of_labels_are_scipys_log_expit(x: np.ndarray) -> None:
    np.testing.assert_allclose(log_probabilities(x, Values.LOGITS, LABELS), log_expit(x), rtol=1e-12)


@given(finite(5, 1))
def test_one_logit_is_two_classes(x: np.ndarray) -> None:
    log_p = log_probabilities(x, Values.LOGITS, BINARY)
    np.testing.assert_allclose(log_p, np.column_stack([log_expit(-x), log_expit(x)]), rtol=1e-12)
    np.testing.assert_allclose(
        log_p, log_probabilities(np.column_stack([np.zeros(5), x]), Values.LOGITS, BINARY), atol=1e-12
    )


@given(finite(4, 5, 30.0))
def test_every_form_of_the_same_answer_is_the_same(x: np.ndarray) -> None:
    from_logits = log_probabilities(x, Values.LOGITS, MULTI)
    p = np.exp(from_logits)
    np.testing.assert_allclose(log_probabilities(p, Values.PROBABILITIES, MULTI), from_logits, atol=1e-12)
    again = log_probabilities(from_logits, Values.LOG_PROBABILITIES, MULTI)
    np.testing.assert_allclose(again, from_logits, atol=1e-12)


def test_a_logit_far_below_keeps_its_logarithm() -> None:
    assert log_probabilities([[0.0, -5000.0]], Values.LOGITS, MULTI).tolist() == [[0.0, -5000.0]]


def test_a_score_is_the_second_class() -> None:
    score = np.array([0.0, 0.25, 1.0])
    with np.errstate(divide="ignore"):
        expected = np.log(np.column_stack([1 - score, score]))
    for form in (score, score[:, np.newaxis], score.tolist()):
        np.testing.assert_array_equal(log_probabilities(form, Values.BINARY_SCORE, BINARY), expected)


def test_probability_zero_is_minus_infinity() -> None:
    assert log_probabilities([[0, 1]], Values.PROBABILITIES, MULTI).tolist() == [[-np.inf, 0.0]]


def test_rounded_rows_are_divided_by_their_sum() -> None:
    log_p = log_probabilities([[0.3334, 0.3333, 0.3335]], Values.PROBABILITIES, MULTI)
    assert np.exp(log_p).sum() == pytest.approx(1.0, abs=1e-15)
    log_p = log_probabilities(np.log([[0.3334, 0.3333, 0.3335]]), Values.LOG_PROBABILITIES, MULTI)
    assert np.exp(log_p).sum() == pytest.approx(1.0, abs=1e-15)


def test_float32_answers_are_read_in_float64() -> None:
    log_p = log_probabilities(np.array([[0.1, 0.9]], dtype=np.float32), Values.PROBABILITIES, MULTI)
    assert log_p.dtype == np.float64
    assert np.exp(log_p).sum() == pytest.approx(1.0, abs=1e-15)


def test_the_probabilities_of_labels_need_no_sum() -> None:
    log_p = log_probabilities([[0.9, 0.8, 0.0]], Values.PROBABILITIES, LABELS)
    np.testing.assert_allclose(np.exp(log_p), [[0.9, 0.8, 0.0]])
    assert log_probabilities([[1.0005]], Values.PROBABILITIES, LABELS).tolist() == [[0.0]]


@pytest.mark.parametrize("kind", list(Values))
def test_no_rows_are_no_error(kind: Values) -> None:
    assert len(log_probabilities([], kind, MULTI)) == 0
    assert log_probabilities(np.empty((0, 2)), Values.PROBABILITIES, MULTI).shape == (0, 2)


@pytest.mark.parametrize(
    ("values", "kind", "task", "row", "words"),
    [
        ([[0.5, 0.5], [0.7, 0.5]], Values.PROBABILITIES, MULTI, 1, "sum to 1.2, 0.2 above 1"),
        ([[0.5, 0.5], [0.7, 0.1]], Values.PROBABILITIES, MULTI, 1, "sum to 0.8, 0.2 below 1"),
        ([[0.5, 0.502]], Values.PROBABILITIES, MULTI, 0, "0.002 above 1 (allowed: 0.001)"),
        ([[-0.1, 1.1]], Values.PROBABILITIES, MULTI, 0, "-0.1, below 0; logits need values: logits"),
        ([[0.2, -0.1]], Values.PROBABILITIES, LABELS, 0, "-0.1, below 0"),
        ([[0.2, 0.1], [0.0, 1.5]], Values.PROBABILITIES, LABELS, 1, "1.5, above 1; percentages must be divided"),
        ([0.1, 99.0], Values.BINARY_SCORE, BINARY, 1, "99, above 1; percentages must be divided"),
        ([0.1, -3.0], Values.BINARY_SCORE, BINARY, 1, "-3, below 0"),
        ([[0.1, 0.9]], Values.BINARY_SCORE, BINARY, None, "2 values per row where values: binaryScore is one"),
        ([[0.1], [0.9]], Values.PROBABILITIES, BINARY, None, "set values: binaryScore"),
        ([[0.1], [0.9]], Values.LOGITS, MULTI, None, "1 logit per row where one per class is needed"),
        (np.log([[0.5, 0.9]]), Values.LOG_PROBABILITIES, MULTI, 0, "sum to 1.4, 0.4 above 1"),
        ([[-np.inf, -np.inf]], Values.LOG_PROBABILITIES, MULTI, 0, "sum to 0, 1 below 1"),
        ([[800.0, 0.0]], Values.LOG_PROBABILITIES, MULTI, 0, "sum to inf"),
        ([[-1.0, 0.5]], Values.LOG_PROBABILITIES, LABELS, 0, "0.5, above 0"),
        ([[1, 2], [3]], Values.LOGITS, MULTI, None, "rows are of unequal lengths"),
        ([["0.1", "0.9"]], Values.PROBABILITIES, MULTI, None, "numbers are needed, not text"),
        ([[True, False]], Values.PROBABILITIES, MULTI, None, "numbers are needed, not booleans"),
        ([[None, "0.9"]], Values.PROBABILITIES, MULTI, None, "numbers are needed, not a mixture"),
        ([[10**400, 1]], Values.LOGITS, MULTI, None, "a number is too large"),
        ([[[0.5, 0.5]]], Values.PROBABILITIES, MULTI, None, "not one of 3 dimensions"),
    ],
)
def test_what_cannot_be_used_is_named(values: object, kind: Values, task: Task, row: int | None, words: str) -> None:
    with pytest.raises(DataError, match=re.escape(words)) as caught:
        log_probabilities(values, kind, task)  # type: ignore[arg-type]
    assert caught.value.row == row
    assert str(caught.value) == ("" if row is None else f"row {row}: ") + caught.value.problem
    assert not isinstance(caught.value, NonFiniteError)


@pytest.mark.parametrize("kind", list(Values))
@pytest.mark.parametrize("bad", [np.nan, np.inf, None])
def test_a_value_that_is_not_finite_is_an_error_of_its_own(kind: Values, bad: float | None) -> None:
    values: list[object] = [0.5, bad] if kind is Values.BINARY_SCORE else [[0.5, 0.5], [0.5, bad]]
    if kind is Values.LOG_PROBABILITIES:
        values[0] = np.log([0.5, 0.5]).tolist()
    with pytest.raises(NonFiniteError, match=r"^row 1: ") as caught:
        log_probabilities(values, kind, BINARY)  # type: ignore[arg-type]
    assert caught.value.row == 1


@given(st.floats(1e-9, 10 * SUM_TOLERANCE), st.sampled_from([-1.0, 1.0]))
def test_the_tolerance_is_where_it_says(off: float, sign: float) -> None:
    values = [[0.5, 0.5 + sign * off]]
    if off > SUM_TOLERANCE * (1 + 1e-9):
        with pytest.raises(DataError):
            log_probabilities(values, Values.PROBABILITIES, MULTI)
    elif off < SUM_TOLERANCE * (1 - 1e-9):
        log_probabilities(values, Values.PROBABILITIES, MULTI)


@given(arrays(np.float64, (1, 6), elements=st.floats(-700.0, 700.0)))
def test_the_complement_keeps_its_digits(x: np.ndarray) -> None:
    np.testing.assert_allclose(log_complement(log_expit(x)), log_expit(-x), rtol=1e-9, atol=0)


def test_the_complement_at_the_ends() -> None:
    assert log_complement(np.array([0.0, -np.inf])).tolist() == [-np.inf, 0.0]
    assert log_complement(np.array([-1e-18]))[0] == pytest.approx(np.log(1e-18))
    assert expit(-50.0) > 0.0
