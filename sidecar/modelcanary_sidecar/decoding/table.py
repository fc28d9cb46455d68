"""The rows of numbers in an answer, as found: not yet checked, aligned or turned into log-probabilities.

The presets make a `Table` from what a protocol answers; `rows` reads it.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from modelcanary_gate.vocabulary import Outcome
from modelcanary_sidecar.decoding.unreadable import Cause, Unreadable

#: Triton's classification extension: "0.959733:7", or "0.959733:7:seven"
_RANKED = re.compile(r"-?\d+(\.\d+)?([eE][-+]?\d+)?:\d+(:.*)?")
#: How some encoders spell the numbers that JSON does not have.
NON_NUMBERS = frozenset({"NaN", "nan", "Infinity", "-Infinity", "inf", "-inf"})


@dataclass(frozen=True, slots=True)
class Table:
    """One row per instance."""

    rows: Sequence[Sequence[object]]
    #: the columns by name, where the answer names them: class names, or names that mean nothing here
    names: tuple[str, ...] | None = None
    #: declared floating point, so that a whole number among them is a number and not a label
    floats: bool = False


def from_value(value: object, output: str | None, classes: frozenset[str], *, flat_row: bool) -> Table:
    """A list with an entry per instance: each a list, a mapping by class (or by output), or one number.

    `flat_row`: a flat list of numbers is one instance's row rather than one number per instance.
    """
    if isinstance(value, dict):
        return _from_mapping(value, output, classes)
    if not isinstance(value, list):
        if value is None or isinstance(value, (int, float, str)):
            return Table([[value]])
        raise Unreadable(Outcome.UNDECODABLE, Cause.SHAPE, "no list of instances")
    if not value:
        raise Unreadable(Outcome.UNDECODABLE, Cause.SHAPE, "no instance in the answer")
    first = value[0]
    if isinstance(first, list):
        return Table(_unnested([row if isinstance(row, list) else [row] for row in value]))
    if isinstance(first, dict):
        return _from_mappings(value, output, classes)
    if flat_row and len(value) > 1:
        return Table([value])
    return Table([row if isinstance(row, list) else [row] for row in value])


def _unnested(rows: list[list[object]]) -> list[list[object]]:
    """Rows out of a further axis of length 1: some servers keep the batch axis within each instance."""
    while all(len(row) == 1 and isinstance(row[0], list) for row in rows):
        rows = [row[0] for row in rows if isinstance(row[0], list)]
    return rows


def _from_mapping(value: dict[str, object], output: str | None, classes: frozenset[str]) -> Table:
    """One instance; or several by columns, a list for each name, as MLflow answers where a model returns a mapping."""
    if output is not None and output not in classes:
        inner = value.get(output)
        if isinstance(inner, list) and inner and isinstance(inner[0], (list, dict)):
            return from_value(inner, None, classes, flat_row=False)
        return _from_mappings([value], output, classes)
    columns = [column for column in value.values() if isinstance(column, list)]
    if not columns or len(columns) != len(value) or classes.isdisjoint(value):
        return _from_mappings([value], output, classes)
    if not columns[0] or len({len(column) for column in columns}) != 1:
        raise Unreadable(Outcome.UNDECODABLE, Cause.SHAPE, "columns of different length")
    return Table([list(row) for row in zip(*columns, strict=True)], tuple(value))


def _from_mappings(rows: list[object], output: str | None, classes: frozenset[str]) -> Table:
    first = rows[0]
    if not isinstance(first, dict):
        raise Unreadable(Outcome.UNDECODABLE, Cause.SHAPE, "instances are answered in different shapes")
    if output is not None and output not in classes:
        inner = []
        for row in rows:
            if not isinstance(row, dict) or output not in row:
                raise Unreadable(Outcome.UNDECODABLE, Cause.OUTPUT, f"no output {output!r} among {_some(first)}")
            inner.append(row[output])
        # A number, list or mapping within each instance.
        return from_value(inner, None, classes, flat_row=False)
    names = tuple(first)
    if set(names) == {"label", "score"}:
        raise Unreadable(Outcome.TOP_K_ONLY, Cause.TOP_K, "a label and its score, not every class's")
    if classes.isdisjoint(names):
        raise Unreadable(
            Outcome.UNDECODABLE,
            Cause.OUTPUT,
            f"no class among {_some(first)}; model.output names one",
        )
    return Table([_values(row, names) for row in rows], names)


def _values(row: object, names: tuple[str, ...]) -> list[object]:
    """One instance's values in the order of `names`, whatever order they came in."""
    if isinstance(row, dict) and len(row) == len(names):
        values = [row[name] for name in names if name in row]
        if len(values) == len(names):
            return values
    raise Unreadable(Outcome.UNDECODABLE, Cause.NAMES, "instances are answered with different names")


def _some(names: object) -> str:
    shown = [repr(name)[:40] for name in (list(names) if isinstance(names, (dict, list, tuple)) else [])]
    return ", ".join(shown[:5]) + (", ..." if len(shown) > 5 else "") or "none"


def some_names(names: Sequence[str]) -> str:
    """A few names for a message."""
    return _some(list(names))


def ranked(values: Sequence[object]) -> bool:
    """Are these Triton's `score:index` strings?"""
    return bool(values) and all(isinstance(value, str) and _RANKED.fullmatch(value) for value in values)
