"""HTTP to the ledger: one batch or heartbeat out, instructions back. The sender calls it.

Every foreign error becomes one of two here: try again, or never again.
"""

import asyncio
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import quote

import httpx
import msgspec

from modelcanary_gate.protocol import Heartbeat, Instructions, PairBatch, References
from modelcanary_sidecar.errors import SidecarError
from modelcanary_sidecar.trust import Trust

MSGPACK = "application/vnd.msgpack"
#: Statuses of a ledger that says no to these very bytes, and would say it again.
_PERMANENT = frozenset({400, 404, 405, 409, 410, 413, 415, 422})
_TIMEOUT = httpx.Timeout(5.0, connect=2.0)
_WHOLE = 10.0  # for an answer that comes byte by byte

_READ = httpx.ByteStream(b"")

_encode = msgspec.msgpack.Encoder().encode
_from_msgpack = msgspec.msgpack.Decoder(Instructions).decode
_from_json = msgspec.json.Decoder(Instructions).decode
_references = msgspec.msgpack.Decoder(References).decode


class LedgerUnavailable(SidecarError):
    """No answer, or one that may be another next time."""


class LedgerRefused(SidecarError):
    """The ledger will not take this, however often it is sent."""


def encode_batch(batch: PairBatch) -> bytes:
    return _encode(batch)


class LedgerClient:
    """For one ModelCanary. Use it as an async context manager."""

    def __init__(
        self, ledger: str, namespace: str, name: str, token_file: str | None, authority: Path | None = None
    ) -> None:
        """`authority`: the file of those who may have signed the ledger's certificate."""
        self._base = f"{ledger}/v1/runs/{quote(namespace, safe='')}/{quote(name, safe='')}"
        self._token_file = token_file
        trust = Trust(ledger, authority, httpx.Limits(max_connections=4))
        self._http = httpx.AsyncClient(timeout=_TIMEOUT, trust_env=False, transport=trust)

    async def __aenter__(self) -> Self:
        await self._http.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._http.__aexit__(kind, error, trace)

    async def send_batch(self, body: bytes) -> Instructions:
        """`body` is of `encode_batch`. Raises LedgerUnavailable or LedgerRefused."""
        return await self._post("pairs", body)

    async def send_heartbeat(self, heartbeat: Heartbeat) -> Instructions:
        """Raises LedgerUnavailable or LedgerRefused."""
        return await self._post("heartbeat", _encode(heartbeat))

    async def references(self, after: str) -> References:
        """Raises LedgerUnavailable or LedgerRefused."""
        answer = await self._ask("GET", f"references?after={quote(after)}", None)
        try:
            return _references(answer.content)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise LedgerUnavailable(f"the ledger's references cannot be read: {type(error).__name__}") from error

    async def _post(self, what: str, body: bytes) -> Instructions:
        answer = await self._ask("POST", what, body)
        decode = _from_msgpack if "msgpack" in answer.headers.get("content-type", "") else _from_json
        try:
            return decode(answer.content)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise LedgerUnavailable(f"the ledger's instructions cannot be read: {error}") from error

    async def _ask(self, method: str, what: str, body: bytes | None) -> httpx.Response:
        headers = {"Content-Type": MSGPACK, "Accept": MSGPACK} | self._authorization()
        try:
            async with asyncio.timeout(_WHOLE):
                answer = await self._http.request(method, f"{self._base}/{what}", content=body, headers=headers)
        except (httpx.HTTPError, httpx.InvalidURL, TimeoutError) as error:
            raise LedgerUnavailable(f"the ledger does not answer: {type(error).__name__} {error}") from error
        # An answer and its stream hold each other, and the request's body with them: the collector, which seldom looks
        # (`collector`), would find a hundred megabytes of batches.
        answer.stream = _READ
        if answer.status_code in _PERMANENT:
            raise LedgerRefused(f"the ledger refuses {what} with {answer.status_code}: {answer.text[:300]}")
        if not answer.is_success:
            raise LedgerUnavailable(f"the ledger answers {what} with {answer.status_code}: {answer.text[:300]}")
        return answer

    def _authorization(self) -> dict[str, str]:
        """Read each time: a mounted token is replaced while we run."""
        if self._token_file is None:
            return {}
        try:
            token = Path(self._token_file).read_text().strip()
        except (OSError, UnicodeDecodeError) as error:
            raise LedgerUnavailable(f"the token file cannot be read: {error}") from error
        return {"Authorization": f"Bearer {token}"}
