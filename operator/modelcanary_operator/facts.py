"""Objects as the API server has them, read into the plan's typed facts. Pure; called by `observe`.

This is the edge at which JSON ends: nothing behind it looks into an object by name.
"""

from collections.abc import Mapping, Sequence

from modelcanary_gate.plan.observed import Baseline, Candidate, Failure, Service, Target, Verbs
from modelcanary_gate.plan.reasons import Why
from modelcanary_gate.spec import ServiceRef
from modelcanary_operator import names, templates
from modelcanary_operator.api import Object
from modelcanary_operator.insertion import clashes
from modelcanary_operator.masking import last_words
from modelcanary_operator.status_json import seconds

_PULL = frozenset({"ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull", "RegistryUnavailable"})
_CONFIG = frozenset({"CreateContainerConfigError", "CreateContainerError", "RunContainerError"})


def version(found: Object) -> str:
    return str(found["metadata"]["resourceVersion"])


def annotation(found: Object, name: str) -> str:
    return str((found["metadata"].get("annotations") or {}).get(name, ""))


def label(found: Object, name: str) -> str:
    return str((found["metadata"].get("labels") or {}).get(name, ""))


def replicas(deployment: Object) -> int:
    asked = deployment["spec"].get("replicas")
    return 1 if asked is None else int(asked)


def has_pods(deployment: Object) -> bool:
    """Or is to have some."""
    return replicas(deployment) > 0 or _status(deployment, "replicas") > 0


def _status(deployment: Object, name: str) -> int:
    return int((deployment.get("status") or {}).get(name) or 0)


def settled(deployment: Object) -> bool:
    """Its rollout is over, as far as its controller has seen the present generation."""
    asked = replicas(deployment)
    seen = _status(deployment, "observedGeneration") >= int(deployment["metadata"].get("generation") or 0)
    counted = ("replicas", "updatedReplicas", "readyReplicas")
    return seen and all(_status(deployment, name) == asked for name in counted)


def target(deployment: Object, claims: Mapping[str, Object], aims: str | int | None) -> Target:
    """`aims`: at what the Service aims in its pods, where there is one."""
    template = deployment["spec"]["template"]
    port = templates.find_port(template, aims) if aims is not None else None
    owners = deployment["metadata"].get("ownerReferences") or []
    controller = next((f"{owner['kind']} {owner['name']}" for owner in owners if owner.get("controller")), "")
    return Target(
        version=version(deployment),
        template=templates.template_hash(template),
        replicas=replicas(deployment),
        pods=_status(deployment, "replicas"),
        ready=_status(deployment, "readyReplicas"),
        settled=settled(deployment),
        paused=bool(deployment["spec"].get("paused")),
        held=annotation(deployment, names.HELD),
        has_port=aims is None or port is not None,
        controller=controller,
        generation=int(deployment["metadata"].get("generation") or 0),
        host_network=bool(templates.spec_of(template).get("hostNetwork")),
        host_ports=templates.host_ports(template),
        ports=(*templates.declared_ports(template), *([port.number] if port is not None else [])),
        clashes=clashes(template),
        exclusive_volumes=tuple(
            name for name in templates.claims(template) if name in claims and _is_exclusive(claims[name])
        ),
    )


def _is_exclusive(claim: Object) -> bool:
    """One pod alone can mount it."""
    return set(claim["spec"].get("accessModes") or []) == {"ReadWriteOncePod"}


def on_one_node(claim: Object) -> bool:
    """Its pods have to be on the node on which it is mounted."""
    modes = set(claim["spec"].get("accessModes") or [])
    return "ReadWriteOnce" in modes and not modes & {"ReadOnlyMany", "ReadWriteMany"}


def service_port(service: Object, reference: ServiceRef) -> Object | None:
    """The port that clients call, by name or number; the only one, where it has no name."""
    for port in service["spec"].get("ports") or []:
        if reference.port in (port.get("name"), str(port.get("port"))):
            found: Object = port
            return found
    return None


def target_port(port: Object) -> str | int:
    found: str | int = port.get("targetPort") or port["port"]
    return found


def selector(service: Object) -> dict[str, str]:
    """As the user wrote it: without our label."""
    found = dict(service["spec"].get("selector") or {})
    found.pop(names.SERVING, None)
    return found


def service(found: Object, reference: ServiceRef, pod_labels: Mapping[str, str] | None, sidecar_port: int) -> Service:
    """`pod_labels` are the target's, where there is one."""
    port = service_port(found, reference)
    aims = target_port(port) if port is not None else ""
    spec = found["spec"]
    return Service(
        version=version(found),
        selects_target=pod_labels is None or templates.selects(selector(found), dict(pod_labels)),
        has_port=port is not None,
        numeric=isinstance(aims, int),
        redirected=aims == sidecar_port,
        narrowed=names.SERVING in (spec.get("selector") or {}),
        headless=spec.get("clusterIP") == "None" or spec.get("type") == "ExternalName",
        without_selector=not selector(found),
    )


def ready(pod: Object) -> bool:
    if pod["metadata"].get("deletionTimestamp"):
        return False
    conditions = (pod.get("status") or {}).get("conditions") or []
    return any(item["type"] == "Ready" and item["status"] == "True" for item in conditions)


def baseline(deployment: Object, uid: str, pods: Sequence[Object], *, drifted: bool, answering: bool) -> Baseline:
    return Baseline(
        version=version(deployment),
        template=annotation(deployment, names.TEMPLATE),
        replicas=replicas(deployment),
        ready=_status(deployment, "readyReplicas"),
        settled=settled(deployment),
        owned=label(deployment, names.UID) == uid,
        drifted=drifted,
        answering=answering,
        ending=any(pod["metadata"].get("deletionTimestamp") for pod in pods),
        failure=_worst(_failures(deployment, pods)),
        overdue=_overdue(deployment),
        refreshed=annotation(deployment, names.REFRESHED),
    )


def candidate(deployment: Object, pods: Sequence[Object], *, drifted: bool) -> Candidate:
    failures = _failures(deployment, pods)
    up = _status(deployment, "readyReplicas")
    return Candidate(
        version=version(deployment),
        template=annotation(deployment, names.TEMPLATE),
        run=annotation(deployment, names.RUN),
        replicas=replicas(deployment),
        ready=up,
        settled=settled(deployment),
        drifted=drifted,
        failure=_worst(failures) if not up or any(found.restarts for found in failures) else None,
    )


def _failures(deployment: Object, pods: Sequence[Object]) -> list[Failure]:
    return [found for found in [*map(failure, pods), _cannot_create(deployment)] if found is not None]


def _worst(failures: Sequence[Failure]) -> Failure | None:
    """The most certain first: a crash, what cannot start, what has no place, what is merely not ready."""
    order = [Why.CRASH_LOOPING, Why.IMAGE_PULL_FAILED, Why.CONFIG_MISSING, Why.UNSCHEDULABLE]
    ranked = sorted(
        failures, key=lambda found: (order.index(found.reason) if found.reason in order else 9, found.since)
    )
    return ranked[0] if ranked else None


def failure(pod: Object) -> Failure | None:
    """Why a pod is not ready; None where it is, or has not had the time."""
    if ready(pod) or pod["metadata"].get("deletionTimestamp"):
        return None
    status, name = pod.get("status") or {}, pod["metadata"]["name"]
    since = seconds(pod["metadata"]["creationTimestamp"])
    for container in [*(status.get("initContainerStatuses") or []), *(status.get("containerStatuses") or [])]:
        found = _container_failure(name, since, container)
        if found is not None:
            return found
    for condition in status.get("conditions") or []:
        then = seconds(condition["lastTransitionTime"]) if condition.get("lastTransitionTime") else since
        words = condition.get("message") or condition.get("reason") or "no reason is given"
        if condition["type"] == "PodScheduled" and condition["status"] == "False":
            return Failure(Why.UNSCHEDULABLE, f"pod {name} finds no node: {words}", then)
        if condition["type"] == "Ready" and condition["status"] == "False":
            return Failure(Why.CANDIDATE_NOT_READY, f"pod {name} is not ready: {words}", then)
    return None


def _container_failure(pod: str, since: float, container: Object) -> Failure | None:
    waiting = (container.get("state") or {}).get("waiting") or {}
    reason, where = waiting.get("reason", ""), f"container {container['name']} of pod {pod}"
    words = waiting.get("message") or reason
    if reason in _PULL:
        return Failure(Why.IMAGE_PULL_FAILED, f"{where}: {words}", since)
    if reason in _CONFIG:
        return Failure(Why.CONFIG_MISSING, f"{where}: {words}", since)
    restarts = int(container.get("restartCount") or 0)
    ended = (container.get("lastState") or {}).get("terminated") or (container.get("state") or {}).get("terminated")
    if restarts and ended and (reason == "CrashLoopBackOff" or not container.get("ready")):
        why = f"exit code {ended.get('exitCode')}, {ended.get('reason') or 'no reason'}"
        last = last_words(str(ended.get("message") or ""))
        why += f", and said last: {last}" if last else ""
        return Failure(Why.CRASH_LOOPING, f"{where} ended {restarts} times: {why}", since, restarts)
    return None


def _overdue(deployment: Object) -> str:
    """What its controller says when its rollout has made no progress for as long as it may."""
    for condition in (deployment.get("status") or {}).get("conditions") or []:
        if condition["type"] == "Progressing" and condition["status"] == "False":
            return str(condition.get("message") or condition.get("reason") or "its rollout makes no progress")
    return ""


def _cannot_create(deployment: Object) -> Failure | None:
    """A quota or an admission webhook that refuses the pods."""
    for condition in (deployment.get("status") or {}).get("conditions") or []:
        if condition["type"] == "ReplicaFailure" and condition["status"] == "True":
            return Failure(Why.UNSCHEDULABLE, condition.get("message", ""), seconds(condition["lastTransitionTime"]))
    return None


def verbs(resource: Object) -> Verbs:
    return Verbs(**{verb: annotation(resource, name) for verb, name in names.VERBS.items()})


def reports(config_maps: Sequence[Object], canary: str) -> tuple[str, ...]:
    """The decisions that they are about, the oldest first. Copies that somebody made under other names are theirs."""
    ordered = sorted(config_maps, key=lambda item: (item["metadata"]["creationTimestamp"], item["metadata"]["name"]))
    decisions = [(annotation(item, names.DECISION), str(item["metadata"]["name"])) for item in ordered]
    return tuple(decision for decision, name in decisions if name == names.report(canary, decision))
