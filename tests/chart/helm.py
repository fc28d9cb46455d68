"""Helm as the tests of the chart call it: what the chart makes of values, and what it says of bad ones."""

import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from tests.cluster.build import build
from tests.cluster.places import KUBERNETES, Places

CHART = Path(__file__).parents[2] / "charts" / "modelcanary"
Manifest = dict[str, Any]


def program() -> Path:
    return build(Places.of_environment(), ["helm"]) / "helm"


def run(*arguments: str, text: str | None = None) -> subprocess.CompletedProcess[str]:
    command = [str(program()), *arguments]
    return subprocess.run(command, input=text, capture_output=True, text=True, timeout=120, check=False)


def template(values: Mapping[str, Any] | None = None, *more: str) -> subprocess.CompletedProcess[str]:
    place = ("modelcanary", str(CHART), "--namespace=canaries", f"--kube-version={KUBERNETES}")
    return run("template", *place, "--values=-", *more, text=yaml.safe_dump(dict(values or {})))


def render(values: Mapping[str, Any] | None = None, *more: str) -> list[Manifest]:
    done = template(values, *more)
    assert done.returncode == 0, done.stderr
    return [document for document in yaml.safe_load_all(done.stdout) if document]


def of_kind(manifests: list[Manifest], kind: str) -> dict[str, Manifest]:
    """By name; in several namespaces: by namespace/name."""
    found = [item for item in manifests if item["kind"] == kind]
    names = [item["metadata"]["name"] for item in found]
    if len(set(names)) == len(names):
        return {item["metadata"]["name"]: item for item in found}
    return {f"{item['metadata']['namespace']}/{item['metadata']['name']}": item for item in found}


#: Values that users give, each of which turns something on or off.
VARIANTS: dict[str, dict[str, Any]] = {
    "as it is": {},
    "everything": {
        "namespaces": ["team-a", "team-b"],
        "rbac": {"tokenReview": False},
        "operator": {
            "replicas": 2,
            "image": "registry.example/operator@sha256:" + "0" * 64,
            "nodeSelector": {"disk": "fast"},
            "tolerations": [{"key": "gpu", "operator": "Exists"}],
            "affinity": {"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": []}},
            "priorityClassName": "system-cluster-critical",
            "podLabels": {"team": "platform"},
            "podAnnotations": {"note": "kept"},
        },
        "ledger": {
            "storage": {"storageClassName": "fast", "size": "50Gi", "deleteWithRelease": True},
            "tolerations": [{"key": "gpu", "operator": "Exists"}],
            "podAnnotations": {"note": "kept"},
        },
        "image": {"pullSecrets": ["registry"], "tag": "1.2.3"},
        "networkPolicies": {
            "restrictEgress": True,
            "metricsFrom": [{"namespaceSelector": {}}],
            "egress": [{"ports": [{"port": 9090, "protocol": "TCP"}]}],
            "labelsEgress": [{"ports": [{"port": 9092, "protocol": "TCP"}]}],
        },
        "tls": {"enabled": True, "clientCA": "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n"},
        "endpoints": {
            "main": {"type": "prometheus", "url": "http://prometheus.monitoring:9090"},
            "gate": {
                "type": "webhook",
                "url": "https://change.example",
                "headerFiles": {"Authorization": "/etc/modelcanary/secrets/change"},
                "secretFile": "/etc/modelcanary/secrets/signature",
                "namespaces": ["team-a"],
            },
            "events": {
                "type": "kafka",
                "brokers": ["kafka.data:9092"],
                "propertiesFile": "/etc/modelcanary/secrets/kafka",
                "topics": ["outcomes.*"],
                "deadLetterTopics": ["outcomes.dead"],
            },
            "lake": {"type": "files", "url": "s3://lake/labels", "namespaces": ["team-a"]},
        },
        "endpointsSecret": "endpoints",
        "labels": {
            "replicas": 2,
            "secret": "labels",
            "claim": "marks",
            "look": "1m30s",
            "volumes": [
                {"name": "share", "emptyDir": {}},
                {"name": "certificates", "secret": {"secretName": "kafka-user"}},
            ],
            "volumeMounts": [
                {"name": "share", "mountPath": "/share"},
                {"name": "certificates", "mountPath": "/etc/kafka", "readOnly": True},
            ],
            "serviceAccountAnnotations": {"eks.amazonaws.com/role-arn": "arn:aws:iam::1:role/labels"},
            "podLabels": {"team": "platform"},
        },
        "recompute": {
            "enabled": True,
            "schedule": "@daily",
            "canaries": [
                {"namespace": "team-a", "name": "fraud", "configMap": "fraud"},
                {
                    "namespace": "team-b",
                    "name": "pets",
                    "configMap": "pets",
                    "claim": "labels",
                    "schedule": "0 4 * * 1-5",
                    "args": ["--labels=/data/labels.parquet", "--maturity=2d"],
                },
            ],
            "tolerations": [{"key": "batch", "operator": "Exists"}],
        },
    },
    "a claim and a secret of theirs": {
        "ledger": {"storage": {"existingClaim": "evidence"}},
        "tls": {"enabled": True, "existingSecret": "theirs"},
    },
    "several ledgers": {
        "ledger": {
            "store": "postgresql",
            "replicas": 2,
            "postgresql": {"secret": "database", "key": "uri", "ports": [5433], "to": [{"namespaceSelector": {}}]},
        },
        "networkPolicies": {"restrictEgress": True},
    },
    "little": {
        "crds": {"install": False},
        "ledger": {"storage": {"ephemeral": True}},
        "networkPolicies": {"enabled": False},
        "podDisruptionBudgets": False,
        "tls": {"enabled": False},
    },
}
