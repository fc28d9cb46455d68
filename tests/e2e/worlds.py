"""What models there are, and how they are run: the light server of `workloads`, or MLServer with real models.

Called by `team` and `manifests`. A scenario runs in either world with the same code.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tests.e2e.history import dig

from modelcanary_operator.api import Object

#: Where the pods have the modules of `workloads`, by the names that they have here.
ROOT = "/e2e"
FOLDER = f"{ROOT}/tests/e2e/workloads"
RESTRICTED: Object = {
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
    "runAsNonRoot": True,
    "runAsUser": 65532,
    "seccompProfile": {"type": "RuntimeDefault"},
}
SMALL: Object = {"requests": {"cpu": "10m", "memory": "16Mi"}}
_ROWS = "rows.json"


@dataclass(frozen=True, slots=True)
class Version:
    """A version of the model, as the team's pipeline deploys it."""

    name: str
    mix: float = 0.1  # how far from the truth the light server's answers are
    trained: str = "baseline"  # which of the real models
    fault: str = ""  # of the light server
    image: str = ""  # instead of the world's


#: What serves first; 20% of the labels shuffled; and what a better training gives.
GOOD = Version("good")
BAD = Version("bad", mix=0.3, trained="shuffled")
BETTER = Version("better", mix=0.0, trained="better")


@dataclass(frozen=True, slots=True)
class World:
    path: str  # of predictions
    ready: str  # of the readiness probe
    classes: Sequence[str]
    command: Sequence[str] = ()
    rows: str = ""
    habits: Mapping[str, Any] = field(default_factory=dict)  # of its users

    def template(self, name: str, version: Version, image: str, port: str = "http") -> Object:
        environment = {"MODEL_VERSION": version.name, "MODEL_MIX": str(version.mix), "MODEL_FILE": version.trained}
        environment |= {"MODEL_FAULT": version.fault} if version.fault else {}
        container = {
            "name": "model",
            "image": version.image or image,
            "imagePullPolicy": "IfNotPresent",
            "env": [{"name": name, "value": value} for name, value in environment.items()],
            "ports": [{"name": port, "containerPort": 8080}],
            "readinessProbe": {"httpGet": {"path": self.ready, "port": port}, "periodSeconds": 1, "timeoutSeconds": 5},
            "resources": SMALL,
            "securityContext": RESTRICTED,
            "volumeMounts": [{"name": "workloads", "mountPath": FOLDER, "readOnly": True}],
        }
        if self.command:
            container |= {"command": list(self.command), "workingDir": ROOT}
        spec = {
            "containers": [container],
            "volumes": [{"name": "workloads", "configMap": {"name": "workloads"}}],
            "automountServiceAccountToken": False,
            "terminationGracePeriodSeconds": 10,
        }
        return {"metadata": {"labels": {"app": name}}, "spec": spec}

    def files(self) -> dict[str, str]:
        """What its users need: half of scikit-learn's digits, which the models were not trained on."""
        if not self.rows:
            return {}
        from sklearn.datasets import load_digits
        from sklearn.model_selection import train_test_split

        rows, digits = load_digits(return_X_y=True)
        # As demo/servers/train.py parts them.
        _, kept, _, labels = train_test_split(rows, digits, test_size=0.5, random_state=0, stratify=digits)
        return {self.rows: json.dumps({"rows": kept.astype(int).tolist(), "labels": labels.tolist()})}


LIGHT = World(
    path="/v2/models/colours/infer",
    ready="/v2/health/ready",
    classes=("red", "green", "blue"),
    command=("python3", "-m", "tests.e2e.workloads.model"),
)
REAL = World(
    path="/v2/models/digits/infer",
    ready="/v2/models/digits/ready",
    classes=tuple("0123456789"),
    rows=_ROWS,
    # A real server takes milliseconds of a processor for each request, and there are two of them.
    habits={"rate": 12.0, "largest": 12},
)


def version_of(pod_spec: object) -> str:
    """The model's version in a pod's specification; empty where it has none."""
    containers = dig(pod_spec, "containers")
    for container in containers if isinstance(containers, list) else []:
        for variable in container.get("env") or []:
            if variable.get("name") == "MODEL_VERSION":
                return str(variable.get("value", ""))
    return ""
