"""Pods of a baseline end on a real node, under users: rolling updates, evictions, deletions, a failed liveness probe.

The model is gone at once on SIGTERM. Only what the operator builds is tried here, not the operator: its Deployment is
applied as it is. No ledger is there; users are served without.
"""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from bench.drain import BASELINE, PATH
from images.build import build
from images.places import Places as ImagePlaces
from images.recipes import parts
from tests.cluster.node import Node, environment
from tests.cluster.places import Places
from tests.operator.harness import SPEC, service, settings

from modelcanary_gate.parse import parse_spec
from modelcanary_operator import manifests
from modelcanary_operator.manifests import Owner, Source
from modelcanary_operator.templates import find_port, template_hash

pytestmark = [pytest.mark.node, pytest.mark.timeout(1500, func_only=True)]

#: It answers all, and is gone at once on SIGTERM. /break makes its liveness probe fail, and nothing else.
MODEL = f"""
import asyncio, os, signal
healthy = True
async def talk(reader, writer):
    global healthy
    try:
        while True:
            head = await reader.readuntil(b"\\r\\n\\r\\n")
            for line in head.lower().split(b"\\r\\n"):
                if line.startswith(b"content-length:"):
                    await reader.readexactly(int(line[15:]))
            path = head.split(b" ")[1]
            healthy = healthy and path != b"/break"
            body = {BASELINE!r} if path == {PATH.encode()!r} else b"{{}}"
            status = b"500 No" if path == b"/live" and not healthy else b"200 OK"
            writer.write(b"HTTP/1.1 %b\\r\\nContent-Length: %d\\r\\n\\r\\n%b" % (status, len(body), body))
    except (OSError, asyncio.IncompleteReadError):
        writer.close()
async def main():
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, os._exit, 0)
    server = await asyncio.start_server(talk, "0.0.0.0", 8080)
    await server.serve_forever()
asyncio.run(main())
"""


@pytest.fixture(scope="module")
def image() -> Iterator[tuple[str, Path]]:
    places = ImagePlaces.of_environment()
    (built,) = build(places, [recipe for recipe in parts(places) if recipe.name == "modelcanary-sidecar"])
    yield built.reference, built.archive


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory, image: tuple[str, Path]) -> Iterator[Node]:
    state = tmp_path_factory.mktemp("node") / "modelcanary-pods-end"
    made = Node(Places(cache=Places.of_environment().cache, state=state))
    made.up()
    try:
        made.load(image[1])
        yield made
    finally:
        made.down()


class Cluster:
    def __init__(self, node: Node) -> None:
        self.node = node
        self._environment = environment(node.kubeconfig, node.places.binaries)

    def kubectl(self, *arguments: str, given: object = None) -> str:
        command = self.node.command(["kubectl", *arguments])
        text = json.dumps(given) if given is not None else None
        ran = subprocess.run(
            command, env=self._environment, input=text, capture_output=True, text=True, timeout=240, check=False
        )
        assert ran.returncode == 0, f"kubectl {' '.join(arguments)}: {ran.stderr}"
        return ran.stdout

    def get(self, *what: str) -> Any:
        return json.loads(self.kubectl("get", *what, "-o", "json"))

    def pods(self) -> list[Any]:
        found: list[Any] = self.get("pods", "-l", "app=fraud")["items"]
        return [pod for pod in found if not pod["metadata"].get("deletionTimestamp")]

    def until(self, found: Callable[[], object]) -> None:
        deadline = time.monotonic() + 180.0
        while not found():
            assert time.monotonic() < deadline, "it did not come about in time"
            time.sleep(0.5)

    def all_ready(self) -> bool:
        pods = self.get("pods", "-l", "app=fraud")["items"]
        return len(pods) == 2 and all(
            condition["status"] == "True"
            for pod in pods
            for condition in pod["status"].get("conditions", [])
            if condition["type"] == "Ready"
        )

    def restarts(self, pod: str) -> int:
        return sum(status["restartCount"] for status in self.get("pod", pod)["status"]["containerStatuses"])


class Users:
    """In the node's network, by the Service's address."""

    def __init__(self, cluster: Cluster, address: str) -> None:
        command = [sys.executable, "-m", "bench.drain", "--users", f"{address}:80", "--rate", "60"]
        here = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
        self._process = subprocess.Popen(cluster.node.command(command), stdout=subprocess.PIPE, text=True, env=here)

    def stop(self) -> Any:
        self._process.send_signal(signal.SIGTERM)
        said, _ = self._process.communicate(timeout=120)
        return json.loads(said)


@pytest.fixture(scope="module")
def cluster(node: Node, image: tuple[str, Path]) -> Cluster:
    cluster = Cluster(node)
    context = {"runAsNonRoot": True, "runAsUser": 1000, "seccompProfile": {"type": "RuntimeDefault"}}
    model = {
        "name": "model",
        "image": image[0],
        "imagePullPolicy": "Never",
        "command": ["python3", "-c", MODEL],
        "ports": [{"name": "http", "containerPort": 8080, "protocol": "TCP"}],
        "readinessProbe": {"httpGet": {"path": "/ready", "port": "http"}, "periodSeconds": 1},
        "livenessProbe": {"httpGet": {"path": "/live", "port": "http"}, "periodSeconds": 1, "failureThreshold": 2},
    }
    template = {"metadata": {"labels": {"app": "fraud"}}, "spec": {"containers": [model], "securityContext": context}}
    port = find_port(template, "http")
    assert port is not None
    given = settings("--sidecar-image", image[0]).sidecar
    owner = Owner("default", "fraud", "uid-1", parse_spec(SPEC), given)
    source = Source(template_hash(template), template, port, "http")
    cluster.kubectl("apply", "-f", "-", given=manifests.baseline(owner, source, 2, None, owner.sidecar()))
    cluster.kubectl("apply", "-f", "-", given=service())
    cluster.until(cluster.all_ready)
    return cluster


def _evict(cluster: Cluster, pod: str) -> None:
    eviction = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": pod, "namespace": "default"}}
    cluster.kubectl("create", "--raw", f"/api/v1/namespaces/default/pods/{pod}/eviction", "-f", "-", given=eviction)


def _delete(cluster: Cluster, pod: str) -> None:
    cluster.kubectl("delete", "pod", pod, "--wait=false")


def test_twenty_pods_end_and_no_user_notices(cluster: Cluster) -> None:
    address = cluster.get("service", "fraud")["spec"]["clusterIP"]
    users = Users(cluster, address)
    ended = 0
    try:
        for _ in range(7):
            before = {pod["metadata"]["name"] for pod in cluster.pods()}
            cluster.kubectl("rollout", "restart", "deployment/fraud-baseline")
            cluster.kubectl("rollout", "status", "deployment/fraud-baseline", "--timeout=200s")
            cluster.until(cluster.all_ready)  # and the old ones are gone
            ended += len(before - {pod["metadata"]["name"] for pod in cluster.pods()})
        for end in (_evict, _delete) * 3:
            pod = cluster.pods()[0]["metadata"]["name"]
            end(cluster, pod)
            cluster.until(lambda gone=pod: gone not in {found["metadata"]["name"] for found in cluster.pods()})
            cluster.until(cluster.all_ready)
            ended += 1
    finally:
        result = users.stop()
    print(json.dumps(result), ended)
    assert result["failures"] == []
    assert sum(result["requests"].values()) > 20 * ended
    assert ended == 20
    reasons = {event["reason"] for event in cluster.get("events")["items"]}
    assert "FailedPreStopHook" not in reasons


def test_a_model_that_its_liveness_probe_ends_is_served_again(cluster: Cluster) -> None:
    """The same hook, and no SIGTERM for the sidecar: it must find its way back."""
    address = cluster.get("service", "fraud")["spec"]["clusterIP"]
    pod = cluster.pods()[0]
    name, ip = pod["metadata"]["name"], pod["status"]["podIP"]
    users = Users(cluster, address)
    try:
        broken = cluster.node.command(["curl", "-sf", "-m", "10", f"http://{ip}:8080/break"])
        subprocess.run(broken, check=True, timeout=30, capture_output=True)
        cluster.until(lambda: cluster.restarts(name) == 1)
        cluster.until(cluster.all_ready)
    finally:
        result = users.stop()
    assert result["failures"] == []
    sidecars = cluster.get("pod", name)["status"]["initContainerStatuses"]
    assert [status["restartCount"] for status in sidecars] == [0]
    assert "the model has been started again: serving" in cluster.kubectl("logs", name, "-c", "modelcanary")
