"""Alerts at a real Alertmanager: what happened is shown, and the end of a stall resolves it."""

import asyncio
import os
import shlex
import subprocess
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from tests.operator.programs import debian_program, running

from modelcanary_gate.plan.status import Signal
from modelcanary_operator.caller import Caller
from modelcanary_operator.endpoints import Endpoint, EndpointType
from modelcanary_operator.payloads import FORMATS
from modelcanary_operator.workqueue import Key

KEY = Key("risk", "fraud")


@pytest.fixture(scope="module")
def alertmanager(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    program = debian_program("prometheus-alertmanager")
    if os.geteuid() or subprocess.run(["unshare", "-m", "true"], capture_output=True, check=False).returncode:
        pytest.skip("Debian's Alertmanager reads templates below /usr/share: a mount of our own needs root")
    folder = tmp_path_factory.mktemp("alertmanager")
    (folder / "alertmanager.yml").write_text("route: {receiver: none}\nreceivers: [{name: none}]\n")
    share = shlex.quote(str(program.parents[1] / "share" / "prometheus"))
    script = (
        f"cp -r {share} share && mount -t tmpfs none /usr/share && cp -r share /usr/share/prometheus && "
        f"exec {shlex.quote(str(program))} --config.file=alertmanager.yml --storage.path=data "
        "--web.listen-address=127.0.0.1:0 --cluster.listen-address="
    )
    with running(
        ["unshare", "-m", "sh", "-c", script], folder, r'msg="Listening on" address=127\.0\.0\.1:(\d+)'
    ) as port:
        yield f"http://127.0.0.1:{port}"


def send(url: str, signal: Signal) -> None:
    endpoint = Endpoint("am", EndpointType.ALERTMANAGER, url)

    async def run() -> None:
        async with Caller() as caller:
            reply = await caller.call(endpoint, FORMATS[endpoint.type](KEY, signal), time.time())
            assert reply.status == 200, reply.text()

    asyncio.run(run())


def alerts(url: str, name: str) -> list[dict[str, Any]]:
    found = httpx.get(f"{url}/api/v2/alerts", timeout=10, trust_env=False).json()
    return [alert for alert in found if alert["labels"]["alertname"] == name]


def test_what_happened_is_an_alert_and_the_same_twice_is_one(alertmanager: str) -> None:
    signal = Signal(
        "r/RollBack/RolledBack", "RolledBack", time.time(), "LossRegression", "worse", ("am",), "r", "a", "b"
    )
    send(alertmanager, signal)
    send(alertmanager, signal)
    (alert,) = alerts(alertmanager, "ModelCanaryRolledBack")
    assert alert["labels"] == {
        "alertname": "ModelCanaryRolledBack",
        "namespace": "risk",
        "modelcanary": "fraud",
        "severity": "error",
        "reason": "LossRegression",
        "run": "r",
    }
    assert alert["annotations"]["description"] == "worse"


def test_the_end_of_a_stall_resolves_it(alertmanager: str) -> None:
    now = time.time()
    send(alertmanager, Signal("fraud/Stalled/1", "Stalled", now - 60, "ServiceMissing", "it has gone", ("am",)))
    assert len(alerts(alertmanager, "ModelCanaryStalled")) == 1
    send(alertmanager, Signal("fraud/Recovered/2", "Recovered", now - 1, "Serving", "it is back", ("am",)))
    assert alerts(alertmanager, "ModelCanaryStalled") == [], "resolved alerts are not listed"
