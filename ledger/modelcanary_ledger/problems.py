"""Errors as RFC 9457 problem documents, and bodies read into typed values with errors that name the field."""

import asyncio
import math
import re
from collections.abc import Mapping
from typing import TypeVar

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from modelcanary_ledger.errors import BadRequest, LedgerError, TooLarge, TooSlow

T = TypeVar("T")

BODY_SECONDS = 30.0
MSGPACK = "application/vnd.msgpack"
_MSGPACK_TYPES = (MSGPACK, "application/msgpack", "application/x-msgpack")
_PATH = re.compile(r" - at `\$?\.?([^`]*)`")


def problem(error: LedgerError) -> Response:
    body: dict[str, object] = {
        "type": "about:blank",
        "title": error.title,
        "status": error.status,
        "detail": error.detail,
    }
    extras = {"field": error.field, "row": error.row, "remedy": error.remedy or None}
    body.update({name: value for name, value in extras.items() if value is not None})
    headers = {} if error.retry_after is None else {"Retry-After": str(math.ceil(error.retry_after))}
    if error.status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    return Response(msgspec.json.encode(body), error.status, headers, media_type="application/problem+json")


async def read_body(request: Request, limit: int) -> bytes:
    """The whole body, at most `limit` bytes of it, within `BODY_SECONDS`."""
    try:
        async with asyncio.timeout(BODY_SECONDS):
            return await _read_body(request, limit)
    except TimeoutError:
        raise TooSlow(f"the body was not whole within {BODY_SECONDS:g} s", remedy="send it again") from None


async def _read_body(request: Request, limit: int) -> bytes:
    too_large = TooLarge(f"the body is larger than {limit} bytes", remedy="send it in several requests")
    declared = request.headers.get("content-length", "")
    if declared.isdecimal() and int(declared) > limit:
        raise too_large
    chunks, size = [], 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > limit:
            raise too_large
        chunks.append(chunk)
    return b"".join(chunks)


def is_msgpack(content_type: str) -> bool:
    return content_type.partition(";")[0].strip().lower() in _MSGPACK_TYPES


def decode(body: bytes, shape: type[T], *, msgpack: bool) -> T:
    try:
        return msgspec.msgpack.decode(body, type=shape) if msgpack else msgspec.json.decode(body, type=shape)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        remedy = f"send a {shape.__name__} as modelcanary_gate.protocol describes it"
        raise refused(error, remedy) from error


def refused(error: Exception, remedy: str, *, row: int | None = None) -> BadRequest:
    """What msgspec found wrong, as a sentence and the field it is about."""
    text = str(error)
    match = _PATH.search(text)
    field = match.group(1) if match else None
    if field and (in_array := re.match(r"\[(\d+)\]\.?(.*)", field)):
        row, field = int(in_array.group(1)), in_array.group(2)
    sentence = _PATH.sub("", text)
    return BadRequest(
        sentence if row is None else f"row {row}: {sentence}",
        field=field or None,
        row=row,
        remedy=remedy,
    )


def encoded(value: object, request_headers: Mapping[str, str], status: int = 200) -> Response:
    """As msgpack where the caller asked for it, else as JSON."""
    if is_msgpack(request_headers.get("accept", "")):
        return Response(msgspec.msgpack.encode(value), status, media_type=MSGPACK)
    return Response(msgspec.json.encode(value), status, media_type="application/json")
