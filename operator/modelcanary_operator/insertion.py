"""Puts the sidecar beside a model: the user's pod template in, the baseline's out. Pure; called by `manifests`.

The sidecar is the last of the init containers and a native sidecar, so it is ready before the model starts and ends
after it. It takes over the name of the port that the Service targets; each pod resolves the name for itself. What runs
beside it hears of the pod's end when the clients have left: until then the sidecar holds their hooks.
"""

import copy
import hashlib
import itertools
import json
from dataclasses import asdict, dataclass, field
from typing import Self

from modelcanary_operator.api import Object
from modelcanary_operator.templates import ModelPort, containers, ports, spec_of

NAME = "modelcanary"
_TOKEN = "modelcanary-token"
_TOKEN_FOLDER = "/var/run/secrets/modelcanary"
_AUTHORITY = "ca.crt"
_PROBES = ("livenessProbe", "readinessProbe", "startupProbe")
_GRACE = 30  # Kubernetes' own default
#: Seconds in which who sends requests to an ending pod hears of it.
_DELAY = 5
#: What is left of a pod's time when its clients have had theirs: for the model to end, and for the last pairs.
_ENDING = 10
_NAME_LENGTH = 15  # of a port


@dataclass(frozen=True, slots=True)
class Sidecar:
    """What is put in. A baseline carries it as an annotation: neither a new operator nor a new spec rolls pods."""

    image: str
    ledger: str
    port: int
    admin_port: int
    audience: str
    drain_path: str  # secret: who knows it can take the pod out of the Service
    authority: str = ""  # the ConfigMap with the authorities that the ledger's certificate may be of, if needed
    workers: int = 1
    resources: Object = field(default_factory=dict)

    def to_json(self) -> str:
        return json.dumps(asdict(self), sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> Self | None:
        """None where it is not one of this version's."""
        try:
            return cls(**json.loads(text))
        except (ValueError, TypeError):
            return None


@dataclass(frozen=True, slots=True)
class Insertion:
    sidecar: Sidecar
    namespace: str
    canary: str
    port: ModelPort
    port_name: str  # the Service's target port, where it is a name


def clashes(template: Object) -> tuple[str, ...]:
    """What in a user's template has a name that is needed here."""
    spec = spec_of(template)
    every = [*containers(template), *(spec.get("initContainers") or [])]
    found = [f"the container {NAME}" for container in every if container["name"] == NAME]
    found += [f"the volume {_TOKEN}" for volume in spec.get("volumes") or [] if volume["name"] == _TOKEN]
    return tuple(found)


def drain_path(uid: str) -> str:
    """Of the baseline of the ModelCanary with this uid; the same after a restart of the operator."""
    return "/drain/" + hashlib.sha256(f"modelcanary-drain:{uid}".encode()).hexdigest()[:32]


def insert(template: Object, insertion: Insertion) -> Object:
    """The template with the sidecar; the given one is left as it is."""
    result = copy.deepcopy(template)
    spec = spec_of(result)
    grace = spec.get("terminationGracePeriodSeconds")
    grace = _GRACE if grace is None else grace
    before = spec.get("initContainers") or []
    for container in [*containers(result), *before]:
        _give_up_name(container, insertion.port_name)
    for container in containers(result):
        _drain_first(container, insertion.sidecar)
    spec["initContainers"] = [*before, _sidecar(insertion, grace)]
    spec["volumes"] = [*(spec.get("volumes") or []), _token_volume(insertion.sidecar)]
    spec["terminationGracePeriodSeconds"] = grace + _DELAY + _ENDING
    return result


def _give_up_name(container: Object, name: str) -> None:
    """The Service finds the first port of that name in a pod: it must be the sidecar's."""
    for port in ports(container):
        if name and port.get("name") == name:
            port["name"] = _other_name(name, {other.get("name") for other in ports(container)})
            _resolve_probes(container, name, port["containerPort"])


def _other_name(name: str, taken: set[str | None]) -> str:
    suffixes = itertools.chain(["-model"], (f"-model{number}" for number in itertools.count(2)))
    return next(new for suffix in suffixes if (new := _shortened(name, suffix)) not in taken)


def _shortened(name: str, suffix: str) -> str:
    return name[: _NAME_LENGTH - len(suffix)].rstrip("-") + suffix


def _resolve_probes(container: Object, name: str, number: int) -> None:
    """A probe or hook that names the port means the container's own, which has another name now."""
    found = [container.get(probe) for probe in _PROBES]
    found += list((container.get("lifecycle") or {}).values())
    handlers = [handler for handler in found if isinstance(handler, dict)]  # a stop signal is none
    for handler in handlers:
        for way in ("httpGet", "tcpSocket"):
            where = handler.get(way)
            if where and where.get("port") == name:
                where["port"] = number


def _drain_first(container: Object, sidecar: Sidecar) -> None:
    """It hears of its end after the clients have left, and has the same time for it; a hook of the user's own stays."""
    lifecycle = dict(container.get("lifecycle") or {})
    if lifecycle.get("preStop"):
        return
    container["lifecycle"] = {**lifecycle, "preStop": _drain_hook(sidecar)}
    for probe in _PROBES:
        grace = (container.get(probe) or {}).get("terminationGracePeriodSeconds")
        if grace is not None:
            container[probe]["terminationGracePeriodSeconds"] = grace + _DELAY + _ENDING


def _drain_hook(sidecar: Sidecar) -> Object:
    # By number: a port's name resolves within its own container only.
    return {"httpGet": {"path": sidecar.drain_path, "port": sidecar.admin_port, "scheme": "HTTP"}}


def _sidecar(insertion: Insertion, grace: int) -> Object:
    """`grace` is the user's: requests in flight have as long as they would have had without us."""
    sidecar = insertion.sidecar
    name = insertion.port_name or "http-canary"
    return {
        "name": NAME,
        "image": sidecar.image,
        "restartPolicy": "Always",
        "args": [
            f"--listen=0.0.0.0:{sidecar.port}",
            f"--upstream=http://127.0.0.1:{insertion.port.number}",
            f"--admin=0.0.0.0:{sidecar.admin_port}",
            f"--ledger={sidecar.ledger}",
            f"--namespace={insertion.namespace}",
            f"--name={insertion.canary}",
            "--identity=$(POD_NAME)",
            f"--token-file={_TOKEN_FOLDER}/token",
            *([f"--ledger-ca={_TOKEN_FOLDER}/{_AUTHORITY}"] if sidecar.authority else []),
            f"--workers={sidecar.workers}",
            f"--drain-path={sidecar.drain_path}",
            f"--drain-delay={_DELAY}s",
            f"--drain-time={grace}s",
        ],
        "env": [{"name": "POD_NAME", "valueFrom": {"fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.name"}}}],
        "ports": [
            {"name": name, "containerPort": sidecar.port, "protocol": "TCP"},
            {"name": "canary-admin", "containerPort": sidecar.admin_port, "protocol": "TCP"},
        ],
        # Its start never depends on the model; whether the pod is ready depends on both.
        "startupProbe": _probe("/healthz", sidecar, period=1, failures=60),
        "readinessProbe": _probe("/readyz", sidecar, period=2, failures=2),
        "livenessProbe": _probe("/healthz", sidecar, period=10, failures=6),
        # For models with a hook of their own: the drain begins at once all the same.
        "lifecycle": {"preStop": _drain_hook(sidecar)},
        "resources": sidecar.resources,
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "readOnlyRootFilesystem": True,
            "runAsGroup": 65532,  # all of this said here: the pod's own is meant for the model
            "runAsNonRoot": True,
            "runAsUser": 65532,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "volumeMounts": [{"name": _TOKEN, "mountPath": _TOKEN_FOLDER, "readOnly": True}],
    }


def _probe(path: str, sidecar: Sidecar, *, period: int, failures: int) -> Object:
    return {
        "httpGet": {"path": path, "port": sidecar.admin_port, "scheme": "HTTP"},
        "periodSeconds": period,
        "failureThreshold": failures,
        "timeoutSeconds": 3,
    }


def _token_volume(sidecar: Sidecar) -> Object:
    """For the ledger only: no part of the Kubernetes API takes a token of this audience."""
    token = {"audience": sidecar.audience, "expirationSeconds": 3600, "path": "token"}
    sources: list[Object] = [{"serviceAccountToken": token}]
    if sidecar.authority:
        # Optional: a model's pod starts without it, and it appears when it is there.
        items = [{"key": _AUTHORITY, "path": _AUTHORITY}]
        sources.append({"configMap": {"name": sidecar.authority, "optional": True, "items": items}})
    return {"name": _TOKEN, "projected": {"defaultMode": 0o444, "sources": sources}}
