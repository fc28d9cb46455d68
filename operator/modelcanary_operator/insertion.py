"""Puts the sidecar beside a model: the user's pod template in, the baseline's out. Pure; called by `manifests`.

The sidecar is the last of the init containers and a native sidecar, so it is ready before the model starts and ends
after it. It takes over the name of the port that the Service targets; each pod resolves the name for itself.
"""

import copy
import json
from dataclasses import asdict, dataclass, field
from typing import Self

from modelcanary_operator.api import Object
from modelcanary_operator.templates import ModelPort, containers, ports, spec_of

NAME = "modelcanary"
_TOKEN = "modelcanary-token"
_TOKEN_FOLDER = "/var/run/secrets/modelcanary"
_HANDLERS = ("livenessProbe", "readinessProbe", "startupProbe")
#: What the hook holds, beyond which the model is ended: the sidecar's drain delay and time.
_DRAIN = 30
_GRACE = 30  # Kubernetes' own default


@dataclass(frozen=True, slots=True)
class Sidecar:
    """What is put in. A baseline carries it as an annotation: neither a new operator nor a new spec rolls pods."""

    image: str
    ledger: str
    port: int
    admin_port: int
    audience: str
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


def insert(template: Object, insertion: Insertion) -> Object:
    """The template with the sidecar; the given one is left as it is."""
    result = copy.deepcopy(template)
    spec = spec_of(result)
    model = containers(result)[insertion.port.container]
    _rename_port(model, insertion)
    _resolve_probes(model, insertion)
    _drain_first(model, insertion.sidecar)
    spec["initContainers"] = [*(spec.get("initContainers") or []), _sidecar(insertion)]
    spec["volumes"] = [*(spec.get("volumes") or []), _token_volume(insertion.sidecar)]
    grace = spec.get("terminationGracePeriodSeconds")
    spec["terminationGracePeriodSeconds"] = (grace if grace is not None else _GRACE) + _DRAIN
    return result


def _rename_port(model: Object, insertion: Insertion) -> None:
    for port in ports(model):
        if insertion.port_name and port.get("name") == insertion.port_name:
            port["name"] = f"{insertion.port_name[:9]}-model"


def _resolve_probes(model: Object, insertion: Insertion) -> None:
    """A probe or hook that names the port means the model's own, which has another name now."""
    handlers = [model.get(name) for name in _HANDLERS]
    handlers += list((model.get("lifecycle") or {}).values())
    for handler in handlers:
        for way in ("httpGet", "tcpSocket"):
            where = (handler or {}).get(way)
            if where and insertion.port_name and where.get("port") == insertion.port_name:
                where["port"] = insertion.port.number


def _drain_first(model: Object, sidecar: Sidecar) -> None:
    """The model hears of its end after the sidecar's connections have; a hook of the user's own stays."""
    lifecycle = dict(model.get("lifecycle") or {})
    lifecycle.setdefault("preStop", _drain_hook(sidecar))
    model["lifecycle"] = lifecycle


def _drain_hook(sidecar: Sidecar) -> Object:
    # By number: a port's name resolves within its own container only.
    return {"httpGet": {"path": "/drain", "port": sidecar.admin_port, "scheme": "HTTP"}}


def _sidecar(insertion: Insertion) -> Object:
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
            f"--workers={sidecar.workers}",
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
        "lifecycle": {"preStop": _drain_hook(sidecar)},
        "resources": sidecar.resources,
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "readOnlyRootFilesystem": True,
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
    return {"name": _TOKEN, "projected": {"defaultMode": 0o444, "sources": [{"serviceAccountToken": token}]}}
