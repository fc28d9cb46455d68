"""What is read from a user's request: its JSON, the id that it carries, how many instances it asks for.

`pairing` asks for the id and the instances, `mirrored` for the JSON to patch. A request is never judged here: what
cannot be read has no id, and no number of instances.
"""

from dataclasses import dataclass

import msgspec

from modelcanary_sidecar.capture import header
from modelcanary_sidecar.decoding import Unreadable
from modelcanary_sidecar.decoding.binary import LENGTH_HEADER, split
from modelcanary_sidecar.decoding.body import inflate

#: Longer ids in a body, or what is no text, are not taken for ids.
_ID_CAP = 256


class _WithId(msgspec.Struct):
    id: object = None
    meta: object = None


_decode_id = msgspec.json.Decoder(_WithId).decode
_decode = msgspec.json.Decoder().decode
#: What decoding raises for bodies of any kind.
NOT_READ = (Unreadable, msgspec.MsgspecError, UnicodeError, RecursionError)


@dataclass(frozen=True, slots=True)
class Asked:
    """A request's body without its coding, in two parts."""

    json: bytes
    tensors: bytes  # behind the JSON, where the request is a binary one of Open Inference V2
    coded: bool  # it came with a Content-Encoding
    binary: bool


def asked(headers: bytes, body: bytes, cap: int) -> Asked:
    """Raises Unreadable for a coding that is not known, or more than `cap` bytes."""
    coding = header(headers, b"content-encoding") or b""
    if coding:
        body = inflate(body, coding, cap)
    length = header(headers, LENGTH_HEADER)
    if length is None:
        return Asked(body, b"", bool(coding), False)
    return Asked(*split(body, length), bool(coding), True)


def id_in(headers: bytes, body: bytes, cap: int) -> str | None:
    """The `id` of an Open Inference V2 body, or Seldon's `meta.puid`, if it is a short text."""
    if b'"id"' not in body and b'"puid"' not in body and b"content-encoding" not in headers.lower():
        return None
    try:
        fields = _decode_id(asked(headers, body, cap).json)
    except NOT_READ:
        return None
    found = fields.id if fields.id is not None or not isinstance(fields.meta, dict) else fields.meta.get("puid")
    if not isinstance(found, str):
        return None
    return found if found and len(found) <= _ID_CAP and found.isprintable() else None


def instances(headers: bytes, body: bytes, cap: int) -> int | None:
    """How many instances were asked about, by the shapes of the protocols; None where that cannot be seen."""
    try:
        value = _decode(asked(headers, body, cap).json)
    except NOT_READ:
        return None
    count = _count(value)
    return count if count is not None and 1 <= count <= len(body) else None  # what is said and not sent is not believed


def _count(value: object) -> int | None:
    if not isinstance(value, dict):
        return len(value) if isinstance(value, list) else None
    inputs = value.get("inputs")
    if isinstance(inputs, list) and inputs and isinstance(inputs[0], dict) and "shape" in inputs[0]:
        return _first_axis(inputs[0]["shape"])
    data = value.get("data")
    if isinstance(data, dict):
        tensor = data.get("tensor")
        return _first_axis(tensor.get("shape")) if isinstance(tensor, dict) else _length(data.get("ndarray"))
    split_frame = value.get("dataframe_split")
    rows = split_frame.get("data") if isinstance(split_frame, dict) else None
    found = (value.get("instances"), inputs, value.get("dataframe_records"), rows)
    return next((len(one) for one in found if isinstance(one, list)), None)


def _first_axis(shape: object) -> int | None:
    """A shape of one axis may be that of a single instance."""
    batched = isinstance(shape, list) and len(shape) > 1 and type(shape[0]) is int
    return int(shape[0]) if batched and isinstance(shape, list) else None


def _length(rows: object) -> int | None:
    return len(rows) if isinstance(rows, list) else None
