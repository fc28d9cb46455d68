"""The life of a deploy with Kubernetes' own controllers: what a paused Deployment does is theirs to say, not ours.

The API server and kube-controller-manager are real; the test plays the scheduler and the kubelet of one node.
"""

import asyncio
from pathlib import Path
from typing import Any

import pytest
from tests.cluster.build import build
from tests.cluster.places import Places
from tests.operator.conftest import RealApi
from tests.operator.controllers import Controllers, pod_status
from tests.operator.fake_ledger import FakeLedger
from tests.operator.harness import Cluster
from tests.operator.processes import process

from modelcanary_gate.plan.phases import Phase
from modelcanary_operator.api import CANARIES, DEPLOYMENTS, PODS, SERVICES, Kind, Object
from modelcanary_operator.bucket import Bucket
from modelcanary_operator.errors import Conflict, NotFound
from modelcanary_operator.kube import Kube, configuration
from modelcanary_operator.templates import contains

pytestmark = pytest.mark.node
_CONTROLLERS = "deployment,replicaset,endpointslice,garbagecollector"
_REPLICA_SETS = Kind("/apis/apps/v1", "replicasets", "ReplicaSet")


class Kubelet(Controllers):
    """One move: binds what has no node, says what is ready, and confirms what is deleted."""

    def __init__(self, api: Kube, client: Any) -> None:
        super().__init__(api)
        self._client = client

    async def tick(self) -> bool:
        moved = False
        await asyncio.sleep(0.05)  # the controllers' turn
        for pod in await self._api.list(PODS, self._namespace):
            moved = await self._serve(pod) or moved
        return moved

    async def settle(self, most: int = 100) -> None:
        for _ in range(most):
            await self.tick()
            found = await self._api.get(DEPLOYMENTS, self._namespace, "fraud")
            status = found.get("status") or {}
            if status.get("observedGeneration") and status.get("readyReplicas", 0) == found["spec"]["replicas"]:
                return
        raise AssertionError("the controllers do not come to rest")

    async def _serve(self, pod: Object) -> bool:
        path = f"/api/v1/namespaces/{self._namespace}/pods/{pod['metadata']['name']}"
        if pod["metadata"].get("deletionTimestamp"):
            self._client.request("DELETE", path, {"gracePeriodSeconds": 0})
            return True
        if not pod["spec"].get("nodeName"):
            binding = {"metadata": {"name": pod["metadata"]["name"]}, "target": {"kind": "Node", "name": "one"}}
            self._client.request("POST", f"{path}/binding", binding)
            return True
        status = pod_status(pod)
        if contains((pod.get("status") or {}).get("conditions"), status["conditions"]):
            return False
        pod["status"] = {**(pod.get("status") or {}), **status}
        try:
            await self._api.replace(PODS, self._namespace, pod["metadata"]["name"], pod, "status")
        except (Conflict, NotFound):
            return True
        return True


@pytest.mark.parametrize("target_port", ["http", 8080])
def test_users_notice_nothing(real_api: RealApi, namespace: str, target_port: str | int, tmp_path: Path) -> None:
    """Adopted; rolled back, with replicas; promoted; resumed by hand; deleted. Looked at after every write."""
    plane = real_api.plane
    binaries = build(Places.of_environment(), ["kube-controller-manager"])
    command = [
        *(str(binaries / "kube-controller-manager"), f"--kubeconfig={plane.kubeconfig}"),
        *("--leader-elect=false", f"--controllers={_CONTROLLERS}"),
    ]
    client = plane.client()
    client.request("POST", "/api/v1/nodes", {"metadata": {"name": "one"}})

    async def story() -> None:
        async with Kube(await configuration(real_api.kubeconfig), Bucket(10_000, 10_000)) as api:
            ledger = FakeLedger()
            cluster = Cluster(api, ledger)
            cluster.controllers = Kubelet(api, client)

            async def images() -> set[tuple[str, str, int]]:
                """Of each ReplicaSet that has pods: whose, of which image, how many."""
                return {
                    (
                        item["metadata"]["ownerReferences"][0]["name"],
                        item["spec"]["template"]["spec"]["containers"][0]["image"],
                        item["spec"]["replicas"],
                    )
                    for item in await api.list(_REPLICA_SETS, namespace)
                    if item["spec"]["replicas"]
                }

            await cluster.set_up(target_port=target_port)
            before = (await api.get(SERVICES, namespace, "fraud"))["spec"]
            await cluster.settle()
            assert await images() == {("fraud-baseline", "model:1", 2)}

            ledger.delta = 0.2
            await cluster.push("model:2", replicas=3)
            await cluster.phase(Phase.COOLDOWN)
            await cluster.settle()
            assert await images() == {("fraud-baseline", "model:1", 3)}

            ledger.delta = -0.1
            await cluster.push("model:3")
            await cluster.phase(Phase.PROMOTING)
            await cluster.settle()
            assert await images() == {("fraud-baseline", "model:3", 3)}

            ledger.silent = True
            await cluster.push("model:4", paused=False, replicas=2)
            await cluster.phase(Phase.SHADOWING)
            assert ("fraud", "model:4", 2) not in await images()
            assert ("fraud-candidate", "model:4", 2) in await images()

            await api.delete(CANARIES, namespace, "fraud")
            await cluster.settle()
            assert await images() == {("fraud", "model:3", 2)}
            assert (await api.get(SERVICES, namespace, "fraud"))["spec"] == before
            assert cluster.errors == []

    with process(plane.network.inside(command), tmp_path / "controllers.log"):
        try:
            asyncio.run(story())
        finally:
            client.request("DELETE", "/api/v1/nodes/one")
            client.close()
