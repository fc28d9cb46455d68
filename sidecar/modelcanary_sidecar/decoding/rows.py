"""Rows of numbers as float32 log-probabilities in the baseline's order of classes, each row by itself.

Small answers are read row by row by `logs`. Of a large one the numbers are taken, and the logarithms of many such
answers at once, by `large`. One bad row is that instance's outcome and not the batch's.
"""

import math
import struct
from collections.abc import Sequence
from dataclasses import dataclass

import msgspec

from modelcanary_gate.protocol import ModelReading
from modelcanary_gate.spec import SUM_TOLERANCE, Task, Values
from modelcanary_gate.vocabulary import Outcome
from modelcanary_sidecar.decoding.align import Alignment
from modelcanary_sidecar.decoding.logs import logs_of, sum_of_exp
from modelcanary_sidecar.decoding.table import NON_NUMBERS, Table
from modelcanary_sidecar.decoding.unreadable import Cause, Unread

#: From this many numbers on, one pass of numpy is cheaper than plain Python.
_LARGE = 400
#: From here on float32 rounds to -inf, the log-probability of 0; any epsilon clips it long before.
_FLOAT32_LOWEST = -(2.0 - 2.0**-24) * 2.0**127
_INF = math.inf
_WHOLE = (int, bool)
_FLOAT = b"\xcb"  # msgpack's mark of one, big-endian
_encode = msgspec.msgpack.Encoder().encode

Row = bytes | Unread


@dataclass(slots=True)  # not frozen: one for each answer
class Numbers:
    """Of a large answer; its log-probabilities are still to be made, with other answers' at once."""

    floats: bytes  # row by row, as msgpack has them: 9 bytes each
    rows: int
    order: Sequence[int] | None


class Rows:
    """Reads tables of one role."""

    def __init__(self, reading: ModelReading, alignment: Alignment, widths: frozenset[int]) -> None:
        self._values = Values(reading.values)
        self._task = Task(reading.task)
        self._alignment = alignment
        self._widths = widths
        self._needed = len(reading.classes)
        self._logs = logs_of(self._values, self._task)
        self._pack = struct.Struct(f"<{self._needed}f").pack
        # A label or a one-hot row is written in whole numbers; a probability that is exactly 0 or 1 is not,
        # by any server that writes floats.
        self._whole_is_label = self._values in (Values.PROBABILITIES, Values.BINARY_SCORE)

    def read(self, table: Table) -> list[Row] | Numbers:
        """A row of log-probabilities, or why there is none, per instance; or what `finish` makes them of."""
        order = self._alignment.order(table.names)
        if isinstance(order, Unread):
            return [order] * len(table.rows)
        if len(table.rows) * len(table.rows[0]) >= _LARGE and (numbers := self._numbers(table, order)):
            return numbers
        return [self._read_row(row, table.floats, order) for row in table.rows]

    def finish(self, numbers: Sequence[Numbers]) -> list[list[Row]]:
        """The rows of each, of this role or of the other."""
        from modelcanary_sidecar.decoding.large import packed_logs  # noqa: PLC0415 - numpy's 15 MB only where needed

        blocks = [(one.floats, one.rows, one.order) for one in numbers]
        widths = {len(one.floats) // one.rows for one in numbers}
        packed = packed_logs(blocks, self._values, self._task) if len(widths) == 1 else None
        if packed is None:
            return [self.finish([one])[0] for one in numbers] if len(numbers) > 1 else [self._each(numbers[0])]
        size = 4 * self._needed
        found: list[list[Row]] = []
        start = 0
        for one in numbers:
            end = start + size * one.rows
            found.append([packed[at : at + size] for at in range(start, end, size)])
            start = end
        return found

    def _numbers(self, table: Table, order: Sequence[int] | None) -> Numbers | None:
        """None where any row is not as it should be, so that each is told apart."""
        width = len(table.rows[0])
        if width not in self._widths:
            return None
        if any(len(row) != width or self._is_label(row, table.floats) for row in table.rows):
            return None
        try:
            floats = [_msgpack(row) for row in table.rows]
        except (TypeError, OverflowError, UnicodeEncodeError, RecursionError):
            return None
        return Numbers(b"".join(floats), len(floats), order)

    def _each(self, numbers: Numbers) -> list[Row]:
        """Row by row, because one of them cannot be used."""
        values = [value for _, value in struct.iter_unpack(">Bd", numbers.floats)]
        width = len(values) // numbers.rows
        return [self._read_row(values[at : at + width], True, numbers.order) for at in range(0, len(values), width)]

    def _read_row(self, row: Sequence[object], floats: bool, order: Sequence[int] | None) -> Row:
        if len(row) not in self._widths:
            return self._wrong_width(row)
        if self._is_label(row, floats):
            return Unread(Outcome.LABELS_ONLY, Cause.LABELS, "whole numbers: labels, not probabilities")
        try:
            logs = self._logs(row)  # type: ignore[arg-type]  # what is no number raises TypeError
        except (TypeError, OverflowError):
            logs = None
        if logs is None:
            return self._why(row)
        if order is not None:
            logs = [logs[index] for index in order]
        try:
            return self._pack(*logs)
        except OverflowError:
            return self._pack(*[log if log > _FLOAT32_LOWEST else -_INF for log in logs])

    def _is_label(self, row: Sequence[object], floats: bool) -> bool:
        whole = type(row[0]) in _WHOLE and self._whole_is_label and not floats
        return whole and all(type(number) in _WHOLE for number in row)

    def _wrong_width(self, row: Sequence[object]) -> Unread:
        needed = " or ".join(map(str, sorted(self._widths)))
        if not row:
            return Unread(Outcome.CLASS_COUNT, Cause.WIDTH, f"an empty row, {needed} are needed")
        if len(row) == 1:
            if _is_non_number(row[0]):
                return Unread(Outcome.NON_FINITE, Cause.NON_FINITE, "null in place of an answer")
            if not isinstance(row[0], (int, float, str)):
                return Unread(Outcome.UNDECODABLE, Cause.NOT_NUMBER, "no number for an instance")
            hint = "a label? the second class's probability needs values: binaryScore"
            return Unread(Outcome.LABELS_ONLY, Cause.LABELS, f"one value per instance, {needed} needed ({hint})")
        return Unread(Outcome.CLASS_COUNT, Cause.WIDTH, f"{len(row)} numbers, {needed} are needed")

    def _why(self, row: Sequence[object]) -> Unread:
        """Which rule a refused row breaks, first what says most about the model."""
        for number in row:
            if _is_non_number(number):
                return Unread(Outcome.NON_FINITE, Cause.NON_FINITE, "null or NaN among the numbers")
            if isinstance(number, bool) or not isinstance(number, (int, float)):
                if all(isinstance(other, (bool, str)) for other in row):
                    return Unread(Outcome.LABELS_ONLY, Cause.LABELS, "labels, not probabilities")
                return Unread(Outcome.UNDECODABLE, Cause.NOT_NUMBER, "not a number among the numbers")
        numbers = [_as_float(number) for number in row if isinstance(number, (int, float))]
        allowed = (-_INF,) if self._values is Values.LOG_PROBABILITIES else ()
        for number in numbers:
            if not math.isfinite(number) and number not in allowed:
                return Unread(Outcome.NON_FINITE, Cause.NON_FINITE, "NaN or infinity among the numbers")
        return _not_probabilities(numbers, self._values, self._task)


def _msgpack(row: Sequence[object]) -> bytes:
    """The row's numbers as msgpack has floats, in a fifth of an array's time. Raises where it is no row of numbers."""
    start = 1 if len(row) < 16 else 3 if len(row) < 1 << 16 else 5  # what comes before a list's elements
    packed = _encode(row)
    if packed[start::9] != _FLOAT * len(row):  # if one is a float, the next begins nine bytes on
        numbers = [float(value) for value in row if type(value) in (int, float)]  # type: ignore[arg-type]
        if len(numbers) < len(row):
            raise TypeError
        packed = _encode(numbers)
    return packed[start:]


def _not_probabilities(numbers: list[float], values: Values, task: Task) -> Unread:
    outcome = Outcome.NOT_PROBABILITIES
    logs = values is Values.LOG_PROBABILITIES
    if not logs and min(numbers) < 0.0:
        return Unread(outcome, Cause.NEGATIVE, f"a probability of {min(numbers):.6g}; logits need values: logits")
    if task is Task.MULTILABEL or values is Values.BINARY_SCORE:
        limit = "a log-probability above 0" if logs else "a probability above 1"
        return Unread(outcome, Cause.RANGE, f"{limit}: {max(numbers):.6g}")
    total = sum_of_exp(numbers) if logs else sum(numbers)
    side = "above" if total > 1.0 else "below"
    return Unread(
        outcome,
        Cause.SUM,
        f"the probabilities sum to {total:.6g}, {abs(total - 1.0):.3g} {side} 1 (allowed: {SUM_TOLERANCE:g})",
    )


def _is_non_number(value: object) -> bool:
    """NaN or an infinity, as those servers write it whose encoder has no such numbers."""
    return value is None or (isinstance(value, str) and value in NON_NUMBERS)


def _as_float(number: float) -> float:
    try:
        return float(number)
    except OverflowError:  # a whole number beyond what a float can hold
        return _INF
