"""What travels between sidecar, ledger, operator and cli: plain data, as they encode it.

Encoding is theirs (msgpack between sidecar and ledger, JSON elsewhere); field names here are the names on
the wire. Times are seconds since the epoch, durations are seconds.
"""

from dataclasses import dataclass, field

from modelcanary_gate.vocabulary import Outcome, SourceKind

#: The audience of the tokens that callers show the ledger: no other server takes them, and it takes no other's.
AUDIENCE = "modelcanary-ledger"
#: A canary's baseline is a Deployment of this name; its pods alone may send the canary's pairs.
BASELINE_SUFFIX = "-baseline"


@dataclass(slots=True)  # not frozen: made for each pair, where a frozen one costs three times as much
class Answer:
    """What one model said to one instance."""

    outcome: Outcome
    latency: float
    #: little-endian float32 log-probabilities in the order of `classes` of the baseline; None unless OK
    log_probabilities: bytes | None = None


@dataclass(slots=True)  # not frozen: made for each pair, where a frozen one costs three times as much
class Pair:
    """One instance of one request, answered by both models."""

    key: bytes  # 16 bytes, minted by the sidecar: 6 of milliseconds since the epoch (big-endian), then unique
    id: str  # the client's id, else the one minted and returned
    index: int  # of the instance within its request
    time: float  # when the request came
    baseline: Answer
    candidate: Answer


@dataclass(frozen=True, slots=True)
class PairBatch:
    """`POST /v1/runs/{namespace}/{name}/pairs`. Sent again with the same `batch`, it is recorded once."""

    batch: str
    sidecar: str  # the process: pod and epoch
    run: str
    pairs: list[Pair]
    dropped: dict[str, int] = field(default_factory=dict)  # not mirrored or shed since the last batch, by reason


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """`POST /v1/runs/{namespace}/{name}/heartbeat`. Says nothing that counts: it has no id to know it again by."""

    sidecar: str
    version: int  # of the instructions that the sidecar follows


@dataclass(frozen=True, slots=True)
class ModelReading:
    """How an answer is read: the resource's `spec.model`."""

    protocol: str = "auto"
    classes: list[str] = field(default_factory=list)  # the baseline's order
    candidateClasses: list[str] = field(default_factory=list)
    output: str | None = None
    pointer: str | None = None
    values: str = "probabilities"
    task: str = "multiclass"
    paths: list[str] = field(default_factory=list)  # empty: every path
    requestPatch: dict[str, object] | None = None
    lossPer: str = "token"  # of a language model
    #: Of a language model: reference answers come as labels, by `References`; else the baseline's answer is the one.
    references: bool = False


@dataclass(frozen=True, slots=True)
class MirrorLimits:
    """The resource's `spec.mirror`, in base units."""

    timeout: float = 2.0
    maxInFlight: int = 64
    maxBodyBytes: int = 1 << 20
    maxPairsPerSecond: float = 200.0
    forwardCredentials: bool = False
    scoringCopy: bool = False
    maxTokensPerSecond: float = 2000.0  # of a language model: how many each model is made to score by one sidecar


@dataclass(frozen=True, slots=True)
class Instructions:
    """What every sidecar of a model does now; the ledger's answer to a batch and to a heartbeat."""

    version: int
    run: str = ""  # empty: nothing is mirrored
    candidate: str | None = None  # base URL, http only
    share: float = 0.0  # of the requests, by the hash of their id; 0 to 1
    weight: float = 0.0  # of the users that the candidate answers; 0 to 1
    lease: float = 15.0  # seconds for which a weight holds without news
    grace: float = 0.05  # seconds that the candidate may be later than the baseline, with a weight
    idHeader: str = "X-Request-Id"
    model: ModelReading = field(default_factory=ModelReading)
    mirror: MirrorLimits = field(default_factory=MirrorLimits)
    #: The candidate was promoted and serves, what is mirrored to is the baseline of before; pairs keep these roles.
    observing: bool = False


@dataclass(frozen=True, slots=True)
class LabelSender:
    """Who may send a model's labels: by a token of their own, of which the ledger knows the hash alone, or by a
    certificate with this name in it. One of the two is empty."""

    name: str
    tokenSHA256: str = ""  # 64 hexadecimal digits, lower case
    certificateSAN: str = ""


@dataclass(frozen=True, slots=True)
class LabelSource:
    """Where a follower reads a model's labels. `endpoint` is a name that the admin lists; no address is in it."""

    kind: SourceKind
    endpoint: str
    place: str  # a topic, or a path below the endpoint's
    deadLetterTopic: str = ""  # empty: a message that is no label is counted, and logged without what it says


@dataclass(frozen=True, slots=True)
class PutInstructions:
    """`PUT /v1/runs/{namespace}/{name}/instructions`, by the leader of `epoch`; an older epoch is refused."""

    epoch: int
    instructions: Instructions
    #: the specification that the run is measured by, as the user wrote it (the resource's `spec`)
    spec: dict[str, object] = field(default_factory=dict)
    senders: list[LabelSender] = field(default_factory=list)  # all there are: those before are forgotten
    sources: list[LabelSource] = field(default_factory=list)  # as above


@dataclass(frozen=True, slots=True)
class Label:
    """What turned out to be true of one instance; `POST /v1/feedback` takes one, an array, or NDJSON."""

    id: str
    label: str | int | list[float]  # class name, class index, or a soft label over the classes
    index: int = 0
    ts: float | str | None = None  # when the request was made, if known: narrows the search
    source: str = ""


@dataclass(frozen=True, slots=True)
class Reference:
    """What a language model should have answered: a label whose prompt a sidecar has, and the ledger has not."""

    id: str  # of the request
    text: str


@dataclass(frozen=True, slots=True)
class References:
    """`GET /v1/runs/{namespace}/{name}/references?after=`: what came since, for the sidecars alone."""

    next: str  # what to ask after the next time
    references: list[Reference] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class FeedbackCounts:
    """The answer to feedback: what became of each label."""

    joined: int = 0
    duplicate: int = 0
    conflict: int = 0
    unmatched: int = 0  # held for a while: the pair may still come
    unsampled: int = 0
    ambiguous: int = 0  # the id matches several pairs
    expired: int = 0  # older than maxDelay, or after the pair was counted as missing its label
    unscored: int = 0  # joined to a pair that has no loss, because a model's answer could not be scored


@dataclass(frozen=True, slots=True)
class Followed:
    """One source of one model, as a follower is told of it."""

    namespace: str
    name: str
    source: LabelSource
    maxDelay: float  # seconds for which labels are waited for: what is older than that is not read


@dataclass(frozen=True, slots=True)
class SourceReport:
    """How a follower gets on with one source."""

    namespace: str
    name: str
    source: LabelSource
    problem: str = ""  # why it reads nothing at the moment, with the remedy; empty: it does
    lag: int | None = None  # messages, or files, that are known to wait
    labels: int = 0  # that the ledger has taken from it since the follower began
    poisoned: int = 0  # messages, lines or files that are no labels, since then


@dataclass(frozen=True, slots=True)
class Following:
    """`POST /v1/sources`, every few seconds; the answer is a `FollowOrders`."""

    follower: str  # the process: its pod
    reports: list[SourceReport] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class FollowOrders:
    """All that this follower is to read now. Topics go to every follower, which share them; files to one."""

    sources: list[Followed]


@dataclass(frozen=True, slots=True)
class SourcesAnswer:
    """`GET /v1/runs/{namespace}/{name}/sources`: what followers said lately."""

    reports: list[SourceReport]
