"""The facts that a plan is made from: what one look at the cluster and the ledger found.

The operator's `observe` fills these in; templates are hashes of a pod template as the user wrote it. `version` is
the object's resourceVersion, which every action that changes the object repeats, so that a write of a process that
was frozen meanwhile is refused.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from modelcanary_gate.plan.reasons import Why
from modelcanary_gate.plan.status import Rejected
from modelcanary_gate.protocol import Instructions, SourceReport


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
    generation: int = 0
    exclusive_volumes: tuple[str, ...] = ()  # claims that one pod alone can mount


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
class Failure:
    """Why a pod does not come up, and since when."""

    reason: Why
    message: str
    since: float
    restarts: int = 0


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
    #: every ready pod is a ready endpoint of the service with the sidecar's port, and answers there; it is looked at
    #: while the target has pods
    answering: bool = False
    ending: bool = False  # a pod of it is ending, and may still answer

    failure: Failure | None = None  # why pods of it are not ready
    overdue: str = ""  # what its controller says when its rollout has made no progress before its deadline
    refreshed: str = ""  # the request for a new sidecar that it has answered


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
    """The user's, of the target: a HorizontalPodAutoscaler, or a ScaledObject of KEDA."""

    name: str
    version: str = ""
    keda: bool = False
    copied: bool = False  # our copy for the baseline is there, and says the same
    paused: bool = False  # KEDA's: by us, so that it leaves the target at nothing


@dataclass(frozen=True, slots=True)
class Policies:
    """NetworkPolicies of ours beside the user's, by name."""

    present: Mapping[str, str] = field(default_factory=dict)  # with their versions
    stale: tuple[str, ...] = ()  # are missing, or not as the user's make them now
    spare: tuple[str, ...] = ()  # nothing asks for them any more


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
    deleted_at: float = 0.0  # when it was begun to be deleted, by the API server's clock
    finalizer: bool = False
    target: Target | None = None
    service: Service | None = None
    baseline: Baseline | None = None
    candidate: Candidate | None = None
    candidate_service: bool = False
    candidate_pods: int = 0  # those that are ending too
    candidate_url: str = ""
    autoscaler: Autoscaler | None = None
    autoscaler_copy: bool = False
    autoscalers: tuple[str, ...] = ()  # all that scale the target; `autoscaler` is the one that is meant
    autoscaler_hidden: str = ""  # one of KEDA that the operator may not read
    baseline_policies: Policies = field(default_factory=Policies)
    candidate_policies: Policies = field(default_factory=Policies)
    revisions: frozenset[str] = frozenset()  # templates that are saved
    #: by template, as it is noted beside it: survives a status that is lost
    rejections: Mapping[str, Rejected] = field(default_factory=dict)
    generation: int = 0  # of the specification
    #: what sidecars are told, as the ledger has it; None: the ledger does not answer
    standing: Instructions | None = None
    #: seconds since this process first saw the ledger refuse what it was told, without a word that it took since
    ledger_refuses: float = 0.0
    sources: tuple[SourceReport, ...] | None = ()  # how those get on who follow `labels.sources`; None: not known
    measured: str = ""  # the digest of what the specification measures
    verbs: Verbs = field(default_factory=Verbs)
    reports: tuple[str, ...] = ()  # decisions whose reports are kept, the oldest first; looked for while a run ends
    refresh: str = ""  # the request for a new sidecar: any value, and each is one
    rivals: tuple[str, ...] = ()  # older ModelCanaries of the same target
    taken: tuple[str, ...] = ()  # objects of our names that are not ours
    candidate_matches: tuple[str, ...] = ()  # Services that would find the candidate's pods
    our_ports: tuple[int, ...] = ()
    endpoint_problem: str = ""  # of the first endpoint that the specification names and cannot use
    confirmations: Mapping[str, Confirmation] = field(default_factory=dict)  # of the present run, by endpoint
    delivered: frozenset[tuple[str, str]] = frozenset()  # signals that need not be sent any more: id, endpoint
    failing: float = math.inf  # seconds since this process first saw the candidate fail for the reason it has now
