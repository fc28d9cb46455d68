"""The life of a deploy on an API, object by object: what is written, what users notice, and what survives a fault."""

import asyncio
import contextlib
import copy
from collections.abc import Awaitable, Callable
from functools import cache
from typing import Any

import pytest
from tests.operator.fake_api import FakeApi
from tests.operator.fake_ledger import FakeLedger
from tests.operator.harness import KEY, Cluster, canary, settings

from modelcanary_gate.plan.phases import Phase
from modelcanary_gate.protocol import Instructions
from modelcanary_operator import names
from modelcanary_operator.api import AUTOSCALERS, CANARIES, DEPLOYMENTS, EVENTS, REVISIONS, SERVICES, Kind, Object
from modelcanary_operator.errors import ApiError, Conflict, OperatorError, Refused, Unavailable

Story = Callable[[Cluster, FakeApi, FakeLedger], Awaitable[None]]


def play(story: Story) -> tuple[Cluster, FakeApi, FakeLedger]:
    api, ledger = FakeApi(), FakeLedger()
    cluster = Cluster(api, ledger)
    asyncio.run(story(cluster, api, ledger))
    return cluster, api, ledger


def test_adoption_leaves_users_and_the_service_as_they_were() -> None:
    async def story(cluster: Cluster, api: FakeApi, ledger: FakeLedger) -> None:
        await cluster.set_up()
        before = api[SERVICES, "fraud"]["spec"]
        written = api[DEPLOYMENTS, "fraud"]["spec"]["template"]
        await cluster.phase(Phase.SERVING)
        await cluster.settle()
        assert ledger.instructions.version > 0 and not ledger.runs, "labels may come from now on"
        assert api[SERVICES, "fraud"]["spec"] == before
        target = api[DEPLOYMENTS, "fraud"]
        assert (target["spec"]["paused"], target["spec"]["replicas"]) == (True, 0)
        assert target["spec"]["template"] == written
        baseline = api[DEPLOYMENTS, "fraud-baseline"]
        assert baseline["spec"]["replicas"] == 2
        assert "ownerReferences" not in baseline["metadata"]
        assert {port for _, port in cluster.probed} == {18080}
        ready = await cluster.condition("Ready")
        assert (ready["status"], ready["reason"]) == ("True", "Serving")
        assert (await cluster.condition("Promoted"))["status"] == "True"
        assert cluster.errors == []

    play(story)


def test_an_unchanged_world_is_read_and_not_written() -> None:
    async def story(cluster: Cluster, api: FakeApi, ledger: FakeLedger) -> None:
        await cluster.set_up()
        await cluster.settle()
        writes, puts = len(api.writes), len(ledger.puts)
        for _ in range(5):
            cluster.restart()
            assert await cluster.look() == cluster.settings.resync
        assert (len(api.writes), len(ledger.puts)) == (writes, puts)

    play(story)


def test_a_better_model_is_promoted() -> None:
    async def story(cluster: Cluster, api: FakeApi, ledger: FakeLedger) -> None:
        await cluster.set_up()
        await cluster.settle()
        ledger.delta = -0.1
        await cluster.push("model:2")
        await cluster.phase(Phase.SHADOWING)
        assert (await cluster.condition("Promoted"))["status"] == "Unknown"
        await cluster.phase(Phase.PROMOTING)
        await cluster.settle()
        baseline = api[DEPLOYMENTS, "fraud-baseline"]
        assert baseline["spec"]["template"]["spec"]["containers"][0]["image"] == "model:2"
        assert api.find(DEPLOYMENTS, "fraud-candidate") is None
        assert api.find(SERVICES, "fraud-candidate") is None
        assert ledger.instructions.run == ""
        status = await cluster.status()
        assert (status.phase, status.last.reason) == (Phase.SERVING, "CandidateNoWorse")
        assert (await cluster.condition("Promoted"))["status"] == "True"
        assert len([item for item in api.objects if item[0] == REVISIONS.plural]) == 1
        assert cluster.errors == []

    play(story)


def test_evidence_that_changes_with_each_look_keeps_no_step_waiting() -> None:
    async def story(cluster: Cluster, api: FakeApi, ledger: FakeLedger) -> None:
        await cluster.set_up(spec={"canary": {"steps": ["5%", "50%"]}})
        await cluster.settle()
        ledger.delta = -0.1
        await cluster.push("model:2")
        await cluster.phase(Phase.CANARY)
        for _ in range(4):
            ledger.blocks += 1
            cluster.now += 2.0
            await cluster.look()
        assert ledger.instructions.weight == 0.05

    play(story)


def test_a_worse_model_is_rolled_back() -> None:
    async def story(cluster: Cluster, api: FakeApi, ledger: FakeLedger) -> None:
        await cluster.set_up()
        await cluster.settle()
        ledger.delta = 0.2
        await cluster.push("model:2")
        await cluster.phase(Phase.SHADOWING)
        await cluster.look()
        candidate = api[DEPLOYMENTS, "fraud-candidate"]
        assert candidate["spec"]["template"]["metadata"]["labels"]["app"] == "fraud-candidate"
        assert candidate["metadata"]["ownerReferences"][0]["name"] == "fraud"
        run = candidate["metadata"]["annotations"][names.RUN]
        assert ledger.instructions.run == run
        assert ledger.instructions.candidate == "http://fraud-candidate.team.svc:80"
        await cluster.phase(Phase.COOLDOWN)
        await cluster.settle()
        baseline = api[DEPLOYMENTS, "fraud-baseline"]
        assert baseline["spec"]["template"]["spec"]["containers"][0]["image"] == "model:1"
        assert api.find(DEPLOYMENTS, "fraud-candidate") is None
        rolled = await cluster.condition("RolledBack")
        assert (rolled["status"], rolled["reason"]) == ("True", "LossRegression")
        reasons = {event["reason"] for place, event in api.objects.items() if place[0] == EVENTS.plural}
        assert {"LossRegression", "Shadowing", "TargetPaused", "SelectorNarrowed", "SelectorRestored"} <= reasons

    play(story)


@pytest.mark.parametrize(("image", "reason"), [("broken-crash", "CrashLooping"), ("broken-pull", "ImagePullFailed")])
def test_a_candidate_that_does_not_start_is_rolled_back_with_its_reason(image: str, reason: str) -> None:
    async def story(cluster: Cluster, api: FakeApi, _: FakeLedger) -> None:
        await cluster.set_up()
        await cluster.settle()
        await cluster.push(image)
        await cluster.phase(Phase.COOLDOWN)
        assert (await cluster.condition("RolledBack"))["reason"] == reason
        assert api.find(DEPLOYMENTS, "fraud-candidate") is None

    play(story)


def test_a_numeric_port_is_redirected_last_and_restored_first() -> None:
    async def story(cluster: Cluster, api: FakeApi, _: FakeLedger) -> None:
        await cluster.set_up(target_port=8080)
        await cluster.settle()
        assert api[SERVICES, "fraud"]["spec"]["ports"][0]["targetPort"] == 18080
        assert api[SERVICES, "fraud"]["spec"]["selector"] == {"app": "fraud"}
        await api.delete(CANARIES, "team", "fraud")
        await cluster.settle()
        assert api[SERVICES, "fraud"]["spec"]["ports"][0]["targetPort"] == 8080

    play(story)


def test_a_baseline_that_was_deleted_by_hand_is_made_again_as_it_was() -> None:
    async def story(cluster: Cluster, api: FakeApi, _: FakeLedger) -> None:
        await cluster.set_up(target_port=8080)
        await cluster.settle()
        before = api.objects.pop(("deployments", "team", "fraud-baseline"))
        await cluster.controllers.settle()
        cluster.served = False  # that was the user's doing
        await cluster.settle()
        again = api[DEPLOYMENTS, "fraud-baseline"]
        assert again["spec"] == before["spec"]
        assert again["metadata"]["annotations"] == before["metadata"]["annotations"]
        assert cluster.served

    play(story)


@pytest.mark.parametrize("end", ["promoted", "rolledBack", "shadowing"])
def test_deletion_gives_the_target_back_what_was_promoted(end: str) -> None:
    async def story(cluster: Cluster, api: FakeApi, ledger: FakeLedger) -> None:
        await cluster.set_up()
        await cluster.settle()
        ledger.delta = {"promoted": -0.1, "rolledBack": 0.2, "shadowing": 0.0}[end]
        ledger.silent = end == "shadowing"
        await cluster.push("model:2")
        await cluster.phase({"promoted": Phase.PROMOTING, "rolledBack": Phase.COOLDOWN}.get(end, Phase.SHADOWING))
        if end != "shadowing":
            await cluster.settle()
        await api.delete(CANARIES, "team", "fraud")
        await cluster.settle()
        target = api[DEPLOYMENTS, "fraud"]
        assert target["spec"]["template"]["spec"]["containers"][0]["image"] == f"model:{2 if end == 'promoted' else 1}"
        assert (target["spec"]["paused"], target["spec"]["replicas"]) == (False, 2)
        assert names.HELD not in (target["metadata"].get("annotations") or {})
        left = {place for place in api.objects if names.CANARY in (api.objects[place]["metadata"].get("labels") or {})}
        assert left == set()
        assert await cluster.resource() is None
        assert ledger.instructions.run == ""

    play(story)


def test_a_recreated_resource_takes_its_baseline_up_again() -> None:
    async def story(cluster: Cluster, api: FakeApi, _: FakeLedger) -> None:
        await cluster.set_up(spec={"deletion": "KeepBaseline"})
        await cluster.settle()
        await api.delete(CANARIES, "team", "fraud")
        await cluster.settle()
        assert api.find(DEPLOYMENTS, "fraud-baseline") is not None
        rolled = api[DEPLOYMENTS, "fraud-baseline"]["metadata"]["generation"]
        await api.create(CANARIES, "team", canary())
        await cluster.phase(Phase.SERVING)
        baseline = api[DEPLOYMENTS, "fraud-baseline"]
        assert baseline["metadata"]["labels"][names.UID] == api[CANARIES, "fraud"]["metadata"]["uid"]
        assert baseline["metadata"]["generation"] == rolled

    play(story)


def test_an_upgrade_with_replicas_lets_nothing_unjudged_in() -> None:
    """`helm upgrade` writes a new image and `replicas: 3` at once; they go to the baseline."""

    async def story(cluster: Cluster, api: FakeApi, ledger: FakeLedger) -> None:
        await cluster.set_up()
        await cluster.settle()
        ledger.delta = 0.2
        await cluster.push("model:2", replicas=3)
        await cluster.phase(Phase.COOLDOWN)
        await cluster.settle()
        assert api[DEPLOYMENTS, "fraud-baseline"]["spec"]["replicas"] == 3
        assert api[DEPLOYMENTS, "fraud"]["spec"]["replicas"] == 0
        assert api[SERVICES, "fraud"]["spec"]["selector"] == {"app": "fraud"}

    play(story)


def test_a_new_operator_and_a_new_specification_roll_no_pod() -> None:
    async def story(cluster: Cluster, api: FakeApi, _: FakeLedger) -> None:
        await cluster.set_up()
        await cluster.settle()
        generation = api[DEPLOYMENTS, "fraud-baseline"]["metadata"]["generation"]
        cluster.settings = settings("--sidecar-image", "sidecar:2", "--sidecar-port", "18081")
        cluster.restart()
        resources = {"limits": {"memory": "0.5Gi"}}
        await api.merge(CANARIES, "team", "fraud", {"spec": {"sidecar": {"workers": 2, "resources": resources}}})
        await cluster.settle()
        assert api[DEPLOYMENTS, "fraud-baseline"]["metadata"]["generation"] == generation

    play(story)


def test_a_new_sidecar_comes_with_the_next_promotion() -> None:
    async def story(cluster: Cluster, api: FakeApi, ledger: FakeLedger) -> None:
        await cluster.set_up()
        await cluster.settle()
        cluster.settings = settings("--sidecar-image", "sidecar:2")
        cluster.restart()
        ledger.delta = -0.1
        await cluster.push("model:2")
        await cluster.phase(Phase.PROMOTING)
        await cluster.settle()
        pod = api[DEPLOYMENTS, "fraud-baseline"]["spec"]["template"]["spec"]
        assert pod["initContainers"][-1]["image"] == "sidecar:2"

    play(story)


def test_what_is_edited_by_hand_is_put_right() -> None:
    async def story(cluster: Cluster, api: FakeApi, _: FakeLedger) -> None:
        await cluster.set_up()
        await cluster.settle()
        edited = api[DEPLOYMENTS, "fraud-baseline"]
        edited["spec"]["template"]["spec"]["containers"][0]["image"] = "model:9"
        cluster.promoted.add("model:9")
        await cluster.settle()
        assert api[DEPLOYMENTS, "fraud-baseline"]["spec"]["template"]["spec"]["containers"][0]["image"] == "model:1"

    play(story)


def test_the_autoscaler_goes_to_the_baseline_and_stays_a_copy() -> None:
    async def story(cluster: Cluster, api: FakeApi, _: FakeLedger) -> None:
        await cluster.set_up()
        reference = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "fraud"}
        spec = {"scaleTargetRef": reference, "minReplicas": 2, "maxReplicas": 5}
        users = {"metadata": {"name": "fraud"}, "spec": spec}
        await api.create(AUTOSCALERS, "team", users)
        await cluster.settle()
        copied = api[AUTOSCALERS, "fraud-baseline"]["spec"]
        assert copied == {**spec, "scaleTargetRef": {**reference, "name": "fraud-baseline"}}
        await api.merge(AUTOSCALERS, "team", "fraud", {"spec": {"maxReplicas": 9}})
        await cluster.settle()
        assert api[AUTOSCALERS, "fraud-baseline"]["spec"]["maxReplicas"] == 9
        await api.delete(AUTOSCALERS, "team", "fraud")
        await cluster.settle()
        assert api.find(AUTOSCALERS, "fraud-baseline") is None

    play(story)


def _container(api: FakeApi) -> Object:
    found: Object = api[DEPLOYMENTS, "fraud"]["spec"]["template"]["spec"]["containers"][0]
    return found


def _container_beside(api: FakeApi) -> None:
    api[DEPLOYMENTS, "fraud"]["spec"]["template"]["spec"]["containers"].append({"name": "modelcanary", "image": "m"})


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda api: api.objects.pop(("services", "team", "fraud")), "ServiceMissing"),
        (lambda api: api.objects.pop(("deployments", "team", "fraud")), "TargetMissing"),
        (lambda api: api[SERVICES, "fraud"]["spec"].update(clusterIP="None"), "ServiceHeadless"),
        (lambda api: api[SERVICES, "fraud"]["spec"].update(selector={"app": "other"}), "ServiceSelectsOthers"),
        (lambda api: api[SERVICES, "fraud"]["spec"].update(selector={}), "ServiceWithoutSelector"),
        (lambda api: api[SERVICES, "fraud"]["spec"]["ports"][0].update(name="grpc"), "ServicePortMissing"),
        (lambda api: api[SERVICES, "fraud"]["spec"]["ports"][0].update(targetPort="web"), "PortUnresolved"),
        (lambda api: api[DEPLOYMENTS, "fraud"]["spec"].update(paused=True), "TargetPaused"),
        (
            lambda api: api[DEPLOYMENTS, "fraud"]["spec"]["template"]["spec"].update(hostNetwork=True),
            "HostNetwork",
        ),
        (_container_beside, "NameTaken"),
        (lambda api: api[SERVICES, "fraud"]["spec"]["ports"][0].update(targetPort=18080), "PortTaken"),
        (lambda api: _container(api)["ports"].append({"name": "admin", "containerPort": 18090}), "PortTaken"),
        (
            lambda api: api[DEPLOYMENTS, "fraud"]["metadata"].update(
                ownerReferences=[{"kind": "InferenceService", "name": "fraud", "uid": "x", "controller": True}]
            ),
            "TargetControlled",
        ),
        (
            lambda api: api[CANARIES, "fraud"]["spec"].update(alerts=[{"endpoint": "a", "events": ["Held"]}]),
            "EndpointUnknown",
        ),
        (
            lambda api: api[CANARIES, "fraud"]["spec"].update(
                labels={"sources": [{"files": {"endpoint": "a", "path": "p"}}]}
            ),
            "EndpointUnknown",
        ),
        (lambda api: api[CANARIES, "fraud"]["spec"]["model"].update(classes=["one"]), "InvalidSpec"),
    ],
)
def test_what_cannot_be_adopted_is_left_alone_and_says_why(change: Callable[[FakeApi], Any], reason: str) -> None:
    async def story(cluster: Cluster, api: FakeApi, _: FakeLedger) -> None:
        await cluster.set_up()
        cluster.served = False
        change(api)
        users = {place: found for place, found in api.objects.items() if place[0] in ("deployments", "services")}
        for _ in range(6):
            await cluster.reconciler.reconcile(KEY)
        stalled = await cluster.condition("Stalled")
        assert (stalled["status"], stalled["reason"]) == ("True", reason)
        assert {place: api.objects[place] for place in users} == users
        assert api.find(DEPLOYMENTS, "fraud-baseline") is None

    play(story)


def test_the_ledger_hears_of_senders_also_while_nothing_runs_and_forgets_them_with_the_resource() -> None:
    async def story(cluster: Cluster, api: FakeApi, ledger: FakeLedger) -> None:
        def listed(*names: str) -> Object:
            return {"senders": [{"name": name, "tokenSHA256": "ab" * 32} for name in names]}

        async def edit(*names: str) -> None:
            found = await api.get(CANARIES, "team", "fraud")
            found["spec"]["labels"] |= listed(*names)
            await api.replace(CANARIES, "team", "fraud", found)
            await cluster.settle()

        await cluster.set_up(spec={"labels": {"maturity": "0s", **listed("billing")}})
        await cluster.settle()
        assert (await cluster.status()).phase is Phase.SERVING
        assert ledger.senders == ["billing"]
        told = len(ledger.puts)
        await cluster.settle()
        assert len(ledger.puts) == told
        await edit("billing", "desk")
        assert ledger.senders == ["billing", "desk"]
        await edit()
        assert (ledger.senders, len(ledger.puts)) == ([], told + 2)
        await edit("desk")
        await api.delete(CANARIES, "team", "fraud")
        await cluster.settle()
        assert await cluster.resource() is None
        assert ledger.senders == []
        assert ledger.instructions.version == 0, "it is forgotten"

    play(story)


def test_of_two_for_one_target_the_older_has_it() -> None:
    async def story(cluster: Cluster, api: FakeApi, _: FakeLedger) -> None:
        await cluster.set_up()
        api.now = "2025-01-01T00:00:00Z"
        older = canary()
        older["metadata"]["name"] = "first"
        await api.create(CANARIES, "team", older)
        await cluster.settle()
        assert (await cluster.condition("Stalled"))["reason"] == "TargetTaken"

    play(story)


def test_a_baseline_that_does_not_answer_is_not_relied_upon() -> None:
    """A NetworkPolicy that allows the model's port only."""

    async def story(cluster: Cluster, api: FakeApi, _: FakeLedger) -> None:
        await cluster.set_up()
        cluster.answers = False
        for _ in range(60):
            cluster.now += await cluster.look() or 0.0
        assert (await cluster.condition("Stalled"))["reason"] == "PortUnresolved"
        assert api[SERVICES, "fraud"]["spec"]["selector"] == {"app": "fraud"}
        assert api[DEPLOYMENTS, "fraud"]["spec"]["replicas"] == 2
        cluster.answers = True
        await cluster.phase(Phase.SERVING)

    play(story)


#: By what the seam makes of them: 409; 422 and 403; 429, 5xx, timeouts and resets.
FAULTS = {"conflict": Conflict(409, "conflict"), "refused": Refused(422, "no"), "unavailable": Unavailable(0, "reset")}


async def deploy_and_delete(cluster: Cluster, api: FakeApi, ledger: FakeLedger) -> None:
    """Adopted, one promoted, one rolled back, deleted."""
    await cluster.set_up()
    await cluster.settle()
    ledger.delta = -0.1
    await cluster.push("model:2")
    await cluster.settle()
    ledger.delta = 0.2
    await cluster.push("model:3")
    await cluster.settle()
    await api.delete(CANARIES, "team", "fraud")
    await cluster.settle()


def outcome(api: FakeApi) -> dict[str, Any]:
    """What is left, without versions, names of pods and Events."""
    kept = (DEPLOYMENTS.plural, SERVICES.plural, REVISIONS.plural, CANARIES.plural, AUTOSCALERS.plural)
    return {f"{place[0]} {place[2]}": found.get("spec") for place, found in api.objects.items() if place[0] in kept}


@cache
def undisturbed() -> dict[str, Any]:
    return outcome(play(deploy_and_delete)[1])


@pytest.mark.parametrize("forgetful", [False, True], ids=["same", "restarted"])
@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("fault", FAULTS)
def test_every_third_write_fails(fault: str, when: str, forgetful: bool) -> None:
    """Before it had its effect, or after it, of one process or of another at each look: the same is left."""
    failed: list[str] = []

    async def story(cluster: Cluster, api: FakeApi, ledger: FakeLedger) -> None:
        cluster.forgetful = forgetful
        number = 0

        def sabotage(at: str, method: str, plural: str, name: str) -> None:
            nonlocal number
            if cluster.working and at == when and method not in ("GET", "LIST") and plural != EVENTS.plural:
                number += 1
                if number % 3 == 0:
                    failed.append(f"{method} {plural} {name}")
                    raise FAULTS[fault]

        api.saboteur = sabotage
        await deploy_and_delete(cluster, api, ledger)

    _, disturbed, _ = play(story)
    assert len(failed) > 10
    assert outcome(disturbed) == undisturbed()


@pytest.mark.parametrize("fault", FAULTS)
def test_reads_that_fail_only_delay(fault: str) -> None:
    async def story(cluster: Cluster, api: FakeApi, ledger: FakeLedger) -> None:
        number = 0

        def sabotage(at: str, method: str, plural: str, name: str) -> None:
            nonlocal number
            if cluster.working and method in ("GET", "LIST"):
                number += 1
                if number % 97 == 0:
                    raise FAULTS[fault]

        api.saboteur = sabotage
        await deploy_and_delete(cluster, api, ledger)

    assert outcome(play(story)[1]) == undisturbed()


def test_a_leader_that_was_frozen_mid_write_changes_nothing() -> None:
    """Each of its writes, delivered when a successor has gone on to the next template."""

    async def story(cluster: Cluster, api: FakeApi, ledger: FakeLedger) -> None:
        await cluster.set_up()
        await cluster.settle()
        ledger.delta = -0.1
        frozen: list[Callable[[], Awaitable[Any]]] = []
        real = {name: getattr(api, name) for name in ("create", "replace", "merge", "delete")}
        await cluster.push("model:2")
        for name, write in real.items():

            async def noted(*given: Any, name: str = name, write: Any = write, **more: Any) -> Any:
                if cluster.working and given[0].plural != EVENTS.plural:
                    frozen.append(lambda: write(*copy.deepcopy(given), **more))
                return await write(*given, **more)

            setattr(api, name, noted)
        await cluster.settle()
        for name, write in real.items():
            setattr(api, name, write)
        await cluster.push("model:3")
        await cluster.settle()
        assert api[DEPLOYMENTS, "fraud-baseline"]["spec"]["template"]["spec"]["containers"][0]["image"] == "model:3"
        assert len(frozen) > 8
        for late in frozen:
            with contextlib.suppress(ApiError):
                await late()
            await cluster.check()
        await cluster.settle()
        assert api[DEPLOYMENTS, "fraud-baseline"]["spec"]["template"]["spec"]["containers"][0]["image"] == "model:3"
        assert api.find(DEPLOYMENTS, "fraud-candidate") is None
        assert (await cluster.status()).phase is Phase.SERVING

    play(story)


def test_what_the_api_server_refuses_is_said_once_where_the_owner_looks() -> None:
    async def story(cluster: Cluster, api: FakeApi, _: FakeLedger) -> None:
        allowed = False

        def refuse(when: str, method: str, plural: str, name: str) -> None:
            if (when, method, plural) == ("before", "POST", "deployments") and not allowed:
                raise Refused(403, "denied the request: images of this registry may not run")

        await cluster.set_up()
        api.saboteur = refuse
        while len(cluster.errors) < 5:
            await cluster.look()

        async def told() -> list[str]:
            return [item["message"] for item in await api.list(EVENTS, "team") if item["reason"] == "WriteRefused"]

        [words] = await told()
        assert "ApplyBaseline is tried again" in words and "images of this registry" in words
        allowed = True
        await cluster.settle()
        assert (await cluster.status()).phase is Phase.SERVING and len(await told()) == 1

    play(story)


def test_what_is_stalled_can_be_alerted_on_in_every_phase() -> None:
    async def story(cluster: Cluster, api: FakeApi, _: FakeLedger) -> None:
        def stalled() -> float | None:
            return cluster.metrics.registry.get_sample_value(
                "modelcanary_stalled", {"namespace": "team", "name": "fraud"}
            )

        await cluster.set_up()
        await cluster.settle()
        assert stalled() == 0
        target = api.objects.pop((DEPLOYMENTS.plural, "team", "fraud"))
        await cluster.settle()
        assert stalled() == 1 and (await cluster.status()).phase is Phase.SERVING
        api.objects[DEPLOYMENTS.plural, "team", "fraud"] = target
        await cluster.settle()
        assert stalled() == 0
        spec = api[CANARIES, "fraud"]["spec"]
        model, spec["model"] = spec["model"], {}
        await cluster.settle()
        assert stalled() == 1, "also where the specification cannot be read"
        api[CANARIES, "fraud"]["spec"]["model"] = model
        await api.delete(CANARIES, "team", "fraud")
        await cluster.settle()
        assert stalled() is None

    play(story)


def test_a_definition_that_does_not_keep_the_status_is_said_to_be_older() -> None:
    async def story(cluster: Cluster, api: FakeApi, _: FakeLedger) -> None:
        await cluster.set_up()
        replace = api.replace

        async def pruning(kind: Kind, namespace: str, name: str, body: Any, subresource: str = "") -> Any:
            if kind is CANARIES:
                body = copy.deepcopy(body)
                body["status"].pop("operatorVersion", None)
            return await replace(kind, namespace, name, body, subresource)

        api.replace = pruning  # type: ignore[method-assign]
        with pytest.raises(OperatorError, match="definition is older"):
            await cluster.reconciler.reconcile(KEY)

    play(story)


def test_a_ledger_that_lost_everything_is_told_again() -> None:
    async def story(cluster: Cluster, api: FakeApi, ledger: FakeLedger) -> None:
        await cluster.set_up()
        await cluster.settle()
        ledger.silent = True
        await cluster.push("model:2")
        await cluster.phase(Phase.SHADOWING)
        await cluster.look()
        run = ledger.instructions.run
        assert run
        ledger.instructions, ledger.spec = Instructions(version=0), {}
        await cluster.look()
        assert ledger.instructions.run == run and ledger.spec
        puts = len(ledger.puts)
        await api.merge(CANARIES, "team", "fraud", {"spec": {"labels": {"minCoverage": "0.5"}}})
        await cluster.look()
        await cluster.look()
        assert len(ledger.puts) == puts + 1
        assert ledger.spec["labels"] == {"maturity": "0s", "minCoverage": "0.5"}
        assert ledger.instructions.run == run

    play(story)


def test_labels_that_come_late_take_a_promotion_back() -> None:
    async def story(cluster: Cluster, api: FakeApi, ledger: FakeLedger) -> None:
        await cluster.set_up(spec={"promotion": {"observeFor": "7d"}})
        await cluster.settle()
        ledger.delta = -0.1
        await cluster.push("model:2")
        await cluster.phase(Phase.OBSERVING)
        await cluster.until(lambda: _is_told(ledger, observing=True))
        shadow = api[DEPLOYMENTS, "fraud-candidate"]["spec"]["template"]["spec"]["containers"]
        assert shadow[-1]["image"] == "model:1"
        assert (await cluster.condition("Promoted"))["status"] == "True"
        run = (await cluster.status()).run
        assert run.id == ledger.instructions.run
        ledger.delta = 0.2
        cluster.restart()
        await cluster.phase(Phase.COOLDOWN)
        await cluster.settle()
        baseline = api[DEPLOYMENTS, "fraud-baseline"]
        assert baseline["spec"]["template"]["spec"]["containers"][0]["image"] == "model:1"
        assert baseline["status"]["readyReplicas"] == 2
        assert (await cluster.condition("RolledBack"))["reason"] == "LossRegression"
        assert api.find(DEPLOYMENTS, "fraud-candidate") is None

    play(story)


async def _is_told(ledger: FakeLedger, *, observing: bool) -> bool:
    return ledger.instructions.observing is observing


def test_a_template_that_could_not_be_the_baselines_is_not_tried() -> None:
    async def story(cluster: Cluster, api: FakeApi, _: FakeLedger) -> None:
        await cluster.set_up()
        await cluster.settle()
        (container,) = api[DEPLOYMENTS, "fraud"]["spec"]["template"]["spec"]["containers"]
        taken = [*container["ports"], {"name": "admin", "containerPort": 18090}]
        template = {"spec": {"containers": [{**container, "image": "model:2", "ports": taken}]}}
        await api.merge(DEPLOYMENTS, "team", "fraud", {"spec": {"template": template}})
        await cluster.settle()
        stalled = await cluster.condition("Stalled")
        assert (stalled["status"], stalled["reason"]) == ("True", "PortTaken")
        assert api.find(DEPLOYMENTS, "fraud-candidate") is None

    play(story)


def test_evidence_alone_brings_no_second_look() -> None:
    """What a look stores of it is known: neither at once nor for the event of its own write is there more to find."""

    async def story(cluster: Cluster, api: FakeApi, ledger: FakeLedger) -> None:
        await cluster.set_up(spec={"analysis": {"interval": "5s", "minDuration": "1h"}})
        await cluster.settle()
        await cluster.push("model:2")
        await cluster.phase(Phase.SHADOWING)
        for _ in range(4):
            await cluster.look()
        before = api[CANARIES, "fraud"]["metadata"]["resourceVersion"]
        for _ in range(3):
            ledger.blocks += 1
            cluster.now += 5.0
            assert await cluster.look() == 5.0
            after = api[CANARIES, "fraud"]["metadata"]["resourceVersion"]
            assert after != before, "it was stored"
            assert cluster.reconciler.has_seen(KEY, after)
            assert not cluster.reconciler.has_seen(KEY, before)
            before = after

    play(story)
