"""HTTP to the ledger: one batch or heartbeat out, instructions back. The sender calls it.

Every foreign error becomes one of two here: try again, or never again.
"""

from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import quote

import msgspec

from modelcanary_gate.protocol import Heartbeat, Instructions, PairBatch, References
from modelcanary_sidecar.errors import SidecarError
from modelcanary_sidecar.ledger_http import Answer, Http
from modelcanary_sidecar.trust import Trust

MSGPACK = "application/vnd.msgpack"
#: Statuses of a ledger that says no to these very bytes, and would say it again.
_PERMANENT = frozenset({400, 404, 405, 409, 410, 413, 415, 422})

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


def _said(answer: Answer) -> str:
    return answer.body[:300].decode(errors="replace")


class LedgerClient:
    """For one ModelCanary. Use it as an async context manager."""

    def __init__(
        self, ledger: str, namespace: str, name: str, token_file: str | None, authority: Path | None = None
    ) -> None:
        """`authority`: the file of those who may have signed the ledger's certificate."""
        self._base = f"/v1/runs/{quote(namespace, safe='')}/{quote(name, safe='')}"
        self._token_file = token_file
        self._http = Http(ledger, Trust(ledger, authority))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._http.close()

    async def send_batch(self, body: bytes) -> Instructions:
        """`body` is of `encode_batch`. Raises LedgerUnavailable or LedgerRefused."""
        return await self._post("pairs", body)

    async def send_heartbeat(self, heartbeat: Heartbeat) -> Instructions:
        """Raises LedgerUnavailable or LedgerRefused."""
        return await self._post("heartbeat", _encode(heartbeat))

    async def references(self, after: str) -> References:
        """Raises LedgerUnavailable or LedgerRefused."""
        answer = await self._ask("GET", f"references?after={quote(after)}", b"")
        try:
            return _references(answer.body)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise LedgerUnavailable(f"the ledger's references cannot be read: {type(error).__name__}") from error

    async def _post(self, what: str, body: bytes) -> Instructions:
        answer = await self._ask("POST", what, body)
        decode = _from_msgpack if "msgpack" in answer.kind else _from_json
        try:
            return decode(answer.body)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise LedgerUnavailable(f"the ledger's instructions cannot be read: {error}") from error

    async def _ask(self, method: str, what: str, body: bytes) -> Answer:
        headers = {"Content-Type": MSGPACK, "Accept": MSGPACK} | self._authorization()
        try:
            answer = await self._http.ask(method, f"{self._base}/{what}", headers, body)
        except (OSError, UnicodeError) as error:  # TimeoutError and ssl.SSLError are of the former
            raise LedgerUnavailable(f"the ledger does not answer: {type(error).__name__} {error}") from error
        if answer.status in _PERMANENT:
            raise LedgerRefused(f"the ledger refuses {what} with {answer.status}: {_said(answer)}")
        if not 200 <= answer.status < 300:
            raise LedgerUnavailable(f"the ledger answers {what} with {answer.status}: {_said(answer)}")
        return answer

    def _authorization(self) -> dict[str, str]:
        """Read each time: a mounted token is replaced while we run."""
        if self._token_file is None:
            return {}
        try:
            token = Path(self._token_file).read_text().strip()
        except (OSError, UnicodeDecodeError) as error:
            raise LedgerUnavailable(f"the token file cannot be read: {error}") from error
        if not token.isascii() or not token.isprintable():
            raise LedgerUnavailable("the token file cannot be read: it holds more than one line of ASCII")
        return {"Authorization": f"Bearer {token}"}
