"""What `.status` holds of a ModelCanary, typed: all that must survive a restart and is not in the cluster or ledger.

Written whole, by compare-and-swap, before the actions that follow from it. Templates are named by their hash. Times
are seconds since the epoch.
"""

from dataclasses import dataclass

from modelcanary_gate.plan.phases import Phase


@dataclass(frozen=True, slots=True)
class Run:
    """A candidate on trial."""

    id: str
    baseline: str
    candidate: str
    digest: str  # of what is measured; another one is another run
    created_at: float
    attempt: int = 0  # how often the template was rejected before
    shadowing_since: float | None = None
    step: int = 0  # canary steps begun
    step_since: float | None = None
    told: tuple[str, ...] = ()  # reasons of Held that were told
    observing_since: float | None = None  # promoted; the baseline of before is the shadow


@dataclass(frozen=True, slots=True)
class Finding:
    """The numbers behind a decision, in nats, as text: the resource has no floats."""

    judged: int = 0  # labelled pairs
    delta: str = ""
    lower: str = ""
    upper: str = ""
    baseline_loss: str = ""
    worse: tuple[str, ...] = ()  # classes whose loss is higher than the baseline's, the worst first
    guards: tuple[str, ...] = ()  # beyond their limits


@dataclass(frozen=True, slots=True)
class Signal:
    """Something that happened, and whom it is still to be told. It is kept until all of them have acknowledged it."""

    id: str  # the same however often it is sent: receivers know it again
    event: str  # of vocabulary.Event, or Recovered
    at: float
    reason: str
    message: str
    to: tuple[str, ...]  # endpoints
    run: str = ""
    baseline: str = ""  # templates
    candidate: str = ""
    finding: Finding = Finding()


@dataclass(frozen=True, slots=True)
class Rejected:
    """A template that was rolled back."""

    template: str
    run: str
    at: float
    attempts: int
    reason: str
    message: str
    retried: bool = False  # the user ended the cooldown


@dataclass(frozen=True, slots=True)
class Ended:
    """The last run that ended, and how."""

    run: str
    decision: str  # the decision's id: a run is promoted at most once by each
    reason: str
    at: float


@dataclass(frozen=True, slots=True)
class Decided:
    """How the run ends, and why; carried out at most once by its id."""

    id: str
    reason: str
    message: str
    finding: Finding = Finding()


@dataclass(frozen=True, slots=True)
class Status:
    phase: Phase = Phase.PENDING
    reason: str = ""
    message: str = ""
    #: nothing goes on before somebody changes something
    stalled: bool = False
    verdict: str = ""  # of the run's last look
    baseline: str = ""  # the template that serves: adopted or promoted
    replicas: int = 0  # of the baseline, as last written here
    run: Run | None = None
    decided: Decided | None = None  # how `run` ends: while it is being carried out
    rejected: Rejected | None = None  # the last one
    last: Ended | None = None
    signals: tuple[Signal, ...] = ()  # still to be told
    handover_since: float | None = None  # the target's pods get no new connections any more
