"""Label records: an object, an array or lines of JSON, in a form of their own or in one that others write (`aliases`).

Called by `labels`, which checks the values.
"""

from collections.abc import Mapping

import msgspec

from modelcanary_ledger.aliases import Event, events, foreign, labels_of
from modelcanary_ledger.errors import BadRequest
from modelcanary_ledger.problems import refused

_REMEDY = 'send {"id": "req-42", "label": "cat"}; index, ts and source may be added, docs/labels.md tells all'


class LabelRecord(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    """The fields of `modelcanary_gate.protocol.Label`, strictly."""

    id: str
    label: str | int | list[float]
    index: int = 0
    ts: float | str | None = None
    source: str = ""


_ONE = msgspec.json.Decoder(LabelRecord)
_MANY = msgspec.json.Decoder(list[LabelRecord])


def read_records(body: bytes, headers: Mapping[str, str], classes: Mapping[str, int]) -> list[LabelRecord]:
    """In the form of its own where the body is in it, else in one of the aliases.

    Raises BadRequest. The values are not looked at, but for those of a form that has no types: there a class's name
    comes before its index.
    """
    if foreign(body, headers):
        return [
            record
            for row, (value, event) in enumerate(events(body, headers))
            for record in _converted(value, event, row, classes)
        ]
    return _native(body)


def _converted(value: object, event: Event | None, row: int, classes: Mapping[str, int]) -> list[LabelRecord]:
    found = []
    for fields in labels_of(value, event, row, classes):
        try:
            found.append(msgspec.convert(fields, LabelRecord))
        except msgspec.ValidationError as error:
            raise refused(error, _REMEDY, row=row) from error
    return found


def _native(body: bytes) -> list[LabelRecord]:
    start = body.lstrip()[:1]
    if start == b"[":
        try:
            return _MANY.decode(body)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise refused(error, _REMEDY) from error
    if not start:
        raise BadRequest("the body is empty", remedy=_REMEDY)
    try:
        return [_ONE.decode(body)]
    except msgspec.ValidationError as error:
        raise refused(error, _REMEDY) from error
    except (msgspec.DecodeError, UnicodeDecodeError):
        return _lines(body)


def _lines(body: bytes) -> list[LabelRecord]:
    try:
        return _ONE.decode_lines(body)
    except (msgspec.DecodeError, UnicodeDecodeError):
        pass
    records = []
    for row, line in enumerate(line for line in body.splitlines() if line.strip()):
        try:
            records.append(_ONE.decode(line))
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise refused(error, _REMEDY, row=row) from error
    return records
