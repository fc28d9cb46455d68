"""A ledger in memory that knows how each candidate fares, and gives evidence for it in real blocks."""

import numpy as np

from modelcanary_gate.blocks_json import loss_block_to_json, traffic_block_to_json
from modelcanary_gate.contrasts import EvidencePlan
from modelcanary_gate.evidence import OUTCOME_CODES, AnsweredPairs, loss_block, traffic_block
from modelcanary_gate.parse import parse_spec
from modelcanary_gate.protocol import Instructions, LabelSource, PutInstructions, SourceReport
from modelcanary_gate.scoring import from_losses
from modelcanary_gate.vocabulary import Outcome
from modelcanary_operator.errors import LedgerRefused, LedgerUnavailable
from modelcanary_operator.ledger_client import Counts, EvidenceAnswer

_BLOCKS, _PAIRS = 30, 400


class FakeLedger:
    def __init__(self) -> None:
        self.instructions = Instructions(version=0)
        self.runs: set[str] = set()
        self.spec: dict[str, object] = {}
        self.epoch = 0
        self.puts: list[Instructions] = []
        self.senders: list[str] = []
        self.followed: list[LabelSource] = []
        self.reports: list[SourceReport] = []
        self.up = True
        self.read_only = False  # it answers from memory, and its disk is full
        self.knows_sources = True
        #: Added to the candidate's loss, by what its run's id contains.
        self.delta = 0.0
        self.silent = False
        self.blocks = _BLOCKS
        self.source = "ledger"

    async def standing(self, namespace: str, name: str) -> Instructions:
        self._answer()
        return self.instructions

    async def put(self, namespace: str, name: str, request: PutInstructions) -> None:
        self._answer(write=True)
        if request.epoch < self.epoch:
            raise LedgerRefused("a newer leader has written")
        self.epoch, self.instructions, self.spec = request.epoch, request.instructions, request.spec
        self.puts.append(request.instructions)
        self.senders = [sender.name for sender in request.senders]
        self.followed = request.sources
        self.runs |= {request.instructions.run} - {""}

    async def forget(self, namespace: str, name: str, epoch: int) -> None:
        self._answer(write=True)
        self.instructions, self.senders, self.followed = Instructions(version=0), [], []

    async def evidence(self, namespace: str, name: str, run: str, since: str) -> EvidenceAnswer:
        self._answer()
        if run not in self.runs:
            raise LedgerRefused("no such run")
        spec = parse_spec(self.spec)
        plan = EvidencePlan.of(spec)
        if self.silent:
            return EvidenceAnswer(plan.digest, 1000.0, 1010.0, "0.0")
        first, _, second = since.partition(".")
        random = np.random.default_rng(7)
        loss, traffic = [], []
        for seq in range(self.blocks):
            base = random.uniform(0.2, 0.6, _PAIRS)
            pairs = from_losses(spec, base, np.maximum(0.0, base + self.delta + random.normal(0, 0.05, _PAIRS)))
            ok = np.full(_PAIRS, OUTCOME_CODES[Outcome.OK])
            answered = AnsweredPairs(ok, ok, np.full(_PAIRS, 0.01), np.full(_PAIRS, 0.01))
            times = {"opened": 1000.0 + 10 * seq, "closed": 1010.0 + 10 * seq}
            if seq >= int(first):
                loss.append(loss_block_to_json(plan, loss_block(plan, pairs, seq=seq, **times)))
            if seq >= int(second):
                traffic.append(traffic_block_to_json(plan, traffic_block(plan, answered, seq=seq, **times)))
        total = self.blocks * _PAIRS
        counts, following = Counts(total, total, total), f"{self.blocks}.{self.blocks}"
        return EvidenceAnswer(plan.digest, 1000.0, 5000.0, following, counts, self.source, loss, traffic)

    async def sources(self, namespace: str, name: str) -> list[SourceReport]:
        self._answer()
        if not self.knows_sources:
            raise LedgerRefused("404")
        return self.reports

    def _answer(self, *, write: bool = False) -> None:
        if not self.up or (write and self.read_only):
            raise LedgerUnavailable("the ledger does not answer")
