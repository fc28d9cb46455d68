"""A decision record: what one run of the gate saw and said, as data that a report is drawn from.

Written by `modelcanary run`, `evaluate` and `replay`, and kept by the operator at each decision; read by `modelcanary
report`. Field names are the keys of its JSON. Losses, deltas and margins are in `unit`, times are seconds since the
epoch, and what is not known, or not finite, is None.
"""

import math
from dataclasses import dataclass, field, fields, is_dataclass, replace
from typing import TypeVar

from modelcanary_gate.vocabulary import Reason, Verdict

T = TypeVar("T")

#: Raised when a field changes its meaning; a reader refuses what is newer than itself.
SCHEMA_VERSION = 1


@dataclass(frozen=True, slots=True)
class Look:
    """One look at the evidence."""

    pairs: int
    labelled: int
    verdict: Verdict
    reason: Reason
    time: float | None = None
    delta: float | None = None  # mean of candidate's loss minus baseline's
    lower: float | None = None
    upper: float | None = None
    baselineLoss: float | None = None
    margin: float | None = None  # what the promotion allows, at this baseline's loss
    rollbackEvidence: float | None = None  # a factor, against Thresholds
    promotionEvidence: float | None = None
    judged: int | None = None  # of the labelled pairs, those that the evidence counts: whose labels are mature


@dataclass(frozen=True, slots=True)
class Thresholds:
    """The factors at which the evidence decides, and below which a decision that is forming is dropped."""

    rollback: float
    promotion: float
    rollbackClear: float | None = None


@dataclass(frozen=True, slots=True)
class ClassRow:
    """One class, by its label."""

    name: str
    labelled: int
    baselineLoss: float | None = None
    candidateLoss: float | None = None
    baselineAccuracy: float | None = None
    candidateAccuracy: float | None = None
    lower: float | None = None  # bounds of the delta
    upper: float | None = None


@dataclass(frozen=True, slots=True)
class CalibrationBin:
    """The labelled pairs whose predicted class had a probability in one interval."""

    count: int
    confidence: float  # their mean probability of the predicted class
    accuracy: float  # their share of right predictions


@dataclass(frozen=True, slots=True)
class Calibration:
    baseline: list[CalibrationBin]
    candidate: list[CalibrationBin]
    baselineError: float | None = None  # debiased, as the guard computes it
    candidateError: float | None = None


@dataclass(frozen=True, slots=True)
class GuardRow:
    """One guard as it stood at the end."""

    name: str
    type: str
    state: str
    message: str
    baseline: float | None = None
    candidate: float | None = None
    limit: str | None = None


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened on the way: a start, a change of the verdict, a restart, a warning."""

    kind: str
    message: str
    time: float | None = None
    look: int | None = None  # 1-based


@dataclass(frozen=True, slots=True)
class Record:
    """One run: which models, by which rules, with which result."""

    run: str
    command: str  # run | evaluate | replay | operator
    verdict: Verdict
    reason: str  # the gate's, or what in the cluster ended the run
    message: str
    pairs: int
    labelled: int
    baseline: str = ""  # where it was: a URL, a file, or an image and its template
    candidate: str = ""
    name: str = ""  # the resource's
    startedAt: float | None = None
    endedAt: float | None = None
    thresholds: Thresholds | None = None
    looks: list[Look] = field(default_factory=list)
    classes: list[ClassRow] = field(default_factory=list)
    calibration: Calibration | None = None
    guards: list[GuardRow] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=dict)  # missing, duplicate, conflict, dropped.<reason>, ...
    outcomes: dict[str, dict[str, int]] = field(default_factory=dict)  # role -> outcome -> pairs
    notes: list[str] = field(default_factory=list)  # what a reader must know to judge the verdict
    spec: dict[str, object] = field(default_factory=dict)  # as the user wrote it; empty: the defaults
    version: str = ""  # of modelcanary
    unit: str = "nats"  # of losses, deltas and margins
    schemaVersion: int = SCHEMA_VERSION


def finite(value: T) -> T:
    """The same record with None for every number that JSON cannot hold."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None  # type: ignore[return-value]
    if isinstance(value, list):
        return [finite(item) for item in value]  # type: ignore[return-value]
    if isinstance(value, dict):
        return {key: finite(item) for key, item in value.items()}  # type: ignore[return-value]
    if is_dataclass(value) and not isinstance(value, type):
        return replace(value, **{f.name: finite(getattr(value, f.name)) for f in fields(value)})
    return value
