"""One run's evidence as it grows: cursors, counts and the two open blocks.

Called by `fold` and `join`; kept by `state`. All of it commits in one transaction with the labels that it counts,
so what is in memory can be thrown away and read back at any moment.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from modelcanary_gate.contrasts import EvidencePlan
from modelcanary_gate.evidence import (
    OUTCOME_CODES,
    AnsweredPairs,
    Coverage,
    LossBlock,
    TrafficBlock,
    loss_block,
    traffic_block,
)
from modelcanary_gate.scoring import LabelledPairs, score
from modelcanary_gate.spec import LabelMode, Spec
from modelcanary_gate.vocabulary import Role
from modelcanary_ledger.accumulate import Accumulator, empty_loss, empty_traffic
from modelcanary_ledger.delays import Delays

Floats = NDArray[np.float64]

OUTCOMES = list(OUTCOME_CODES)
#: Senders of one run that are told apart: those that a ModelCanary may list, and as many ServiceAccounts again.
MAX_SENDERS = 128
_VERSIONS = itertools.count()


@dataclass(slots=True)
class Counts:
    """What became of pairs and labels; none of them ever falls but `labelled`, by what `expired` gains."""

    pairs: int = 0
    scored: int = 0  # both answers can be scored
    labelled: int = 0  # of the scored: a label came in time
    missing: int = 0  # of the scored: matured without a label
    duplicate: int = 0
    conflict: int = 0
    unmatched: int = 0  # labels whose pair never came
    unsampled: int = 0
    ambiguous: int = 0
    expired: int = 0
    unscored: int = 0  # labels of pairs that are not scored
    dropped: dict[str, int] = field(default_factory=dict)
    outcomes: dict[str, dict[str, int]] = field(default_factory=lambda: {role: {} for role in Role})


@dataclass(slots=True)
class SenderCounts:
    """What one sender was answered, label by label, in the order in which senders were first heard of."""

    name: str
    joined: int = 0
    duplicate: int = 0
    conflict: int = 0  # others, or they themselves, had said otherwise before
    unmatched: int = 0
    unsampled: int = 0
    ambiguous: int = 0
    expired: int = 0
    unscored: int = 0
    disputed: int = 0  # labels of theirs that stand, and of which another sender has said otherwise


@dataclass(slots=True)
class Progress:
    """Where the folding is."""

    recorded: int  # pid up to which pairs are counted in the traffic
    matured: int  # pid up to which pairs have matured: counted, or missing their label
    maturity: float | None = None  # as declared, or as learned so far, seconds
    loss_opened: float = 0.0
    loss_clock: float = 0.0
    traffic_opened: float = 0.0
    traffic_clock: float = 0.0
    delay_length: float = 10.0
    counts: Counts = field(default_factory=Counts)
    senders: list[SenderCounts] = field(default_factory=list)  # a label's row holds a place in it


@dataclass(slots=True)
class Scorable:
    """Columns of pairs that can be scored; labels are class indices, or rows over the classes."""

    times: Floats
    baseline: Floats
    candidate: Floats
    labels: list[int | bytes]


class Run:
    """In memory what `state` keeps of a run."""

    def __init__(
        self,
        no: int,
        model: int,
        run: str,
        spec: Spec,
        started: float,
        progress: Progress,
        blocks: tuple[LossBlock | None, TrafficBlock | None] = (None, None),
    ) -> None:
        self.no = no
        self.model = model
        self.run = run
        self.started = started
        self.progress = progress
        self.spec = spec
        self.plan = EvidencePlan.of(spec)
        loss, traffic = blocks
        self.loss = Accumulator[LossBlock](
            loss or empty_loss(self.plan, 0),
            progress.loss_opened,
            progress.loss_clock,
            lambda seq: empty_loss(self.plan, seq),
        )
        self.traffic = Accumulator[TrafficBlock](
            traffic or empty_traffic(self.plan, 0),
            progress.traffic_opened,
            progress.traffic_clock,
            lambda seq: empty_traffic(self.plan, seq),
        )
        self.delays = Delays(progress.delay_length)
        self.changed = False
        self.next_due = 0.0  # when the next pair matures, as far as is known
        self.version = next(_VERSIONS)  # of what readers see, within this process: also when it was read back
        self.use(spec)

    def use(self, spec: Spec) -> None:
        """Takes a specification that measures the same; its waiting times may differ."""
        self.spec = spec
        declared = spec.labels.maturity
        if declared is not None:
            self.progress.maturity = declared
        self.next_due = 0.0
        self.agreement = spec.labels.mode is LabelMode.AGREEMENT
        self.classes = spec.model.columns
        self.class_index = {name: index for index, name in enumerate(spec.model.classes)}

    def saved(self) -> None:
        """All that was to be written is committed."""
        self.loss.closed.clear()
        self.traffic.closed.clear()
        self.delays.changed.clear()
        self.delays.doubled = False
        self.changed = False
        self.version = next(_VERSIONS)

    def learn(self, now: float) -> None:
        """How long labels are waited for, from the delays seen; it never shrinks."""
        if self.spec.labels.maturity is not None:
            return
        learned = self.delays.learn(now, self.spec.labels.min_coverage)
        if learned is not None and learned > (self.progress.maturity or 0.0):
            self.progress.maturity = learned
            self.next_due = 0.0
            self.changed = True

    @property
    def at_once(self) -> bool:
        """Pairs count as soon as their label is there."""
        return self.progress.maturity == 0 and self.spec.labels.maturity == 0

    @property
    def horizon(self) -> float:
        """Seconds after the request until which a label counts."""
        maturity = self.progress.maturity
        return min(maturity, self.spec.labels.max_delay) if maturity else self.spec.labels.max_delay

    def sender(self, name: str) -> int | None:
        """A sender's place in the list; None where nobody said who it is, or there are too many to tell apart."""
        if not name:
            return None
        senders = self.progress.senders
        for place, known in enumerate(senders):
            if known.name == name:
                return place
        if len(senders) >= MAX_SENDERS:
            return None
        senders.append(SenderCounts(name))
        self.changed = True
        return len(senders) - 1

    def fits(self, value: int | bytes) -> bool:
        """Whether a label is one of this run's: a class index, or one float64 per class; of a language model 0."""
        return len(value) == 8 * self.classes if isinstance(value, bytes) else 0 <= value < self.classes

    def add_answered(self, times: Floats, pairs: AnsweredPairs) -> None:
        """Pairs as they arrived, labelled or not."""
        self.traffic.add(
            times,
            times,
            self.started,
            lambda rows, opened, closed: traffic_block(
                self.plan, pairs.take(rows), seq=0, opened=opened, closed=closed
            ),
        )
        for role, codes in zip(Role, (pairs.baseline_outcome, pairs.candidate_outcome), strict=True):
            tally = self.progress.counts.outcomes[role]
            for code, n in enumerate(np.bincount(codes, minlength=len(OUTCOMES)).tolist()):
                if n:
                    tally[OUTCOMES[code]] = tally.get(OUTCOMES[code], 0) + n
        self.changed = True

    def add_scored(self, times: Floats, clock: Floats, pairs: LabelledPairs) -> None:
        self.loss.add(
            times,
            clock,
            self.started,
            lambda rows, opened, closed: loss_block(self.plan, pairs.take(rows), seq=0, opened=opened, closed=closed),
        )
        self.changed = True

    def add_labelled(self, pairs: Scorable, clock: Floats) -> None:
        """Pairs that count now. Class labels and labels over the classes are scored apart."""
        hard = np.array([isinstance(label, int) for label in pairs.labels], dtype=np.bool_)
        for rows, is_hard in ((np.flatnonzero(hard), True), (np.flatnonzero(~hard), False)):
            if not len(rows):
                continue
            values = [pairs.labels[row] for row in rows.tolist()]
            labels = (
                np.array(values, dtype=np.int64)
                if is_hard
                else np.frombuffer(b"".join(v for v in values if isinstance(v, bytes)), "<f8").reshape(len(rows), -1)
            )
            scored = score(self.spec, pairs.baseline[rows], pairs.candidate[rows], labels)
            self.add_scored(pairs.times[rows], clock[rows], scored)

    def add_coverage(self, baseline: Floats, candidate: Floats, missing: NDArray[np.bool_]) -> None:
        """Matured pairs with and without a label, by what both models predicted."""
        if not len(missing):
            return
        more = Coverage.of(self.plan, baseline.argmax(axis=1), candidate.argmax(axis=1), missing)
        self.loss.block = replace(self.loss.block, coverage=self.loss.block.coverage + more)
        self.changed = True


def answers(columns: Sequence[bytes | None], classes: int) -> Floats:
    """(n, C) log-probabilities from the bytes that sidecars sent."""
    flat = np.frombuffer(b"".join(filter(None, columns)), "<f4").reshape(len(columns), classes)
    return np.minimum(flat.astype(np.float64), 0.0)
