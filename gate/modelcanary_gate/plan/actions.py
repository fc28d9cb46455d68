"""What a plan asks for: each action is one named write, and writing it twice is writing it once.

The operator's `apply` carries them out. `version` is the resourceVersion that the object had when it was observed:
the write is refused when the object has changed since, and an action without one creates an object that was not
there, and is refused when it is.
"""

from dataclasses import dataclass

from modelcanary_gate.plan.status import Rejected
from modelcanary_gate.protocol import Instructions


@dataclass(frozen=True, slots=True)
class AddFinalizer:
    pass


@dataclass(frozen=True, slots=True)
class RemoveFinalizer:
    """The last write: what the status still has to tell is lost with it."""

    untold: tuple[str, ...] = ()  # signals and whom they were for
    unforgotten: bool = False  # by the ledger, which answers and takes no word


@dataclass(frozen=True, slots=True)
class SaveRevision:
    """The target's pod template, under its hash."""

    template: str


@dataclass(frozen=True, slots=True)
class DeleteRevision:
    template: str


@dataclass(frozen=True, slots=True)
class NoteRejection:
    """Beside the template, where it outlives the status."""

    rejected: Rejected


@dataclass(frozen=True, slots=True)
class HoldTarget:
    """Pause it, so that no new template of it gets a pod; note on it which template serves."""

    version: str
    template: str


@dataclass(frozen=True, slots=True)
class ScaleTarget:
    version: str
    replicas: int


@dataclass(frozen=True, slots=True)
class RestoreTemplate:
    """Give the target the template that was promoted last, before it gets pods again."""

    version: str
    template: str


@dataclass(frozen=True, slots=True)
class ReleaseTarget:
    """Let it have pods again."""

    version: str
    replicas: int


@dataclass(frozen=True, slots=True)
class ForgetTarget:
    """Take our annotation off it."""

    version: str


@dataclass(frozen=True, slots=True)
class ApplyBaseline:
    template: str
    replicas: int | None  # None: as many as it has
    version: str | None


@dataclass(frozen=True, slots=True)
class ScaleBaseline:
    version: str
    replicas: int


@dataclass(frozen=True, slots=True)
class DeleteBaseline:
    version: str


@dataclass(frozen=True, slots=True)
class ApplyCandidate:
    run: str
    template: str
    replicas: int
    version: str | None


@dataclass(frozen=True, slots=True)
class ApplyCandidateService:
    template: str


@dataclass(frozen=True, slots=True)
class DeleteCandidate:
    version: str


@dataclass(frozen=True, slots=True)
class DeleteCandidateService:
    pass


@dataclass(frozen=True, slots=True)
class NarrowSelector:
    """For as long as the label is there, the service finds the baseline's pods only."""

    version: str


@dataclass(frozen=True, slots=True)
class RestoreSelector:
    version: str


@dataclass(frozen=True, slots=True)
class RedirectPort:
    """A numeric target port becomes the sidecar's."""

    version: str


@dataclass(frozen=True, slots=True)
class RestorePort:
    version: str


@dataclass(frozen=True, slots=True)
class CopyAutoscaler:
    name: str


@dataclass(frozen=True, slots=True)
class DeleteAutoscaler:
    pass


@dataclass(frozen=True, slots=True)
class KeepReport:
    """What a decision was taken from, for people to read later."""

    decision: str  # its id


@dataclass(frozen=True, slots=True)
class DeleteReport:
    """An older one."""

    decision: str


@dataclass(frozen=True, slots=True)
class RemoveVerb:
    """Take an annotation off that nothing is to be done for any more."""

    verb: str  # a field of Verbs
    run: str  # that it names
    refusal: str = ""  # why it was not carried out; empty: it was


@dataclass(frozen=True, slots=True)
class PauseAutoscaler:
    """KEDA's: it would give the target pods again. What the user had said about pausing is noted on it."""

    name: str
    version: str


@dataclass(frozen=True, slots=True)
class ResumeAutoscaler:
    name: str
    version: str


@dataclass(frozen=True, slots=True)
class ApplyPolicy:
    """A NetworkPolicy of ours, as the user's make it now."""

    name: str
    version: str | None


@dataclass(frozen=True, slots=True)
class DeletePolicy:
    name: str
    version: str


@dataclass(frozen=True, slots=True)
class Instruct:
    """Tell the sidecars, by the ledger."""

    instructions: Instructions


@dataclass(frozen=True, slots=True)
class ForgetEvidence:
    """Tell the ledger that the resource goes: whose labels nobody may send any more, and whose pairs nobody judges."""


Action = (
    AddFinalizer
    | RemoveFinalizer
    | SaveRevision
    | DeleteRevision
    | NoteRejection
    | HoldTarget
    | ScaleTarget
    | RestoreTemplate
    | ReleaseTarget
    | ForgetTarget
    | ApplyBaseline
    | ScaleBaseline
    | DeleteBaseline
    | ApplyCandidate
    | ApplyCandidateService
    | DeleteCandidate
    | DeleteCandidateService
    | NarrowSelector
    | RestoreSelector
    | RedirectPort
    | RestorePort
    | CopyAutoscaler
    | DeleteAutoscaler
    | KeepReport
    | DeleteReport
    | RemoveVerb
    | PauseAutoscaler
    | ResumeAutoscaler
    | ApplyPolicy
    | DeletePolicy
    | Instruct
    | ForgetEvidence
)
