"""Decision reports: kept at each verdict before the candidate goes, whatever fails, and never in the way."""

import asyncio
import base64
import gzip
import random
from collections.abc import Awaitable, Callable
from dataclasses import replace

import msgspec
import pytest
from tests.operator.fake_api import FakeApi
from tests.operator.fake_ledger import FakeLedger
from tests.operator.harness import SPEC, Cluster

from modelcanary_gate.parse import parse_spec
from modelcanary_gate.plan.ending import KEPT_REPORTS
from modelcanary_gate.plan.phases import Phase
from modelcanary_gate.record import ClassRow, Event, Look, Record
from modelcanary_gate.vocabulary import Reason, Verdict
from modelcanary_operator import names, reports
from modelcanary_operator.api import CANARIES, CONFIG_MAPS, DEPLOYMENTS, EVENTS, Object
from modelcanary_operator.errors import Refused, Unavailable
from modelcanary_operator.manifests import Owner

Story = Callable[[Cluster, FakeApi, FakeLedger], Awaitable[None]]


def play(story: Story) -> None:
    api, ledger = FakeApi(), FakeLedger()
    asyncio.run(story(Cluster(api, ledger), api, ledger))


def read(config_map: Object) -> Record:
    packed = base64.b64decode(config_map["binaryData"][names.RECORD_KEY])
    return msgspec.json.decode(gzip.decompress(packed), type=Record)


async def kept(api: FakeApi) -> list[Object]:
    return await api.list(CONFIG_MAPS, "team", {names.CANARY: "fraud", names.ROLE: names.REPORT})


async def serve(cluster: Cluster) -> None:
    await cluster.set_up()
    await cluster.settle()


def test_a_verdict_is_kept_with_what_it_was_taken_from() -> None:
    async def story(cluster: Cluster, api: FakeApi, ledger: FakeLedger) -> None:
        await serve(cluster)
        ledger.delta = 0.2
        await cluster.push("model:2")
        await cluster.phase(Phase.ROLLING_BACK)
        status = await cluster.status()
        await cluster.settle()
        [found] = await kept(api)
        assert found["metadata"]["name"] == names.report("fraud", f"{status.run.id}/RollBack")
        assert found["metadata"]["ownerReferences"][0]["name"] == "fraud"
        assert found["data"]["verdict"] == "RollBack" and found["data"]["reason"] == "LossRegression"
        record = read(found)
        assert (record.run, record.command, record.verdict) == (status.run.id, "operator", Verdict.ROLL_BACK)
        assert (record.reason, record.message) == (status.decided.reason, status.decided.message)
        assert record.baseline == f"model:1 (template {status.baseline})"
        assert record.candidate == f"model:2 (template {status.run.candidate})"
        assert record.pairs == 12_000 and record.looks[-1].delta == pytest.approx(0.2, abs=0.01)
        assert len(record.looks) > 20, "it shows how the evidence came"
        assert record.spec["model"] == SPEC["model"]
        assert record.thresholds is not None and record.outcomes["candidate"] == {"ok": 12_000}

    play(story)


def test_the_candidate_goes_only_when_the_report_is_there() -> None:
    async def story(cluster: Cluster, api: FakeApi, ledger: FakeLedger) -> None:
        await serve(cluster)

        def down(when: str, method: str, plural: str, name: str) -> None:
            if (when, method, plural) == ("before", "POST", "configmaps"):
                raise Unavailable(503, "later")

        api.saboteur = down
        ledger.delta = 0.2
        await cluster.push("model:2")
        await cluster.phase(Phase.ROLLING_BACK)
        for _ in range(10):
            await cluster.look()
        assert api.find(DEPLOYMENTS, "fraud-candidate") is not None
        assert not ledger.instructions.run, "but nothing is mirrored to it"
        api.saboteur = lambda *_: None
        await cluster.settle()
        assert api.find(DEPLOYMENTS, "fraud-candidate") is None
        assert len(await kept(api)) == 1

    play(story)


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_crash_around_the_write_leaves_one_report_of_the_same_evidence(when: str) -> None:
    async def story(cluster: Cluster, api: FakeApi, ledger: FakeLedger) -> None:
        await serve(cluster)
        failed: list[str] = []

        def crash(moment: str, method: str, plural: str, name: str) -> None:
            if (moment, method, plural) == (when, "POST", "configmaps") and not failed:
                failed.append(name)
                cluster.restart()
                raise Unavailable(0, "the process ends here")

        api.saboteur = crash
        ledger.delta = -0.1
        await cluster.push("model:2")
        await cluster.phase(Phase.PROMOTING)
        await cluster.settle()
        [found] = await kept(api)
        assert failed == [found["metadata"]["name"]]
        record = read(found)
        assert record.verdict is Verdict.PROMOTE and record.pairs == 12_000 and len(record.looks) > 20

    play(story)


def test_a_refused_report_keeps_nobody_from_rolling_back() -> None:
    async def story(cluster: Cluster, api: FakeApi, ledger: FakeLedger) -> None:
        await serve(cluster)

        def refuse(when: str, method: str, plural: str, name: str) -> None:
            if (when, method, plural) == ("before", "POST", "configmaps"):
                raise Refused(403, "exceeded quota: configmaps")

        api.saboteur = refuse
        ledger.delta = 0.2
        await cluster.push("model:2")
        await cluster.phase(Phase.COOLDOWN)
        await cluster.settle()
        told = [item for item in await api.list(EVENTS, "team") if item["reason"] == "ReportNotKept"]
        assert len(told) == 1 and "exceeded quota" in told[0]["message"]

    play(story)


def test_without_a_ledger_the_report_says_so() -> None:
    async def story(cluster: Cluster, api: FakeApi, ledger: FakeLedger) -> None:
        await serve(cluster)
        ledger.delta = 0.2
        await cluster.push("model:2")
        await cluster.phase(Phase.ROLLING_BACK)
        cluster.restart()
        ledger.up = False
        await cluster.phase(Phase.COOLDOWN)
        record = read((await kept(api))[0])
        assert record.reason == "LossRegression" and "did not answer" in record.notes[0]

    play(story)


def test_a_candidate_that_never_came_up_has_a_report_too() -> None:
    async def story(cluster: Cluster, api: FakeApi, _: FakeLedger) -> None:
        await serve(cluster)
        await cluster.push("broken-crash")
        await cluster.phase(Phase.COOLDOWN)
        record = read((await kept(api))[0])
        assert record.reason == "CrashLooping" and record.notes == [] and record.looks == []

    play(story)


def test_the_last_ten_are_kept() -> None:
    async def story(cluster: Cluster, api: FakeApi, ledger: FakeLedger) -> None:
        await serve(cluster)
        ledger.delta = -0.1
        runs = []
        for number in range(2, KEPT_REPORTS + 4):
            api.now = f"2026-01-01T00:{number:02}:00Z"
            await cluster.push(f"model:{number}")
            await cluster.phase(Phase.PROMOTING)
            runs.append((await cluster.status()).run.id)
            await cluster.settle()
        found = {item["data"]["run"] for item in await kept(api)}
        assert found == set(runs[-KEPT_REPORTS:])

    play(story)


def test_a_copy_that_somebody_keeps_is_not_counted_nor_deleted() -> None:
    async def story(cluster: Cluster, api: FakeApi, ledger: FakeLedger) -> None:
        await serve(cluster)
        ledger.delta = -0.1
        for number in range(2, KEPT_REPORTS + 4):
            api.now = f"2026-01-01T00:{number:02}:00Z"
            await cluster.push(f"model:{number}")
            await cluster.phase(Phase.SHADOWING)
            await cluster.settle()
            if number == 2:
                [first] = await kept(api)
                copied = {**first["metadata"], "name": "for-the-auditors"}
                await api.create(CONFIG_MAPS, "team", {**first, "metadata": copied})
        found = {item["metadata"]["name"] for item in await kept(api)}
        assert "for-the-auditors" in found and len(found) == KEPT_REPORTS + 1
        serving = api[DEPLOYMENTS, "fraud-baseline"]["spec"]["template"]["spec"]["containers"][0]["image"]
        assert serving == f"model:{KEPT_REPORTS + 3}"

    play(story)


def test_what_does_not_fit_is_left_out_and_said() -> None:
    noise = random.Random(1)

    def words(length: int) -> str:
        return "".join(noise.choices("abcdefghijklmnopqrstuvwxyz0123456789", k=length))

    looks = [
        Look(i, i, Verdict.CONTINUE, Reason.TOO_FEW_SAMPLES, *(noise.random() for _ in range(8))) for i in range(3000)
    ]
    large = Record(
        *("fraud-1", "operator", Verdict.PROMOTE, "CandidateNoWorse", "better", 1, 1),
        looks=looks,
        classes=[ClassRow(words(200), 1) for _ in range(5000)],
        events=[Event("Warning", words(1000)) for _ in range(400)],
        spec={"model": words(100)},
    )
    from tests.operator.harness import settings

    owner = Owner("team", "fraud", "uid", parse_spec(SPEC), settings().sidecar)
    made = reports.config_map(owner, "fraud-1/Promote", large)
    assert len(base64.b64decode(made["binaryData"][names.RECORD_KEY])) <= 900_000
    record = read(made)
    assert record.message == "better" and 2 <= len(record.looks) <= 16 and "left out" in record.notes[0]
    small = reports.config_map(owner, "fraud-1/Promote", replace(large, classes=[], events=[]))
    assert read(small).looks == looks


def test_the_resource_says_what_the_evidence_is_and_keeps_it() -> None:
    async def story(cluster: Cluster, api: FakeApi, ledger: FakeLedger) -> None:
        await serve(cluster)
        ledger.delta = 0.2
        await cluster.push("model:2")
        await cluster.phase(Phase.ROLLING_BACK)
        run = (await cluster.status()).run.id
        await cluster.settle()
        resource = await cluster.resource()
        assert resource is not None
        shown = resource["status"]["evidence"]
        assert shown["run"] == run and shown["judged"] == 12_000
        assert float(shown["rollback"]["evidence"]) >= float(shown["rollback"]["threshold"])
        assert {guard["name"]: guard["state"] for guard in shown["guards"]}["errors"] == "ok"
        target = api[DEPLOYMENTS, "fraud"]
        assert resource["status"]["target"] == {"observedGeneration": target["metadata"]["generation"]}

    play(story)


def test_a_promotion_that_is_taken_back_has_a_report_of_each() -> None:
    async def story(cluster: Cluster, api: FakeApi, ledger: FakeLedger) -> None:
        await cluster.set_up(spec={"promotion": {"observeFor": "1h"}})
        await cluster.settle()
        ledger.delta = -0.1
        await cluster.push("model:2")
        await cluster.phase(Phase.OBSERVING)
        run = (await cluster.status()).run.id
        resource = await api.get(CANARIES, "team", "fraud")
        resource["metadata"]["annotations"] = {names.ROLL_BACK: run}
        await api.replace(CANARIES, "team", "fraud", resource)
        await cluster.phase(Phase.COOLDOWN)
        assert [(read(item).run, read(item).verdict) for item in await kept(api)] == [
            (run, Verdict.PROMOTE),
            (run, Verdict.ROLL_BACK),
        ]

    play(story)
