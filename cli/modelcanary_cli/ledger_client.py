"""The ledger as `run` sees it: instructions are put, evidence is read.

Called by `run`. A ledger that does not answer is `LedgerError`: the caller asks again at its next look.
"""

from dataclasses import dataclass, field
from typing import Any

import httpx
import msgspec

from modelcanary_cli.errors import CliError, ExitCode
from modelcanary_gate.blocks_json import loss_block_from_json, traffic_block_from_json
from modelcanary_gate.contrasts import EvidencePlan
from modelcanary_gate.evidence import LossBlock, TrafficBlock
from modelcanary_gate.protocol import PutInstructions

_LIMIT = httpx.Timeout(10.0, connect=2.0)


class LedgerError(CliError):
    """The ledger did not answer, or refused."""

    exit_code = ExitCode.UNAVAILABLE


@dataclass(frozen=True, slots=True)
class Counts:
    """What became of pairs and labels so far."""

    pairs: int = 0
    scored: int = 0
    labelled: int = 0
    unlabelled: int = 0  # scored, and a label may still come
    missing: int = 0
    duplicate: int = 0
    conflict: int = 0
    unmatched: int = 0
    unsampled: int = 0
    ambiguous: int = 0
    expired: int = 0
    unscored: int = 0
    dropped: dict[str, int] = field(default_factory=dict)
    outcomes: dict[str, dict[str, int]] = field(default_factory=dict)  # role -> outcome -> answers


@dataclass(frozen=True, slots=True)
class Evidence:
    """One answer; blocks are those that `since` had not."""

    startedAt: float
    now: float
    next: str
    specDigest: str
    run: str = ""
    source: str = ""  # the ledger and the run's evidence in it: another one is other evidence
    maturity: float | None = None
    counts: Counts = Counts()
    loss: list[dict[str, Any]] = field(default_factory=list)
    traffic: list[dict[str, Any]] = field(default_factory=list)

    def loss_blocks(self, plan: EvidencePlan) -> list[LossBlock]:
        return [loss_block_from_json(plan, block) for block in self.loss]

    def traffic_blocks(self, plan: EvidencePlan) -> list[TrafficBlock]:
        return [traffic_block_from_json(plan, block) for block in self.traffic]


class Ledger:
    """Of one model: namespace and name."""

    def __init__(self, url: str, namespace: str, name: str) -> None:
        self._client = httpx.Client(base_url=f"{url}/v1/runs/{namespace}/{name}", timeout=_LIMIT)

    def put(self, instructions: PutInstructions) -> None:
        self._answer("PUT", "instructions", content=msgspec.json.encode(instructions))

    def evidence(self, run: str, since: str) -> Evidence:
        content = self._answer("GET", "evidence", params={"run": run, "since": since})
        try:
            return msgspec.json.decode(content, type=Evidence)
        except msgspec.DecodeError as error:
            raise LedgerError(f"the ledger's evidence cannot be read: {error}") from error

    def close(self) -> None:
        self._client.close()

    def _answer(
        self, method: str, path: str, *, content: bytes | None = None, params: dict[str, str] | None = None
    ) -> bytes:
        headers = {"Content-Type": "application/json"} if content is not None else {}
        try:
            answer = self._client.request(method, f"/{path}", content=content, params=params, headers=headers)
        except httpx.HTTPError as error:
            raise LedgerError(f"the ledger does not answer: {str(error) or type(error).__name__}") from error
        if answer.is_error:
            raise LedgerError(f"the ledger refused {method} {path}: {answer.status_code} {answer.text[:500]}")
        return answer.content
