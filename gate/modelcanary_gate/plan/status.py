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
    observing_since: float | None = None  # promoted; the baseline of before is the shadow


@dataclass(frozen=True, slots=True)
class Rejected:
    """The template that was rolled back last."""

    template: str
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
    rejected: Rejected | None = None
    last: Ended | None = None
    handover_since: float | None = None  # the target's pods get no new connections any more
