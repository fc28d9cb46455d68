"""Labels in the forms that others write: SageMaker's ground truth, Seldon's feedback, CloudEvents.

`records` calls it for bodies that look so. A form is known by the fields it has, since senders leave Content-Type out;
only CloudEvents in binary mode are known by their headers. Nothing here knows what became of a label.
"""

import csv
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from modelcanary_ledger.errors import BadRequest

#: What a body has in it that is in one of these forms; it may be in a text of another body.
_MARKS = (b'"groundTruthData"', b'"specversion"', b'"truth"', b'"reward"')
_FORMS = "send {id, label}, a SageMaker ground truth record, a Seldon feedback or a CloudEvent; see docs/labels.md"
_WHOLE = frozenset("0123456789")

Fields = dict[str, object]


@dataclass(frozen=True, slots=True)
class Event:
    """What a CloudEvent says around its data."""

    subject: str | None
    source: str


def foreign(body: bytes, headers: Mapping[str, str]) -> bool:
    """Whether `body` may be in one of these forms; costs a search, no decoding."""
    return "ce-specversion" in headers or any(mark in body for mark in _MARKS)


def events(body: bytes, headers: Mapping[str, str]) -> Iterator[tuple[object, Event | None]]:
    """The records of a body, each with the event that it came in. Raises BadRequest."""
    if "ce-specversion" in headers:
        event = Event(headers.get("ce-subject"), headers.get("ce-source", ""))
        for value in _values(body):
            yield value, event
        return
    for row, value in enumerate(_values(body)):
        if isinstance(value, dict) and "specversion" in value:
            subject, source = value.get("subject"), value.get("source")
            if "data" not in value:
                raise _refused("a CloudEvent without data", "data", row, "send the label as JSON in `data`")
            yield value["data"], Event(_text(subject), _text(source) or "")
        else:
            yield value, None


def labels_of(value: object, event: Event | None, row: int, classes: Mapping[str, int]) -> list[Fields]:
    """One record as fields of `records.LabelRecord`, a label for each instance that it tells of. Raises BadRequest."""
    if not isinstance(value, dict):
        if event is None:
            raise _refused("not an object", None, row, _FORMS)
        value = {"label": value}
    if "groundTruthData" in value:
        found = _sagemaker(value, row, classes)
    elif "truth" in value or "reward" in value:
        found = _seldon(value, row, classes)
    else:
        found = [dict(value)]
    if event is not None:
        for fields in found:
            _from_event(fields, event, row)
    return found


def _from_event(fields: Fields, event: Event, row: int) -> None:
    """The event's own id and time are of the label, not of the request: neither is taken."""
    if fields.get("id") is None:
        if not event.subject:
            raise _refused("a CloudEvent without subject", "subject", row, "the subject is the id of the request")
        fields["id"] = event.subject
    fields.setdefault("source", event.source)


def _sagemaker(value: Fields, row: int, classes: Mapping[str, int]) -> list[Fields]:
    metadata = _object(value.get("eventMetadata"))
    identifier = _text(metadata.get("inferenceId")) or _text(metadata.get("eventId"))
    if not identifier:
        raise _refused("no eventMetadata.eventId", "eventMetadata.eventId", row, "it is the id of the request")
    truth = _object(value.get("groundTruthData"))
    data, encoding = truth.get("data"), _text(truth.get("encoding")) or "CSV"
    field = "groundTruthData.data"
    if not isinstance(data, str):
        raise _refused("no text in groundTruthData.data", field, row, "send the label as text")
    if encoding == "CSV":
        try:
            cells = [cell for cell in csv.reader(data.splitlines()) if cell]
        except csv.Error as error:
            raise _refused("groundTruthData.data is not CSV", field, row, "send one label, or one per line") from error
        if any(len(cell) != 1 for cell in cells):
            raise _refused("several columns in groundTruthData.data", field, row, "send one label, or one per line")
        labels: list[object] = [untyped(cell[0].strip(), classes) for cell in cells]
    elif encoding == "JSON":
        try:
            said = json.loads(data)
        except ValueError as error:
            raise _refused("groundTruthData.data is not JSON", field, row, "send JSON, or encoding CSV") from error
        labels = [_typed(one, classes) for one in (said if isinstance(said, list) else [said])]
    else:
        raise _refused(f"encoding {encoding[:20]!r}", "groundTruthData.encoding", row, "send CSV or JSON")
    return _per_instance(identifier, labels, "sagemaker", row)


def _seldon(value: Fields, row: int, classes: Mapping[str, int]) -> list[Fields]:
    response, request = _object(value.get("response")), _object(value.get("request"))
    puids = [_text(_object(message.get("meta")).get("puid")) for message in (response, request)]
    identifier = next((puid for puid in puids if puid), None)
    if identifier is None:
        raise _refused("no response.meta.puid", "response.meta.puid", row, "it is the id of the request")
    truth = _object(value.get("truth"))
    data = _object(truth.get("data"))
    tensor = _object(data.get("tensor"))
    if "strData" in truth:
        said: object = [truth["strData"]]
    elif tensor:
        said = _rows(tensor.get("values"), tensor.get("shape"))
    else:
        said = data.get("ndarray")
    if not isinstance(said, list):
        raise _refused("no truth.data", "truth.data", row, "send the label as truth.data.ndarray; a reward is none")
    return _per_instance(identifier, [_typed(one, classes) for one in said], "seldon", row)


def _rows(values: object, shape: object) -> object:
    """A tensor's values, a list for each instance where it has several columns."""
    if not isinstance(values, list) or not isinstance(shape, list) or len(shape) < 2 or type(shape[-1]) is not int:
        return values
    width = shape[-1]
    if width < 1 or len(values) % width:
        return None
    return [values[start : start + width] for start in range(0, len(values), width)]


def _per_instance(identifier: str, labels: list[object], source: str, row: int) -> list[Fields]:
    if not labels:
        raise _refused("no label in it", None, row, _FORMS)
    return [{"id": identifier, "index": index, "label": label, "source": source} for index, label in enumerate(labels)]


def untyped(text: str, classes: Mapping[str, int]) -> str | int:
    """A label from where there are no types: a class's name, else its index, `1` and `1.0` alike.

    Where classes are called by numbers, no number is an index: of the classes 1, 2 and 3, 0 would be taken for 1.
    """
    if text in classes or not classes:  # without classes: a language model's reference, which is text
        return text
    whole = text.removesuffix(".0")
    if whole in classes or not (whole and len(whole) < 10 and _WHOLE.issuperset(whole)):
        return whole if whole in classes else text
    return text if next(iter(classes), "").isdecimal() else int(whole)


def _typed(value: object, classes: Mapping[str, int]) -> object:
    """One label of a JSON value: arrays of one are that one, whole numbers are indices however they are written."""
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return untyped(value, classes) if isinstance(value, str) else value


def _values(body: bytes) -> list[object]:
    """One JSON value, the items of an array, or one value a line."""
    try:
        value = json.loads(body)
    except ValueError:  # of which UnicodeDecodeError is one
        lines = [line for line in body.splitlines() if line.strip()]
        return [_line(line, row) for row, line in enumerate(lines)]
    except RecursionError as error:
        raise _refused("nested too deeply", None, 0, _FORMS) from error
    return value if isinstance(value, list) else [value]


def _line(line: bytes, row: int) -> object:
    try:
        value: object = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise _refused("not JSON", None, row, _FORMS) from error
    return value


def _object(value: object) -> Fields:
    return value if isinstance(value, dict) else {}


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None


def _refused(what: str, field: str | None, row: int, remedy: str) -> BadRequest:
    return BadRequest(f"row {row}: {what}", field=field, row=row, remedy=remedy)
