"""Guards on metrics, with a real Prometheus that scrapes a real exporter."""

import asyncio
import json
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import prometheus_client
import pytest
from tests.operator.fake_api import FakeApi
from tests.operator.fake_ledger import FakeLedger
from tests.operator.harness import Cluster
from tests.operator.outside import play, until
from tests.operator.programs import debian_program, running
from tests.operator.receiver import Answer, Receiver

from modelcanary_gate.decision import Metric
from modelcanary_gate.plan.phases import Phase
from modelcanary_gate.spec import Guard, GuardType, Limit, LimitKind
from modelcanary_gate.vocabulary import Role
from modelcanary_operator.caller import Caller
from modelcanary_operator.endpoints import Endpoint, EndpointType
from modelcanary_operator.prometheus import Asked, ask, filled, read

ABOUT = Asked("team", "fraud", "run-1")
VALUE = 'sum(conversions{namespace="$namespace", role="$role"})'


@dataclass(frozen=True, slots=True)
class Monitoring:
    url: str
    conversions: prometheus_client.Gauge  # by namespace and role

    def set(self, baseline: float, candidate: float | None) -> None:
        """What the exporter says from now on; returns when Prometheus has scraped it."""
        self.conversions.labels("team", "baseline").set(baseline)
        if candidate is None:
            self.conversions.remove("team", "candidate")
        else:
            self.conversions.labels("team", "candidate").set(candidate)
        for role, value in (("baseline", baseline), ("candidate", candidate)):
            _until_it_says(self.url, f'conversions{{role="{role}"}}', value)


def _until_it_says(url: str, query: str, value: float | None, seconds: float = 60.0) -> None:
    ends = time.monotonic() + seconds
    while time.monotonic() < ends:
        with urllib.request.urlopen(f"{url}/api/v1/query?query={urllib.parse.quote(query)}", timeout=10) as answer:
            result = json.load(answer)["data"]["result"]
        if (float(result[0]["value"][1]) if result else None) == value:
            return
        time.sleep(0.05)
    raise AssertionError(f"{query} is not {value}")


@pytest.fixture(scope="module")
def monitoring(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Monitoring]:
    registry = prometheus_client.CollectorRegistry()
    gauge = prometheus_client.Gauge("conversions", "Of the shop.", ["namespace", "role"], registry=registry)
    exporter, thread = prometheus_client.start_http_server(0, "127.0.0.1", registry)
    folder = tmp_path_factory.mktemp("prometheus")
    scraped = f"127.0.0.1:{exporter.server_port}"
    (folder / "prometheus.yml").write_text(
        # A scrape that comes too late makes all values stale: on a busy machine it takes its time.
        "global: {scrape_interval: 1s, scrape_timeout: 1s}\n"
        f"scrape_configs: [{{job_name: shop, honor_labels: true, static_configs: [{{targets: ['{scraped}']}}]}}]\n"
    )
    program = debian_program("prometheus")
    command = [program, "--config.file=prometheus.yml", "--storage.tsdb.path=data", "--web.listen-address=127.0.0.1:0"]
    try:
        with running(command, folder, r'msg="Listening on" address=127\.0\.0\.1:(\d+)') as port:
            yield Monitoring(f"http://127.0.0.1:{port}", gauge)
    finally:
        exporter.shutdown()
        exporter.server_close()
        thread.join()


def asked(url: str, query: str, *, kind: EndpointType = EndpointType.PROMETHEUS) -> Metric:
    guard = Guard("c", GuardType.PROMETHEUS, endpoint="main", query=query, min=Limit(LimitKind.TIMES_BASELINE, 0.95))

    async def run() -> Metric:
        async with Caller(5.0) as caller:
            return await ask(caller, Endpoint("main", kind, url), guard, ABOUT, 0.0)

    return asyncio.run(run())


def test_a_value_of_each_role(monitoring: Monitoring) -> None:
    monitoring.set(200.0, 190.5)
    assert asked(monitoring.url, VALUE) == Metric(200.0, 190.5)
    assert asked(monitoring.url, "sum(conversions)") == Metric(None, 390.5)
    assert asked(monitoring.url, "scalar(sum(conversions))") == Metric(None, 390.5)


@pytest.mark.parametrize(
    ("query", "problem"),
    [
        ('conversions{role="${role}", namespace="elsewhere"}', "the query for the baseline: no data"),
        ("conversions", "the query: 2 series, and there can be only one"),
        ("sum(conversions) / 0", "the query: the value is +Inf"),
        ("0 * sum(conversions) / 0", "the query: the value is NaN"),
        ("sum(conversions", "the query: Prometheus says"),
        ("conversions[1m]", "the query: a matrix"),
        ('"text"', "the query: a string"),
    ],
)
def test_what_is_no_number_has_a_reason(monitoring: Monitoring, query: str, problem: str) -> None:
    monitoring.set(200.0, 190.5)
    found = asked(monitoring.url, query)
    assert problem in found.problem, found


@pytest.mark.parametrize(
    ("answer", "problem"),
    [
        (Answer(302, headers=(("location", "/"),)), "answers with 302 and no JSON"),
        (Answer(200, b"<html>"), "no JSON"),
        (Answer(200, b'{"status": "success", "data": ' + b"[" * 100_000), "no JSON"),
        (
            Answer(200, b'{"status": "success", "data": {"resultType": "vector", "result": [{}]}}'),
            "none of Prometheus'",
        ),
        (Answer(200, b" " * 3_000_000), "no JSON"),
    ],
)
def test_who_is_no_prometheus(answer: Answer, problem: str) -> None:
    async def run() -> Metric:
        async with Receiver(lambda _: answer) as receiver, Caller(5.0) as caller:
            guard = Guard("c", GuardType.PROMETHEUS, endpoint="main", query="up")
            return await ask(caller, Endpoint("main", EndpointType.PROMETHEUS, receiver.url), guard, ABOUT, 0.0)

    assert problem in asyncio.run(run()).problem


def test_nobody_there() -> None:
    assert "does not answer" in asked("http://127.0.0.1:9", "up").problem


def test_variables_are_filled_in_and_a_dollar_of_a_pattern_stays() -> None:
    query = 'x{r="$role", n="$namespace", m="${name}-$role", run="$run", p=~"a$|b$", q="$roles"}'
    expected = 'x{r="candidate", n="team", m="fraud-candidate", run="run-1", p=~"a$|b$", q="$roles"}'
    assert filled(query, ABOUT, Role.CANDIDATE) == expected


@pytest.mark.parametrize("answer", [None, [], "x", {"status": "success"}, {"status": "success", "data": []}])
def test_any_json_is_read_without_a_crash(answer: Any) -> None:
    assert isinstance(read(answer), str)


def test_a_promotion_waits_for_a_value_and_for_its_limit(monitoring: Monitoring, tmp_path: Path) -> None:
    async def reason(cluster: Cluster, expected: str) -> None:
        found: list[str] = []

        async def look() -> bool:
            found.append((await cluster.status()).reason)
            return found[-1] == expected

        async with asyncio.timeout(60):
            while not await look():
                after = await cluster.look()
                cluster.now += min(after or 0.0, 1.0)
                await asyncio.sleep(0.01)

    async def story(cluster: Cluster, api: FakeApi, ledger: FakeLedger, receiver: Receiver) -> None:
        ledger.delta = -0.1
        await asyncio.to_thread(monitoring.set, 200.0, 150.0)
        await cluster.push("model:2")
        await reason(cluster, "GuardVeto")
        status = await cluster.status()
        assert status.phase is Phase.SHADOWING
        assert "candidate 150, baseline 200" in status.message
        await asyncio.to_thread(monitoring.set, 200.0, None)
        await reason(cluster, "GuardMissing")
        assert "guard 'conversions' has no value: the query for the candidate: no data" in (
            (await cluster.status()).message
        )
        await asyncio.to_thread(monitoring.set, 200.0, 195.0)
        baseline = ("deployments", "team", "fraud-baseline")

        def promoted() -> bool:
            return bool(api.objects[baseline]["spec"]["template"]["spec"]["containers"][0]["image"] == "model:2")

        await until(cluster, promoted, seconds=60)
        value = cluster.metrics.registry.get_sample_value
        assert (value("modelcanary_metric_queries_total", {"endpoint": "main", "result": "missing"}) or 0) > 0
        assert cluster.errors == []

    guard = {"name": "conversions", "type": "prometheus", "endpoint": "main", "query": VALUE, "min": "x0.95"}
    play(tmp_path, story, {"guards": [guard]}, {"main": {"type": "prometheus", "url": monitoring.url}})
