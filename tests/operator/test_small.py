"""The bucket, the index, the settings and the health port."""

import asyncio

import pytest
from tests.operator.harness import canary, settings

from modelcanary_gate.plan.phases import Phase
from modelcanary_operator import names
from modelcanary_operator.bucket import Bucket
from modelcanary_operator.errors import SettingsError
from modelcanary_operator.health import Health
from modelcanary_operator.index import Index
from modelcanary_operator.metrics import Metrics
from modelcanary_operator.settings import read_settings
from modelcanary_operator.workqueue import Key

KEY = Key("team", "fraud")


def test_the_bucket_lets_a_burst_through_and_then_its_rate() -> None:
    now = [0.0]
    bucket = Bucket(10.0, 3, clock=lambda: now[0])
    assert [round(bucket.reserve(), 3) for _ in range(5)] == [0.0, 0.0, 0.0, 0.1, 0.2]
    now[0] = 1.2
    assert [round(bucket.reserve(), 3) for _ in range(4)] == [0.0, 0.0, 0.0, 0.1]


def test_an_object_concerns_those_that_name_it() -> None:
    index = Index()
    resource = canary()
    resource["metadata"]["namespace"] = "team"
    assert index.take(resource) == KEY

    def found(name: str, namespace: str = "team", spec: object = None, **labels: str) -> dict[str, object]:
        return {"metadata": {"name": name, "namespace": namespace, "labels": labels}, "spec": spec or {}}

    assert index.concerned("deployments", found("fraud")) == [KEY]
    assert index.concerned("deployments", found("fraud", "other")) == []
    assert index.concerned("deployments", found("else")) == []
    assert index.concerned("services", found("any")) == [KEY]
    assert index.concerned("horizontalpodautoscalers", found("any", spec={"scaleTargetRef": {"name": "fraud"}})) == [
        KEY
    ]
    ours = found("fraud-baseline")
    ours["metadata"]["labels"] = {names.CANARY: "gone"}  # type: ignore[index]
    assert index.concerned("deployments", ours) == [Key("team", "gone")]
    second = canary()
    second["metadata"] |= {"namespace": "team", "name": "second"}
    assert index.sharing(index.take(second)) == [KEY]
    index.forget(Key("team", "second"))
    index.forget(KEY)
    assert index.concerned("deployments", found("fraud")) == []


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--ledger", "x"], "^--ledger"),
        (["--ledger", "http://l", "--namespaces", "A b"], "--namespaces"),
        (["--ledger", "http://l", "--workers", "0"], "--workers"),
        (["--ledger", "http://l", "--listen", "8070"], "--listen"),
        (["--ledger", "http://l", "--sidecar-port", "70000"], "--sidecar-port"),
        ([], "ledger"),
    ],
)
def test_a_wrong_option_is_named(arguments: list[str], words: str) -> None:
    with pytest.raises(SettingsError, match=words):
        read_settings(["--sidecar-image", "s:1", *arguments], {})


def test_options_come_from_the_environment_and_each_process_is_another() -> None:
    found = read_settings(
        [], {"MODELCANARY_SIDECAR_IMAGE": "s:1", "MODELCANARY_LEDGER": "http://l:1/", "HOSTNAME": "pod"}
    )
    assert (found.sidecar.image, found.ledger, found.sidecar.ledger) == ("s:1", "http://l:1", "http://l:1")
    assert found.identity.startswith("pod_") and found.identity != settings().identity
    assert settings("--namespaces", "a,b").namespaces == ("a", "b")


def test_the_health_port_says_what_is_wrong() -> None:
    wrong: list[str | None] = [None]
    health = Health(lambda: wrong[0], lambda: None, lambda: b"figures\n")
    assert health.route(b"GET", b"/livez") == (200, b"ok\n")
    wrong[0] = "stuck"
    assert health.route(b"GET", b"/livez") == (503, b"stuck\n")
    assert health.route(b"GET", b"/metrics") == (200, b"figures\n")
    assert health.route(b"POST", b"/metrics")[0] == 405
    assert health.route(b"GET", b"/other")[0] == 404

    async def ask() -> bytes:
        server = await asyncio.start_server(health.answer, "127.0.0.1", 0)
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        writer.write(b"GET /readyz HTTP/1.1\r\nhost: x\r\n\r\n")
        answer = await reader.read()
        writer.close()
        server.close()
        return answer

    assert asyncio.run(ask()).endswith(b"\r\n\r\nok\n")


def test_a_phase_is_counted_once_and_goes_with_its_resource() -> None:
    metrics = Metrics()
    metrics.in_phase(KEY, Phase.ADOPTING)
    metrics.in_phase(KEY, Phase.SERVING)
    text = metrics.text().decode()
    assert 'modelcanary_phase{name="fraud",namespace="team",phase="Serving"} 1.0' in text
    assert "Adopting" not in text
    metrics.decisions.labels("team", "fraud", "Promoting", "CandidateNoWorse").inc()
    metrics.decisions.labels("team", "other", "Promoting", "CandidateNoWorse").inc()
    metrics.forget(KEY)
    assert '"fraud"' not in metrics.text().decode()
    assert 'name="other"' in metrics.text().decode()
