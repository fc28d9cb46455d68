"""Folds a run's evidence into its verdict, look by look, and keeps what the record and the display need.

Called by `run` with the ledger's answers. Knows no process, no terminal and no file; `now` comes with evidence.
"""

from collections import deque
from collections.abc import Mapping

from modelcanary_cli.ledger_client import Counts, Evidence
from modelcanary_gate.decision import Decision, Facts, Metric
from modelcanary_gate.gate import Gate
from modelcanary_gate.recording import Recorder
from modelcanary_gate.spec import Spec
from modelcanary_gate.unscored import remedy
from modelcanary_gate.vocabulary import Outcome, Reason, Role, Verdict

#: Rates are of the last so many seconds.
_RATE_WINDOW = 60.0
#: Pairs after which it is said that none could be scored.
_ENOUGH_PAIRS = 20
#: Requests after which it is said that none was mirrored: pairs travel in batches, so not at once.
_ENOUGH_REQUESTS = 200
_LOST_LOOKS = 3


class Watch:
    """One run's gate. `take` each answer of the ledger, then `decide`."""

    def __init__(self, spec: Spec) -> None:
        self._gate = Gate(spec)
        self._paths = spec.model.paths
        self.recorder = Recorder(self._gate.plan)
        self._rates: deque[tuple[float, int]] = deque()
        self.counts = Counts()
        self.now = 0.0
        self.started = 0.0
        self.maturity: float | None = None
        self._warned: set[str] = set()
        self._lost = 0  # looks in a row at which labels had come and none had joined

    @property
    def digest(self) -> str:
        return self._gate.plan.digest

    @property
    def cursor(self) -> str:
        """`since` of the next question: the blocks that are folded already are not asked for again."""
        return f"{self._gate.next_loss}.{self._gate.next_traffic}"

    @property
    def elapsed(self) -> float:
        return max(0.0, self.now - self.started)

    def take(self, evidence: Evidence) -> None:
        """Raises DataError when a block is of another specification."""
        for loss in evidence.loss_blocks(self._gate.plan):
            if loss.seq == self._gate.next_loss:
                self._gate.add_loss(loss)
                self.recorder.add_loss(loss)
        for traffic in evidence.traffic_blocks(self._gate.plan):
            if traffic.seq == self._gate.next_traffic:
                self._gate.add_traffic(traffic)
                self.recorder.add_traffic(traffic)
        self.counts, self.maturity = evidence.counts, evidence.maturity
        self.now, self.started = evidence.now, evidence.startedAt
        self._rates.append((self.now, self.counts.labelled))
        while self.now - self._rates[0][0] > _RATE_WINDOW:
            self._rates.popleft()

    def labels_per_second(self) -> float:
        (then, before), (now, after) = self._rates[0], self._rates[-1]
        # labels that turn out to be late are taken back
        return max(0, after - before) / (now - then) if now > then else 0.0

    def decide(self, metrics: Mapping[str, Metric] | None = None) -> Decision:
        """The verdict on what was taken, with the values of guards on metrics; kept as a look."""
        decision = self._gate.decide(
            Facts(
                elapsed=self.elapsed,
                pairs=self.counts.pairs,
                labelled=self.counts.labelled,
                labels=self.counts.labelled + self.counts.expired + self.counts.unscored,
                conflicts=self.counts.conflict,
                outcomes={
                    Role(role): {Outcome(outcome): number for outcome, number in counts.items()}
                    for role, counts in self.counts.outcomes.items()
                },
                metrics=metrics or {},
                labels_per_second=self.labels_per_second(),
            )
        )
        self.recorder.look(decision, pairs=self.counts.pairs, labelled=self.counts.labelled, time=self.now)
        return decision

    def warnings(self, requests: int | None) -> list[str]:
        """What the user must repair before there can be a verdict; each is told once.

        `requests` is how many the users have made since the proxy started, None if that is not known.
        """
        found = [warning for role in Role if (warning := self._unscored(role)) is not None]
        if not self.counts.pairs and requests is not None and requests >= _ENOUGH_REQUESTS:
            found.append(
                "users ask and nothing is mirrored: only POST requests on spec.model.paths are "
                f"({', '.join(self._paths) or 'every path'}); sidecar.log may say more"
            )
        # Labels may be faster than their pairs, which travel in batches: once is no sign.
        lost = self.counts.pairs >= _ENOUGH_PAIRS and not self.counts.labelled and self.counts.unmatched > 0
        self._lost = self._lost + 1 if lost else 0
        if self._lost >= _LOST_LOOKS:
            found.append(
                f"{self.counts.unmatched} labels came and none matches a pair: a label's id must be the request's "
                "X-Request-Id, or the id that the answer's header returned"
            )
        fresh = [text for text in found if text.partition(":")[0] not in self._warned]
        self._warned.update(text.partition(":")[0] for text in fresh)
        for text in fresh:
            self.recorder.event("Warning", text, self.now)
        return fresh

    def _unscored(self, role: Role) -> str | None:
        outcomes = self.counts.outcomes.get(role, {})
        answers = sum(outcomes.values())
        if answers < _ENOUGH_PAIRS or outcomes.get(Outcome.OK):
            return None
        outcome, count = max(outcomes.items(), key=lambda item: item[1])
        what = f"no answer of the {role} could be scored: {count} of {answers} are {outcome}"
        return f"{what}; {remedy(role, Outcome(outcome))}"


def finished(decision: Decision) -> bool:
    """Whether there is nothing more to wait for."""
    return decision.verdict is not Verdict.CONTINUE or decision.reason is Reason.HELD
