"""A model's deploy with receivers of its signals: what arrives, how often, and what waits for what."""

import asyncio
from pathlib import Path
from typing import Any

import yaml
from tests.operator.fake_api import FakeApi
from tests.operator.fake_ledger import FakeLedger
from tests.operator.harness import Cluster
from tests.operator.outside import events, play, told, until
from tests.operator.receiver import Answer, Receiver, Request

from modelcanary_gate.plan.phases import Phase
from modelcanary_operator.api import EVENTS
from modelcanary_operator.post import GIVE_UP

EVENTS_TOLD = ["RunStarted", "Promoted", "RolledBack", "Held"]


def test_a_roll_back_reaches_who_retrains_with_its_evidence(tmp_path: Path) -> None:
    async def story(cluster: Cluster, api: FakeApi, ledger: FakeLedger, receiver: Receiver) -> None:
        ledger.delta = 0.2
        await cluster.push("model:2")
        await until(cluster, lambda: "RolledBack" in events(receiver))
        await cluster.settle()
        assert events(receiver) == ["RunStarted", "RolledBack"]
        data = told(receiver)[-1]["data"]
        status = await cluster.status()
        assert (data["namespace"], data["name"], data["reason"]) == ("team", "fraud", "LossRegression")
        assert data["candidateTemplate"] == status.rejected.template
        assert data["evidence"]["delta"] > 0.15
        assert data["run"] == status.last.run
        assert status.signals == ()
        assert cluster.errors == []

    play(tmp_path, story, {"webhooks": [{"endpoint": "log", "events": EVENTS_TOLD}]})


def test_what_was_acknowledged_is_not_sent_again_and_the_rest_survives_every_restart(tmp_path: Path) -> None:
    async def story(cluster: Cluster, api: FakeApi, ledger: FakeLedger, receiver: Receiver) -> None:
        receiver.answer = lambda request: Answer(503 if request.path == "/down" else 200)
        ledger.delta = 0.2
        await cluster.push("model:2")
        await cluster.phase(Phase.COOLDOWN)
        await until(cluster, lambda: len(events(receiver)) == 2 and len(events(receiver, "/down")) >= 2)
        await cluster.settle()
        for _ in range(3):
            cluster.restart()
            seen = len(events(receiver, "/down"))
            await until(cluster, lambda seen=seen: len(events(receiver, "/down")) > seen)  # type: ignore[misc]
        assert events(receiver) == ["RunStarted", "RolledBack"], "of who took it, nothing is left to send"
        assert set(events(receiver, "/down")) == {"RunStarted"}, "in order: the next waits for the first"
        assert len({event["id"] for event in told(receiver, "/down")}) == 1
        waiting = (await cluster.status()).signals
        assert [(signal.event, signal.to) for signal in waiting] == [
            ("RunStarted", ("down",)),
            ("RolledBack", ("down",)),
        ]
        receiver.answer = lambda _: Answer(204)
        cluster.restart()
        await until(cluster, lambda: "RolledBack" in events(receiver, "/down"))
        await cluster.settle()
        assert (await cluster.status()).signals == ()
        assert events(receiver) == ["RunStarted", "RolledBack"]

    spec = {"webhooks": [{"endpoint": name, "events": ["RunStarted", "RolledBack"]} for name in ("log", "down")]}
    play(tmp_path, story, spec, {name: {"type": "webhook", "url": f"/{name}"} for name in ("log", "down")})


def test_what_nobody_takes_for_a_day_is_given_up_and_said(tmp_path: Path) -> None:
    async def story(cluster: Cluster, api: FakeApi, ledger: FakeLedger, receiver: Receiver) -> None:
        receiver.answer = lambda _: Answer(500)
        await cluster.push("model:2")
        await until(cluster, lambda: len(events(receiver)) >= 2)
        cluster.now += GIVE_UP + 1

        def given_up() -> list[Any]:
            return [event for place, event in api.objects.items() if place[0] == EVENTS.plural and _is_given_up(event)]

        await until(cluster, lambda: bool(given_up()))
        await cluster.look()
        (event,) = given_up()
        assert event["type"] == "Warning" and "the endpoint log answers with 500" in event["message"]
        value = cluster.metrics.registry.get_sample_value
        labels = {"endpoint": "log", "event": "RunStarted"}
        assert value("modelcanary_signals_total", {**labels, "result": "givenUp"}) == 1
        assert (value("modelcanary_signals_total", {**labels, "result": "failed"}) or 0) >= 2
        assert (await cluster.status()).signals == ()

    def _is_given_up(event: Any) -> bool:
        return bool(event["reason"] == "SignalGivenUp")

    play(tmp_path, story, {"webhooks": [{"endpoint": "log", "events": ["RunStarted"]}]})


def test_a_receiver_that_hangs_delays_nothing(tmp_path: Path) -> None:
    async def story(cluster: Cluster, api: FakeApi, ledger: FakeLedger, receiver: Receiver) -> None:
        async def never(_: Request) -> Answer:
            await asyncio.Event().wait()
            return Answer()

        receiver.answer = never
        ledger.delta = -0.1
        await cluster.push("model:2")
        await cluster.phase(Phase.PROMOTING)
        await cluster.phase(Phase.SERVING)
        assert [signal.event for signal in (await cluster.status()).signals] == ["RunStarted", "Promoted"]

    play(tmp_path, story, {"webhooks": [{"endpoint": "log", "events": EVENTS_TOLD}]})


def test_a_webhook_has_the_last_word_before_a_promotion(tmp_path: Path) -> None:
    async def story(cluster: Cluster, api: FakeApi, ledger: FakeLedger, receiver: Receiver) -> None:
        replies = [Answer(503, b"starting"), Answer(302), Answer(409, b"a freeze\nuntil Monday"), Answer(200)]

        def answer(request: Request) -> Answer:
            return replies.pop(0) if request.path == "/gate" else Answer()

        receiver.answer = answer
        ledger.delta = -0.1
        await cluster.push("model:2")

        def refused() -> bool:
            return len(events(receiver, "/gate")) == 3

        await until(cluster, refused)
        await until(cluster, lambda: "Held" in events(receiver))
        status = await cluster.status()
        assert (status.phase, status.reason) == (Phase.SHADOWING, "PromotionRefused")
        assert "the webhook gate says no: a freeze until Monday" in status.message
        question = told(receiver, "/gate")[0]
        assert question["id"] == f"team/{status.run.id}/ConfirmPromotion"
        assert question["data"]["evidence"]["delta"] < 0
        cluster.restart()
        await until(cluster, lambda: "Promoted" in events(receiver))
        await cluster.settle()
        assert (await cluster.status()).phase is Phase.SERVING
        assert len(events(receiver, "/gate")) == 4
        assert cluster.errors == []

    spec = {
        "webhooks": [
            {"endpoint": "gate", "events": ["ConfirmPromotion"]},
            {"endpoint": "log", "events": ["Held", "Promoted"]},
        ]
    }
    play(tmp_path, story, spec, {name: {"type": "webhook", "url": f"/{name}"} for name in ("gate", "log")})


def test_an_endpoint_that_nobody_lists_stalls_and_is_named(tmp_path: Path) -> None:
    async def story(cluster: Cluster, api: FakeApi, _: FakeLedger, receiver: Receiver) -> None:
        stalled = await cluster.condition("Stalled")
        assert (stalled["status"], stalled["reason"]) == ("True", "EndpointUnknown")
        assert stalled["message"] == (
            "spec.alerts[1].endpoint: 'nobody' is no endpoint that the cluster's admin lists for this namespace; "
            "there are: log"
        )
        await until(cluster, lambda: events(receiver) == ["Stalled"])
        file = cluster.settings.endpoints_file
        assert file is not None
        written = yaml.safe_load(file.read_text())
        file.write_text(yaml.safe_dump({**written, "nobody": {"type": "slack", "url": receiver.url}}))
        changed = asyncio.Event()
        watching = asyncio.create_task(cluster.directory.watch(changed.set, period=0.01))
        async with asyncio.timeout(10):
            await changed.wait()
        watching.cancel()
        await cluster.phase(Phase.SERVING)
        await until(cluster, lambda: events(receiver) == ["Stalled", "Recovered"])

    alerts = [{"endpoint": "log", "events": ["Stalled"]}, {"endpoint": "nobody", "events": ["Held"]}]
    play(tmp_path, story, {"alerts": alerts})
