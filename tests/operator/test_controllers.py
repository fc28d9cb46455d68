"""The life of a deploy with Kubernetes' own controllers: what a paused Deployment does is theirs to say, not ours.

The API server and kube-controller-manager are real; the test plays the scheduler and the kubelet of one node.
"""

import asyncio
import contextlib
import time
from pathlib import Path
from typing import Any

import pytest
from tests.cluster.build import build
from tests.cluster.places import Places
from tests.operator.conftest import RealApi
from tests.operator.controllers import Controllers, pod_status
from tests.operator.fake_ledger import FakeLedger
from tests.operator.harness import KEY, Cluster, canary
from tests.operator.processes import process

from modelcanary_gate.plan.phases import Phase
from modelcanary_operator.api import CANARIES, DEPLOYMENTS, PODS, SERVICES, Kind, Object
from modelcanary_operator.bucket import Bucket
from modelcanary_operator.errors import ApiError, Conflict, NotFound
from modelcanary_operator.kube import Kube, configuration
from modelcanary_operator.templates import contains

pytestmark = pytest.mark.node
_CONTROLLERS = "deployment,replicaset,endpointslice,garbagecollector,namespace"
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


def test_deleted_in_the_foreground_made_again_and_gone_with_its_namespace(
    real_api: RealApi, namespace: str, tmp_path: Path
) -> None:
    """After a roll-back: the rejected template never serves, the garbage collector ends nothing that does, and the
    finalizer does not hold up a namespace in which nothing can be created any more.
    """
    plane = real_api.plane
    binaries = build(Places.of_environment(), ["kube-controller-manager"])
    command = [
        *(str(binaries / "kube-controller-manager"), f"--kubeconfig={plane.kubeconfig}"),
        *("--leader-elect=false", f"--controllers={_CONTROLLERS}"),
    ]
    client = plane.client()
    client.request("POST", "/api/v1/nodes", {"metadata": {"name": "one"}})
    path = f"/apis/modelcanary.io/v1alpha1/namespaces/{namespace}/modelcanaries/fraud"

    async def story() -> None:
        async with Kube(await configuration(real_api.kubeconfig), Bucket(10_000, 10_000)) as api:
            ledger = FakeLedger()
            cluster = Cluster(api, ledger)
            cluster.controllers = Kubelet(api, client)
            await cluster.set_up()
            await cluster.settle()
            ledger.delta = 0.2
            await cluster.push("model:2")
            await cluster.phase(Phase.COOLDOWN)
            options = {"apiVersion": "v1", "kind": "DeleteOptions", "propagationPolicy": "Foreground"}
            client.expect("DELETE", path, options)
            for _ in range(200):
                await cluster.look()
                cluster.now += 2.0
                if await cluster.resource() is None:
                    break
            assert await cluster.resource() is None
            target = await api.get(DEPLOYMENTS, namespace, "fraud")
            assert target["spec"]["template"]["spec"]["containers"][0]["image"] == "model:1"
            assert [item["metadata"]["name"] for item in await api.list(DEPLOYMENTS, namespace)] == ["fraud"]

            await api.create(CANARIES, namespace, canary())
            await cluster.phase(Phase.SERVING)
            client.expect("DELETE", f"/api/v1/namespaces/{namespace}")
            deadline = time.monotonic() + 60.0
            while client.request("GET", f"/api/v1/namespaces/{namespace}")[0] == 200:
                assert time.monotonic() < deadline, await cluster.status()
                await cluster.controllers.tick()
                with contextlib.suppress(ApiError):
                    await cluster.reconciler.reconcile(KEY)

    with process(plane.network.inside(command), tmp_path / "controllers.log"):
        try:
            asyncio.run(story())
        finally:
            client.request("DELETE", "/api/v1/nodes/one")
            client.close()
