"""The objects that a team has in its namespace: model, Service, users and ModelCanary. Pure; called by `team`."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.e2e.history import dig

from modelcanary_operator.api import Object

WORKLOADS = Path(__file__).with_name("workloads")
NAME = "colours"
CLASSES = ["red", "green", "blue"]
LOAD_PORT = 8000
_RESTRICTED: Object = {
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
    "runAsNonRoot": True,
    "runAsUser": 65532,
    "seccompProfile": {"type": "RuntimeDefault"},
}
#: Where the pods have the modules of `workloads`, by the names that they have here.
_ROOT = "/e2e"
_FOLDER = f"{_ROOT}/tests/e2e/workloads"
_SMALL: Object = {"requests": {"cpu": "10m", "memory": "16Mi"}}


@dataclass(frozen=True, slots=True)
class Version:
    """A version of the model, as the team's pipeline deploys it. `mix`: how far from the truth its answers are."""

    name: str
    mix: float = 0.1
    fault: str = ""
    image: str = ""  # instead of the usual one

    def environment(self) -> dict[str, str]:
        found = {"MODEL_VERSION": self.name, "MODEL_MIX": str(self.mix)}
        return found | ({"MODEL_FAULT": self.fault} if self.fault else {})


#: 20% of the labels shuffled, and what a better training gives.
GOOD, BAD, BETTER = Version("good"), Version("bad", mix=0.3), Version("better", mix=0.0)


def namespace(name: str) -> Object:
    labels = {"pod-security.kubernetes.io/enforce": "restricted", "e2e": "modelcanary"}
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}}


def scripts(authority: str) -> Object:
    """What the pods of the team run; `authority`: the ledger's certificate authority, where it has one."""
    data = {path.name: path.read_text() for path in sorted(WORKLOADS.glob("*.py"))}
    return {"metadata": {"name": "workloads"}, "data": data | ({"ca.crt": authority} if authority else {})}


def template(version: Version, image: str, port: str = "http") -> Object:
    container = {
        "name": "model",
        "image": version.image or image,
        "imagePullPolicy": "IfNotPresent",
        "command": ["python3", "-m", "tests.e2e.workloads.model"],
        "env": [{"name": name, "value": value} for name, value in version.environment().items()],
        "workingDir": _ROOT,
        "ports": [{"name": port, "containerPort": 8080}],
        "readinessProbe": {"httpGet": {"path": "/v2/health/ready", "port": port}, "periodSeconds": 1},
        "resources": _SMALL,
        "securityContext": _RESTRICTED,
        "volumeMounts": [{"name": "workloads", "mountPath": _FOLDER, "readOnly": True}],
    }
    spec = {
        "containers": [container],
        "volumes": [{"name": "workloads", "configMap": {"name": "workloads"}}],
        "automountServiceAccountToken": False,
        "terminationGracePeriodSeconds": 10,
    }
    return {"metadata": {"labels": {"app": NAME}}, "spec": spec}


def deployment(pods: Object, replicas: int = 1) -> Object:
    return {
        "metadata": {"name": NAME},
        "spec": {"replicas": replicas, "selector": {"matchLabels": {"app": NAME}}, "template": pods},
    }


def service(target_port: str | int = "http") -> Object:
    ports = [{"name": "http", "port": 80, "targetPort": target_port}]
    return {"metadata": {"name": NAME}, "spec": {"selector": {"app": NAME}, "ports": ports}}


def canary(more: Mapping[str, Any] | None = None, name: str = NAME) -> Object:
    """Times are short because a scenario is; all else is as a user would write it."""
    spec: dict[str, Any] = {
        "targetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": NAME},
        "service": {"name": NAME, "port": "http"},
        "model": {"protocol": "oip-v2", "classes": CLASSES, "paths": [f"/v2/models/{NAME}/infer"]},
        "candidate": {"readyDeadline": "60s"},
        "mirror": {"timeout": "5s", "maxPairsPerSecond": 1000},
        "labels": {"maturity": "2s", "maxDelay": "10m"},
        "analysis": {
            "interval": "1s",
            "margin": "10%",
            "minDuration": "5s",
            "minSamples": {"rollback": 300, "promote": 400},
            "hysteresis": {"rollbackAfter": 1, "promoteAfter": 1, "cooldown": "1h"},
        },
        "guards": [
            {"name": "errors", "type": "errorRate", "max": "+5%"},
            {"name": "invalid", "type": "nonFinite", "max": "0"},
        ],
        "sidecar": {"resources": {"requests": {"cpu": "10m"}}},
    }
    return {"metadata": {"name": name}, "spec": merged(spec, more or {})}


@dataclass(frozen=True, slots=True)
class Users:
    """What the users of a scenario do; the fields of the load's habits that are not the usual ones."""

    path: str = f"/v2/models/{NAME}/infer"
    habits: Mapping[str, Any] = field(default_factory=dict)


def load(users: Users, namespace: str, image: str, feedback: str, seed: int) -> Object:
    """A pod with a token for the ledger, and for nothing else."""
    habits = {
        "service": f"http://{NAME}.{namespace}.svc",
        "path": users.path,
        "feedback": f"{feedback}/v1/feedback?namespace={namespace}&name={NAME}",
        "seed": seed,
        **users.habits,
    }
    container = {
        "name": "load",
        "image": image,
        "imagePullPolicy": "IfNotPresent",
        "command": ["python3", "-m", "tests.e2e.workloads.load"],
        "env": [{"name": "LOAD", "value": json.dumps(habits)}],
        "workingDir": _ROOT,
        "ports": [{"containerPort": LOAD_PORT}],
        "resources": _SMALL,
        "securityContext": _RESTRICTED,
        "volumeMounts": [
            {"name": "workloads", "mountPath": _FOLDER, "readOnly": True},
            {"name": "feedback", "mountPath": "/var/run/secrets/feedback", "readOnly": True},
        ],
    }
    authority = {"name": "workloads", "items": [{"key": "ca.crt", "path": "ca.crt"}], "optional": True}
    token = {"audience": "modelcanary-ledger", "expirationSeconds": 3600, "path": "token"}
    sources = [{"serviceAccountToken": token}, {"configMap": authority}]
    return {
        "metadata": {"name": "load", "labels": {"app": "load"}},
        "spec": {
            "containers": [container],
            "volumes": [
                {"name": "workloads", "configMap": {"name": "workloads"}},
                {"name": "feedback", "projected": {"defaultMode": 0o444, "sources": sources}},
            ],
            "automountServiceAccountToken": False,
            "terminationGracePeriodSeconds": 2,
        },
    }


def version_of(pod_spec: object) -> str:
    """The model's version in a pod's specification; empty where it has none."""
    containers = dig(pod_spec, "containers")
    for container in containers if isinstance(containers, list) else []:
        for variable in container.get("env") or []:
            if variable.get("name") == "MODEL_VERSION":
                return str(variable.get("value", ""))
    return ""


def merged(base: Mapping[str, Any], more: Mapping[str, Any]) -> dict[str, Any]:
    """As a JSON merge patch: maps are merged, all else is replaced, None takes away."""
    result = dict(base)
    for name, value in more.items():
        if value is None:
            result.pop(name, None)
        elif isinstance(value, Mapping) and isinstance(result.get(name), Mapping):
            result[name] = merged(result[name], value)
        else:
            result[name] = value
    return result
