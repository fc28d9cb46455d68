"""The decision record: what was measured and decided in one run, as one JSON document.

Written by `run`, `evaluate --record` and `replay --record`, drawn by `report`. It holds all that a report
shows, so that a report can be made again, elsewhere and later. Must not know how anything in it was computed.

Times are seconds since the epoch, or None where the data had no times; losses, deltas, margins are in nats.
A number that is not known, or not finite, is None.
"""

import math
from dataclasses import dataclass, field, fields, is_dataclass, replace
from pathlib import Path
from typing import TypeVar

import msgspec

from modelcanary_cli.errors import InputError
from modelcanary_cli.files import write_whole
from modelcanary_gate.vocabulary import Reason, Verdict

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
    command: str  # run | evaluate | replay
    verdict: Verdict
    reason: Reason
    message: str
    pairs: int
    labelled: int
    baseline: str = ""  # where it was: a URL or a file
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
    schemaVersion: int = SCHEMA_VERSION


def write_record(record: Record, path: Path) -> None:
    """Writes the record whole or not at all. Raises InputError when the place cannot be written to."""
    write_whole(path, msgspec.json.format(msgspec.json.encode(finite(record)), indent=1))


def read_record(path: Path) -> Record:
    """Raises InputError naming the field."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InputError(path, f"cannot be read ({error.strerror})", "give the path of a decision record") from error
    try:
        version = msgspec.json.decode(content, type=_Versioned).schemaVersion
        if version > SCHEMA_VERSION:
            raise InputError(
                path,
                f"schemaVersion {version} is newer than this modelcanary reads ({SCHEMA_VERSION})",
                "use the modelcanary that wrote it, or a later one",
            )
        return msgspec.json.decode(content, type=Record)
    except msgspec.DecodeError as error:
        raise InputError(
            path,
            f"is not a decision record: {error}",
            "give a file that `run`, `evaluate --record` or `replay --record` wrote",
        ) from error


@dataclass(frozen=True, slots=True)
class _Versioned:
    schemaVersion: int


T = TypeVar("T")


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
