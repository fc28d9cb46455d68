"""Builds the objects that are ours, from typed input; pure. Called by `apply`, and by `facts` to see what was edited.

The baseline and its revisions belong to nobody, so that no garbage collector ends what serves users; the candidate's
objects belong to the ModelCanary.
"""

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from modelcanary_gate.spec import Spec
from modelcanary_operator import names
from modelcanary_operator.api import DEPLOYMENTS, REVISIONS, SERVICES, Object
from modelcanary_operator.insertion import Insertion, Sidecar, drain_path, insert
from modelcanary_operator.settings import SidecarSettings
from modelcanary_operator.templates import ModelPort, labels

_RESOURCES = {"requests": {"cpu": "100m", "memory": "64Mi"}, "limits": {"memory": "128Mi"}}
_COPIED = ("minReadySeconds", "progressDeadlineSeconds", "revisionHistoryLimit", "strategy")


@dataclass(frozen=True, slots=True)
class Owner:
    """The ModelCanary that objects are made for."""

    namespace: str
    name: str
    uid: str
    spec: Spec
    settings: SidecarSettings

    def labels(self, role: str) -> dict[str, str]:
        return {names.CANARY: self.name, names.ROLE: role}

    def sidecar(self) -> Sidecar:
        """As it is put in now: by the operator's settings and the specification."""
        settings, written = self.settings, self.spec.sidecar
        return Sidecar(
            image=settings.image,
            ledger=settings.ledger,
            port=settings.port,
            admin_port=settings.admin_port,
            audience=settings.audience,
            drain_path=drain_path(self.uid),
            authority=settings.authority,
            workers=_whole(written.get("workers"), 1),
            resources=_resources(written.get("resources")),
        )

    def reference(self) -> Object:
        return {
            "apiVersion": names.API_VERSION,
            "kind": "ModelCanary",
            "name": self.name,
            "uid": self.uid,
            "controller": True,
            "blockOwnerDeletion": False,
        }


@dataclass(frozen=True, slots=True)
class Source:
    """A template as the user wrote it, and where the model listens in it."""

    hash: str
    template: Object
    port: ModelPort
    target_port: str | int  # of the Service, as the user wrote it
    on_one_node: bool = False  # it mounts a volume that one node alone can have


def baseline(
    owner: Owner, source: Source, replicas: int, target: Object | None, sidecar: Sidecar, refreshed: str = ""
) -> Object:
    """The Deployment that serves users. `target` is the user's Deployment, of which its way to roll is copied;
    `refreshed` is the request for a new sidecar that this one answers.
    """
    ours = owner.labels(names.BASELINE)
    template = insert(
        source.template,
        Insertion(
            sidecar=sidecar,
            namespace=owner.namespace,
            canary=owner.name,
            port=source.port,
            port_name=source.target_port if isinstance(source.target_port, str) else "",
        ),
    )
    _label(template, {**ours, names.SERVING: owner.name})
    result = _deployment(names.baseline(owner.name), owner, ours, template, replicas)
    result["metadata"]["annotations"] = {
        names.TEMPLATE: source.hash,
        names.MODEL_PORT: str(source.port.number),
        names.SIDECAR: sidecar.to_json(),
        **({names.REFRESHED: refreshed} if refreshed else {}),
    }
    spec = (target or {}).get("spec") or {}
    if source.on_one_node and "selector" in spec:
        # Pods of the target and of the baseline alike; the first of them may go to any node.
        _keep_beside(template, spec["selector"])
    result["spec"] |= {key: spec[key] for key in _COPIED if key in spec}
    return result


def candidate(owner: Owner, source: Source, replicas: int, run: str, selector: Mapping[str, str]) -> Object:
    """The Deployment on trial. `selector` is the user's Service's: no pod of the candidate has all of its labels."""
    ours = owner.labels(names.CANDIDATE)
    template = copy.deepcopy(source.template)
    _label(template, {**candidate_labels(owner.spec, labels(template), selector), **ours})
    for container in template["spec"]["containers"]:
        # What it says before it crashes is part of why it was rolled back; its own file goes before its log.
        container["terminationMessagePolicy"] = "FallbackToLogsOnError"
    if source.on_one_node:
        _keep_beside(template, {"matchLabels": owner.labels(names.BASELINE)})
    result = _deployment(names.candidate(owner.name), owner, ours, template, replicas)
    result["metadata"]["annotations"] = {names.TEMPLATE: source.hash, names.RUN: run}
    result["metadata"]["ownerReferences"] = [owner.reference()]
    return result


def candidate_labels(spec: Spec, written: Mapping[str, str], selector: Mapping[str, str]) -> dict[str, str]:
    """The template's labels with those changed that the Service selects on, or as the user says."""
    if spec.candidate.labels:
        return {**written, **spec.candidate.labels}
    changed = {key: f"{written[key][:53]}-candidate" for key in selector if key in written}
    return {**written, **changed}


def candidate_service(owner: Owner, port: ModelPort) -> Object:
    ours = owner.labels(names.CANDIDATE)
    return {
        "apiVersion": SERVICES.api_version,
        "kind": SERVICES.kind,
        "metadata": {
            "name": names.candidate(owner.name),
            "namespace": owner.namespace,
            "labels": {**ours, names.UID: owner.uid},
            "ownerReferences": [owner.reference()],
        },
        "spec": {
            "selector": ours,
            "ports": [{"name": "http", "port": 80, "targetPort": port.number, "protocol": "TCP"}],
        },
    }


def candidate_url(namespace: str, name: str) -> str:
    return f"http://{names.candidate(name)}.{namespace}.svc:80"


def revision(owner: Owner, template_hash: str, template: Object, target_port: str | int | None) -> Object:
    """A numeric target port is noted: it is the sidecar's once the Service is redirected."""
    noted = {names.MODEL_PORT: str(target_port)} if isinstance(target_port, int) else {}
    return {
        "apiVersion": REVISIONS.api_version,
        "kind": REVISIONS.kind,
        "metadata": {
            "name": names.revision(owner.name, template_hash),
            "namespace": owner.namespace,
            "labels": {names.CANARY: owner.name, names.UID: owner.uid},
            "annotations": {names.TEMPLATE: template_hash, **noted},
        },
        "revision": 1,
        "data": {"template": template},
    }


def _deployment(name: str, owner: Owner, ours: dict[str, str], template: Object, replicas: int) -> Object:
    return {
        "apiVersion": DEPLOYMENTS.api_version,
        "kind": DEPLOYMENTS.kind,
        "metadata": {"name": name, "namespace": owner.namespace, "labels": {**ours, names.UID: owner.uid}},
        "spec": {"replicas": replicas, "selector": {"matchLabels": ours}, "template": template},
    }


def _label(template: Object, more: Mapping[str, str]) -> None:
    metadata = template.get("metadata") or {}
    metadata.pop("creationTimestamp", None)
    metadata["labels"] = {**(metadata.get("labels") or {}), **more}
    template["metadata"] = metadata


def _keep_beside(template: Object, pods: Object) -> None:
    """On the node of those pods: by them and not by the node's name, which the template would outlive."""
    affinity = template["spec"].get("affinity") or {}
    of_pods = affinity.get("podAffinity") or {}
    required = "requiredDuringSchedulingIgnoredDuringExecution"
    term = {"labelSelector": copy.deepcopy(pods), "topologyKey": "kubernetes.io/hostname"}
    of_pods = {**of_pods, required: [*(of_pods.get(required) or []), term]}
    template["spec"]["affinity"] = {**affinity, "podAffinity": of_pods}


def _whole(value: object, default: int) -> int:
    return value if isinstance(value, int) else default


def _resources(written: object) -> Object:
    """The user's, over the defaults: an autoscaler on CPU needs every container's request."""
    result: dict[str, Any] = copy.deepcopy(_RESOURCES)
    if isinstance(written, Mapping):
        for name, quantities in written.items():
            result[name] = {**result.get(name, {}), **quantities}
    return result
