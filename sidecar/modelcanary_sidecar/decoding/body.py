"""The bytes of an answer as a JSON value: inflated within a cap, with NaN and Infinity accepted.

Content-Type is not looked at: servers leave it out, or say one thing and send another.
"""

import json
import zlib

import msgspec

from modelcanary_gate.vocabulary import Outcome
from modelcanary_sidecar.decoding.unreadable import Cause, Unreadable

_decode = msgspec.json.Decoder().decode
#: zlib's window argument that accepts the headers of both gzip and zlib
_GZIP_OR_ZLIB = 32 + zlib.MAX_WBITS
_RAW_DEFLATE = -zlib.MAX_WBITS


def parse_json(body: bytes) -> object:
    """The JSON value of `body`.

    Triton and MLflow write bare `NaN` and `Infinity`, which JSON does not have and the fast decoder refuses;
    the standard library's reads them.
    """
    try:
        return _decode(body)
    except msgspec.DecodeError as error:
        if b"NaN" in body or b"Infinity" in body:
            return _parse_lenient(body)
        raise _not_json(body) from error
    except (UnicodeDecodeError, RecursionError) as error:
        raise _not_json(body) from error


def _parse_lenient(body: bytes) -> object:
    try:
        value: object = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise _not_json(body) from error
    return value


def _not_json(body: bytes) -> Unreadable:
    start = body[:256].lstrip().lower()
    if start.startswith((b"<!doctype", b"<html", b"<head", b"<body")):
        return Unreadable(Outcome.UNDECODABLE, Cause.HTML, "an HTML page, where JSON is needed")
    if not start:
        return Unreadable(Outcome.UNDECODABLE, Cause.NOT_JSON, "an empty body, where JSON is needed")
    return Unreadable(Outcome.UNDECODABLE, Cause.NOT_JSON, f"not JSON ({len(body)} bytes)")


def inflate(body: bytes, content_encoding: bytes, cap: int) -> bytes:
    """`body` without its Content-Encoding; no more than `cap` bytes are ever inflated."""
    coding = content_encoding.strip().lower()
    if coding in (b"", b"identity"):
        plain = body
    elif coding in (b"gzip", b"x-gzip"):
        plain = _unzip(body, _GZIP_OR_ZLIB, cap)
    elif coding == b"deflate":
        # Servers send both what the name means (zlib's format) and what it says (raw deflate).
        try:
            plain = _unzip(body, _GZIP_OR_ZLIB, cap)
        except Unreadable as error:
            if error.unread.outcome is not Outcome.UNDECODABLE:
                raise
            plain = _unzip(body, _RAW_DEFLATE, cap)
    else:
        name = coding[:40].decode("latin-1")
        raise Unreadable(Outcome.UNDECODABLE, Cause.ENCODING, f"Content-Encoding {name!r} is not decoded")
    if len(plain) > cap:
        raise Unreadable(Outcome.TOO_LARGE, Cause.SIZE, f"more than {cap} bytes")
    return plain


def _unzip(body: bytes, window: int, cap: int) -> bytes:
    inflater = zlib.decompressobj(window)
    try:
        plain = inflater.decompress(body, cap + 1)
    except zlib.error as error:
        raise Unreadable(Outcome.UNDECODABLE, Cause.ENCODING, "does not inflate") from error
    if len(plain) <= cap and (not inflater.eof or inflater.unused_data):
        raise Unreadable(Outcome.UNDECODABLE, Cause.ENCODING, "the compressed body is not of one piece")
    return plain
