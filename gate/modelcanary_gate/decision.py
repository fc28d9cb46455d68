"""What the gate answers: a verdict, its reason, a sentence for people, and the numbers behind them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from modelcanary_gate.spec import GuardType
from modelcanary_gate.vocabulary import Outcome, Reason, Role, Verdict


@dataclass(frozen=True, slots=True)
class Metric:
    """What a guard's query gave for each role; None where it gave nothing, or was not asked."""

    baseline: float | None
    candidate: float | None
    problem: str = ""  # why there is no value


@dataclass(frozen=True, slots=True)
class Facts:
    """What the caller knows and blocks do not hold: the clock, and what is on its way."""

    elapsed: float = 0.0  # seconds since the run began
    pairs: int = 0  # mirrored and recorded
    labelled: int = 0  # of which a label came
    labels: int = 0  # that found their pair, in time or not
    conflicts: int = 0  # of them, that another label contradicts
    #: users get the candidate's answers: then no bias of the labels holds its roll-back
    exposed: bool = False
    #: how each model's answers came out, where it is known sooner than their block is full
    outcomes: Mapping[Role, Mapping[Outcome, int]] = field(default_factory=dict)
    metrics: Mapping[str, Metric] = field(default_factory=dict)  # of guards of type prometheus, by their names
    labels_per_second: float = 0.0  # may be below 0 for a while: labels that turn out to be late are taken back


class GuardStatus(StrEnum):
    OK = "ok"
    UNKNOWN = "unknown"  # not enough to tell; holds nothing back
    MISSING = "missing"  # no value where there has to be one: no promotion
    VETO = "veto"  # beyond its limit, without proof: no promotion
    FAILED = "failed"  # proved beyond its limit: roll back


@dataclass(frozen=True, slots=True)
class GuardState:
    """Where a guard stands."""

    name: str
    type: GuardType
    status: GuardStatus
    baseline: float | None  # the measure, of each role
    candidate: float | None
    limit: str  # as the user would write it
    log_evidence: float | None = None  # None: a guard that can only veto
    log_threshold: float | None = None
    detail: str = ""  # the class that fails, or why there is no value


@dataclass(frozen=True, slots=True)
class ClassLoss:
    """The mean losses of the labelled pairs of one class, nats."""

    name: str
    n: float  # pairs; a soft label counts in parts
    baseline: float
    candidate: float


@dataclass(frozen=True, slots=True)
class Measures:
    """The numbers behind a verdict; losses in `unit`, evidences as natural logarithms."""

    judged: int  # matured, labelled pairs
    baseline_loss: float | None
    candidate_loss: float | None
    delta: float | None  # candidate − baseline
    lower: float | None  # 95% confidence sequence
    upper: float | None
    margin: float | None  # the promotion's margin, at the baseline's present loss
    rollback_evidence: float
    rollback_threshold: float
    promotion_evidence: float
    promotion_threshold: float
    design_effect: float
    slope: float | None  # of the delta per hour, or per 1,000 pairs without a clock
    slope_error: float | None
    pairs_to_rollback: float | None  # at the present growth; None: not in sight
    pairs_to_promotion: float | None
    seconds_to_verdict: float | None
    reachable_margin: float | None  # relative; what an equal candidate could prove within maxDuration
    guards: tuple[GuardState, ...]
    rollback_streak: int = 0  # blocks in a row whose evidence said so, at most as many as a verdict asks for
    promotion_streak: int = 0
    classes: tuple[ClassLoss, ...] = ()  # those with labels
    unit: str = "nats"  # of losses, deltas and margin: a language model's are nats per token, or bits per byte
    biased: str = ""  # the predicted class whose labels are missing at another rate; empty: none is


@dataclass(frozen=True, slots=True)
class Decision:
    verdict: Verdict
    reason: Reason
    message: str
    measures: Measures
