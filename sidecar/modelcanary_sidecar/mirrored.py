"""The mirrored copy of a request, as bytes to send to a model. Pure; the scorer calls it.

The live process has already taken out what must not be forwarded; here come the candidate's own path prefix,
the patch that asks a model for probabilities, and the framing. Of a binary request the JSON head is patched.
"""

from collections.abc import Mapping

import msgspec

from modelcanary_sidecar.asked import NOT_READ, asked
from modelcanary_sidecar.capture import Captured, copied
from modelcanary_sidecar.decoding.binary import LENGTH_HEADER

_decode = msgspec.json.Decoder().decode
_encode = msgspec.json.Encoder().encode

Patch = Mapping[str, object]


def copy_of(captured: Captured, prefix: bytes, patch: Patch | None, cap: int) -> tuple[bytes, bytes]:
    """The request with its framing, head and body. A body that cannot be patched is sent as it came."""
    headers, body = captured.headers, captured.body
    if patch is not None and (patched := _patched(headers, body, patch, cap)) is not None:
        headers, body = patched
    return copied(captured, prefix, headers, body)


def _patched(headers: bytes, body: bytes, patch: Patch, cap: int) -> tuple[bytes, bytes] | None:
    try:
        found = asked(headers, body, cap)
        value = _decode(found.json)
        if not isinstance(value, dict):
            return None
        patched = _encode(merge_patch(value, patch))
    except (*NOT_READ, OverflowError):
        return None
    if found.coded:
        headers = without(headers, b"content-encoding")
    if found.binary:
        headers = without(headers, LENGTH_HEADER) + b"%b: %d\r\n" % (LENGTH_HEADER, len(patched))
    return headers, patched + found.tensors


def without(headers: bytes, name: bytes) -> bytes:
    lines = headers.split(b"\r\n")
    return b"\r\n".join(line for line in lines if line.partition(b":")[0].lower() != name)


def merge_patch(target: object, patch: object) -> object:
    """RFC 7396, section 2: null removes, an object is merged, anything else replaces."""
    if not isinstance(patch, Mapping):
        return patch
    merged = dict(target) if isinstance(target, dict) else {}
    for key, value in patch.items():
        if value is None:
            merged.pop(key, None)
        else:
            merged[key] = merge_patch(merged.get(key), value)
    return merged
