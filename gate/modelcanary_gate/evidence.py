"""Blocks of evidence: sums over matured pairs that say all that a decision needs, and no more.

The ledger cuts blocks, numbers them and keeps them for ever as they are; `gate` folds them in that order. Blocks
add up, so it does not matter in how many parts one was summed. No pair can be read back from a block.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from modelcanary_gate.calibration import Reliability
from modelcanary_gate.contrasts import (
    GRID_SIZE,
    Contrast,
    EvidencePlan,
    Kind,
    indicator_contrast,
    loss_contrast,
)
from modelcanary_gate.errors import DataError
from modelcanary_gate.latency import LatencyHistogram
from modelcanary_gate.scoring import LabelledPairs
from modelcanary_gate.vocabulary import ERROR_OUTCOMES, Outcome

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

#: Outcomes as small integers, in the order of the vocabulary.
OUTCOME_CODES = {outcome: code for code, outcome in enumerate(Outcome)}
_ERROR_CODES = np.array([OUTCOME_CODES[outcome] for outcome in Outcome if outcome in ERROR_OUTCOMES])
_NON_FINITE_CODE = OUTCOME_CODES[Outcome.NON_FINITE]
_OK_CODE = OUTCOME_CODES[Outcome.OK]


@dataclass(frozen=True, slots=True)
class BlockRule:
    """When the open block is closed: by count and by time, so that a long run has about 1,300 at the most."""

    minimum: int = 100
    seconds: float = 5.0
    fraction: float = 1 / 200  # of the time since the run began

    def due(self, n: int, age: float, elapsed: float) -> bool:
        """`n` counted pairs in the open block, its age and the run's, in seconds."""
        return n >= self.minimum and age >= max(self.seconds, elapsed * self.fraction)


@dataclass(frozen=True, slots=True)
class AnsweredPairs:
    """Columns of mirrored pairs, labelled or not: how each model answered, and how fast."""

    baseline_outcome: Ints  # OUTCOME_CODES
    candidate_outcome: Ints
    baseline_latency: Floats  # seconds
    candidate_latency: Floats

    def __len__(self) -> int:
        return len(self.baseline_outcome)

    def take(self, rows: slice | NDArray[np.intp] | NDArray[np.bool_]) -> "AnsweredPairs":
        return AnsweredPairs(*(getattr(self, name)[rows] for name in self.__dataclass_fields__))


@dataclass(frozen=True, slots=True)
class ContrastSums:
    """Of m contrasts: Σx and Σx², (m,), and Σ ln(1 + λx), (m, GRID_SIZE)."""

    x: Floats
    xx: Floats
    log: Floats

    @classmethod
    def empty(cls, m: int) -> Self:
        return cls(np.zeros(m), np.zeros(m), np.zeros((m, GRID_SIZE)))

    def __add__(self, other: Self) -> Self:
        return type(self)(self.x + other.x, self.xx + other.xx, self.log + other.log)

    def to_json(self, contrasts: Sequence[Contrast]) -> dict[str, Any]:
        return {
            contrast.name: {"x": float(self.x[i]), "xx": float(self.xx[i]), "log": self.log[i].tolist()}
            for i, contrast in enumerate(contrasts)
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any], contrasts: Sequence[Contrast]) -> Self:
        try:
            rows = [data[contrast.name] for contrast in contrasts]
        except KeyError as error:
            raise DataError(f"the block has no contrast {error}: it was made for another specification") from None
        if not rows:
            return cls.empty(0)
        return cls(
            np.array([row["x"] for row in rows], dtype=np.float64),
            np.array([row["xx"] for row in rows], dtype=np.float64),
            np.array([row["log"] for row in rows], dtype=np.float64),
        )


@dataclass(frozen=True, slots=True)
class Coverage:
    """Matured pairs, and those of them whose label does not come, per group of predicted classes: (2, groups) of
    [matured, missing]. What a maturity leaves out, as it was learned, is not missing."""

    baseline: Floats
    candidate: Floats

    @classmethod
    def empty(cls, plan: EvidencePlan) -> Self:
        return cls(np.zeros((2, len(plan.groups))), np.zeros((2, len(plan.groups))))

    @classmethod
    def of(cls, plan: EvidencePlan, baseline: Ints, candidate: Ints, missing: Floats) -> Self:
        """From both models' predicted classes, (n,), and how many labels each lacks, (n,): 1 where there is none; where
        there is one, what it stands for beyond itself, below 0."""
        if not plan.groups:
            return cls.empty(plan)
        group_of, size = np.asarray(plan.group_of, dtype=np.int64), len(plan.groups)
        tables = []
        for predicted in (baseline, candidate):
            groups = group_of[predicted]
            tables.append(np.stack([np.bincount(groups, None, size), np.bincount(groups, missing, size)]))
        return cls(tables[0].astype(np.float64), tables[1].astype(np.float64))

    def __add__(self, other: Self) -> Self:
        return type(self)(self.baseline + other.baseline, self.candidate + other.candidate)


@dataclass(frozen=True, slots=True)
class LossBlock:
    """Matured, labelled pairs: what the loss and the guards that need labels are judged by."""

    seq: int
    opened: float  # seconds since the epoch, of the first pair's request
    closed: float  # of the last pair's
    n: int
    weight: float  # Σw, at most n; without weights it is n
    moments: Floats  # Σwb, Σwc, Σ(wb)², Σ(wc)², Σw²bc
    contrasts: ContrastSums
    classes: Floats  # (3, groups): n, Σb, Σc per group of labels
    confident_errors: Floats  # (2, plan.confident_errors): Σw of them, per role
    reliability: tuple[Reliability, Reliability]  # baseline, candidate
    coverage: Coverage

    def __add__(self, other: Self) -> Self:
        return type(self)(
            min(self.seq, other.seq),
            min(self.opened, other.opened),
            max(self.closed, other.closed),
            self.n + other.n,
            self.weight + other.weight,
            self.moments + other.moments,
            self.contrasts + other.contrasts,
            self.classes + other.classes,
            self.confident_errors + other.confident_errors,
            (self.reliability[0] + other.reliability[0], self.reliability[1] + other.reliability[1]),
            self.coverage + other.coverage,
        )


@dataclass(frozen=True, slots=True)
class TrafficBlock:
    """Mirrored pairs, labelled or not: what errors, non-finite answers and latencies are judged by."""

    seq: int
    opened: float
    closed: float
    n: int
    contrasts: ContrastSums
    outcomes: Ints  # (2, outcomes): counts per role
    latency: tuple[LatencyHistogram, LatencyHistogram]  # of answers that were OK

    def __add__(self, other: Self) -> Self:
        return type(self)(
            min(self.seq, other.seq),
            min(self.opened, other.opened),
            max(self.closed, other.closed),
            self.n + other.n,
            self.contrasts + other.contrasts,
            self.outcomes + other.outcomes,
            (self.latency[0] + other.latency[0], self.latency[1] + other.latency[1]),
        )


def loss_block(
    plan: EvidencePlan,
    pairs: LabelledPairs,
    *,
    seq: int,
    opened: float,
    closed: float,
    coverage: Coverage | None = None,
) -> LossBlock:
    """Sums one block of at least one pair."""
    return loss_blocks(plan, pairs, np.array([0]), seq, [(opened, closed)], coverage)[0]


def loss_blocks(
    plan: EvidencePlan,
    pairs: LabelledPairs,
    starts: NDArray[np.intp],
    seq: int,
    spans: Sequence[tuple[float, float]],
    coverage: Coverage | None = None,
) -> list[LossBlock]:
    """Sums many blocks at once: block i is the rows from `starts[i]` to the next start, and is numbered `seq + i`.

    `spans` are the blocks' (opened, closed). Coverage, where given, goes to the first block.
    """
    b, c = pairs.weight * pairs.baseline_loss, pairs.weight * pairs.candidate_loss
    weights = np.add.reduceat(pairs.weight, starts)
    moments = np.add.reduceat(np.stack([b, c, b * b, c * c, b * c]), starts, axis=1)
    sums = [
        _contrast_sums(_loss_contrast(plan, contrast, pairs), grid, starts)
        for contrast, grid in zip(plan.loss, plan.loss_grids, strict=True)
    ]
    ends = [*starts[1:].tolist(), len(pairs)]
    blocks = []
    for i, (start, end) in enumerate(zip(starts.tolist(), ends, strict=True)):
        part = pairs.take(slice(start, end))
        blocks.append(
            LossBlock(
                seq + i,
                *spans[i],
                end - start,
                float(weights[i]),
                moments[:, i],
                ContrastSums(
                    np.array([x[i] for x, _, _ in sums]),
                    np.array([xx[i] for _, xx, _ in sums]),
                    np.stack([log[i] for _, _, log in sums]),
                ),
                _class_sums(plan, part),
                _confident_errors(plan, part),
                _reliability(part),
                coverage if coverage is not None and i == 0 else Coverage.empty(plan),
            )
        )
    return blocks


def traffic_block(plan: EvidencePlan, pairs: AnsweredPairs, *, seq: int, opened: float, closed: float) -> TrafficBlock:
    """Sums one block of at least one pair."""
    start = np.array([0])
    roles = (pairs.baseline_outcome, pairs.candidate_outcome)
    sums = []
    for contrast, grid in zip(plan.traffic, plan.traffic_grids, strict=True):
        codes = np.array([_NON_FINITE_CODE]) if contrast.kind is Kind.NON_FINITE else _ERROR_CODES
        baseline, candidate = (np.isin(outcome, codes) for outcome in roles)
        if contrast.limit is None:
            raise DataError(f"contrast {contrast.name} has no limit")
        sums.append(_contrast_sums(indicator_contrast(contrast.limit, baseline, candidate), grid, start))
    contrasts = ContrastSums.empty(0)
    if sums:
        contrasts = ContrastSums(*(np.array([row[part][0] for row in sums]) for part in range(3)))
    outcomes = np.stack([np.bincount(outcome, minlength=len(OUTCOME_CODES)) for outcome in roles])
    latency = tuple(
        LatencyHistogram.of(seconds[outcome == _OK_CODE])
        for seconds, outcome in zip((pairs.baseline_latency, pairs.candidate_latency), roles, strict=True)
    )
    return TrafficBlock(seq, opened, closed, len(pairs), contrasts, outcomes.astype(np.int64), (latency[0], latency[1]))


def _contrast_sums(x: Floats, grid: Floats, starts: NDArray[np.intp]) -> tuple[Floats, Floats, Floats]:
    log = np.add.reduceat(np.log1p(x[:, None] * grid), starts, axis=0)
    return np.add.reduceat(x, starts), np.add.reduceat(x * x, starts), log


def _loss_contrast(plan: EvidencePlan, contrast: Contrast, pairs: LabelledPairs) -> Floats:
    """x of each pair times its weight: a null about all pairs whose labels come, whichever came soon enough."""
    return pairs.weight * _unweighted(plan, contrast, pairs)


def _unweighted(plan: EvidencePlan, contrast: Contrast, pairs: LabelledPairs) -> Floats:
    if contrast.kind is Kind.CONFIDENT_ERRORS:
        if contrast.limit is None:
            raise DataError(f"contrast {contrast.name} has no limit")
        return indicator_contrast(contrast.limit, *_confidently_wrong(pairs, contrast.threshold))
    x = loss_contrast(contrast, pairs.baseline_loss, pairs.candidate_loss)
    if contrast.kind is Kind.CLASS:
        # Pairs of other classes neither win nor lose; their number keeps the block's size.
        return np.where(_groups(plan, pairs.label) == contrast.group, x, 0.0)
    return x


def _confidently_wrong(pairs: LabelledPairs, threshold: float) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Per role, (n,): another class than the label's was predicted, with at least so much probability."""
    baseline, candidate = (
        (pairs.label >= 0)
        & (predicted >= 0)
        & (predicted != pairs.label)
        & (np.nan_to_num(confidence, nan=0.0) >= threshold)
        for confidence, predicted in (
            (pairs.baseline_confidence, pairs.baseline_predicted),
            (pairs.candidate_confidence, pairs.candidate_predicted),
        )
    )
    return baseline, candidate


def _confident_errors(plan: EvidencePlan, pairs: LabelledPairs) -> Floats:
    counts = [
        [float(pairs.weight[wrong].sum()) for wrong in _confidently_wrong(pairs, contrast.threshold)]
        for contrast in plan.confident_errors
    ]
    return np.array(counts, dtype=np.float64).reshape(-1, 2).T


def _groups(plan: EvidencePlan, labels: Ints) -> Ints:
    """The group of each label; −1 where the label is not one class."""
    if not plan.group_of:
        return np.full(len(labels), -1, dtype=np.int64)
    return np.where(labels >= 0, np.asarray(plan.group_of, dtype=np.int64)[labels], -1)


def _class_sums(plan: EvidencePlan, pairs: LabelledPairs) -> Floats:
    groups = _groups(plan, pairs.label)
    known, size = groups >= 0, len(plan.groups)
    columns = (None, pairs.baseline_loss[known], pairs.candidate_loss[known])
    return np.stack([np.bincount(groups[known], column, size).astype(np.float64) for column in columns])


def _reliability(pairs: LabelledPairs) -> tuple[Reliability, Reliability]:
    known = pairs.label >= 0
    if not known.any():
        return Reliability.empty(), Reliability.empty()
    label = pairs.label[known]
    return (
        Reliability.of(pairs.baseline_confidence[known], pairs.baseline_predicted[known] == label),
        Reliability.of(pairs.candidate_confidence[known], pairs.candidate_predicted[known] == label),
    )
