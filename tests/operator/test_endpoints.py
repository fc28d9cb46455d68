"""The admin's list: what it may say, what is wrong with it in words, and who may name what."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
import yaml

from modelcanary_gate.parse import parse_spec
from modelcanary_operator.directory import Directory
from modelcanary_operator.endpoints import ALERTED, QUERIED, EndpointType, parse_endpoints, read_endpoints
from modelcanary_operator.errors import EndpointsInvalid, SettingsError
from modelcanary_operator.metrics import Metrics

LIST = """
main: {type: prometheus, url: "http://prometheus.monitoring:9090/"}
oncall: {type: pagerduty, routingKeyFile: /secrets/pd}
team: {type: slack, urlFile: /secrets/slack, namespaces: [risk]}
am: {type: alertmanager, url: "https://am:9093/am", headerFiles: {Authorization: /secrets/am}, caFile: /secrets/ca}
retrain: {type: webhook, url: "http://retrain/hook", secretFile: /secrets/hmac, namespaces: [risk, ads]}
"""


def test_it_is_read() -> None:
    found = parse_endpoints(yaml.safe_load(LIST)).by_name
    assert {name: endpoint.type for name, endpoint in found.items()} == {
        "main": EndpointType.PROMETHEUS,
        "oncall": EndpointType.PAGERDUTY,
        "team": EndpointType.SLACK,
        "am": EndpointType.ALERTMANAGER,
        "retrain": EndpointType.WEBHOOK,
    }
    assert found["main"].url == "http://prometheus.monitoring:9090/"
    assert found["oncall"].url == "https://events.pagerduty.com/v2/enqueue"
    assert found["am"].header_files == {"Authorization": Path("/secrets/am")}
    assert found["team"].namespaces == {"risk"} and found["main"].namespaces is None
    assert parse_endpoints(None).by_name == {}


GOOD = {"type": "webhook", "url": "http://x"}


@pytest.mark.parametrize(
    ("written", "field", "words"),
    [
        ([], "endpoints", "mapping"),
        ({"A_b": GOOD}, "'A_b'", "is no name"),
        ({"a": "http://x"}, "a", "mapping"),
        ({"a": {"url": "http://x"}}, "a.type", "write one of prometheus"),
        ({"a": {"type": "email", "url": "http://x"}}, "a.type", "'email'"),
        ({"a": {"type": "webhook"}}, "a.url", "is missing"),
        ({"a": {**GOOD, "url": 3}}, "a.url", "not text"),
        ({"a": {**GOOD, "url": "ftp://x"}}, "a.url", "http or https"),
        ({"a": {**GOOD, "url": "file:///etc/passwd"}}, "a.url", "http or https"),
        ({"a": {**GOOD, "url": "http://u:hidden@x"}}, "a.url", "holds a password"),
        ({"a": {**GOOD, "url": "http://x:99999"}}, "a.url", "no URL"),
        ({"a": {**GOOD, "url": "http://x/a b"}}, "a.url", "http or https"),
        ({"a": {**GOOD, "urlFile": "/x"}}, "a.urlFile", "beside url"),
        ({"a": {**GOOD, "headers": {}}}, "a.headers", "unknown field"),
        ({"a": {**GOOD, "headerFiles": {"X Y": "/x"}}}, "a.headerFiles.'X Y'", "header"),
        ({"a": {**GOOD, "headerFiles": {"X": "x"}}}, "a.headerFiles.X", "absolute path"),
        ({"a": {**GOOD, "proxy": "proxy:3128"}}, "a.proxy", "http"),
        ({"a": {**GOOD, "proxy": "http://u:hidden@proxy"}}, "a.proxy", "password"),
        ({"a": {"type": "webhook", "url": "http://x/#hidden"}}, "a.url", "#"),
        ({"a": {**GOOD, "namespaces": "risk"}}, "a.namespaces", "list"),
        ({"a": {**GOOD, "routingKeyFile": "/x"}}, "a.routingKeyFile", "belongs to type: pagerduty"),
        ({"a": {"type": "pagerduty"}}, "a.routingKeyFile", "is missing"),
        ({"a": {"type": "slack", "url": "http://x", "secretFile": "/x"}}, "a.secretFile", "belongs to type: webhook"),
    ],
)
def test_what_is_wrong_is_named_with_its_remedy(written: Any, field: str, words: str) -> None:
    with pytest.raises(EndpointsInvalid) as caught:
        parse_endpoints(written)
    message = str(caught.value)
    assert message.startswith(f"endpoints: {field} ") and words in message and "; " in message
    assert "hidden" not in message
    assert isinstance(caught.value, SettingsError), "the process does not start with it"


@pytest.mark.parametrize("text", ["a: [", "a: {type: slack}\na: {type: webhook}\n", "\x00"])
def test_a_file_that_is_no_yaml_or_says_a_thing_twice(tmp_path: Path, text: str) -> None:
    file = tmp_path / "endpoints.yaml"
    file.write_text(text)
    with pytest.raises(EndpointsInvalid, match="no YAML"):
        read_endpoints(file)
    with pytest.raises(EndpointsInvalid, match="cannot be read"):
        read_endpoints(tmp_path / "none")


def spec(**more: Any) -> Any:
    least = {
        "targetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "fraud"},
        "service": {"name": "fraud", "port": "http"},
        "model": {"classes": ["no", "yes"]},
    }
    return parse_spec({**least, **more})


def guard(endpoint: str) -> dict[str, Any]:
    return {"name": "m", "type": "prometheus", "endpoint": endpoint, "query": "up", "max": 1}


@pytest.mark.parametrize(
    ("namespace", "more", "problem"),
    [
        ("risk", {}, ""),
        ("risk", {"alerts": [{"endpoint": "team", "events": ["Held"]}], "guards": [guard("main")]}, ""),
        (
            *("ads", {"alerts": [{"endpoint": "team", "events": ["Held"]}]}),
            "spec.alerts[0].endpoint: 'team' is no endpoint that the cluster's admin lists for this namespace; "
            "there are: am, oncall, retrain",
        ),
        (
            *("risk", {"guards": [guard("team")]}),
            "spec.guards[0].endpoint: 'team' is of type slack, and this needs prometheus; there are: main",
        ),
        (
            *("web", {"webhooks": [{"endpoint": "x", "events": ["Held"]}]}),
            "spec.webhooks[0].endpoint: 'x' is no endpoint that the cluster's admin lists for this namespace; "
            "there is none",
        ),
        (
            *("risk", {"webhooks": [{"endpoint": "am", "events": ["Held"]}]}),
            "spec.webhooks[0].endpoint: 'am' is of type alertmanager, and this needs webhook; there are: retrain",
        ),
    ],
)
def test_a_name_that_cannot_be_used_is_said_with_those_that_can(
    namespace: str, more: dict[str, Any], problem: str
) -> None:
    assert parse_endpoints(yaml.safe_load(LIST)).problem(namespace, spec(**more)) == problem


def test_of_another_namespace_or_type_it_is_not_found() -> None:
    found = parse_endpoints(yaml.safe_load(LIST))
    assert found.find("ads", "team", ALERTED) is None
    assert found.find("risk", "team", QUERIED) is None
    assert found.find("risk", "team", ALERTED) is not None


def test_the_file_is_read_again_and_a_bad_one_changes_nothing(tmp_path: Path) -> None:
    file = tmp_path / "endpoints.yaml"
    file.write_text("a: {type: slack, url: 'http://x'}")
    metrics = Metrics()
    directory = Directory(file, metrics)

    async def story() -> None:
        changes: list[int] = []
        changed = asyncio.Event()

        def on_change() -> None:
            changes.append(len(directory.current.by_name))
            changed.set()

        watching = asyncio.create_task(directory.watch(on_change, period=0.01))
        file.write_text("a: {type: slack")
        async with asyncio.timeout(10):
            while metrics.registry.get_sample_value("modelcanary_endpoints_valid") != 0:
                await asyncio.sleep(0.01)
        assert list(directory.current.by_name) == ["a"] and changes == []
        file.write_text("b: {type: slack, url: 'http://x'}\nc: {type: slack, url: 'http://x'}")
        async with asyncio.timeout(10):
            await changed.wait()
        assert changes == [2] and list(directory.current.by_name) == ["b", "c"]
        assert metrics.registry.get_sample_value("modelcanary_endpoints_valid") == 1
        watching.cancel()

    asyncio.run(story())
