"""Labels as senders write them (`records`), checked against the classes and read into what `join` takes.

Called by `app`. Either all labels of a request can be used, or none is: the error names the row and the field.
"""

import math
from collections.abc import Mapping
from datetime import UTC, datetime

import numpy as np

from modelcanary_gate.spec import LabelMode, Task
from modelcanary_ledger import aliases
from modelcanary_ledger.batches import MAX_ID, MAX_INDEX
from modelcanary_ledger.errors import BadRequest, LedgerError, Unprocessable
from modelcanary_ledger.join import Posted
from modelcanary_ledger.model import Standing
from modelcanary_ledger.records import LabelRecord, read_records

MAX_LABELS = 20_000
#: Of a reference answer, in characters.
MAX_REFERENCE = 262_144
_SUM_TOLERANCE = 1e-3
_NAMED = 12  # classes that an error names


def read_labels(body: bytes, headers: Mapping[str, str], standing: Standing, *, untyped: bool = False) -> list[Posted]:
    """Raises BadRequest for what is not JSON or not a label, Unprocessable for a value that cannot be.

    `untyped`: labels that are text come from where there are no types, such as CSV.
    """
    records = read_records(body, headers, standing.class_index)
    if len(records) > MAX_LABELS:
        raise BadRequest(f"{len(records)} labels in one request", remedy=f"send at most {MAX_LABELS} at a time")
    if standing.spec is None:
        # Before the first run nothing was mirrored that a label could be of, and the classes are not known yet.
        return [Posted(record.id, record.index, 0) for record in records]
    if untyped:
        for record in records:
            if isinstance(record.label, str):
                record.label = aliases.untyped(record.label, standing.class_index)
    return [_posted(record, row, standing) for row, record in enumerate(records)]


def _posted(record: LabelRecord, row: int, standing: Standing) -> Posted:
    if not 0 <= record.index <= MAX_INDEX:
        remedy = f"instances of a request count from 0 to {MAX_INDEX}"
        raise _unusable(f"index is {record.index}", "index", row, remedy)
    if not 0 < len(record.id) <= MAX_ID:  # as a pair's: a longer one could be held, and match nothing
        problem = f"id has {len(record.id)} characters" if record.id else "id is empty"
        raise _unusable(problem, "id", row, f"send the id that the request had, at most {MAX_ID} characters")
    time = None if record.ts is None else _time(record.ts, row)
    if standing.spec is not None and standing.spec.model.generates:
        agreement = standing.spec.labels.mode is LabelMode.AGREEMENT
        text = _reference(record, row)
        return Posted(record.id, 0, 0, time, None if agreement else text)
    return Posted(record.id, record.index, _value(record.label, row, standing), time)


def _reference(record: LabelRecord, row: int) -> str:
    """Of a language model the label is a text, and a pair's only class is that this text is right."""
    label = record.label
    if record.index:
        raise _unusable(f"index is {record.index}", "index", row, "a language model's request has one answer, index 0")
    if not isinstance(label, str):
        raise _unusable("label is no text", "label", row, "send the reference answer, as text")
    if not 0 < len(label) <= MAX_REFERENCE:
        problem = f"label has {len(label)} characters" if label else "label is empty"
        raise _unusable(problem, "label", row, f"send the reference answer, at most {MAX_REFERENCE} characters")
    return label


def _value(label: str | int | list[float], row: int, standing: Standing) -> int | bytes:
    classes = standing.class_index
    spec = standing.spec
    multilabel = spec is not None and spec.model.task is Task.MULTILABEL
    if isinstance(label, list):
        return _soft(label, row, len(classes), multilabel=multilabel)
    if multilabel:
        raise _unusable(
            f"label is {label!r} where the task is multilabel",
            "label",
            row,
            f"send a list of {len(classes)} numbers, 1 for each class that holds",
        )
    if isinstance(label, str):
        index = classes.get(label)
        if index is None:
            names = ", ".join(list(classes)[:_NAMED]) + (", …" if len(classes) > _NAMED else "")
            raise _unusable(f"label {label!r} is none of the classes", "label", row, f"the classes are {names}")
        return index
    if not 0 <= label < len(classes):
        raise _unusable(
            f"label {label} is none of the classes",
            "label",
            row,
            f"class indices are 0 to {len(classes) - 1}; a class name is sent as text",
        )
    return label


def _soft(label: list[float], row: int, classes: int, *, multilabel: bool) -> bytes:
    if len(label) != classes:
        raise _unusable(f"label has {len(label)} numbers", "label", row, f"send one per class, {classes} of them")
    for position, value in enumerate(label):
        if not (math.isfinite(value) and 0.0 <= value <= 1.0):
            raise _unusable(f"label[{position}] is {value:g}", "label", row, "send numbers from 0 to 1")
    total = math.fsum(label)
    if not multilabel and abs(total - 1.0) > _SUM_TOLERANCE:
        raise _unusable(
            f"label sums to {total:.6g}, {abs(total - 1.0):.3g} {'above' if total > 1 else 'below'} 1",
            "label",
            row,
            "send probabilities that sum to 1",
        )
    return np.array(label, dtype="<f8").tobytes()


def _time(ts: float | str, row: int) -> float:
    """Seconds since the epoch; a text without a time zone is read as UTC."""
    if isinstance(ts, str):
        try:
            parsed = datetime.fromisoformat(ts)
        except ValueError:
            raise _unusable(
                f"ts is {ts!r}", "ts", row, "send seconds since the epoch or 2026-01-31T12:00:00Z"
            ) from None
        return (parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)).timestamp()
    if not math.isfinite(ts):
        raise _unusable(f"ts is {ts}", "ts", row, "send seconds since the epoch")
    return ts


def _unusable(what: str, field: str, row: int, remedy: str) -> LedgerError:
    return Unprocessable(f"row {row}: {what}", field=field, row=row, remedy=remedy)
