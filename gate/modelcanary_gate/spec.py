"""The typed specification: what a ModelCanary asks for, after `parse.parse_spec` has read and checked it.

Shares and margins are fractions (2% is 0.02), times are seconds, sizes are bytes. Every default of the
resource is a default here, and nowhere else.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from modelcanary_gate.protocol import LabelSource, MirrorLimits
from modelcanary_gate.vocabulary import Event

#: How far from 1 a sum of probabilities may be: four classes rounded to three decimals are 0.002 off at
#: worst and rarely half of it; a softmax that was forgotten, or applied twice, is much further off.
SUM_TOLERANCE = 1e-3


class Task(StrEnum):
    BINARY = "binary"
    MULTICLASS = "multiclass"
    MULTILABEL = "multilabel"


class Values(StrEnum):
    """What the numbers in an answer are."""

    PROBABILITIES = "probabilities"
    LOGITS = "logits"
    LOG_PROBABILITIES = "logProbabilities"
    BINARY_SCORE = "binaryScore"  # one number: the probability of the second class


class ProtocolName(StrEnum):
    AUTO = "auto"
    KSERVE_V1 = "kserve-v1"
    OIP_V2 = "oip-v2"
    SELDON = "seldon"
    MLFLOW = "mlflow"
    OPENAI = "openai"  # a language model: judged by the probability that it gives to a reference answer
    CUSTOM = "custom"


class LossPer(StrEnum):
    """What a language model's loss is divided by, and so its unit."""

    TOKEN = "token"  # nats per token, as the baseline's tokenizer cuts the reference
    BYTE = "byte"  # bits per byte of the reference: a figure that does not depend on a tokenizer


class LabelMode(StrEnum):
    FEEDBACK = "Feedback"
    AGREEMENT = "Agreement"


class OnTimeout(StrEnum):
    HOLD = "Hold"
    ROLLBACK = "Rollback"


class Restarts(StrEnum):
    """`Enabled`: a regression that starts mid-run is found; `Disabled`: the run is tested as a whole.

    Not On and Off: YAML 1.1 makes booleans of those.
    """

    ENABLED = "Enabled"
    DISABLED = "Disabled"


class GuardType(StrEnum):
    ERROR_RATE = "errorRate"
    LATENCY = "latency"
    NON_FINITE = "nonFinite"
    CONFIDENT_ERRORS = "confidentErrors"
    CALIBRATION_ERROR = "calibrationError"
    PER_CLASS = "perClass"
    PROMETHEUS = "prometheus"


class LimitKind(StrEnum):
    """How a limit is read: `0.01`, `+1%` or `+0.02` (over the baseline), `x1.2` (times the baseline)."""

    ABSOLUTE = "absolute"
    OVER_BASELINE = "overBaseline"
    TIMES_BASELINE = "timesBaseline"


@dataclass(frozen=True, slots=True)
class Margin:
    """How much worse is still as good: `relative` of the baseline's loss plus `absolute` nats."""

    relative: float = 0.0
    absolute: float = 0.0


@dataclass(frozen=True, slots=True)
class Limit:
    kind: LimitKind
    value: float


@dataclass(frozen=True, slots=True)
class Guard:
    name: str
    type: GuardType
    max: Limit | None = None
    min: Limit | None = None
    quantile: float = 0.99  # latency
    threshold: float = 0.9  # confidentErrors: the probability from which on a wrong answer counts
    margin: Margin = Margin(relative=0.10)  # perClass
    endpoint: str | None = None  # prometheus
    query: str | None = None  # prometheus


DEFAULT_GUARDS = (
    Guard("errors", GuardType.ERROR_RATE, max=Limit(LimitKind.OVER_BASELINE, 0.005)),
    Guard("invalid", GuardType.NON_FINITE, max=Limit(LimitKind.ABSOLUTE, 0.0)),
)


@dataclass(frozen=True, slots=True)
class Loss:
    clip_epsilon: float = 1e-4
    label_smoothing: float = 0.0
    class_weights: tuple[float, ...] | None = None  # one per class
    focal_gamma: float = 0.0


@dataclass(frozen=True, slots=True)
class PerVerdict:
    """A number for each direction."""

    rollback: float
    promote: float


@dataclass(frozen=True, slots=True)
class Hysteresis:
    rollback_after: int = 2
    promote_after: int = 2
    cooldown: float = 6 * 3600.0


@dataclass(frozen=True, slots=True)
class Analysis:
    interval: float = 30.0
    loss: Loss = Loss()
    margin: Margin = Margin(relative=0.02)
    rollback_margin: Margin = Margin()
    error_rates: PerVerdict = PerVerdict(0.001, 0.005)
    min_samples: PerVerdict = PerVerdict(300, 1000)
    min_duration: float = 15 * 60.0
    hysteresis: Hysteresis = Hysteresis()
    max_duration: float = 72 * 3600.0
    on_timeout: OnTimeout = OnTimeout.HOLD
    restarts: Restarts = Restarts.ENABLED
    #: retries of a rejected template: each halves the promotion's error budget
    attempt: int = 0


@dataclass(frozen=True, slots=True)
class Model:
    protocol: ProtocolName = ProtocolName.AUTO
    classes: tuple[str, ...] = ()
    candidate_classes: tuple[str, ...] = ()  # empty: the baseline's order
    output: str | None = None
    pointer: str | None = None
    values: Values = Values.PROBABILITIES
    task: Task = Task.MULTICLASS
    paths: tuple[str, ...] = ()  # empty: every path
    request_patch: Mapping[str, object] | None = None
    loss_per: LossPer = LossPer.TOKEN  # of a language model

    @property
    def generates(self) -> bool:
        """A language model. Its pairs have one number per model, the log-probability of the reference answer."""
        return self.protocol is ProtocolName.OPENAI

    @property
    def columns(self) -> int:
        """Of an answer that was read: log-probabilities per pair and model."""
        return 1 if self.generates else len(self.classes)

    @property
    def unit(self) -> str:
        """Of losses, deltas and margins that are not relative."""
        if not self.generates:
            return "nats"
        return "bits per byte" if self.loss_per is LossPer.BYTE else "nats per token"


@dataclass(frozen=True, slots=True)
class Mirror:
    share: float = 1.0  # `percent` over 100
    limits: MirrorLimits = field(default_factory=MirrorLimits)


@dataclass(frozen=True, slots=True)
class AgreementLimits:
    """Mean KL(baseline‖candidate) in nats."""

    rollback_above: float
    promote_below: float | None = None  # None: agreement alone never promotes


@dataclass(frozen=True, slots=True)
class Sender:
    """Known by one of the two; the other is empty."""

    name: str
    token_sha256: str = ""
    certificate_san: str = ""


@dataclass(frozen=True, slots=True)
class Labels:
    mode: LabelMode = LabelMode.FEEDBACK
    id_header: str = "X-Request-Id"
    senders: tuple[Sender, ...] = ()
    sources: tuple[LabelSource, ...] = ()
    agreement: AgreementLimits | None = None
    selective: bool = False
    max_delay: float = 24 * 3600.0
    maturity: float | None = None  # None: learned (`auto`); 0: a pair counts when its label comes
    min_coverage: float = 0.8
    max_conflict_share: float = 0.05  # of the pairs' labels, that others contradict; above, there is no promotion


@dataclass(frozen=True, slots=True)
class TargetRef:
    api_version: str
    kind: str
    name: str


@dataclass(frozen=True, slots=True)
class ServiceRef:
    name: str
    port: str


@dataclass(frozen=True, slots=True)
class Adoption:
    scale_target: bool = True
    service: str = "Managed"  # Managed | Untouched


@dataclass(frozen=True, slots=True)
class Candidate:
    replicas: int | None = None  # None: auto
    ready_deadline: float = 600.0
    labels: Mapping[str, str] = field(default_factory=dict)
    isolate: bool = False


@dataclass(frozen=True, slots=True)
class Canary:
    steps: tuple[float, ...] = ()  # shares of the users
    step_duration: float = 600.0
    candidate_grace: float = 0.05


@dataclass(frozen=True, slots=True)
class Promotion:
    mode: str = "Automatic"  # Automatic | Manual
    observe_for: float = 0.0


@dataclass(frozen=True, slots=True)
class Notification:
    """An alert or a webhook: the name of an endpoint that the cluster's admin lists, and what it is told."""

    endpoint: str
    events: tuple[Event, ...]


@dataclass(frozen=True, slots=True)
class Spec:
    """`spec` of a ModelCanary. `target` and `service` are None where there is no cluster."""

    model: Model
    target: TargetRef | None = None
    service: ServiceRef | None = None
    autoscaler: str | None = None
    adoption: Adoption = Adoption()
    candidate: Candidate = field(default_factory=Candidate)
    mirror: Mirror = field(default_factory=Mirror)
    labels: Labels = Labels()
    analysis: Analysis = Analysis()
    guards: tuple[Guard, ...] = DEFAULT_GUARDS
    canary: Canary = Canary()
    promotion: Promotion = Promotion()
    alerts: tuple[Notification, ...] = ()
    webhooks: tuple[Notification, ...] = ()
    sidecar: Mapping[str, object] = field(default_factory=dict)
    deletion: str = "RestoreTarget"  # RestoreTarget | KeepBaseline
    suspend: bool = False
    dry_run: bool = False
