"""Which class a number is for, and which a label names: never a guess that two readings would allow."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from modelcanary_cli.classes import MISSING, Order, arranged, encode, settle
from modelcanary_cli.columns import Matrix
from modelcanary_cli.errors import InputError
from modelcanary_gate.spec import Model, Task, Values

FILE, OTHER = Path("a.csv"), Path("b.csv")


def lists(width: int) -> Matrix:
    return Matrix(np.full((2, width), 1 / width))


def named(*names: str) -> Matrix:
    return Matrix(np.full((2, len(names)), 1 / len(names)), names)


def column(*values: object) -> pa.ChunkedArray:
    return pa.chunked_array([pa.array(values)])


def test_the_specification_comes_first() -> None:
    order = settle(Model(classes=("b", "a")), [(FILE, named("a", "b"))], [column("a")])
    assert order == Order(("b", "a"))


def test_names_of_columns_come_next() -> None:
    assert settle(Model(), [(FILE, named("b", "a")), (OTHER, named("a", "b"))], [column("a")]).classes == ("b", "a")


@pytest.mark.parametrize(
    ("labels", "width", "classes", "noted"),
    [
        (["dog", "cat", "dog"], 2, ("cat", "dog"), True),
        ([1, 0], 3, ("0", "1", "2"), False),  # indices: not all classes need to come
        (["0", "2.0"], 3, ("0", "1", "2"), False),
        (["10", "9"], 2, ("9", "10"), True),  # numbers by size
        ([None, None], 2, ("0", "1"), False),
    ],
)
def test_labels_that_leave_one_reading(labels: list[object], width: int, classes: tuple[str, ...], noted: bool) -> None:
    order = settle(Model(), [(FILE, lists(width))], [column(*labels)])
    assert order.classes == classes and (order.note is not None) == noted


def test_labels_of_both_files_count() -> None:
    assert settle(Model(), [(FILE, lists(2))], [column("a"), column("b")]).classes == ("a", "b")


@pytest.mark.parametrize("labels", [["dog"], ["dog", "cat", "eel"]])
def test_labels_that_do_not(labels: list[object]) -> None:
    with pytest.raises(InputError, match="the order is not known; give --classes"):
        settle(Model(), [(FILE, lists(2))], [column(*labels)])


def test_lists_beside_names() -> None:
    with pytest.raises(InputError, match=r"b\.csv: holds lists, while a\.csv names its classes"):
        settle(Model(), [(FILE, named("a", "b")), (OTHER, lists(2))], [column("a")])


def test_columns_are_brought_into_one_order() -> None:
    numbers = np.array([[0.1, 0.2, 0.7]])
    arrange = arranged(Matrix(numbers, ("c", "a", "b")), ("a", "b", "c"), (), FILE, Values.PROBABILITIES)
    assert arrange.numbers.tolist() == [[0.2, 0.7, 0.1]]
    arrange = arranged(Matrix(numbers), ("a", "b", "c"), ("b", "c", "a"), FILE, Values.PROBABILITIES)
    assert arrange.numbers.tolist() == [[0.7, 0.1, 0.2]]


@pytest.mark.parametrize(
    ("values", "own", "kind", "said"),
    [
        (named("a", "x", "c"), (), Values.PROBABILITIES, "differing: b, x"),
        (lists(2), (), Values.PROBABILITIES, "has 2 numbers per row, and there are 3 classes"),
        (lists(1), (), Values.BINARY_SCORE, "has 1 number per row, and there are 3 classes"),
    ],
)
def test_classes_that_do_not_fit(values: Matrix, own: tuple[str, ...], kind: Values, said: str) -> None:
    with pytest.raises(InputError, match=said.replace("(", r"\(")):
        arranged(values, ("a", "b", "c"), own, FILE, kind)


def test_one_number_has_no_other_order() -> None:
    assert arranged(lists(1), ("a", "b"), (), FILE, Values.BINARY_SCORE).width == 1
    with pytest.raises(InputError, match="give the probability of both classes"):
        arranged(lists(1), ("a", "b"), ("b", "a"), FILE, Values.BINARY_SCORE)


@pytest.mark.parametrize(
    ("labels", "classes", "codes"),
    [
        (["b", "a", None], ("a", "b"), [1, 0, MISSING]),
        ([1, 0, None], ("a", "b"), [1, 0, MISSING]),
        ([1.0, float("nan"), 0.0], ("a", "b"), [1, MISSING, 0]),
        ([10, 9], ("9", "10"), [1, 0]),  # a name before an index
        (["3.0", "7"], ("3", "7"), [0, 1]),
        ([True, False], ("false", "true"), [1, 0]),
        ([True, False], ("no", "yes"), [1, 0]),
    ],
)
def test_labels_by_name_or_index(labels: list[object], classes: tuple[str, ...], codes: list[int]) -> None:
    assert encode(column(*labels), classes, Task.MULTICLASS, FILE).tolist() == codes


@pytest.mark.parametrize(
    ("labels", "classes"),
    [
        (["a", "c"], ("a", "b")),
        (["a", "A"], ("a", "b")),
        ([0, 2], ("a", "b")),
        ([0, -1], ("a", "b")),
        ([0, 0.5], ("a", "b")),
        ([9, 0], ("9", "10")),  # 0 is no index where names are numbers
    ],
)
def test_labels_outside_the_classes(labels: list[object], classes: tuple[str, ...]) -> None:
    with pytest.raises(InputError, match=r"a\.csv: row 2: the label .* is none of the classes"):
        encode(column(*labels), classes, Task.MULTICLASS, FILE)


def test_soft_labels() -> None:
    found = encode(column([0.25, 0.75], None), ("a", "b"), Task.MULTICLASS, FILE)
    assert found[0].tolist() == [0.25, 0.75] and np.isnan(found[1]).all()
