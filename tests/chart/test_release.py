"""The chart on a whole node: it installs, its test passes, it upgrades, and what is left of it is the definition."""

import json
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from images.build import Built, build
from images.places import Places as ImagePlaces
from images.recipes import parts
from tests.chart.helm import CHART, program
from tests.cluster.node import Node, environment
from tests.cluster.places import Places

pytestmark = [pytest.mark.node, pytest.mark.timeout(1800, func_only=True)]
NAMESPACE = "canaries"


@pytest.fixture(scope="module")
def images() -> list[Built]:
    places = ImagePlaces.of_environment()
    return build(places, parts(places))


@pytest.fixture(scope="module")
def node(images: list[Built]) -> Iterator[Node]:
    with tempfile.TemporaryDirectory(prefix="modelcanary-chart-") as folder:
        made = Node(Places(cache=Places.of_environment().cache, state=Path(folder) / "chart-node"))
        made.up()
        try:
            for image in images:
                made.load(image.archive)
            yield made
        finally:
            made.down()


def call(node: Node, *command: str, text: str | None = None) -> str:
    done = subprocess.run(
        node.command(command),
        env=environment(node.kubeconfig, node.places.binaries),
        input=text,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, f"{' '.join(command)}: {done.stdout}{done.stderr}"
    return done.stdout


def helm(node: Node, *arguments: str, text: str | None = None) -> str:
    return call(node, str(program()), *arguments, f"--namespace={NAMESPACE}", text=text)


def get(node: Node, *arguments: str) -> Any:
    return json.loads(call(node, "kubectl", "get", *arguments, "-o", "json"))


def volume(node: Node, folder: Path) -> None:
    """There is no provisioner on the node."""
    folder.mkdir()
    folder.chmod(0o777)
    spec = {
        "capacity": {"storage": "1Gi"},
        "accessModes": ["ReadWriteOnce"],
        "persistentVolumeReclaimPolicy": "Retain",
        "storageClassName": "by-hand",
        "hostPath": {"path": str(folder)},
    }
    manifest = {"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": "evidence"}, "spec": spec}
    call(node, "kubectl", "apply", "-f", "-", text=json.dumps(manifest))


def everything(node: Node) -> set[str]:
    """All that there is in the namespace, and all of the cluster's own that is called after us."""
    kinds = call(node, "kubectl", "api-resources", "--verbs=list", "--namespaced", "-o", "name").split()
    inside = ",".join(kind for kind in kinds if not kind.startswith("events"))
    found = call(node, "kubectl", "get", inside, "-n", NAMESPACE, "-o", "name", "--ignore-not-found").split()
    kinds = call(node, "kubectl", "api-resources", "--verbs=list", "--namespaced=false", "-o", "name").split()
    outside = call(node, "kubectl", "get", ",".join(kinds), "-o", "name", "--ignore-not-found").split()
    # The API server makes itself an APIService of each group that a definition brings.
    return {*found, *(name for name in outside if "modelcanary" in name and not name.startswith("apiservice."))}


def test_a_release_from_beginning_to_end(node: Node, images: list[Built], tmp_path: Path) -> None:
    call(node, "kubectl", "create", "namespace", NAMESPACE)
    call(node, "kubectl", "label", "namespace", NAMESPACE, "pod-security.kubernetes.io/enforce=restricted")
    volume(node, tmp_path / "evidence")
    before = everything(node)
    values: dict[str, Any] = {image.name.removeprefix("modelcanary-"): {"image": image.reference} for image in images}
    storage = {"size": "1Gi", "storageClassName": "by-hand", "deleteWithRelease": True}
    values["ledger"]["storage"] = storage

    place = ("modelcanary", str(CHART), "--values=-", "--wait", "--timeout=180s")
    helm(node, "install", *place, text=yaml.safe_dump(values))
    assert list((tmp_path / "evidence").iterdir()), "the ledger writes to its claim"
    helm(node, "test", "modelcanary", "--timeout=120s")
    leases = get(node, "lease", "-n", NAMESPACE)["items"]
    assert [item["spec"]["holderIdentity"].startswith("modelcanary-operator-") for item in leases] == [True]
    secret = get(node, "secret", "modelcanary-ledger-tls", "-n", NAMESPACE)["data"]
    pods = {pod["metadata"]["name"] for pod in get(node, "pods", "-n", NAMESPACE)["items"]}

    values["operator"] |= {"replicas": 2, "podAnnotations": {"note": "changed"}}
    helm(node, "upgrade", *place, text=yaml.safe_dump(values))
    helm(node, "test", "modelcanary", "--timeout=120s")
    assert get(node, "secret", "modelcanary-ledger-tls", "-n", NAMESPACE)["data"] == secret
    ready = {
        pod["metadata"]["name"]: all(item["ready"] for item in pod["status"]["containerStatuses"])
        for pod in get(node, "pods", "-n", NAMESPACE)["items"]
        if not pod["metadata"].get("deletionTimestamp")
    }
    operators = {name for name in ready if name.startswith("modelcanary-operator-")}
    assert len(operators) == 2 and not operators & pods and all(ready.values())
    assert "modelcanary-ledger-0" in pods & set(ready), "what has not changed is not restarted"
    logs = call(node, "kubectl", "logs", "-n", NAMESPACE, "deployment/modelcanary-operator", "--all-pods")
    assert "orbidden" not in logs, logs

    helm(node, "uninstall", "modelcanary", "--wait", "--timeout=120s")
    call(node, "kubectl", "wait", "--for=delete", "pvc", "--all", "-n", NAMESPACE, "--timeout=60s")
    call(node, "kubectl", "wait", "--for=delete", "pod", "--all", "-n", NAMESPACE, "--timeout=60s")
    definition = "customresourcedefinition.apiextensions.k8s.io/modelcanaries.modelcanary.io"
    assert everything(node) - before == {definition}
