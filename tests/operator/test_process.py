"""The operator as a process, with a real ledger and a real API server: events, lease, queue, evidence and signals."""

import asyncio
import json
import signal
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import msgspec
import numpy as np
import pytest
from tests.operator.conftest import RealApi
from tests.operator.controllers import Controllers
from tests.operator.harness import canary, deployment, service
from tests.operator.processes import process
from tests.operator.relay import Relay

from modelcanary_gate.protocol import Answer, Heartbeat, Instructions, Pair, PairBatch
from modelcanary_gate.vocabulary import Outcome
from modelcanary_operator import names
from modelcanary_operator.api import CANARIES, DEPLOYMENTS, EVENTS, LEASES, SERVICES, Object
from modelcanary_operator.bucket import Bucket
from modelcanary_operator.errors import NotFound
from modelcanary_operator.kube import Kube, configuration

pytestmark = pytest.mark.cluster
_PATIENCE = 180.0
_PAIRS = 400


class Sidecars:
    """Plays a model's sidecars to the ledger: asks for instructions, and sends pairs with their labels."""

    def __init__(self, url: str) -> None:
        self._http = httpx.Client(base_url=url, timeout=10.0, trust_env=False)
        self._random = np.random.default_rng(3)
        self._sent = 0
        self.worse = 0.0

    def instructions(self) -> Instructions:
        body = msgspec.json.encode(Heartbeat(sidecar="one", version=0))
        answer = self._http.post("/v1/runs/team/fraud/heartbeat", content=body).raise_for_status()
        return msgspec.json.decode(answer.content, type=Instructions)

    def mirror(self) -> None:
        """As many pairs as two blocks take, for the run that is on."""
        run = self.instructions().run
        if not run:
            return
        self._sent += 1
        now, pairs, labels = time.time(), [], []
        for index in range(_PAIRS):
            right = self._random.uniform(0.6, 0.9)
            identity = f"{self._sent}-{index}"
            answers = []
            for probability in (right, min(0.999, max(0.001, right - self.worse))):
                logs = np.log(np.array([1 - probability, probability])).astype("<f4").tobytes()
                answers.append(Answer(Outcome.OK, 0.01, logs))
            key = int(now * 1000).to_bytes(6, "big") + self._sent.to_bytes(5, "big") + index.to_bytes(5, "big")
            pairs.append(Pair(key, identity, 0, now, answers[0], answers[1]))
            labels.append({"id": identity, "label": "yes"})
        batch = msgspec.msgpack.encode(PairBatch(f"batch-{self._sent}", "one", run, pairs))
        headers = {"Content-Type": "application/vnd.msgpack"}
        self._http.post("/v1/runs/team/fraud/pairs", content=batch, headers=headers).raise_for_status()
        self._http.post("/v1/feedback", json=labels).raise_for_status()

    def close(self) -> None:
        self._http.close()


@pytest.fixture
def ledger(real_api: RealApi, tmp_path: Path) -> Iterator[tuple[str, Sidecars]]:
    """Its URL in the cluster's network, and sidecars that reach it."""
    network = real_api.plane.network
    port = network.port(8071)
    command = [
        sys.executable,
        "-m",
        "modelcanary_ledger",
        "--listen",
        f"127.0.0.1:{port}",
        "--state",
        str(tmp_path / "l"),
    ]
    with (
        process(network.inside(command), tmp_path / "ledger.log"),
        Relay(network, ("127.0.0.1", port)) as relay,
    ):
        sidecars = Sidecars(f"http://127.0.0.1:{relay.port}")
        yield f"http://127.0.0.1:{port}", sidecars
        sidecars.close()


def operator(real_api: RealApi, ledger: str, port: int, endpoints: Path) -> list[str]:
    command = [
        *(sys.executable, "-m", "modelcanary_operator", "--kubeconfig", str(real_api.plane.kubeconfig)),
        *("--sidecar-image", "sidecar:1", "--ledger", ledger, "--namespaces", "team", "--own-namespace", "team"),
        *("--listen", "127.0.0.1:0", "--sidecar-port", str(port), "--endpoints-file", str(endpoints)),
    ]
    return real_api.plane.network.inside(command)


async def until(done: Callable[[], Awaitable[Any]], controllers: Controllers, what: str) -> Any:
    deadline = time.monotonic() + _PATIENCE
    while time.monotonic() < deadline:
        found = await done()
        if found:
            return found
        await controllers.tick()
        await asyncio.sleep(0.05)
    raise AssertionError(f"not within {_PATIENCE:g} s: {what}")


def test_deploys_are_gated_by_a_process_that_is_killed(
    real_api: RealApi, namespace: str, ledger: tuple[str, Sidecars], tmp_path: Path
) -> None:
    url, sidecars = ledger
    network = real_api.plane.network
    port = network.port(18080)
    listening = network.inside([sys.executable, "-m", "http.server", "--bind", "127.0.0.1", str(port)])
    log = tmp_path / "operator.log"
    hook, told, endpoints = network.port(8099), tmp_path / "told", tmp_path / "endpoints.yaml"
    endpoints.write_text(f"log: {{type: webhook, url: 'http://127.0.0.1:{hook}'}}")
    telling = network.inside([sys.executable, str(Path(__file__).with_name("hook.py")), str(hook), str(told)])
    webhooks = [{"endpoint": "log", "events": ["RunStarted", "RolledBack", "Promoted"]}]

    async def story() -> None:
        async with Kube(await configuration(real_api.kubeconfig), Bucket(10_000, 10_000)) as api:
            controllers = Controllers(api, pod_ip="127.0.0.1")

            async def image(deployed: str) -> str:
                try:
                    found = await api.get(DEPLOYMENTS, namespace, deployed)
                except NotFound:
                    return ""
                return str(found["spec"]["template"]["spec"]["containers"][0]["image"])

            async def phase() -> str:
                found = await api.get(CANARIES, namespace, "fraud")
                return str((found.get("status") or {}).get("phase", ""))

            async def push(wanted: str) -> None:
                found = await api.get(DEPLOYMENTS, namespace, "fraud")
                found["spec"]["template"]["spec"]["containers"][0]["image"] = wanted
                await api.replace(DEPLOYMENTS, namespace, "fraud", found)

            async def reached(wanted: str) -> bool:
                if wanted in ("Promoting", "Cooldown"):
                    await asyncio.to_thread(sidecars.mirror)
                return await phase() == wanted

            await api.create(DEPLOYMENTS, namespace, deployment())
            await api.create(SERVICES, namespace, service())
            await controllers.settle()
            with process(operator(real_api, url, port, endpoints), log) as first:
                await api.create(CANARIES, namespace, canary({"analysis": {**_QUICK}, "webhooks": webhooks}))
                await until(lambda: reached("Serving"), controllers, "adopted")
                sidecars.worse = 0.3
                await push("model:2")
                await until(lambda: reached("Cooldown"), controllers, "rolled back")
                assert await image("fraud-baseline") == "model:1"
                sidecars.worse = -0.05
                await push("model:3")
                await until(lambda: reached("Shadowing"), controllers, "the next run")
                first.send_signal(signal.SIGKILL)
                first.wait(5)
            lease = await api.get(LEASES, namespace, "modelcanary-operator")
            # Its term is over, without waiting for it.
            lease["spec"]["leaseDurationSeconds"] = 1
            await api.replace(LEASES, namespace, "modelcanary-operator", lease)
            with process(operator(real_api, url, port, endpoints), log) as second:

                async def promoted() -> bool:
                    await asyncio.to_thread(sidecars.mirror)
                    return await image("fraud-baseline") == "model:3" and await phase() == "Serving"

                await until(promoted, controllers, "promoted by the other process")

                async def all_told() -> bool:
                    found = await api.get(CANARIES, namespace, "fraud")
                    return not found["status"].get("signals")

                await until(all_told, controllers, "told")
                await api.delete(CANARIES, namespace, "fraud")

                async def gone() -> bool:
                    left = await api.list(DEPLOYMENTS, namespace, {names.CANARY: "fraud"})
                    return not left and not await api.list(CANARIES, namespace)

                await until(gone, controllers, "deleted")
                assert await image("fraud") == "model:3"
                assert (await asyncio.to_thread(sidecars.instructions)).run == ""
                second.send_signal(signal.SIGTERM)
                assert await asyncio.to_thread(second.wait, 15) == 0
            lease = await api.get(LEASES, namespace, "modelcanary-operator")
            assert not lease["spec"].get("holderIdentity")
            assert lease["spec"]["leaseTransitions"] == 1
            said = {event["reason"] for event in await api.list(EVENTS, namespace)}
            assert {"LossRegression", "CandidateNoWorse", "TargetPaused", "TargetReleased"} <= said

    with process(listening, tmp_path / "listening.log"), process(telling, tmp_path / "telling.log"):
        try:
            asyncio.run(story())
        except BaseException:
            print(log.read_text()[-6000:])
            raise
    # By its id, each is known again that a process may have sent before it was killed.
    sent = {event["id"]: event["type"] for event in map(json.loads, told.read_text().splitlines())}
    assert [kind.removeprefix("io.modelcanary.") for kind in sent.values()] == [
        *("RunStarted", "RolledBack", "RunStarted", "Promoted")
    ]


_QUICK: Object = {
    "interval": "1s",
    "minDuration": "1s",
    "margin": "50%",
    "minSamples": {"rollback": 300, "promote": 400},
    "hysteresis": {"rollbackAfter": 1, "promoteAfter": 1},
}
