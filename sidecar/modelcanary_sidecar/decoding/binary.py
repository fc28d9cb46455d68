"""Open Inference V2's binary tensors: a JSON head, and behind it the raw bytes of the tensors that it lists.

The header `Inference-Header-Content-Length` says where the head ends; Content-Type says nothing (KServe leaves it
out). `reader` takes answers apart here, `asked` takes requests apart, `presets` has the numbers from here. Nothing
here knows which tensor is wanted.
"""

import struct

from modelcanary_gate.vocabulary import Outcome
from modelcanary_sidecar.decoding.unreadable import Cause, Unreadable

#: In lower case, as headers are looked for.
LENGTH_HEADER = b"inference-header-content-length"

#: struct's letter for each floating datatype; BF16 has none, it is the upper half of a float32.
_LETTERS = {"FP16": "e", "FP32": "f", "FP64": "d"}
_SIZES = {"FP16": 2, "BF16": 2, "FP32": 4, "FP64": 8}


def split(body: bytes, length: bytes) -> tuple[bytes, bytes]:
    """The JSON head and the tensors behind it; `length` is the header's value."""
    if not length.isdigit() or len(length) > 12 or int(length) > len(body):
        raise _broken(f"a binary body of {len(body)} bytes whose head is said to have {length[:20]!r}")
    end = int(length)
    return body[:end], body[end:]


def attach(head: object, tensors: bytes) -> object:
    """`head` with each output's bytes as its `data`, which no JSON value can be."""
    outputs = head.get("outputs") if isinstance(head, dict) else None
    if not isinstance(outputs, list):
        raise _broken("binary tensors without `outputs`")
    at = 0
    for output in outputs:
        parameters = output.get("parameters") if isinstance(output, dict) else None
        size = parameters.get("binary_data_size") if isinstance(parameters, dict) else None
        if size is None:
            continue  # this one's numbers are in the head
        if type(size) is not int or not 0 <= size <= len(tensors) - at:
            raise _broken(f"a tensor of {str(size)[:20]} bytes where {len(tensors) - at} are left")
        output["data"] = tensors[at : at + size]
        at += size
    if at != len(tensors):
        raise _broken(f"{len(tensors) - at} bytes that belong to no output")
    return head


def floats(data: bytes, datatype: str) -> list[float]:
    """The numbers of a tensor of FP16, BF16, FP32 or FP64: little-endian, row by row."""
    size = _SIZES[datatype]
    if len(data) % size:
        raise _broken(f"{len(data)} bytes of {datatype}, which takes {size} each")
    letter = _LETTERS.get(datatype)
    if letter is not None:
        return list(struct.unpack(f"<{len(data) // size}{letter}", data))
    wide = bytearray(2 * len(data))  # the lower halves are 0
    wide[2::4], wide[3::4] = data[0::2], data[1::2]
    return list(struct.unpack(f"<{len(data) // size}f", wide))


def texts(data: bytes) -> list[str]:
    """The elements of a BYTES tensor: each behind its length in four bytes."""
    found, at = [], 0
    while at + 4 <= len(data):
        (size,) = struct.unpack_from("<I", data, at)
        at += 4
        if size > len(data) - at:
            break
        found.append(data[at : at + size].decode("utf-8", "replace"))
        at += size
    return found


def _broken(message: str) -> Unreadable:
    return Unreadable(Outcome.UNDECODABLE, Cause.SHAPE, message)
