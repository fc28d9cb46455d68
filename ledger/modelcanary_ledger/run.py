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
from modelcanary_gate.maturity import Maturity
from modelcanary_gate.scoring import LabelledPairs, score
from modelcanary_gate.spec import LabelMode, Spec, Task
from modelcanary_gate.vocabulary import Role
from modelcanary_ledger.accumulate import Accumulator, empty_loss, empty_traffic
from modelcanary_ledger.delays import Delays

Floats = NDArray[np.float64]

OUTCOMES = list(OUTCOME_CODES)
#: Senders of one run that are told apart: those that a ModelCanary may list, and as many ServiceAccounts again.
MAX_SENDERS = 128
_VERSIONS = itertools.count()
#: Delays are looked at again after so long, and so much of the run.
_LEARN_SECONDS, _LEARN_FRACTION = 1.0, 1 / 200
#: Coverages that differ by less are weighed as before: what counts how is told to whoever computes it once more.
_COVERAGE_MATTERS = 0.03
_MOST_WEIGHINGS = 256


@dataclass(slots=True)
class Counts:
    """What became of pairs and labels; none of them ever falls but `labelled`, by what `expired` gains."""

    pairs: int = 0
    scored: int = 0  # both answers can be scored
    labelled: int = 0  # of the scored: a label came in time
    missing: int = 0  # of the scored: matured without a label
    duplicate: int = 0
    conflict: int = 0  # pairs of which another label has said otherwise, however often
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
    disputed: int = 0  # labels of theirs that stand, and of which another sender has said otherwise, however often


@dataclass(slots=True)
class Weighing:
    """From which pair on labelled pairs count by which coverage. What has counted stays as it was."""

    after: int  # the pid before the first pair
    coverage: list[float]  # per group of label classes: the share of their labels that is in by the maturity


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
    weighing: list[Weighing] = field(default_factory=list)  # in order; before the first nothing is weighed


@dataclass(slots=True)
class Scorable:
    """Columns of pairs that can be scored; labels are class indices, or rows over the classes."""

    times: Floats
    baseline: Floats
    candidate: Floats
    labels: list[int | bytes]
    weights: Floats


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
        # Of several labels to a pair none is the class that its delay may depend on.
        curves = 1 if spec.model.task is Task.MULTILABEL else len(spec.model.classes)
        self.delays = Delays(curves, progress.delay_length)
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
        self.next_due = self._learns = 0.0  # delays are looked at again
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

    def learn(self, now: float, earlier: Sequence["Run"] = ()) -> None:
        """How long labels are waited for, and what they count, from the delays seen; the time never shrinks.

        `earlier`: the model's runs before, whose labels were as late.
        """
        labels, progress = self.spec.labels, self.progress
        if self.agreement or labels.maturity == 0 or now < self._learns:
            return
        self._learns = now + max(_LEARN_SECONDS, (now - self.started) * _LEARN_FRACTION)
        before = [run.delays for run in earlier if run.class_index == self.class_index]

        def ask(seconds: float | None) -> Maturity | None:
            return self.delays.learn(now, labels.min_coverage, declared=seconds, earlier=before)

        found = ask(labels.maturity)
        if labels.maturity is None and found is not None:
            known = progress.maturity or 0.0
            if found.seconds > known:
                progress.maturity = found.seconds
                self.next_due = 0.0
                self.changed = True
            elif found.seconds < known:
                found = ask(known)
        if found is None or len(progress.weighing) >= _MOST_WEIGHINGS:
            return
        last = progress.weighing[-1] if progress.weighing else None
        if last is None or any(
            abs(a - b) > _COVERAGE_MATTERS for a, b in zip(last.coverage, found.coverage, strict=True)
        ):
            progress.weighing.append(Weighing(progress.matured, list(found.coverage)))
            self.changed = True

    def coverage_of(self, labels: Sequence[int | bytes]) -> tuple[Floats, Floats]:
        """Of pairs that mature now, by their labels: the coverage of each one's class, and what it counts, (n,)."""
        weighing = self.progress.weighing
        if not weighing or self.at_once:
            return np.ones(len(labels)), np.ones(len(labels))
        known = Maturity(0.0, tuple(weighing[-1].coverage))
        groups = np.minimum(self.label_classes(labels), len(known.coverage) - 1)
        return np.asarray(known.coverage)[groups], known.weights()[groups]

    def label_classes(self, labels: Sequence[int | bytes]) -> NDArray[np.int64]:
        """(n,): the class of each label, of soft ones the likeliest; 0 for labels of several classes."""
        if self.spec.model.task is Task.MULTILABEL:
            return np.zeros(len(labels), dtype=np.int64)
        return np.array([label_class(label) for label in labels], dtype=np.int64).clip(0, max(0, self.classes - 1))

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
            scored = score(self.spec, pairs.baseline[rows], pairs.candidate[rows], labels, pairs.weights[rows])
            self.add_scored(pairs.times[rows], clock[rows], scored)

    def add_coverage(self, baseline: Floats, candidate: Floats, missing: Floats) -> None:
        """Matured pairs and how many labels each lacks, (n,), by what both models predicted."""
        if not len(missing):
            return
        more = Coverage.of(self.plan, baseline.argmax(axis=1), candidate.argmax(axis=1), missing)
        self.loss.block = replace(self.loss.block, coverage=self.loss.block.coverage + more)
        self.changed = True


def label_class(label: int | bytes) -> int:
    """The class of one label; of a soft one the likeliest."""
    return label if isinstance(label, int) else int(np.frombuffer(label, "<f8").argmax())


def answers(columns: Sequence[bytes | None], classes: int) -> Floats:
    """(n, C) log-probabilities from the bytes that sidecars sent."""
    flat = np.frombuffer(b"".join(filter(None, columns)), "<f4").reshape(len(columns), classes)
    return np.minimum(flat.astype(np.float64), 0.0)
