"""The gate of each run that is on: folds the ledger's blocks and decides, at most once per `analysis.interval`.

Called by `reconcile`. Memory is a cache: after a restart all blocks are folded again, to the same verdict.
"""

from collections import deque
from dataclasses import dataclass, replace

from modelcanary_gate.blocks_json import loss_block_from_json, traffic_block_from_json
from modelcanary_gate.decision import Decision, Facts
from modelcanary_gate.errors import DataError
from modelcanary_gate.gate import Gate
from modelcanary_gate.plan.status import Run
from modelcanary_gate.spec import Spec
from modelcanary_operator.errors import LedgerUnavailable
from modelcanary_operator.ledger_client import Counts, EvidenceAnswer, Ledger

_RATE_WINDOW = 60.0


@dataclass(frozen=True, slots=True)
class Summary:
    """The numbers that `.status.evidence` shows."""

    pairs: int = 0
    labelled: int = 0
    dropped: int = 0
    scored: int = 0
    delta: float | None = None
    lower: float | None = None
    upper: float | None = None
    baseline_loss: float | None = None


class Evidence:
    """Of one run, as it is measured by one specification."""

    def __init__(self, namespace: str, name: str, run: Run, spec: Spec) -> None:
        self._namespace, self._name, self._run = namespace, name, run.id
        spec = replace(spec, analysis=replace(spec.analysis, attempt=run.attempt))
        self._spec = spec
        self._gate = Gate(spec)
        self._rates: deque[tuple[float, int]] = deque()
        self._looked: float | None = None
        self._counts = Counts()
        self.decision: Decision | None = None

    def is_of(self, run: Run, spec: Spec) -> bool:
        """Whether it can go on: another limit or waiting time is another gate over the same blocks."""
        return self._run == run.id and self._spec == replace(spec, analysis=replace(spec.analysis, attempt=run.attempt))

    async def look(self, ledger: Ledger, monotonic: float) -> Decision | None:
        """The decision, fresh if the last is older than the interval. Raises LedgerUnavailable or LedgerRefused."""
        due = self._looked is None or monotonic - self._looked >= 0.9 * self._spec.analysis.interval
        if not due:
            return self.decision
        since = f"{self._gate.next_loss}.{self._gate.next_traffic}"
        answer = await ledger.evidence(self._namespace, self._name, self._run, since)
        self._fold(answer)
        self._looked = monotonic
        return self.decision

    def _fold(self, answer: EvidenceAnswer) -> None:
        if answer.specDigest != self._gate.plan.digest:
            raise LedgerUnavailable("the ledger measures this run by another specification still")
        try:
            for loss in answer.loss:
                self._gate.add_loss(loss_block_from_json(self._gate.plan, loss))
            for traffic in answer.traffic:
                self._gate.add_traffic(traffic_block_from_json(self._gate.plan, traffic))
        except DataError as error:
            raise LedgerUnavailable(f"the ledger's blocks cannot be read: {error}") from error
        self._counts = counts = answer.counts
        self._rates.append((answer.now, counts.labelled))
        while answer.now - self._rates[0][0] > max(_RATE_WINDOW, 3 * self._spec.analysis.interval):
            self._rates.popleft()
        (then, before), (now, after) = self._rates[0], self._rates[-1]
        self.decision = self._gate.decide(
            Facts(
                elapsed=max(0.0, answer.now - answer.startedAt),
                pairs=counts.pairs,
                labelled=counts.labelled,
                labels_per_second=(after - before) / (now - then) if now > then else 0.0,
            )
        )

    def summary(self) -> Summary:
        counts, decision = self._counts, self.decision
        shown = Summary(counts.pairs, counts.labelled, sum(counts.dropped.values()), counts.scored)
        if decision is None:
            return shown
        measures = decision.measures
        return replace(
            shown,
            delta=measures.delta,
            lower=measures.lower,
            upper=measures.upper,
            baseline_loss=measures.baseline_loss,
        )
