"""From Arrow columns to numpy: numbers per row, times, names. Every refusal names the row.

Called by `predictions` and `pairs`. Knows shapes and types; must not know which model a column is of,
nor which class a number is for. Rows are counted from 1 in messages, without a header line.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from modelcanary_cli.errors import InputError
from modelcanary_gate.errors import DataError
from modelcanary_gate.probabilities import log_probabilities
from modelcanary_gate.spec import Task, Values

Floats = NDArray[np.float64]
Numbers = NDArray[np.floating[Any]]

#: Rows that are turned into log-probabilities at once: the temporaries stay small beside the data.
_CHUNK = 50_000


@dataclass(frozen=True, slots=True)
class Matrix:
    """One list of numbers per row, all of one length."""

    numbers: Numbers  # (n, C), in the file's own precision
    names: tuple[str, ...] | None = None  # of the columns, where the file names them

    @property
    def width(self) -> int:
        return int(self.numbers.shape[1])


def matrix(values: pa.ChunkedArray, source: Path, name: str) -> Matrix:
    """Lists of numbers, lists as JSON text, structs of numbers, or plain numbers (C = 1)."""
    kind = values.type
    if pa.types.is_dictionary(kind):
        values = values.cast(kind.value_type)
        kind = values.type
    _refuse_null(values, source, name)
    if _is_text(kind):
        values = _parsed(values, source, name)
        kind = values.type
        _refuse_null(values, source, name)
    if pa.types.is_struct(kind):
        fields = [kind.field(i).name for i in range(kind.num_fields)]
        parts = [scalars(pc.struct_field(values, field), source, f"{name}.{field}") for field in fields]
        return Matrix(np.stack(parts, axis=1), tuple(fields))
    if pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        return Matrix(_of_lists(values, source, name))
    return Matrix(scalars(values, source, name).reshape(-1, 1))


def scalars(values: pa.ChunkedArray, source: Path, name: str, *, missing: bool = False) -> Numbers:
    """One number per row. NaN stands for null where it may be `missing`; else a null is refused."""
    if not missing:
        _refuse_null(values, source, name)
    if _is_text(values.type):
        values = _numbers(values, source, name)
    kind = values.type
    if pa.types.is_null(kind):
        return np.full(len(values), np.nan)
    if not (pa.types.is_floating(kind) or pa.types.is_integer(kind) or pa.types.is_decimal(kind)):
        raise InputError(source, f"column {name!r} holds {_in_words(kind)}", "give one number per row")
    if not pa.types.is_floating(kind):
        values = values.cast(pa.float64())
    numbers: Numbers = values.to_numpy()
    return numbers


def flags(values: pa.ChunkedArray, source: Path, name: str) -> NDArray[np.bool_]:
    """True or false per row, also as text, the way that CSV files hold it; a null is false."""
    if _is_text(values.type):
        given = pc.utf8_lower(pc.utf8_trim_whitespace(values))
        known = pc.or_(pc.is_null(given), pc.is_in(given, pa.array(["true", "false"], given.type)))
        if not pc.all(known).as_py():
            row = pc.index(known, False).as_py()
            problem = f"row {row + 1}: {name} is {_shortened(values[row].as_py())}"
            raise InputError(source, problem, "give true or false")
        values = pc.equal(given, "true")
    if not (pa.types.is_boolean(values.type) or pa.types.is_null(values.type)):
        raise InputError(source, f"column {name!r} holds {_in_words(values.type)}", "give true or false")
    found: NDArray[np.bool_] = pc.fill_null(values.cast(pa.bool_()), False).to_numpy().astype(np.bool_)
    return found


def seconds(values: pa.ChunkedArray, source: Path, name: str) -> Floats:
    """Times as seconds since the epoch, from timestamps, ISO 8601 text, or numbers."""
    _refuse_null(values, source, name)
    kind = values.type
    if _is_text(kind):
        values = _timestamps(values, source, name)
        kind = values.type
    if pa.types.is_timestamp(kind):
        microseconds = values.cast(pa.timestamp("us", tz=kind.tz), safe=False).cast(pa.int64())
        return np.asarray(microseconds.to_numpy(), dtype=np.float64) / 1e6
    times = np.asarray(scalars(values, source, name), dtype=np.float64)
    if not np.isfinite(times).all():
        row = int(np.argmin(np.isfinite(times)))
        raise InputError(source, f"row {row + 1}: {name} is {times[row]}", "give seconds since the epoch")
    return times


def times(values: pa.ChunkedArray, source: Path, name: str) -> Floats:
    """Seconds since the epoch where not every row need say; NaN in rows without."""
    kind = values.type
    if pa.types.is_floating(kind) or pa.types.is_integer(kind) or pa.types.is_null(kind):
        return np.asarray(scalars(values, source, name, missing=True), dtype=np.float64)
    return seconds(values, source, name)


def texts(values: pa.ChunkedArray, source: Path, name: str) -> pa.ChunkedArray:
    """Ids and other names, as text: 7 and "7" are the same id."""
    _refuse_null(values, source, name)
    if pa.types.is_floating(values.type) or pa.types.is_nested(values.type):
        raise InputError(source, f"column {name!r} holds {_in_words(values.type)}", "give text or integers")
    return values.cast(pa.string())


def to_log_probabilities(values: Matrix, kind: Values, task: Task, source: Path, name: str) -> Floats:
    """Log-probabilities (n, C) of all rows. Raises InputError naming the first row that cannot be used."""
    parts = []
    for start in range(0, len(values.numbers), _CHUNK):
        rows = values.numbers[start : start + _CHUNK]
        try:
            parts.append(log_probabilities(rows, kind, task))
        except DataError as error:
            raise refused(error, start, source, name, kind) from error
    return np.concatenate(parts)


def refused(error: DataError, start: int, source: Path, name: str, kind: Values) -> InputError:
    """What the gate refused, in the file's terms; `start` is the file's row that the gate saw as row 0."""
    other = "logits or log-probabilities must be called so"
    remedies = {
        Values.PROBABILITIES: f"give probabilities from 0 to 1, one per class, that sum to 1; {other}",
        Values.BINARY_SCORE: f"give the probability of the second class, from 0 to 1; {other}",
        Values.LOG_PROBABILITIES: "give one natural logarithm of a probability per class",
        Values.LOGITS: "give one finite number per class",
    }
    place = f"column {name!r}" if error.row is None else f"row {start + error.row + 1}, column {name!r}"
    # the gate's own advice is for a specification, this one is for a file
    return InputError(source, f"{place}: {error.problem.partition(';')[0]}", remedies[kind])


def _of_lists(values: pa.ChunkedArray, source: Path, name: str) -> Numbers:
    lengths = pc.list_value_length(values).to_numpy()
    width = int(lengths[0]) if len(lengths) else 0
    if width == 0 or (lengths != width).any():
        row = int(np.argmax(lengths != width)) if width else 0
        raise InputError(
            source,
            f"row {row + 1}: {name} has {lengths[row]} numbers" + (f", row 1 has {width}" if width else ""),
            "give one number per class in each row",
        )
    parts = []
    for chunk in values.chunks:
        items = chunk.flatten()
        if not (pa.types.is_floating(items.type) or pa.types.is_integer(items.type) or pa.types.is_null(items.type)):
            raise InputError(source, f"column {name!r} holds lists of {_in_words(items.type)}", "give lists of numbers")
        if not pa.types.is_floating(items.type):
            items = items.cast(pa.float64())
        # a null within a list becomes NaN here, and is refused as such
        parts.append(items.to_numpy(zero_copy_only=False).reshape(-1, width))
    return parts[0] if len(parts) == 1 else np.concatenate(parts)


def _parsed(values: pa.ChunkedArray, source: Path, name: str) -> pa.ChunkedArray:
    """Lists written as JSON text, the way that CSV files hold them."""
    try:
        return values.cast(pa.float64())  # one number in each row
    except pa.ArrowInvalid:
        pass
    rows: list[object] = []
    for number, text in enumerate(values.to_pylist(), start=1):
        try:
            rows.append(json.loads(text))
        except (json.JSONDecodeError, RecursionError) as error:
            raise InputError(
                source, f"row {number}: {name} is {_shortened(text)}, not a list as JSON", "write it as [0.1, 0.9]"
            ) from error
    try:
        return pa.chunked_array([pa.array(rows)])
    except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
        raise InputError(
            source, f"column {name!r} holds different kinds of values", "write a list of numbers in each row"
        ) from error


def _numbers(values: pa.ChunkedArray, source: Path, name: str) -> pa.ChunkedArray:
    """Numbers written as text, the way that CSV files hold them."""
    try:
        return pc.utf8_trim_whitespace(values).cast(pa.float64())
    except pa.ArrowInvalid:
        for number, text in enumerate(values.to_pylist(), start=1):
            try:
                float("0" if text is None else text)
            except ValueError as error:
                raise InputError(source, f"row {number}: {name} is {_shortened(text)}", "give a number") from error
        raise


def _timestamps(values: pa.ChunkedArray, source: Path, name: str) -> pa.ChunkedArray:
    # numbers first: Arrow would take 1999 for a year
    for target in (pa.float64(), pa.timestamp("us", tz="UTC"), pa.timestamp("us")):
        try:
            return values.cast(target)
        except pa.ArrowInvalid:
            continue
    raise InputError(
        source,
        f"column {name!r} holds text that is not a time, for example {_shortened(values[0].as_py())}",
        "give seconds since the epoch or ISO 8601, all with a time zone or all without",
    )


def _refuse_null(values: pa.ChunkedArray, source: Path, name: str) -> None:
    if values.null_count:
        row = pc.index(values.is_null(), True).as_py()
        raise InputError(source, f"row {row + 1}: {name} is missing", "fill it in, or leave the row out")


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def _in_words(kind: pa.DataType) -> str:
    if _is_text(kind):
        return "text"
    if pa.types.is_boolean(kind):
        return "true and false"
    if pa.types.is_floating(kind):
        return "decimal numbers"
    if pa.types.is_nested(kind):
        return "lists"
    return str(kind)


def _shortened(text: str) -> str:
    return repr(text if len(text) <= 40 else text[:37] + "...")
