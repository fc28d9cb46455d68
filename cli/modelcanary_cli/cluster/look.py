"""One look at a ModelCanary and all that runs under it, as typed facts: what `status` shows. Called by `status`.

What the user may not read is left out and named; the ModelCanary itself must be readable. Knows no terminal.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from modelcanary_cli.cluster.api import Cluster
from modelcanary_cli.cluster.errors import ForbiddenError, NotFoundError, RefusedError
from modelcanary_gate.errors import SpecError
from modelcanary_gate.parse import parse_spec
from modelcanary_gate.plan.status import Status
from modelcanary_gate.spec import Spec
from modelcanary_operator import lease, names, status_json
from modelcanary_operator.api import CANARIES, DEPLOYMENTS, EVENTS, LEASES, PODS, Kind, Object

REPLICA_SETS = Kind("/apis/apps/v1", "replicasets", "ReplicaSet")
_MOST_EVENTS = 8


@dataclass(frozen=True, slots=True)
class Pod:
    name: str
    state: str  # a phase, or why it is not ready
    ready: int  # containers that are
    containers: int
    restarts: int
    since: float
    fine: bool


@dataclass(frozen=True, slots=True)
class ReplicaSet:
    name: str
    ready: int
    asked: int
    since: float
    pods: list[Pod]


@dataclass(frozen=True, slots=True)
class Workload:
    """A Deployment: the user's target, the baseline or the candidate."""

    role: str
    name: str
    images: list[str]
    template: str  # hash of the user's pod template, where it is ours
    generation: int
    ready: int
    asked: int
    paused: bool
    since: float
    sets: list[ReplicaSet]


@dataclass(frozen=True, slots=True)
class Condition:
    type: str
    status: str
    reason: str
    message: str


@dataclass(frozen=True, slots=True, order=True)
class Happening:
    """A Kubernetes Event about the ModelCanary."""

    time: float  # to the second; of one second, the version tells the order
    version: int
    warning: bool
    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class Picture:
    namespace: str
    name: str
    since: float
    generation: int
    status: Status
    observed: int  # the generation of the specification that the status is about
    target_observed: int  # … and of the target
    evidence: Object
    weight: str
    conditions: list[Condition]
    verbs: dict[str, str]
    written: Object  # `.status` as the API server has it
    spec: Spec | None  # None: the operator will not read it
    deleting: float = 0.0  # since when; 0: it is not being deleted
    operator: float | None = None  # when an operator was last at work; None: that cannot be seen
    workloads: list[Workload] = field(default_factory=list)
    events: list[Happening] = field(default_factory=list)
    unseen: list[str] = field(default_factory=list)  # what the user may not read


def read_canary(cluster: Cluster, namespace: str, name: str) -> Object:
    """Raises RefusedError that says what there is, where there is none of that name."""
    try:
        return cluster.get(CANARIES, namespace, name)
    except NotFoundError as error:
        try:
            there = sorted(item["metadata"]["name"] for item in cluster.list(CANARIES, namespace))
        except NotFoundError:
            raise NotFoundError(
                "the cluster has no ModelCanary resource; install the chart, or choose --context"
            ) from error
        what = f"there are {', '.join(there)}" if there else "there is none; choose another with -n"
        raise NotFoundError(f"no ModelCanary {name} in namespace {namespace}; {what}") from error


def picture_of(resource: Object) -> Picture:
    """What the resource itself says."""
    metadata, status = resource["metadata"], resource.get("status") or {}
    annotations = metadata.get("annotations") or {}
    try:
        spec = parse_spec(resource.get("spec"))
    except SpecError:
        spec = None
    return Picture(
        namespace=metadata["namespace"],
        name=metadata["name"],
        since=_moment(metadata.get("creationTimestamp")),
        generation=int(metadata.get("generation") or 0),
        status=status_json.read(status),
        observed=int(status.get("observedGeneration") or 0),
        target_observed=int((status.get("target") or {}).get("observedGeneration") or 0),
        evidence=status.get("evidence") or {},
        weight=str(status.get("weight", "")),
        conditions=[
            Condition(item["type"], item["status"], item["reason"], item["message"])
            for item in status.get("conditions") or []
        ],
        verbs={verb: annotations[name] for verb, name in names.VERBS.items() if annotations.get(name)},
        written=status,
        spec=spec,
        deleting=_moment(metadata.get("deletionTimestamp")),
    )


def look(cluster: Cluster, namespace: str, name: str) -> Picture:
    """Raises ClusterError, or RefusedError where there is no such ModelCanary."""
    resource = read_canary(cluster, namespace, name)
    found = replace(picture_of(resource), operator=_operator(cluster))
    ours = {names.CANARY: name}
    target = str((resource["spec"].get("targetRef") or {}).get("name") or "")

    def maybe(what: str, read: Callable[[], list[Object]]) -> list[Object]:
        try:
            return read()
        except NotFoundError:
            return []
        except (ForbiddenError, RefusedError):
            found.unseen.append(what)
            return []

    deployments = maybe("Deployments", lambda: cluster.list(DEPLOYMENTS, namespace, ours))
    targets = maybe(f"Deployment {target}", lambda: [cluster.get(DEPLOYMENTS, namespace, target)]) if target else []
    sets = maybe("ReplicaSets", lambda: cluster.list(REPLICA_SETS, namespace))
    pods = maybe("pods", lambda: cluster.list(PODS, namespace))
    about = {"involvedObject.kind": "ModelCanary", "involvedObject.name": name}
    events = maybe("Events", lambda: cluster.list(EVENTS, namespace, fields=about))
    roles = [("target", item) for item in targets]
    roles += [
        (_label(item, names.ROLE), item) for item in sorted(deployments, key=lambda item: item["metadata"]["name"])
    ]
    found.workloads.extend(_workload(role, item, sets, pods) for role, item in roles)
    uid = resource["metadata"]["uid"]
    mine = [_happening(item) for item in events if item["involvedObject"].get("uid") in (uid, None)]
    found.events.extend(sorted(mine)[-_MOST_EVENTS:])
    return found


def _operator(cluster: Cluster) -> float | None:
    """By its lease, which those who administer the cluster may see; others need not."""
    try:
        leases = cluster.list(LEASES, "", fields={"metadata.name": lease.NAME})
    except RefusedError:
        return None
    return max((_moment(item["spec"].get("renewTime")) for item in leases), default=None)


def _workload(role: str, item: Object, sets: Sequence[Object], pods: Sequence[Object]) -> Workload:
    metadata, spec, status = item["metadata"], item["spec"], item.get("status") or {}
    own = [_set(each, pods) for each in _owned(sets, metadata["uid"])]
    asked = spec.get("replicas")
    annotations = metadata.get("annotations") or {}
    return Workload(
        role=role,
        name=metadata["name"],
        images=[str(each.get("image", "")) for each in spec["template"]["spec"].get("containers") or []],
        template=str(annotations.get(names.TEMPLATE, "")),
        generation=int(metadata.get("generation") or 0),
        ready=int(status.get("readyReplicas") or 0),
        asked=1 if asked is None else int(asked),
        paused=bool(spec.get("paused")),
        since=_moment(metadata.get("creationTimestamp")),
        # An old ReplicaSet without a pod is what a Deployment keeps to go back to.
        sets=sorted((each for each in own if each.asked or each.pods), key=lambda each: -each.since),
    )


def _set(item: Object, pods: Sequence[Object]) -> ReplicaSet:
    metadata, status = item["metadata"], item.get("status") or {}
    return ReplicaSet(
        name=metadata["name"],
        ready=int(status.get("readyReplicas") or 0),
        asked=int(item["spec"].get("replicas") or 0),
        since=_moment(metadata.get("creationTimestamp")),
        pods=sorted((_pod(each) for each in _owned(pods, metadata["uid"])), key=lambda pod: (pod.since, pod.name)),
    )


def _owned(items: Sequence[Object], uid: str) -> list[Object]:
    return [
        item
        for item in items
        if any(owner.get("uid") == uid for owner in item["metadata"].get("ownerReferences") or [])
    ]


def _pod(item: Object) -> Pod:
    metadata, spec, status = item["metadata"], item["spec"], item.get("status") or {}
    lasting = [each["name"] for each in spec.get("initContainers") or [] if each.get("restartPolicy") == "Always"]
    names_ = {*lasting, *(each["name"] for each in spec.get("containers") or [])}
    states = [*(status.get("initContainerStatuses") or []), *(status.get("containerStatuses") or [])]
    counted = [each for each in states if each["name"] in names_]
    ready = sum(bool(each.get("ready")) for each in counted)
    waiting = [((each.get("state") or {}).get("waiting") or {}).get("reason") for each in states]
    why = next((reason for reason in waiting if reason and reason != "PodInitializing"), None)
    if metadata.get("deletionTimestamp"):
        state = "Terminating"
    else:
        state = why or status.get("reason") or status.get("phase") or "Pending"
    return Pod(
        name=metadata["name"],
        state=str(state),
        ready=ready,
        containers=len(names_),
        restarts=sum(int(each.get("restartCount") or 0) for each in counted),
        since=_moment(metadata.get("creationTimestamp")),
        fine=state == "Running" and ready == len(names_),
    )


def _happening(item: Object) -> Happening:
    when = item.get("lastTimestamp") or item.get("eventTime") or item["metadata"].get("creationTimestamp")
    version = str(item["metadata"].get("resourceVersion", ""))
    order = int(version) if version.isdecimal() else 0
    return Happening(
        _moment(when), order, item.get("type") == "Warning", item.get("reason", ""), item.get("message", "")
    )


def _label(item: Object, name: str) -> str:
    return str((item["metadata"].get("labels") or {}).get(name, ""))


def _moment(text: Any) -> float:
    return datetime.fromisoformat(str(text)).timestamp() if text else 0.0
