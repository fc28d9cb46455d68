"""What must keep nobody from leaving, or a decision from being carried out: others' objects, and what is lost."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from tests.operator.fake_api import FakeApi
from tests.operator.fake_ledger import FakeLedger
from tests.operator.harness import KEY, SPEC, Cluster

from modelcanary_gate.plan.phases import Phase
from modelcanary_operator import names, remains, status_json
from modelcanary_operator.api import CANARIES, CONFIG_MAPS, DEPLOYMENTS, EVENTS, SERVICES, Object

Story = Callable[[Cluster, FakeApi, FakeLedger], Awaitable[None]]


def play(story: Story) -> None:
    api, ledger = FakeApi(), FakeLedger()
    asyncio.run(story(Cluster(api, ledger), api, ledger))


async def events(api: FakeApi, reason: str) -> list[str]:
    return [event["message"] for event in await api.list(EVENTS, "team") if event["reason"] == reason]


@pytest.mark.parametrize("field", ["model", "analysis", "labels"])
def test_a_specification_that_became_unreadable_is_no_prison(field: str) -> None:
    async def story(cluster: Cluster, api: FakeApi, _: FakeLedger) -> None:
        await cluster.set_up(target_port=8080)
        await cluster.settle()
        before = api[SERVICES, "fraud"]["spec"]["ports"][0]["targetPort"]
        assert before != 8080
        api[CANARIES, "fraud"]["spec"][field] = {"ofLater": True}
        for _ in range(3):
            await cluster.look()
        assert (await cluster.condition("Stalled"))["reason"] == "InvalidSpec", "what serves goes on serving"
        await api.delete(CANARIES, "team", "fraud")
        await cluster.settle()
        assert await cluster.resource() is None
        target = api[DEPLOYMENTS, "fraud"]
        assert (target["spec"]["replicas"], target["spec"]["paused"]) == (2, False)
        assert api[SERVICES, "fraud"]["spec"]["ports"][0]["targetPort"] == 8080
        assert api.find(DEPLOYMENTS, "fraud-baseline") is None

    play(story)


def test_what_can_be_read_of_a_specification_is_kept() -> None:
    written: Object = {**SPEC, "deletion": "KeepBaseline", "analysis": {"later": 1}, "unknown": 7}
    found = remains.readable(written)
    assert found is not None and found.target is not None
    assert (found.deletion, found.target.name) == ("KeepBaseline", "fraud")
    assert remains.readable({**SPEC, "targetRef": {"name": 7}}) is None
    assert remains.readable(None) is None


def test_a_foreign_object_of_a_reports_name_keeps_nobody_from_rolling_back() -> None:
    async def story(cluster: Cluster, api: FakeApi, ledger: FakeLedger) -> None:
        await cluster.set_up()
        await cluster.settle()
        ledger.delta = 0.4
        await cluster.push("model:2")
        await cluster.phase(Phase.SHADOWING)
        run = (await cluster.status()).run.id
        foreign = {"metadata": {"name": names.report("fraud", f"{run}/RollBack")}, "data": {"a": "theirs"}}
        await api.create(CONFIG_MAPS, "team", foreign)
        await cluster.phase(Phase.COOLDOWN)
        assert api[CONFIG_MAPS, foreign["metadata"]["name"]]["data"] == {"a": "theirs"}  # type: ignore[index]
        assert len(await events(api, "ReportNotKept")) == 1

    play(story)


def test_evidence_that_a_ledger_has_lost_is_said_and_not_mixed_with_the_new() -> None:
    async def story(cluster: Cluster, api: FakeApi, ledger: FakeLedger) -> None:
        await cluster.set_up()
        await cluster.settle()
        ledger.blocks = 3
        await cluster.push("model:2")
        await cluster.phase(Phase.SHADOWING)

        async def measured() -> bool:
            return ((await cluster.resource()) or {})["status"].get("evidence", {}).get("judged", 0) > 0

        await cluster.until(measured)
        judged = (await cluster.resource() or {})["status"]["evidence"]["judged"]
        assert await events(api, "EvidenceLost") == []
        ledger.source, ledger.blocks = "another", 2
        cluster.now += 5.0
        for _ in range(3):
            await cluster.reconciler.reconcile(KEY)
        assert len(await events(api, "EvidenceLost")) == 1
        assert 0 < (await cluster.resource() or {})["status"]["evidence"]["judged"] < judged

    play(story)


def test_a_restart_of_the_baseline_is_left_alone() -> None:
    """What `kubectl rollout restart` does; the target is paused, where kubectl refuses it."""

    async def story(cluster: Cluster, api: FakeApi, _: FakeLedger) -> None:
        await cluster.set_up()
        await cluster.settle()
        found = await api.get(DEPLOYMENTS, "team", "fraud-baseline")
        restarted = {"kubectl.kubernetes.io/restartedAt": "2026-01-01T00:00:00Z"}
        found["spec"]["template"]["metadata"]["annotations"] = restarted
        await api.replace(DEPLOYMENTS, "team", "fraud-baseline", found)
        await cluster.settle()
        annotations = api[DEPLOYMENTS, "fraud-baseline"]["spec"]["template"]["metadata"]["annotations"]
        assert restarted.items() <= annotations.items()
        status = await cluster.status()
        assert (status.phase, status.run) == (Phase.SERVING, None)

    play(story)


@pytest.mark.parametrize("running", [False, True], ids=["serving", "shadowing"])
def test_a_ledger_that_answers_and_takes_nothing_keeps_nobody_for_long(running: bool) -> None:
    """With a run on, it is not even told that nothing is mirrored any more."""

    async def story(cluster: Cluster, api: FakeApi, ledger: FakeLedger) -> None:
        await cluster.set_up()
        await cluster.settle()
        if running:
            ledger.silent = True
            await cluster.push("model:2")
            await cluster.phase(Phase.SHADOWING)
        ledger.read_only = True
        api.now = status_json.moment(cluster.now)
        await api.delete(CANARIES, "team", "fraud")
        begun = cluster.now

        async def gone() -> bool:
            return await cluster.resource() is None

        await cluster.until(gone)
        assert 60.0 <= cluster.now - begun < 180.0
        assert api.find(DEPLOYMENTS, "fraud-baseline") is None
        assert api.find(DEPLOYMENTS, "fraud-candidate") is None
        assert len(await events(api, "LedgerNotTold")) == 1

    play(story)


def test_a_ledger_that_writes_again_is_told_however_long_the_leaving_took() -> None:
    async def story(cluster: Cluster, api: FakeApi, ledger: FakeLedger) -> None:
        await cluster.set_up()
        await cluster.settle()
        api.now = status_json.moment(cluster.now)
        await api.delete(CANARIES, "team", "fraud")
        cluster.now += 600.0
        ledger.read_only = True
        for _ in range(50):
            if not cluster.errors:
                await cluster.look()
        assert cluster.errors
        ledger.read_only = False
        await cluster.settle()
        assert await cluster.resource() is None
        assert ledger.instructions.version == 0, "it is forgotten"
        assert await events(api, "LedgerNotTold") == []

    play(story)
