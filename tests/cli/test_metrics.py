"""Guards on metrics in a run without a cluster."""

import time

import pytest
from tests.cli.metric_server import answering

from modelcanary_cli.addresses import read_endpoints
from modelcanary_cli.errors import InputError
from modelcanary_cli.metrics import MetricGuards, endpoint_missing
from modelcanary_gate.decision import Metric
from modelcanary_gate.parse import parse_spec
from modelcanary_gate.spec import Spec
from modelcanary_operator.prometheus import Asked


def spec() -> Spec:
    guard = {"name": "sales", "type": "prometheus", "endpoint": "main", "query": "$role", "min": "x0.95"}
    return parse_spec({"model": {"classes": ["no", "yes"]}, "guards": [guard]}, require_target=False)


def test_the_values_are_there_when_they_were_answered() -> None:
    with (
        answering({"baseline": 200.0, "candidate": 150.0}) as url,
        MetricGuards(spec(), read_endpoints([f"main={url}/"]), Asked("default", "fraud", "r")) as guards,
    ):
        assert guards.latest() == {}, "a look waits for nobody"
        ends = time.monotonic() + 30
        while not (found := guards.latest()) and time.monotonic() < ends:
            time.sleep(0.02)
        assert found == {"sales": Metric(200.0, 150.0)}


def test_nobody_there_is_a_reason_and_no_error() -> None:
    with MetricGuards(spec(), {"main": "http://127.0.0.1:9"}, Asked("default", "fraud", "r")) as guards:
        ends = time.monotonic() + 30
        while not (found := guards.latest()) and time.monotonic() < ends:
            time.sleep(0.02)
        assert "does not answer" in found["sales"].problem


def test_an_endpoint_that_nobody_gave_is_named() -> None:
    assert endpoint_missing(spec(), {"other": "http://x"}) == ("spec.guards[0].endpoint", "main")
    assert endpoint_missing(spec(), {"main": "http://x"}) is None


@pytest.mark.parametrize("text", ["main", "=http://x", "main=x:9090", "main=ftp://x"])
def test_what_is_no_endpoint(text: str) -> None:
    with pytest.raises(InputError, match="NAME=URL"):
        read_endpoints([text])
    with pytest.raises(InputError, match="twice"):
        read_endpoints(["a=http://x", "a=http://y"])
