"""Which class each number is for, and which class each label names.

Called by `predictions` and `pairs`. A wrong guess at the order of the classes looks like a terrible model, so
an order that the input does not settle is refused, with the option that settles it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from modelcanary_cli.columns import Floats, Matrix, matrix
from modelcanary_cli.errors import InputError
from modelcanary_gate.spec import Model, Task, Values

Ints = NDArray[np.int64]

#: The label of a row that has none.
MISSING = -1


@dataclass(frozen=True, slots=True)
class Order:
    """The classes, in the order that everything is brought into."""

    classes: tuple[str, ...]
    note: str | None = None  # what was assumed, if anything was


def settle(model: Model, answers: Sequence[tuple[Path, Matrix]], labels: Sequence[pa.ChunkedArray]) -> Order:
    """The order by the specification, else by column names, else by labels that leave one reading."""
    if model.classes:
        return Order(model.classes)
    named = [(source, values) for source, values in answers if values.names is not None]
    unnamed = [(source, values) for source, values in answers if values.names is None]
    if named and unnamed:
        raise InputError(
            unnamed[0][0],
            f"holds lists, while {named[0][0].name} names its classes: the order of the lists is not known",
            "give --classes in the order of the lists",
        )
    if named and named[0][1].names is not None:
        return Order(named[0][1].names)
    source, values = answers[0]
    width = 2 if values.width == 1 else values.width
    counted = tuple(str(index) for index in range(width))
    known = _distinct(labels)
    if not known or all(_is_index(value, width) for value in known):
        return Order(counted)
    texts = _sorted(list({str(value) for value in known}))
    if len(texts) != width:
        raise InputError(
            source,
            f"has {width} numbers per row, and the labels name {_counted(texts)}: the order is not known",
            "give --classes in the order of the lists",
        )
    return Order(tuple(texts), f"classes taken in sorted order: {', '.join(texts)} (else give --classes)")


def arranged(values: Matrix, classes: tuple[str, ...], own: tuple[str, ...], source: Path, kind: Values) -> Matrix:
    """The matrix in the order of `classes`; `own` is the order of a list (empty: the same)."""
    names = values.names or own or classes
    one = values.names is None and len(classes) == 2 and kind in (Values.BINARY_SCORE, Values.LOGITS)
    expected = 1 if one and values.width == 1 else len(names)
    if values.width != expected:
        raise InputError(
            source,
            f"has {values.width} number{'s'[: values.width > 1]} per row, and there are {_counted(classes)}",
            "give one number per class, or all the classes with --classes or spec.model.classes",
        )
    if set(names) != set(classes):
        wrong = sorted(set(names) ^ set(classes))
        raise InputError(
            source,
            f"its classes are {', '.join(names)}, not {', '.join(classes)} (differing: {', '.join(wrong)})",
            "give both models the same classes",
        )
    if names == classes:
        return values
    if expected == 1:
        raise InputError(
            source,
            "has one number per row, and the models' classes differ in order",
            "give the probability of both classes",
        )
    columns = [names.index(name) for name in classes]
    return Matrix(values.numbers[:, columns], classes)


def encode(labels: pa.ChunkedArray, classes: tuple[str, ...], task: Task, source: Path) -> Ints | Floats:
    """Class indices (n,) with MISSING, or soft and multilabel targets (n, C) with rows of NaN."""
    if pa.types.is_list(labels.type) or pa.types.is_large_list(labels.type) or pa.types.is_fixed_size_list(labels.type):
        return _targets(labels, classes, source)
    if task is Task.MULTILABEL:
        raise InputError(source, "its labels are single values", "give a list of 0 and 1, one per class, in each row")
    if pa.types.is_nested(labels.type):
        raise InputError(source, "its labels are objects", "give one class, or a list with one number per class")
    if pa.types.is_null(labels.type):
        return np.full(len(labels), MISSING, dtype=np.int64)
    encoded = labels.combine_chunks().dictionary_encode()
    table = np.full(len(encoded.dictionary) + 1, MISSING, dtype=np.int64)
    for position, value in enumerate(encoded.dictionary.to_pylist()):
        if isinstance(value, float) and np.isnan(value):
            continue
        index = _index(value, classes)
        if index is None:
            row = pc.index(encoded.indices, position).as_py()
            raise InputError(
                source,
                f"row {row + 1}: the label {value!r} is none of the classes {', '.join(classes)}",
                "correct the label, or give all classes with --classes or spec.model.classes",
            )
        table[position] = index
    codes = encoded.indices.fill_null(len(encoded.dictionary)).to_numpy(zero_copy_only=False)
    result: Ints = table[codes]
    return result


def _targets(labels: pa.ChunkedArray, classes: tuple[str, ...], source: Path) -> Floats:
    present = labels.is_valid().to_numpy()
    targets = np.full((len(labels), len(classes)), np.nan)
    if present.any():
        given = matrix(labels.drop_null(), source, "label").numbers
        if given.shape[1] != len(classes):
            row = int(np.argmax(present))
            raise InputError(
                source,
                f"row {row + 1}: the label has {given.shape[1]} numbers for {len(classes)} classes",
                "give one number per class",
            )
        targets[present] = given
    return targets


def _distinct(labels: Sequence[pa.ChunkedArray]) -> list[object]:
    """The names that labels take; none where they are lists."""
    values: list[object] = []
    for column in labels:
        if not pa.types.is_nested(column.type):
            values += [value for value in pc.unique(column).to_pylist() if value is not None]
    return [value for value in values if not (isinstance(value, float) and np.isnan(value))]


def _counted(classes: Sequence[str]) -> str:
    """How many, and which where that is short."""
    text = f"{len(classes)} class{'es'[: 2 * (len(classes) != 1)]}"
    return f"{text} ({', '.join(classes)})" if len(classes) <= 5 else text


def _sorted(texts: list[str]) -> list[str]:
    """As scikit-learn orders classes: numbers by size, names by alphabet."""
    try:
        return sorted(texts, key=float)
    except ValueError:
        return sorted(texts)


def _index(value: object, classes: tuple[str, ...]) -> int | None:
    """A label that is a class's name is that class, even where the name is a number; else it is an index."""
    text = str(value)
    if text in classes:
        return classes.index(text)
    lower = [name.lower() for name in classes]
    if isinstance(value, bool) and text.lower() in lower:
        return lower.index(text.lower())
    number = _whole(value)
    if number is None:
        return None
    # 3, 3.0 and "3.0" are one label: a column with missing values is one of floats to many tools
    if str(number) in classes:
        return classes.index(str(number))
    named_by_numbers = any(name.lstrip("-").isdecimal() for name in classes)
    return number if 0 <= number < len(classes) and not named_by_numbers else None


def _is_index(value: object, width: int) -> bool:
    number = _whole(value)
    return number is not None and 0 <= number < width


def _whole(value: object) -> int | None:
    try:
        number = float(value if isinstance(value, bool) else str(value))
    except ValueError:
        return None
    return int(number) if number.is_integer() else None
