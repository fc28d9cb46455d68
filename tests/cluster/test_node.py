"""A whole node: pods with native sidecars run, Services and names resolve, and nothing of it is left."""

import json
import socket
import struct
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.cluster.network import Namespace
from tests.cluster.node import Node, environment
from tests.cluster.node_settings import ADDRESS, PAUSE
from tests.cluster.places import Places

pytestmark = [pytest.mark.node, pytest.mark.timeout(300, func_only=True)]

RESTRICTED = {
    "runAsNonRoot": True,
    "runAsUser": 1000,
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
    "seccompProfile": {"type": "RuntimeDefault"},
    "readOnlyRootFilesystem": True,
}
CONTAINER = {"image": PAUSE, "imagePullPolicy": "Never", "securityContext": RESTRICTED}
DEPLOYMENT: dict[str, Any] = {
    "apiVersion": "apps/v1",
    "kind": "Deployment",
    "metadata": {"name": "smoke"},
    "spec": {
        "replicas": 2,
        "selector": {"matchLabels": {"app": "smoke"}},
        "template": {
            "metadata": {"labels": {"app": "smoke"}},
            "spec": {
                "initContainers": [{"name": "sidecar", "restartPolicy": "Always", **CONTAINER}],
                "containers": [{"name": "main", **CONTAINER}],
            },
        },
    },
}


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    state = tmp_path_factory.mktemp("node") / "modelcanary-node-test"
    made = Node(Places(cache=Places.of_environment().cache, state=state))
    made.up()
    yield made
    pids = [made.processes.id_of(name) for name in made.processes.names()]
    made.down()
    assert [pid for pid in pids if pid is not None and _runs(pid)] == []
    assert not state.exists()
    assert list(Path("/sys/fs/cgroup").glob(f"*/{made.places.cgroup}")) == []
    assert not any(str(state) in line for line in Path("/proc/mounts").read_text().splitlines())


def kubectl(node: Node, *arguments: str, text: str | None = None) -> str:
    run = subprocess.run(
        node.command(["kubectl", *arguments]),
        env=environment(node.kubeconfig, node.places.binaries),
        input=text,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    return run.stdout


def test_pods_with_native_sidecars_run_and_roll(node: Node) -> None:
    kubectl(node, "apply", "-f", "-", text=json.dumps(DEPLOYMENT))
    kubectl(node, "rollout", "status", "deployment/smoke", "--timeout=90s")
    before = set(kubectl(node, "get", "pods", "-l", "app=smoke", "-o", "name").split())
    kubectl(node, "set", "env", "deployment/smoke", "A=b")
    kubectl(node, "rollout", "status", "deployment/smoke", "--timeout=90s")
    pods = json.loads(kubectl(node, "get", "pods", "-l", "app=smoke", "-o", "json"))["items"]
    new = [pod for pod in pods if f"pod/{pod['metadata']['name']}" not in before]
    assert len(new) == 2
    assert all(pod["status"]["initContainerStatuses"][0]["ready"] for pod in new)


def test_names_and_service_addresses_work(node: Node) -> None:
    holder = node.processes.id_of("network")
    assert holder is not None
    network = Namespace(holder)
    deadline = time.monotonic() + 60
    answer = b""
    while time.monotonic() < deadline:  # CoreDNS answers before it has seen the Services
        answer = ask(network.connect((ADDRESS, 53), 10.0), "kubernetes.default.svc.cluster.local")
        if answer.endswith(socket.inet_aton("10.96.0.1")):
            break
        time.sleep(0.2)
    assert answer.endswith(socket.inet_aton("10.96.0.1"))
    network.connect(("10.96.0.1", 443), 10.0).close()  # by kube-proxy's rules


def ask(connection: socket.socket, name: str) -> bytes:
    """The answer to a question for a name's address, over TCP; its last four bytes are the address."""
    with connection:
        labels = b"".join(bytes([len(label)]) + label.encode() for label in name.split("."))
        question = struct.pack(">HHHHHH", 1, 0x0100, 1, 0, 0, 0) + labels + b"\0" + struct.pack(">HH", 1, 1)
        connection.sendall(struct.pack(">H", len(question)) + question)
        return connection.recv(4096)


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False
