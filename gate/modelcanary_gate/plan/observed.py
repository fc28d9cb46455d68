"""The facts that a plan is made from: what one look at the cluster and the ledger found.

The operator's `observe` fills these in; templates are hashes of a pod template as the user wrote it. `version` is
the object's resourceVersion, which every action that changes the object repeats, so that a write of a process that
was frozen meanwhile is refused.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from modelcanary_gate.plan.reasons import Why
from modelcanary_gate.protocol import Instructions


@dataclass(frozen=True, slots=True)
class Target:
    """The Deployment that the pipeline deploys."""

    version: str
    template: str
    replicas: int  # as asked for
    pods: int  # that there are
    ready: int
    settled: bool  # its rollout is over: each pod that there is to be is there, of the present template
    paused: bool
    held: str  # the template of which it had pods when it was paused by us; empty: it was not
    has_port: bool = True  # its template has the port that the Service targets
    controller: str = ""  # who owns it
    host_network: bool = False
    host_ports: tuple[int, ...] = ()
    ports: tuple[int, ...] = ()  # of its containers, and the one that the Service targets
    clashes: tuple[str, ...] = ()  # what in its template has a name that the sidecar needs
    exclusive_volumes: tuple[str, ...] = ()  # claims that pods of two Deployments cannot share
    generation: int = 0


@dataclass(frozen=True, slots=True)
class Service:
    """What clients call."""

    version: str
    selects_target: bool  # its selector, without our label, finds the target's pods
    has_port: bool
    numeric: bool  # the port's target is a number
    redirected: bool = False  # … and it is our sidecar's
    narrowed: bool = False  # our label is in its selector
    headless: bool = False
    without_selector: bool = False


@dataclass(frozen=True, slots=True)
class Baseline:
    """Our Deployment that serves users."""

    version: str
    template: str
    replicas: int
    ready: int
    settled: bool
    owned: bool  # it carries this resource's uid
    drifted: bool = False  # it differs from what was built from its template
    #: every ready pod is a ready endpoint of the service with the sidecar's port, and answers there
    answering: bool = False
    trouble: str = ""  # why its pods are not ready
    ending: bool = False  # a pod of it is ending, and may still answer


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a candidate's pod does not come up, and since when."""

    reason: Why
    message: str
    since: float
    restarts: int = 0


@dataclass(frozen=True, slots=True)
class Candidate:
    """Our Deployment on trial."""

    version: str
    template: str
    run: str
    replicas: int
    ready: int
    settled: bool
    drifted: bool = False
    failure: Failure | None = None


@dataclass(frozen=True, slots=True)
class Autoscaler:
    """The user's HorizontalPodAutoscaler of the target."""

    name: str
    keda: bool = False
    copied: bool = False  # our copy for the baseline is there, and says the same


@dataclass(frozen=True, slots=True)
class Verbs:
    """What the user asked for by annotation; each names the run that it is for."""

    promote: str = ""
    rollback: str = ""
    pause: str = ""
    resume: str = ""
    retry: str = ""


@dataclass(frozen=True, slots=True)
class Confirmation:
    """What a webhook answered that was asked about a run's promotion."""

    allowed: bool | None  # None: nothing that counts as an answer
    text: str = ""


@dataclass(frozen=True, slots=True)
class Observed:
    name: str  # of the ModelCanary
    deleting: bool = False
    finalizer: bool = False
    target: Target | None = None
    service: Service | None = None
    baseline: Baseline | None = None
    candidate: Candidate | None = None
    candidate_service: bool = False
    candidate_url: str = ""
    autoscaler: Autoscaler | None = None
    autoscaler_copy: bool = False
    revisions: frozenset[str] = frozenset()  # templates that are saved
    generation: int = 0  # of the specification
    #: what sidecars are told, as the ledger has it; None: the ledger does not answer
    standing: Instructions | None = None
    measured: str = ""  # the digest of what the specification measures
    verbs: Verbs = field(default_factory=Verbs)
    reports: tuple[str, ...] = ()  # decisions whose reports are kept, the oldest first; looked for while a run ends
    rivals: tuple[str, ...] = ()  # older ModelCanaries of the same target
    taken: tuple[str, ...] = ()  # objects of our names that are not ours
    candidate_matches: tuple[str, ...] = ()  # Services that would find the candidate's pods
    our_ports: tuple[int, ...] = ()
    endpoint_problem: str = ""  # of the first endpoint that the specification names and cannot use
    confirmations: Mapping[str, Confirmation] = field(default_factory=dict)  # of the present run, by endpoint
    delivered: frozenset[tuple[str, str]] = frozenset()  # signals that need not be sent any more: id, endpoint
