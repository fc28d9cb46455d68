"""Calls of endpoints over HTTP: one request, one bounded answer, within a time limit, with the endpoint's own headers.

Used by `post`, `asking` and `queries`. Redirects are not followed: they would lead where no admin has said so. What
is secret, URLs among it, is in no error and no log.
"""

import asyncio
import base64
import binascii
import hashlib
import hmac
import ssl
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit, urlunsplit

import httpx

from modelcanary_operator.endpoints import Endpoint, wrong_url
from modelcanary_operator.errors import EndpointFailed

_TIMEOUT = httpx.Timeout(10.0, connect=3.0)
#: Seconds for the whole of a call, however slowly its parts come.
_TIME_LIMIT = 15.0
_SECRET_SIZE = 16384
_AUTHORITY_SIZE = 1 << 20


#: The authorities of a connection, and the proxy through which it goes.
_Way = tuple[Path | None, str]


@dataclass(frozen=True, slots=True)
class Call:
    """What an endpoint is sent."""

    body: bytes
    path: str = ""  # after the endpoint's URL
    type: str = "application/json"
    id: str = ""  # of what is told: the same each time it is sent


@dataclass(frozen=True, slots=True)
class Reply:
    status: int
    body: bytes

    @property
    def ok(self) -> bool:
        return 200 <= self.status < 300

    def text(self, most: int = 300) -> str:
        """A line for people: what is no text is left out."""
        words = self.body[: 4 * most].decode(errors="replace")
        line = " ".join("".join(letter if letter.isprintable() else " " for letter in words).split())
        return line if len(line) <= most else line[: most - 1] + "…"


class Caller:
    """Use it as an async context manager."""

    def __init__(self, time_limit: float = _TIME_LIMIT) -> None:
        self._time_limit = time_limit
        self._clients: dict[_Way, tuple[str, httpx.AsyncClient]] = {}  # with a hash of the caFile
        self._retired: dict[_Way, httpx.AsyncClient] = {}  # of the caFile before: calls may be under way in them

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for client in (*(client for _, client in self._clients.values()), *self._retired.values()):
            await client.aclose()

    async def call(self, endpoint: Endpoint, call: Call, now: float, most: int = 16384) -> Reply:
        """Of the answer, at most so many bytes. Raises EndpointFailed."""
        headers = {"Content-Type": call.type, "User-Agent": "modelcanary-operator"}
        headers |= {"Accept-Encoding": "identity"}  # so that a bounded answer is bounded in memory too
        headers |= {name: secret(endpoint, f"header {name}", file) for name, file in endpoint.header_files.items()}
        if call.id:
            headers |= {"Idempotency-Key": call.id, **_signed(endpoint, call, now)}
        url = endpoint.url or secret(endpoint, "URL", endpoint.url_file)
        if endpoint.url_file is not None and (wrong := wrong_url(url)):
            raise EndpointFailed(f"the endpoint {endpoint.name}: what is in its urlFile {wrong}")
        client = await self._client(endpoint)
        try:
            async with (
                asyncio.timeout(self._time_limit),
                client.stream("POST", _joined(url, call.path), content=call.body, headers=headers) as answer,
            ):
                body = b""
                async for piece in answer.aiter_raw():
                    body += piece
                    if len(body) > most:
                        break
        except (httpx.HTTPError, httpx.InvalidURL, ValueError, TimeoutError) as error:
            # Not the error's own words: they repeat URLs and headers.
            raise EndpointFailed(f"the endpoint {endpoint.name} does not answer: {type(error).__name__}") from None
        return Reply(answer.status_code, body[:most])

    async def _client(self, endpoint: Endpoint) -> httpx.AsyncClient:
        """One that trusts what the endpoint's caFile holds now."""
        authority = secret(endpoint, "caFile", endpoint.ca_file, _AUTHORITY_SIZE) if endpoint.ca_file else ""
        stamp = hashlib.sha256(authority.encode()).hexdigest()
        way = endpoint.ca_file, endpoint.proxy
        known = self._clients.get(way)
        if known is not None and known[0] == stamp:
            return known[1]
        verify: ssl.SSLContext | bool = True
        if endpoint.ca_file is not None:
            try:
                verify = ssl.create_default_context(cadata=authority)
            except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
                raise EndpointFailed(f"the endpoint {endpoint.name}: its caFile cannot be used") from error
        made = httpx.AsyncClient(
            timeout=_TIMEOUT, follow_redirects=False, trust_env=False, verify=verify, proxy=endpoint.proxy or None
        )
        self._clients[way] = (stamp, made)
        if known is not None:
            gone = self._retired.get(way)
            self._retired[way] = known[1]
            if gone is not None:
                await gone.aclose()
        return made


def secret(endpoint: Endpoint, what: str, file: Path | None, most: int = _SECRET_SIZE) -> str:
    """Raises EndpointFailed."""
    try:
        if file is None:
            raise FileNotFoundError
        with file.open("rb") as opened:
            found = opened.read(most).decode().strip()
    except (OSError, UnicodeDecodeError):
        raise EndpointFailed(f"the endpoint {endpoint.name}: the file of its {what} cannot be read") from None
    if not found:
        raise EndpointFailed(f"the endpoint {endpoint.name}: the file of its {what} is empty")
    return found


def _joined(url: str, path: str) -> str:
    """A path after the URL's own, and before what the URL asks for behind "?"."""
    parts = urlsplit(url)
    return urlunsplit(parts._replace(path=parts.path.rstrip("/") + path if path else parts.path))


def _signed(endpoint: Endpoint, call: Call, now: float) -> dict[str, str]:
    """The headers of https://www.standardwebhooks.com; none where the endpoint has no secret."""
    if endpoint.secret_file is None:
        return {}
    when = str(int(now))
    written = secret(endpoint, "secret", endpoint.secret_file)
    try:
        key = base64.b64decode(written[6:], validate=True) if written.startswith("whsec_") else written.encode()
    except binascii.Error:
        raise EndpointFailed(f"the endpoint {endpoint.name}: its secret begins as whsec_ and is no base64") from None
    content = b".".join((call.id.encode(), when.encode(), call.body))
    digest = base64.b64encode(hmac.new(key, content, hashlib.sha256).digest()).decode()
    return {"webhook-id": call.id, "webhook-timestamp": when, "webhook-signature": f"v1,{digest}"}
