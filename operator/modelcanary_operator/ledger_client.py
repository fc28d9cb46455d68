"""The ledger as the operator sees it: instructions are put and read, evidence is read.

Called by `observe`, `apply` and `evidence`. A ledger that does not answer is LedgerUnavailable, never a surprise.
"""

import asyncio
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self, TypeVar
from urllib.parse import quote

import httpx
import msgspec

from modelcanary_gate.protocol import Heartbeat, Instructions, PutInstructions, SourceReport, SourcesAnswer
from modelcanary_gate.vocabulary import Outcome, Role
from modelcanary_operator.errors import LedgerRefused, LedgerUnavailable
from modelcanary_operator.trust import Trust

T = TypeVar("T")

_TIMEOUT = httpx.Timeout(10.0, connect=2.0)
#: Seconds for the whole of a call, however slowly its parts come: after a restart the evidence is all of a run's.
_TIME_LIMIT = 30.0


@dataclass(frozen=True, slots=True)
class Counts:
    """What became of pairs and labels so far."""

    pairs: int = 0
    scored: int = 0
    labelled: int = 0
    missing: int = 0
    duplicate: int = 0
    conflict: int = 0
    unmatched: int = 0
    expired: int = 0
    unscored: int = 0
    senders: dict[str, dict[str, int]] = field(default_factory=dict)  # by name: what each was answered
    dropped: dict[str, int] = field(default_factory=dict)
    outcomes: dict[Role, dict[Outcome, int]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class EvidenceAnswer:
    """Blocks are those that `since` had not."""

    specDigest: str
    startedAt: float
    now: float
    next: str
    counts: Counts = Counts()
    source: str = ""  # the ledger's run; another one has none of its evidence
    loss: list[dict[str, Any]] = field(default_factory=list)
    traffic: list[dict[str, Any]] = field(default_factory=list)


class Ledger(Protocol):
    async def standing(self, namespace: str, name: str) -> Instructions:
        """What sidecars are told now; nothing, where the ledger has not heard of the model."""
        ...

    async def put(self, namespace: str, name: str, request: PutInstructions) -> None: ...

    async def forget(self, namespace: str, name: str, epoch: int) -> None:
        """It is deleted: nobody may send its labels any more, and its evidence goes by and by."""
        ...

    async def evidence(self, namespace: str, name: str, run: str, since: str) -> EvidenceAnswer: ...

    async def sources(self, namespace: str, name: str) -> list[SourceReport]:
        """What those say who follow `labels.sources`, of each source that somebody follows."""
        ...


class HttpLedger:
    """Use it as an async context manager. Implements `Ledger`."""

    def __init__(
        self, url: str, token_file: Path | None = None, authority: Path | None = None, time_limit: float = _TIME_LIMIT
    ) -> None:
        """`authority`: the file of those who may have signed the ledger's certificate."""
        self._token_file = token_file
        self._time_limit = time_limit
        trust = Trust(url, authority, httpx.Limits(max_connections=16))
        self._http = httpx.AsyncClient(base_url=url, timeout=_TIMEOUT, trust_env=False, transport=trust)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._http.aclose()

    async def standing(self, namespace: str, name: str) -> Instructions:
        # A heartbeat is answered with the instructions, and one without drops changes nothing.
        body = msgspec.json.encode(Heartbeat(sidecar="operator", version=0))
        return await self._ask("POST", namespace, name, "heartbeat", Instructions, body=body)

    async def put(self, namespace: str, name: str, request: PutInstructions) -> None:
        await self._ask("PUT", namespace, name, "instructions", Instructions, body=msgspec.json.encode(request))

    async def forget(self, namespace: str, name: str, epoch: int) -> None:
        await self._ask("DELETE", namespace, name, "", Instructions, query={"epoch": str(epoch)})

    async def evidence(self, namespace: str, name: str, run: str, since: str) -> EvidenceAnswer:
        query = {"run": run, "since": since}
        return await self._ask("GET", namespace, name, "evidence", EvidenceAnswer, query=query)

    async def sources(self, namespace: str, name: str) -> list[SourceReport]:
        return (await self._ask("GET", namespace, name, "sources", SourcesAnswer)).reports

    async def _ask(
        self,
        method: str,
        namespace: str,
        name: str,
        what: str,
        shape: type[T],
        *,
        body: bytes | None = None,
        query: dict[str, str] | None = None,
    ) -> T:
        path = f"/v1/runs/{quote(namespace, safe='')}/{quote(name, safe='')}{'/' if what else ''}{what}"
        headers = {"Content-Type": "application/json", "Accept": "application/json"} | self._authorization()
        try:
            async with asyncio.timeout(self._time_limit):
                answer = await self._http.request(method, path, content=body, params=query, headers=headers)
        except (httpx.HTTPError, TimeoutError) as error:
            raise LedgerUnavailable(f"the ledger does not answer: {type(error).__name__} {error}") from error
        if 400 <= answer.status_code < 500 and answer.status_code not in (401, 408, 429):
            raise LedgerRefused(f"the ledger refuses {method} {what}: {answer.status_code} {answer.text[:300]}")
        if not answer.is_success:
            raise LedgerUnavailable(f"the ledger answers {method} {what} with {answer.status_code}")
        try:
            return msgspec.json.decode(answer.content, type=shape)
        except msgspec.DecodeError as error:
            raise LedgerUnavailable(f"the ledger's answer to {method} {what} cannot be read: {error}") from error

    def _authorization(self) -> dict[str, str]:
        """Read each time: a mounted token is replaced while we run."""
        if self._token_file is None:
            return {}
        try:
            return {"Authorization": f"Bearer {self._token_file.read_text().strip()}"}
        except (OSError, UnicodeDecodeError) as error:
            raise LedgerUnavailable(f"the ledger's token file cannot be read: {error}") from error
