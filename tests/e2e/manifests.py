"""The objects that a team has in its namespace: Service, users and ModelCanary. Pure; called by `team`."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.e2e.worlds import FOLDER, RESTRICTED, ROOT, SMALL, World

from modelcanary_operator.api import Object

WORKLOADS = Path(__file__).with_name("workloads")
LOAD_PORT = 8000


def namespace(name: str) -> Object:
    labels = {"pod-security.kubernetes.io/enforce": "restricted", "e2e": "modelcanary"}
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}}


def scripts(authority: str, more: Mapping[str, str]) -> Object:
    """What the pods of the team run; `authority`: the ledger's certificate authority, where it has one."""
    data = {path.name: path.read_text() for path in sorted(WORKLOADS.glob("*.py"))}
    return {"metadata": {"name": "workloads"}, "data": {**data, **more, **({"ca.crt": authority} if authority else {})}}


def deployment(name: str, template: Object, replicas: int = 1) -> Object:
    return {
        "metadata": {"name": name},
        "spec": {"replicas": replicas, "selector": {"matchLabels": {"app": name}}, "template": template},
    }


def service(name: str, target_port: str | int = "http") -> Object:
    ports = [{"name": "http", "port": 80, "targetPort": target_port}]
    return {"metadata": {"name": name}, "spec": {"selector": {"app": name}, "ports": ports}}


def canary(name: str, world: World, more: Mapping[str, Any] | None = None) -> Object:
    """Times are short because a scenario is; all else is as a user would write it."""
    spec: dict[str, Any] = {
        "targetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": name},
        "service": {"name": name, "port": "http"},
        "model": {"protocol": "oip-v2", "classes": list(world.classes), "paths": [world.path]},
        "candidate": {"readyDeadline": "180s"},
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
    """What the users of a scenario do: the habits of the workload `load` that are not the usual ones."""

    habits: Mapping[str, Any] = field(default_factory=dict)


def load(name: str, world: World, users: Users, where: str, image: str, feedback: str, seed: int) -> Object:
    """A pod with a token for the ledger, and for nothing else. `where`: the namespace."""
    habits = {
        "service": f"http://{name}.{where}.svc",
        "path": world.path,
        "rows": f"{FOLDER}/{world.rows}" if world.rows else "",
        "feedback": f"{feedback}/v1/feedback?namespace={where}&name={name}",
        "seed": seed,
        **world.habits,
        **users.habits,
    }
    container = {
        "name": "load",
        "image": image,
        "imagePullPolicy": "IfNotPresent",
        "command": ["python3", "-m", "tests.e2e.workloads.load"],
        "env": [{"name": "LOAD", "value": json.dumps(habits)}],
        "workingDir": ROOT,
        "ports": [{"containerPort": LOAD_PORT}],
        "resources": SMALL,
        "securityContext": RESTRICTED,
        "volumeMounts": [
            {"name": "workloads", "mountPath": FOLDER, "readOnly": True},
            {"name": "feedback", "mountPath": "/var/run/secrets/feedback", "readOnly": True},
        ],
    }
    authority = {"name": "workloads", "items": [{"key": "ca.crt", "path": "ca.crt"}], "optional": True}
    token = {"audience": "modelcanary-ledger", "expirationSeconds": 3600, "path": "token"}
    sources = [{"serviceAccountToken": token}, {"configMap": authority}]
    return {
        "metadata": {"name": users_of(name), "labels": {"users": name}},
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


def users_of(name: str) -> str:
    """The pod of a model's users."""
    return f"{name}-users"


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
