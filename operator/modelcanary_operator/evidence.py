"""The gate of each run that is on: folds the ledger's blocks and decides, at most once per `analysis.interval`.

Called by `reconcile`. Memory is a cache: after a restart all blocks are folded again, to the same verdict.
"""

import math
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, replace

from modelcanary_gate.blocks_json import loss_block_from_json, traffic_block_from_json
from modelcanary_gate.decision import Decision, Facts, Measures, Metric
from modelcanary_gate.errors import DataError
from modelcanary_gate.evidence import LossBlock, TrafficBlock
from modelcanary_gate.gate import Gate
from modelcanary_gate.plan.status import Run
from modelcanary_gate.recording import Recorder
from modelcanary_gate.spec import Spec
from modelcanary_gate.unscored import Unscored, most_unscored
from modelcanary_operator.errors import LedgerUnavailable
from modelcanary_operator.ledger_client import Counts, EvidenceAnswer, Ledger

_RATE_WINDOW = 60.0
#: Looks kept for a report: what its charts can show, in little memory.
_MOST_LOOKS = 300
#: So many blocks may come between two looks; of more it is shown how they came, by at most so many looks.
_AT_ONCE, _PAST_LOOKS = 8, 100


@dataclass(frozen=True, slots=True)
class Summary:
    """What `.status.evidence` is written from."""

    pairs: int = 0
    labelled: int = 0
    dropped: int = 0
    scored: int = 0
    measures: Measures | None = None
    unscored: Unscored | None = None  # a model whose answers mostly cannot be
    conflicts: int = 0  # pairs whose label another one contradicts
    disputed: str = ""  # the sender whose labels others contradict most often
    unfollowed: int = 0  # requests not mirrored, because sidecars cannot follow how answers are to be read


class Evidence:
    """Of one run, as it is measured by one specification."""

    def __init__(self, namespace: str, name: str, run: Run, spec: Spec) -> None:
        self._namespace, self._name, self._run = namespace, name, run.id
        spec = replace(spec, analysis=replace(spec.analysis, attempt=run.attempt))
        self._spec = spec
        self._gate = Gate(spec)
        self.recorder = Recorder(self._gate.plan, _MOST_LOOKS)
        self.started = 0.0  # by the ledger's clock
        self._rates: deque[tuple[float, int]] = deque()
        self._looked: float | None = None
        self._source = ""
        self.counts = Counts()
        self.decision: Decision | None = None
        self.lost = 0  # pairs that the ledger had at the look before and has no more

    def is_about(self, run: Run) -> bool:
        return self._run == run.id

    def is_of(self, run: Run, spec: Spec) -> bool:
        """Whether it can go on: another limit or waiting time is another gate over the same blocks."""
        return self._run == run.id and self._spec == replace(spec, analysis=replace(spec.analysis, attempt=run.attempt))

    async def look(
        self, ledger: Ledger, monotonic: float, elapsed: float, metrics: Mapping[str, Metric], *, exposed: bool
    ) -> Decision | None:
        """The decision, fresh if the last is older than the interval. `elapsed`: seconds of the run by the operator's
        clock; the run is as long as both clocks say, lest one that jumps end it early. `exposed`: users get the
        candidate's answers. Raises LedgerUnavailable or LedgerRefused.
        """
        due = self._looked is None or monotonic - self._looked >= 0.9 * self._spec.analysis.interval
        if not due:
            return self.decision
        since = f"{self._gate.next_loss}.{self._gate.next_traffic}"
        answer = await ledger.evidence(self._namespace, self._name, self._run, since)
        self.lost = 0
        if self._source and answer.source != self._source:
            self._begin_anew()
            answer = await ledger.evidence(self._namespace, self._name, self._run, "0.0")
        self._source = answer.source
        self._fold(answer, elapsed, metrics, exposed=exposed)
        self._looked = monotonic
        return self.decision

    def _begin_anew(self) -> None:
        """Blocks of two ledgers are not added up: pairs may be in both, and which of them is not known."""
        self.lost = self.counts.pairs
        self._gate = Gate(self._spec)
        self.recorder = Recorder(self._gate.plan, _MOST_LOOKS)
        self._rates.clear()
        self.decision = None

    def _fold(self, answer: EvidenceAnswer, elapsed: float, metrics: Mapping[str, Metric], *, exposed: bool) -> None:
        if answer.specDigest != self._gate.plan.digest:
            raise LedgerUnavailable("the ledger measures this run by another specification still")
        try:
            self._add(
                [loss_block_from_json(self._gate.plan, loss) for loss in answer.loss],
                [traffic_block_from_json(self._gate.plan, traffic) for traffic in answer.traffic],
                answer.startedAt,
            )
        except DataError as error:
            raise LedgerUnavailable(f"the ledger's blocks cannot be read: {error}") from error
        self.started = answer.startedAt
        self.counts = counts = answer.counts
        self._rates.append((answer.now, counts.labelled))
        while answer.now - self._rates[0][0] > max(_RATE_WINDOW, 3 * self._spec.analysis.interval):
            self._rates.popleft()
        (then, before), (now, after) = self._rates[0], self._rates[-1]
        self.decision = self._gate.decide(
            Facts(
                elapsed=max(0.0, min(answer.now - answer.startedAt, elapsed)),
                pairs=counts.pairs,
                labelled=counts.labelled,
                labels=counts.labelled + counts.expired + counts.unscored,
                conflicts=counts.conflict,
                exposed=exposed,
                outcomes=counts.outcomes,
                metrics=metrics,
                labels_per_second=(after - before) / (now - then) if now > then else 0.0,
            )
        )
        self.recorder.look(self.decision, pairs=counts.pairs, labelled=counts.labelled, time=answer.now)

    def _add(self, losses: list[LossBlock], traffics: list[TrafficBlock], started: float) -> None:
        """In the order in which they were closed. After a restart they are many: the report shows how they came."""
        blocks: list[LossBlock | TrafficBlock] = sorted([*losses, *traffics], key=lambda block: block.closed)
        stride = math.ceil(len(blocks) / _PAST_LOOKS)
        for index, block in enumerate(blocks, 1):
            if isinstance(block, LossBlock):
                if block.seq >= self._gate.next_loss:
                    self._gate.add_loss(block)
                    self.recorder.add_loss(block)
            elif block.seq >= self._gate.next_traffic:
                self._gate.add_traffic(block)
                self.recorder.add_traffic(block)
            # The last of them are looked at with the counts of now.
            if len(blocks) > _AT_ONCE and index % stride == 0 and index < len(blocks):
                self._look_back(block.closed, started)

    def _look_back(self, then: float, started: float) -> None:
        decision = self._gate.decide(Facts(elapsed=max(0.0, then - started)))
        judged = decision.measures.judged
        self.recorder.look(decision, pairs=judged, labelled=judged, time=then)

    def summary(self) -> Summary:
        counts = self.counts
        return Summary(
            counts.pairs,
            counts.labelled,
            sum(counts.dropped.values()),
            counts.scored,
            self.decision.measures if self.decision is not None else None,
            most_unscored(counts.outcomes),
            counts.conflict,
            _most_disputed(counts.senders),
            counts.dropped.get("instructions", 0),
        )


def _most_disputed(senders: Mapping[str, Mapping[str, int]]) -> str:
    worst = max(senders, key=lambda name: senders[name].get("disputed", 0), default="")
    return worst if worst and senders[worst].get("disputed", 0) else ""
