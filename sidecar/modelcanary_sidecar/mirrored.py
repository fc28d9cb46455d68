"""The mirrored copy of a request, as bytes to send to the candidate. Pure; the scorer calls it.

The live process has already taken out what must not be forwarded; here come the candidate's own path prefix,
the patch that asks a model for probabilities, and the framing.
"""

from collections.abc import Mapping

import msgspec

from modelcanary_sidecar.capture import Captured, header
from modelcanary_sidecar.decoding import Unreadable
from modelcanary_sidecar.decoding.body import inflate

_decode = msgspec.json.Decoder().decode
_encode = msgspec.json.Encoder().encode

Patch = Mapping[str, object]


def copy_of(captured: Captured, prefix: bytes, patch: Patch | None, cap: int) -> bytes:
    """The request with its framing. A body that cannot be patched is sent as it came."""
    headers, body = captured.headers, captured.body
    if patch is not None and (patched := _patched(headers, body, patch, cap)) is not None:
        headers, body = patched
    return b"%b %b%b HTTP/1.1\r\n%bContent-Length: %d\r\n\r\n%b" % (
        captured.method,
        prefix,
        captured.target,
        headers,
        len(body),
        body,
    )


def _patched(headers: bytes, body: bytes, patch: Patch, cap: int) -> tuple[bytes, bytes] | None:
    coding = header(headers, b"content-encoding")
    try:
        if coding:
            body = inflate(body, coding, cap)
            headers = _without(headers, b"content-encoding")
        value = _decode(body)
        if not isinstance(value, dict):
            return None
        return headers, _encode(merge_patch(value, patch))
    except (Unreadable, msgspec.MsgspecError, UnicodeError, RecursionError, OverflowError):
        return None


def _without(headers: bytes, name: bytes) -> bytes:
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
