"""What cannot be adopted is left alone, and `Stalled` says which field it is and what helps.

On a real API server, so that each is something that a user can have.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import pytest
from tests.operator.conftest import RealApi
from tests.operator.fake_ledger import FakeLedger
from tests.operator.harness import KEY, Cluster, canary, deployment, service

from modelcanary_operator.api import (
    AUTOSCALERS,
    CANARIES,
    CLAIMS,
    DEPLOYMENTS,
    NETWORK_POLICIES,
    SERVICES,
    Kind,
    Object,
)
from modelcanary_operator.bucket import Bucket
from modelcanary_operator.kube import Kube, configuration

pytestmark = pytest.mark.cluster
World = dict[str, list[Object]]
Change = Callable[[World], Any]
_KINDS: Mapping[str, Kind] = {
    "deployments": DEPLOYMENTS,
    "services": SERVICES,
    "claims": CLAIMS,
    "autoscalers": AUTOSCALERS,
    "policies": NETWORK_POLICIES,
    "canaries": CANARIES,
}


def pod(world: World) -> Any:
    return world["deployments"][0]["spec"]["template"]["spec"]


def users(world: World) -> Any:
    return world["services"][0]["spec"]


def spec(world: World, **more: Any) -> None:
    world["canaries"][-1]["spec"] |= more


def claimed(mode: str) -> Change:
    def change(world: World) -> None:
        resources = {"requests": {"storage": "1Gi"}}
        claim = {"metadata": {"name": "weights"}, "spec": {"accessModes": [mode], "resources": resources}}
        world["claims"].append(claim)
        pod(world)["volumes"] = [{"name": "w", "persistentVolumeClaim": {"claimName": "weights"}}]

    return change


def autoscalers(*names: str, **more: Any) -> Change:
    def change(world: World) -> None:
        reference = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "fraud"}
        world["autoscalers"] += [
            {"metadata": {"name": name, **more}, "spec": {"scaleTargetRef": reference, "maxReplicas": 5}}
            for name in names
        ]

    return change


def of_keda(world: World) -> None:
    owner = {"apiVersion": "keda.sh/v1alpha1", "kind": "ScaledObject", "name": "fraud", "uid": "u"}
    autoscalers("keda-hpa-fraud", ownerReferences=[owner])(world)


def owned(world: World) -> None:
    owner = {"apiVersion": "serving.kserve.io/v1beta1", "kind": "InferenceService", "name": "fraud", "uid": "u"}
    world["deployments"][0]["metadata"]["ownerReferences"] = [{**owner, "controller": True}]


def another(kind: str, name: str, **more: Any) -> Change:
    def change(world: World) -> None:
        made = deployment() if kind == "deployments" else service()
        made["metadata"]["name"] = name
        made["spec"] |= more
        world[kind].append(made)

    return change


def elder(world: World) -> None:
    first = canary()
    first["metadata"]["name"] = "a-first"
    world["canaries"].insert(0, first)


def taken_policy(world: World) -> None:
    world["policies"].append({"metadata": {"name": "fraud-baseline"}, "spec": {"podSelector": {}}})


def numeric_untouched(world: World) -> None:
    users(world)["ports"][0]["targetPort"] = 8080
    spec(world, adoption={"service": "Untouched"})


def on_our_port(world: World) -> None:
    pod(world)["containers"][0]["ports"].append({"name": "more", "containerPort": 18090})


def host_port(world: World) -> None:
    pod(world)["containers"][0]["ports"][0]["hostPort"] = 8080


def host_network(world: World) -> None:
    host_port(world)
    pod(world)["hostNetwork"] = True


#: What is wrong, the reason, the field that the message names, and the remedy.
TABLE: dict[str, tuple[Change, str, str, str]] = {
    "no target": (lambda w: w["deployments"].clear(), "TargetMissing", "spec.targetRef.name", "create it"),
    "two canaries": (elder, "TargetTaken", "spec.targetRef", "delete one"),
    "owned target": (owned, "TargetControlled", "spec.targetRef", "that nobody owns"),
    "paused": (lambda w: w["deployments"][0]["spec"].update(paused=True), "TargetPaused", "spec.targetRef", "resume"),
    "no replicas": (
        *(lambda w: w["deployments"][0]["spec"].update(replicas=0), "TargetScaledToZero"),
        *("spec.targetRef", "scale it up"),
    ),
    "host network": (host_network, "HostNetwork", "spec.targetRef", "remove hostNetwork"),
    "host port": (host_port, "HostPort", "spec.targetRef", "remove hostPort"),
    "our port": (on_our_port, "PortTaken", "spec.targetRef", "use another port"),
    "a volume for one pod": (claimed("ReadWriteOncePod"), "VolumeNotShareable", "spec.targetRef", "ReadWriteMany"),
    "no service": (lambda w: w["services"].clear(), "ServiceMissing", "spec.service.name", "create it"),
    "headless": (lambda w: users(w).update(clusterIP="None"), "ServiceHeadless", "spec.service", "give it an IP"),
    "no selector": (lambda w: users(w).pop("selector"), "ServiceWithoutSelector", "spec.service", "let it select"),
    "no such port": (
        *(lambda w: users(w)["ports"][0].update(name="grpc"), "ServicePortMissing"),
        *("spec.service.port", "correct"),
    ),
    "others selected": (
        *(lambda w: users(w).update(selector={"app": "web"}), "ServiceSelectsOthers"),
        *("spec.service", "correct"),
    ),
    "named port that nobody has": (
        *(lambda w: users(w)["ports"][0].update(targetPort="web"), "PortUnresolved"),
        *("spec.service.port", "give a container port that name"),
    ),
    "numeric and untouched": (numeric_untouched, "NumericPort", "spec.adoption.service", "say Managed"),
    "a service of the team's": (
        *(another("services", "all", selector={"team": "risk"}), "SelectorOverlap"),
        *("spec.candidate.labels", "write labels"),
    ),
    "labels that the service selects": (
        *(lambda w: spec(w, candidate={"labels": {"app": "fraud"}}), "SelectorOverlap"),
        *("spec.candidate.labels", "write labels"),
    ),
    "a Deployment of our name": (another("deployments", "fraud-candidate"), "NameTaken", "metadata.name", "rename"),
    "a Service of our name": (another("services", "fraud-candidate"), "NameTaken", "metadata.name", "rename"),
    "an autoscaler of our name": (autoscalers("fraud-baseline"), "NameTaken", "metadata.name", "rename"),
    "a policy of our name": (taken_policy, "NameTaken", "metadata.name", "rename"),
    "two autoscalers": (autoscalers("one", "two"), "AutoscalerAmbiguous", "spec.autoscalerRef", "name the one"),
    "another autoscaler": (
        *(lambda w: spec(w, autoscalerRef={"name": "none"}), "AutoscalerMissing"),
        *("spec.autoscalerRef", "correct the name"),
    ),
    "an autoscaler of KEDA's": (of_keda, "AutoscalerHidden", "scaledobjects", "let it list"),
}


def play(real_api: RealApi, story: Callable[[Cluster, Kube], Awaitable[None]]) -> None:
    async def run() -> None:
        async with Kube(await configuration(real_api.kubeconfig), Bucket(10_000, 10_000)) as api:
            await story(Cluster(api, FakeLedger()), api)

    asyncio.run(run())


@pytest.mark.parametrize("name", TABLE)
def test_what_is_in_the_way_is_named_and_left_alone(real_api: RealApi, namespace: str, name: str) -> None:
    change, reason, field, remedy = TABLE[name]
    world: World = {kind: [] for kind in _KINDS}
    world |= {"deployments": [deployment()], "services": [service()], "canaries": [canary()]}
    change(world)

    async def story(cluster: Cluster, api: Kube) -> None:
        for kind, items in world.items():
            for item in items:
                await api.create(_KINDS[kind], namespace, item)
            if kind == "services" and world["deployments"]:
                for _ in range(60):
                    if not await cluster.controllers.tick():
                        break

        async def specs() -> dict[str, Any]:
            return {
                f"{kind.plural}/{item['metadata']['name']}": item["spec"]
                for kind in _KINDS.values()
                for item in await api.list(kind, namespace)
            }

        before = await specs()
        for _ in range(6):
            await cluster.reconciler.reconcile(KEY)
        stalled = await cluster.condition("Stalled")
        assert (stalled["status"], stalled["reason"]) == ("True", reason), stalled["message"]
        assert field in stalled["message"] and remedy in stalled["message"]
        assert (await cluster.condition("Ready"))["status"] == "False"
        assert await specs() == before

    play(real_api, story)


def test_there_are_at_least_fifteen_reasons() -> None:
    assert len({reason for _, reason, _, _ in TABLE.values()}) >= 15
