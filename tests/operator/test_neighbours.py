"""The user's own objects around the model, over the life of a deploy: autoscalers, NetworkPolicies, volumes, clocks."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from tests.operator.fake_api import FakeApi
from tests.operator.fake_ledger import FakeLedger
from tests.operator.harness import KEY, Cluster, settings

from modelcanary_gate.plan.phases import Phase
from modelcanary_operator import names
from modelcanary_operator.api import (
    AUTOSCALERS,
    CANARIES,
    CLAIMS,
    DEPLOYMENTS,
    NETWORK_POLICIES,
    REVISIONS,
    SCALED_OBJECTS,
    SERVICES,
    Object,
)
from modelcanary_operator.errors import ApiError, Refused
from modelcanary_operator.status_json import moment

Story = Callable[[Cluster, FakeApi, FakeLedger], Awaitable[None]]
REFERENCE = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "fraud"}
PAUSED = "autoscaling.keda.sh/paused"


def play(story: Story) -> None:
    api, ledger = FakeApi(), FakeLedger()
    asyncio.run(story(Cluster(api, ledger), api, ledger))


def hpa(name: str = "fraud", **spec: Any) -> Object:
    return {
        "metadata": {"name": name},
        "spec": {"scaleTargetRef": dict(REFERENCE), "minReplicas": 2, "maxReplicas": 5, **spec},
    }


def scaled_object(name: str = "fraud", **annotations: str) -> Object:
    return {
        "metadata": {"name": name, "annotations": annotations},
        "spec": {
            "scaleTargetRef": {"name": "fraud"},
            "minReplicaCount": 0,
            "advanced": {"restoreToOriginalReplicaCount": True, "horizontalPodAutoscalerConfig": {"name": "mine"}},
            "triggers": [{"type": "kafka", "metadata": {"topic": "asked"}}],
        },
    }


def policy(port: Any = 8080, selector: Any = None) -> Object:
    return {
        "metadata": {"name": "users"},
        "spec": {
            "podSelector": {"matchLabels": {"app": "fraud"}} if selector is None else selector,
            "policyTypes": ["Ingress"],
            "ingress": [
                {
                    "from": [{"podSelector": {"matchLabels": {"app": "web"}}}],
                    "ports": [{"protocol": "TCP", "port": port}],
                }
            ],
        },
    }


@pytest.mark.parametrize("said", [{}, {PAUSED: "false"}, {"autoscaling.keda.sh/paused-replicas": "4"}])
def test_keda_is_paused_and_copied_and_given_back_as_it_was(said: dict[str, str]) -> None:
    async def story(cluster: Cluster, api: FakeApi, _: FakeLedger) -> None:
        api.not_installed.clear()
        await cluster.set_up()
        await api.create(SCALED_OBJECTS, "team", scaled_object(**said))
        made_by_keda = hpa("keda-hpa-fraud")
        made_by_keda["metadata"]["ownerReferences"] = [{"kind": "ScaledObject", "name": "fraud", "uid": "k"}]
        await api.create(AUTOSCALERS, "team", made_by_keda)

        def target_never_sleeps_unpaused(when: str, method: str, plural: str, name: str) -> None:
            """KEDA would wake it up again."""
            if plural == DEPLOYMENTS.plural and when == "after" and api[DEPLOYMENTS, "fraud"]["spec"]["replicas"] == 0:
                assert api[SCALED_OBJECTS, "fraud"]["metadata"]["annotations"].get(PAUSED) == "true"

        api.saboteur = target_never_sleeps_unpaused
        await cluster.settle()
        assert (await cluster.status()).phase is Phase.SERVING
        users, ours = api[SCALED_OBJECTS, "fraud"], api[SCALED_OBJECTS, "fraud-baseline"]
        assert users["metadata"]["annotations"][PAUSED] == "true"
        assert "autoscaling.keda.sh/paused-replicas" not in users["metadata"]["annotations"]
        assert ours["spec"]["scaleTargetRef"]["name"] == "fraud-baseline"
        assert ours["spec"]["advanced"] == {"horizontalPodAutoscalerConfig": {}}
        assert ours["spec"]["triggers"] == users["spec"]["triggers"]
        assert {key: ours["metadata"]["annotations"].get(key) for key in said} == said
        assert ours["metadata"]["annotations"].get(PAUSED) == said.get(PAUSED)
        assert api.find(AUTOSCALERS, "fraud-baseline") is None

        await api.merge(SCALED_OBJECTS, "team", "fraud", {"spec": {"maxReplicaCount": 9}})
        await api.merge(SCALED_OBJECTS, "team", "fraud", {"metadata": {"annotations": {PAUSED: None}}})
        await cluster.settle()
        assert api[SCALED_OBJECTS, "fraud-baseline"]["spec"]["maxReplicaCount"] == 9
        assert api[SCALED_OBJECTS, "fraud"]["metadata"]["annotations"][PAUSED] == "true"

        api.saboteur = lambda *_: None
        await api.delete(CANARIES, "team", "fraud")
        await cluster.settle()
        kept = api[SCALED_OBJECTS, "fraud"]["metadata"]["annotations"]
        # What was said anew while we paused it is what the user has said last.
        assert names.PAUSED_BY_US not in kept and kept.get(PAUSED) != "true"
        assert api.find(SCALED_OBJECTS, "fraud-baseline") is None
        assert cluster.errors == []

    play(story)


def test_a_pause_of_the_users_own_comes_back() -> None:
    async def story(cluster: Cluster, api: FakeApi, _: FakeLedger) -> None:
        api.not_installed.clear()
        said = {"autoscaling.keda.sh/paused-replicas": "2", PAUSED: "true"}
        await cluster.set_up()
        await api.create(SCALED_OBJECTS, "team", scaled_object(**said))
        await cluster.settle()
        await api.delete(CANARIES, "team", "fraud")
        await cluster.settle()
        assert api[SCALED_OBJECTS, "fraud"]["metadata"]["annotations"] == said

    play(story)


def test_an_autoscaler_that_becomes_keds_has_one_copy() -> None:
    async def story(cluster: Cluster, api: FakeApi, _: FakeLedger) -> None:
        api.not_installed.clear()
        await cluster.set_up()
        await api.create(AUTOSCALERS, "team", hpa())
        await cluster.settle()
        assert api.find(AUTOSCALERS, "fraud-baseline") is not None
        await api.delete(AUTOSCALERS, "team", "fraud")
        await api.create(SCALED_OBJECTS, "team", scaled_object())
        await cluster.settle()
        assert api.find(AUTOSCALERS, "fraud-baseline") is None
        assert api.find(SCALED_OBJECTS, "fraud-baseline") is not None

    play(story)


@pytest.mark.parametrize(
    ("made", "spec", "reason"),
    [
        ([(AUTOSCALERS, hpa("one")), (AUTOSCALERS, hpa("two"))], {}, "AutoscalerAmbiguous"),
        ([(AUTOSCALERS, hpa("one"))], {"autoscalerRef": {"name": "two"}}, "AutoscalerMissing"),
        ([(AUTOSCALERS, hpa("one")), (AUTOSCALERS, hpa("two"))], {"autoscalerRef": {"name": "two"}}, ""),
    ],
)
def test_which_autoscaler_is_meant(made: list[Any], spec: Any, reason: str) -> None:
    async def story(cluster: Cluster, api: FakeApi, _: FakeLedger) -> None:
        await cluster.set_up(spec=spec)
        for kind, body in made:
            await api.create(kind, "team", body)
        await cluster.settle()
        if reason:
            stalled = await cluster.condition("Stalled")
            assert (stalled["status"], stalled["reason"]) == ("True", reason)
            assert "spec.autoscalerRef" in stalled["message"]
        else:
            copied = api[AUTOSCALERS, "fraud-baseline"]
            assert (await cluster.status()).phase is Phase.SERVING
            assert copied["spec"]["scaleTargetRef"]["name"] == "fraud-baseline"

    play(story)


def test_an_autoscaler_edited_mid_run_is_followed_and_its_replicas_come_back_with_the_target() -> None:
    async def story(cluster: Cluster, api: FakeApi, ledger: FakeLedger) -> None:
        await cluster.set_up()
        await api.create(AUTOSCALERS, "team", hpa(minReplicas=0))
        ledger.silent = True
        await cluster.settle()
        await cluster.push("model:2")
        await cluster.phase(Phase.SHADOWING)
        await api.merge(AUTOSCALERS, "team", "fraud", {"spec": {"maxReplicas": 9}})
        await cluster.look()
        assert api[AUTOSCALERS, "fraud-baseline"]["spec"]["maxReplicas"] == 9
        assert (await cluster.status()).phase is Phase.SHADOWING
        # The autoscaler's own doing.
        await api.merge(DEPLOYMENTS, "team", "fraud-baseline", {"spec": {"replicas": 4}})
        await cluster.controllers.settle()
        await api.delete(CANARIES, "team", "fraud")
        await cluster.settle()
        assert api[DEPLOYMENTS, "fraud"]["spec"]["replicas"] == 4
        assert api.find(AUTOSCALERS, "fraud-baseline") is None

    play(story)


def test_policies_are_added_followed_and_taken_away() -> None:
    async def story(cluster: Cluster, api: FakeApi, ledger: FakeLedger) -> None:
        await cluster.set_up()
        await api.create(NETWORK_POLICIES, "team", policy())
        ledger.silent = True

        def before_the_pods(when: str, method: str, plural: str, name: str) -> None:
            if (when, method, plural) == ("before", "POST", DEPLOYMENTS.plural) and name != "fraud":
                assert api.find(NETWORK_POLICIES, name) is not None, f"{name} comes up without its policies"

        api.saboteur = before_the_pods
        await cluster.settle()
        added = api[NETWORK_POLICIES, "fraud-baseline"]
        assert added["spec"]["ingress"][0]["ports"] == [{"protocol": "TCP", "port": 18080}]
        assert "ownerReferences" not in added["metadata"]
        await cluster.push("model:2")
        await cluster.phase(Phase.SHADOWING)
        await cluster.look()
        theirs = api[NETWORK_POLICIES, "fraud-candidate"]
        assert theirs["metadata"]["ownerReferences"][0]["kind"] == "ModelCanary"

        anybody = {"ingress": [{"ports": policy()["spec"]["ingress"][0]["ports"]}]}
        await api.merge(NETWORK_POLICIES, "team", "users", {"spec": anybody})
        theirs["spec"]["ingress"] = []  # by hand
        for _ in range(6):
            await cluster.look()
        assert api[NETWORK_POLICIES, "fraud-baseline"]["spec"]["ingress"][0] == {
            "ports": [{"protocol": "TCP", "port": 18080}]
        }
        assert len(api[NETWORK_POLICIES, "fraud-candidate"]["spec"]["ingress"]) == 2

        await cluster.push("model:1")
        await cluster.settle()
        assert api.find(NETWORK_POLICIES, "fraud-candidate") is None
        await api.delete(NETWORK_POLICIES, "team", "users")
        await cluster.settle()
        assert api.find(NETWORK_POLICIES, "fraud-baseline") is None
        await api.create(NETWORK_POLICIES, "team", policy())
        await cluster.settle()
        await api.delete(CANARIES, "team", "fraud")
        await cluster.settle()
        left = [name for kind, _, name in api.objects if kind == NETWORK_POLICIES.plural]
        assert left == ["users"]
        assert cluster.errors == []

    play(story)


def test_the_candidates_policies_stay_while_its_pods_end() -> None:
    async def story(cluster: Cluster, api: FakeApi, ledger: FakeLedger) -> None:
        await cluster.set_up(spec={"candidate": {"isolate": True}})
        await cluster.settle()
        assert api.find(NETWORK_POLICIES, "fraud-baseline") is None
        ledger.delta = 0.2
        await cluster.push("model:2")
        await cluster.phase(Phase.ROLLING_BACK)
        assert api[NETWORK_POLICIES, "fraud-candidate"]["spec"]["policyTypes"] == ["Egress"]
        while api.find(DEPLOYMENTS, "fraud-candidate") is not None:
            await cluster.reconciler.reconcile(KEY)
        for _ in range(8):  # the controllers rest
            await cluster.reconciler.reconcile(KEY)
        assert (await cluster.status()).phase is Phase.COOLDOWN
        assert api.find(NETWORK_POLICIES, "fraud-candidate") is not None
        await cluster.settle()
        assert api.find(NETWORK_POLICIES, "fraud-candidate") is None

    play(story)


def test_a_policy_or_an_autoscaler_of_our_name_is_not_overwritten() -> None:
    async def story(cluster: Cluster, api: FakeApi, _: FakeLedger) -> None:
        await cluster.set_up()
        theirs = policy()
        theirs["metadata"]["name"] = "fraud-baseline"
        await api.create(NETWORK_POLICIES, "team", theirs)
        await cluster.settle()
        assert (await cluster.condition("Stalled"))["reason"] == "NameTaken"

    play(story)


@pytest.mark.parametrize(
    ("modes", "beside"),
    [(["ReadWriteOnce"], True), (["ReadWriteOnce", "ReadWriteMany"], False), (["ReadOnlyMany"], False)],
)
def test_pods_go_where_the_volume_is(modes: list[str], beside: bool) -> None:
    async def story(cluster: Cluster, api: FakeApi, ledger: FakeLedger) -> None:
        ledger.silent = True
        await api.create(CLAIMS, "team", {"metadata": {"name": "weights"}, "spec": {"accessModes": modes}})
        await cluster.set_up()
        pod = api[DEPLOYMENTS, "fraud"]["spec"]["template"]["spec"]
        pod["volumes"] = [{"name": "w", "persistentVolumeClaim": {"claimName": "weights"}}]
        pod["affinity"] = {"nodeAffinity": {"a": "b"}}
        await cluster.settle()
        await cluster.push("model:2")
        await cluster.phase(Phase.SHADOWING)
        found = {
            name: api[DEPLOYMENTS, name]["spec"]["template"]["spec"]["affinity"]
            for name in ("fraud", "fraud-baseline", "fraud-candidate")
        }
        assert found["fraud"] == {"nodeAffinity": {"a": "b"}}
        if not beside:
            assert found["fraud-baseline"] == found["fraud-candidate"] == found["fraud"]
            return
        for name, labels in (
            ("fraud-baseline", {"app": "fraud"}),  # of the target, and its own
            ("fraud-candidate", {names.CANARY: "fraud", names.ROLE: "baseline"}),
        ):
            assert found[name]["nodeAffinity"] == {"a": "b"}
            (term,) = found[name]["podAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
            assert term == {"labelSelector": {"matchLabels": labels}, "topologyKey": "kubernetes.io/hostname"}
        writes = len(api.writes)
        await cluster.look()
        assert len(api.writes) == writes

    play(story)


def test_the_sidecar_is_renewed_once_for_each_request_and_keeps_its_port() -> None:
    async def story(cluster: Cluster, api: FakeApi, _: FakeLedger) -> None:
        await cluster.set_up(target_port=8080)
        await cluster.settle()
        cluster.settings = settings("--sidecar-image", "sidecar:2", "--sidecar-port", "18081")
        cluster.restart()
        await cluster.settle()

        def sidecar() -> Any:
            return api[DEPLOYMENTS, "fraud-baseline"]["spec"]["template"]["spec"]["initContainers"][-1]

        assert sidecar()["image"] == "sidecar:1"
        await api.merge(CANARIES, "team", "fraud", {"metadata": {"annotations": {names.REFRESH: "cve"}}})
        await cluster.settle()
        assert sidecar()["image"] == "sidecar:2"
        assert sidecar()["args"][0] == "--listen=0.0.0.0:18080"
        assert api[SERVICES, "fraud"]["spec"]["ports"][0]["targetPort"] == 18080
        cluster.settings = settings("--sidecar-image", "sidecar:3")
        cluster.restart()
        await cluster.settle()
        assert sidecar()["image"] == "sidecar:2"
        assert (await cluster.status()).phase is Phase.SERVING

    play(story)


def test_a_wiped_status_retries_no_rejected_template_before_the_user_says_so() -> None:
    async def story(cluster: Cluster, api: FakeApi, ledger: FakeLedger) -> None:
        await cluster.set_up()
        await cluster.settle()
        ledger.delta = 0.2
        await cluster.push("model:2")
        await cluster.phase(Phase.COOLDOWN)
        await cluster.settle()
        before = (await cluster.status()).rejected
        revisions = await api.list(REVISIONS, "team")
        assert [names.REJECTED in (found["metadata"].get("annotations") or {}) for found in revisions].count(True) == 1
        api[CANARIES, "fraud"]["status"] = {}
        cluster.restart()
        await cluster.settle()
        assert (await cluster.status()).phase is Phase.COOLDOWN
        assert (await cluster.status()).rejected == before
        assert (await cluster.condition("RolledBack"))["reason"] == "LossRegression"
        assert before is not None
        ledger.delta = -0.1
        await api.merge(CANARIES, "team", "fraud", {"metadata": {"annotations": {names.RETRY: before.run}}})
        await cluster.phase(Phase.PROMOTING)

    play(story)


@pytest.mark.parametrize("skew", [3600, -3600, 61, -61])
def test_clocks_that_disagree_end_no_deadline_and_skip_no_duration(skew: int) -> None:
    """The nodes' clock is another than the operator's, and so is the ledger's, which says that an hour has passed."""

    async def story(cluster: Cluster, api: FakeApi, ledger: FakeLedger) -> None:
        spec = {"analysis": {"interval": "10s", "minDuration": "120s"}, "candidate": {"readyDeadline": "90s"}}
        await cluster.set_up(spec=spec)
        await cluster.settle()
        ledger.delta = -0.1
        api.now = moment(cluster.now + skew)
        began = cluster.now
        await cluster.push("broken-pull")
        await cluster.phase(Phase.ROLLING_BACK)
        assert 58.0 <= cluster.now - began <= 100.0
        assert (await cluster.status()).decided.reason == "ImagePullFailed"
        await cluster.push("model:2")
        await cluster.phase(Phase.SHADOWING)
        began = cluster.now
        await cluster.phase(Phase.PROMOTING)
        assert 118.0 <= cluster.now - began <= 160.0

    play(story)


@pytest.mark.parametrize("first", ["deployments", "services", "controllerrevisions", "pods"])
@pytest.mark.parametrize("end", ["serving", "shadowing", "rolledBack"])
def test_a_namespace_that_ends_is_not_held_up(first: str, end: str) -> None:
    """Its controller deletes all that is in it, in no order that is ours, and nothing can be created any more."""

    async def story(cluster: Cluster, api: FakeApi, ledger: FakeLedger) -> None:
        await cluster.set_up()
        await api.create(NETWORK_POLICIES, "team", policy())
        await cluster.settle()
        ledger.delta, ledger.silent = 0.2, end == "shadowing"
        if end != "serving":
            await cluster.push("model:2")
            await cluster.phase(Phase.SHADOWING if end == "shadowing" else Phase.COOLDOWN)

        def terminating(when: str, method: str, plural: str, name: str) -> None:
            if when == "before" and method == "POST":
                raise Refused(403, "unable to create new content in namespace team because it is being terminated")

        api.saboteur = terminating
        cluster.check = no_check  # type: ignore[method-assign]
        await api.delete(CANARIES, "team", "fraud")
        for _ in range(3):
            with contextlib.suppress(ApiError):
                await cluster.reconciler.reconcile(KEY)
        for chosen in (first, "pods", "controllerrevisions", "deployments", "services", "networkpolicies"):
            for kind, _, name in [place for place in api.objects if place[0] == chosen]:
                api.objects.pop((kind, "team", name))
            for _ in range(3):
                with contextlib.suppress(ApiError):
                    await cluster.reconciler.reconcile(KEY)
        for _ in range(20):
            await cluster.reconciler.reconcile(KEY)
        assert await cluster.resource() is None

    play(story)


async def no_check() -> None:
    """Users are gone with the namespace."""
