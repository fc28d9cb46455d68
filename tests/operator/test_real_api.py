"""The same life on a real API server: it accepts what is built, keeps the whole status, and its defaults are no drift.

There are no controllers and no nodes; the test plays them.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator

import pytest
from tests.operator.conftest import RealApi
from tests.operator.fake_ledger import FakeLedger
from tests.operator.harness import Cluster
from tests.operator.test_neighbours import policy, scaled_object

from modelcanary_gate.plan.phases import Phase
from modelcanary_operator import names
from modelcanary_operator.api import (
    AUTOSCALERS,
    CANARIES,
    DEPLOYMENTS,
    NETWORK_POLICIES,
    PODS,
    REVISIONS,
    SCALED_OBJECTS,
    SERVICES,
)
from modelcanary_operator.bucket import Bucket
from modelcanary_operator.errors import Conflict, NotFound, Refused, Unavailable
from modelcanary_operator.kube import Kube, configuration

pytestmark = pytest.mark.cluster
Story = Callable[[Cluster, Kube, FakeLedger], Awaitable[None]]


def play(real_api: RealApi, story: Story) -> None:
    async def run() -> None:
        async with Kube(await configuration(real_api.kubeconfig), Bucket(10_000, 10_000)) as api:
            ledger = FakeLedger()
            await story(Cluster(api, ledger), api, ledger)

    asyncio.run(run())


@pytest.mark.parametrize("target_port", ["http", 8080])
def test_a_deploy_from_adoption_to_deletion(real_api: RealApi, namespace: str, target_port: str | int) -> None:
    async def story(cluster: Cluster, api: Kube, ledger: FakeLedger) -> None:
        senders = {"labels": {"maturity": "0s", "senders": [{"name": "billing", "tokenSHA256": "ab" * 32}]}}
        resources = {"sidecar": {"resources": {"limits": {"memory": "0.5Gi"}}}}
        await cluster.set_up(target_port=target_port, spec={**resources, **senders})
        before = (await api.get(SERVICES, namespace, "fraud"))["spec"]
        await cluster.phase(Phase.SERVING)
        await cluster.settle()
        if target_port == "http":
            assert (await api.get(SERVICES, namespace, "fraud"))["spec"] == before
        baseline = await api.get(DEPLOYMENTS, namespace, "fraud-baseline")
        assert baseline["spec"]["template"]["spec"]["initContainers"][-1]["restartPolicy"] == "Always"

        ledger.delta = -0.1
        await cluster.push("model:2")
        await cluster.phase(Phase.PROMOTING)
        await cluster.settle()
        ledger.delta = 0.2
        await cluster.push("model:3")
        await cluster.phase(Phase.COOLDOWN)
        await cluster.settle()
        assert (await cluster.condition("RolledBack"))["reason"] == "LossRegression"
        baseline = await api.get(DEPLOYMENTS, namespace, "fraud-baseline")
        assert baseline["spec"]["template"]["spec"]["containers"][0]["image"] == "model:2"

        version = (await api.get(CANARIES, namespace, "fraud"))["metadata"]["resourceVersion"]
        cluster.restart()
        await cluster.look()
        assert (await api.get(CANARIES, namespace, "fraud"))["metadata"]["resourceVersion"] == version

        await api.delete(CANARIES, namespace, "fraud")
        await cluster.settle()
        target = await api.get(DEPLOYMENTS, namespace, "fraud")
        assert target["spec"]["template"]["spec"]["containers"][0]["image"] == "model:2"
        assert (target["spec"].get("paused", False), target["spec"]["replicas"]) == (False, 2)
        assert (await api.get(SERVICES, namespace, "fraud"))["spec"] == before
        for kind in (DEPLOYMENTS, SERVICES, REVISIONS, PODS, AUTOSCALERS):
            assert await api.list(kind, namespace, {names.CANARY: "fraud"}) == []
        assert await cluster.resource() is None
        assert ledger.senders == []  # its deletion is another generation, so the ledger hears of it
        assert cluster.errors == []

    play(real_api, story)


def test_a_crash_looping_candidate_and_an_autoscaler(real_api: RealApi, namespace: str) -> None:
    async def story(cluster: Cluster, api: Kube, _: FakeLedger) -> None:
        await cluster.set_up()
        reference = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "fraud"}
        users = {
            "metadata": {"name": "fraud"},
            "spec": {"scaleTargetRef": reference, "minReplicas": 2, "maxReplicas": 5},
        }
        await api.create(AUTOSCALERS, namespace, users)
        await cluster.settle()
        assert (await api.get(AUTOSCALERS, namespace, "fraud-baseline"))["spec"]["maxReplicas"] == 5
        await cluster.push("broken-crash")
        await cluster.phase(Phase.COOLDOWN)
        await cluster.settle()
        assert (await cluster.condition("RolledBack"))["reason"] == "CrashLooping"
        assert cluster.errors == []

    play(real_api, story)


def test_the_seam_says_what_went_wrong_by_its_class(real_api: RealApi, namespace: str) -> None:
    async def story(_: Cluster, api: Kube, __: FakeLedger) -> None:
        with pytest.raises(NotFound):
            await api.get(DEPLOYMENTS, namespace, "none")
        with pytest.raises(NotFound):
            await api.delete(DEPLOYMENTS, namespace, "none")
        body = {"metadata": {"name": "one"}, "spec": {"ports": [{"port": 80}]}}
        made = await api.create(SERVICES, namespace, body)
        with pytest.raises(Conflict):
            await api.create(SERVICES, namespace, body)
        await api.merge(SERVICES, namespace, "one", {"metadata": {"annotations": {"a": "b"}}})
        version = made["metadata"]["resourceVersion"]
        with pytest.raises(Conflict):
            await api.replace(SERVICES, namespace, "one", made)
        with pytest.raises(Conflict):
            await api.merge(
                SERVICES, namespace, "one", {"metadata": {"resourceVersion": version, "labels": {"a": "b"}}}
            )
        with pytest.raises(Conflict):
            await api.delete(SERVICES, namespace, "one", version)
        with pytest.raises(Refused, match=r"spec\.ports"):
            await api.create(SERVICES, namespace, {"metadata": {"name": "two"}, "spec": {}})

    play(real_api, story)


def test_a_server_that_is_not_there_is_unavailable(real_api: RealApi) -> None:
    async def run() -> None:
        settings = await configuration(real_api.kubeconfig)
        settings.host = "https://127.0.0.1:1"
        async with Kube(settings, Bucket(100, 100)) as api:
            with pytest.raises(Unavailable):
                await api.get(DEPLOYMENTS, "team", "fraud")

    asyncio.run(run())


SCALED_OBJECT_DEFINITION = {
    "apiVersion": "apiextensions.k8s.io/v1",
    "kind": "CustomResourceDefinition",
    "metadata": {"name": "scaledobjects.keda.sh"},
    "spec": {
        "group": "keda.sh",
        "scope": "Namespaced",
        "names": {"kind": "ScaledObject", "listKind": "ScaledObjectList", "plural": "scaledobjects"},
        "versions": [
            {
                "name": "v1alpha1",
                "served": True,
                "storage": True,
                "schema": {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}},
            }
        ],
    },
}


@pytest.fixture
def keda(real_api: RealApi) -> Iterator[None]:
    """The definition of its resource; there is nobody who scales."""
    client = real_api.plane.client()
    path = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
    client.expect("POST", path, SCALED_OBJECT_DEFINITION)
    deadline = time.monotonic() + 20.0
    while client.request("GET", "/apis/keda.sh/v1alpha1/namespaces/team/scaledobjects")[0] != 200:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    yield
    client.expect("DELETE", f"{path}/scaledobjects.keda.sh")
    client.close()


@pytest.mark.usefixtures("keda")
def test_policies_and_an_autoscaler_of_kedas_from_adoption_to_deletion(real_api: RealApi, namespace: str) -> None:
    """Their copies are accepted as they are built, read back as such, and not written twice."""

    async def story(cluster: Cluster, api: Kube, ledger: FakeLedger) -> None:
        await cluster.set_up()
        scaled = scaled_object()
        scaled |= {"apiVersion": "keda.sh/v1alpha1", "kind": "ScaledObject"}
        await api.create(SCALED_OBJECTS, namespace, scaled)
        users = policy()
        users["spec"] |= {"policyTypes": ["Ingress", "Egress"], "egress": [{"to": [{"podSelector": {}}]}]}
        await api.create(NETWORK_POLICIES, namespace, users)
        await cluster.settle()
        ours = await api.get(SCALED_OBJECTS, namespace, "fraud-baseline")
        assert ours["spec"]["scaleTargetRef"]["name"] == "fraud-baseline"
        assert (await api.get(SCALED_OBJECTS, namespace, "fraud"))["metadata"]["annotations"] != {}
        ledger.silent = True
        await cluster.push("model:2")
        await cluster.phase(Phase.SHADOWING)
        for _ in range(10):
            await cluster.look()
        found = {item["metadata"]["name"]: item for item in await api.list(NETWORK_POLICIES, namespace)}
        assert found.keys() == {"users", "fraud-baseline", "fraud-candidate"}
        versions = {name: item["metadata"]["resourceVersion"] for name, item in found.items()}
        cluster.restart()
        await cluster.look()
        again = await api.list(NETWORK_POLICIES, namespace)
        assert {item["metadata"]["name"]: item["metadata"]["resourceVersion"] for item in again} == versions
        await api.delete(CANARIES, namespace, "fraud")
        await cluster.settle()
        assert [item["metadata"]["name"] for item in await api.list(NETWORK_POLICIES, namespace)] == ["users"]
        (left,) = await api.list(SCALED_OBJECTS, namespace)
        assert (left["metadata"]["name"], left["metadata"].get("annotations")) == ("fraud", None)
        assert cluster.errors == []

    play(real_api, story)
