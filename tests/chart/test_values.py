"""Values: each has a default, a schema and a comment; a bad one is refused by its name."""

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
import yaml
from tests.chart.helm import CHART, VARIANTS, run, template

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(3600)]

VALUES: dict[str, Any] = yaml.safe_load((CHART / "values.yaml").read_text())
SCHEMA: dict[str, Any] = json.loads((CHART / "values.schema.json").read_text())


def test_helm_finds_nothing_wrong() -> None:
    done = run("lint", "--strict", str(CHART))
    assert done.returncode == 0, done.stdout
    assert "[WARNING]" not in done.stdout


@pytest.mark.parametrize("variant", VARIANTS)
def test_what_users_say_is_taken(variant: str) -> None:
    done = template(VARIANTS[variant])
    assert done.returncode == 0, done.stderr


def paths(values: dict[str, Any], before: str = "") -> Iterator[str]:
    for name, value in values.items():
        yield f"{before}{name}"
        if isinstance(value, dict) and value:
            yield from paths(value, f"{before}{name}.")


def known(schema: dict[str, Any], before: str = "") -> Iterator[str]:
    for name, inner in schema.get("properties", {}).items():
        yield f"{before}{name}"
        yield from known(inner, f"{before}{name}.")


def test_schema_and_defaults_know_the_same_values() -> None:
    free = re.compile(r"\.resources\.(requests|limits)\b")
    assert {path for path in paths(VALUES) if not free.search(path)} == {
        path for path in known(SCHEMA) if not free.search(path)
    } - {"global"}


def sections(schema: dict[str, Any], before: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    yield before, schema
    for name, inner in schema.get("properties", {}).items():
        yield from sections(inner, f"{before}.{name}".strip("."))


def test_no_section_takes_what_it_does_not_know() -> None:
    for path, section in sections(SCHEMA):
        if "properties" in section:
            assert section["additionalProperties"] is False, path


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("operators", {}),
        ("operator.replica", 2),
        ("operator.replicas", "2"),
        ("operator.replicas", 99),
        ("operator.workers", 0),
        ("operator.resources.requests.memory", "much"),
        ("ledger.storage.size", "ten"),
        ("ledger.storage.ephemeral", "yes"),
        ("ledger.reserve", "64MB"),
        ("ledger.replicas", 3),
        ("sidecar.port", 70000),
        ("image.pullPolicy", "Sometimes"),
        ("image.registry", ""),
        ("image.registry", "registry.example/"),
        ("namespaces", "team-a"),
        ("namespaces", ["Team A"]),
        ("namespaces", ["team-a", "team-a"]),
        ("networkPolicies.apiServerPorts", []),
        ("monitoring.podMonitors", 1),
        ("tls.enabled", "true"),
        ("tls.clientCA", "/etc/ssl/clients.pem"),
        ("tls", {"enabled": False, "clientCA": "-----BEGIN CERTIFICATE-----"}),
        ("rbac.create", True),
        ("endpoints.main", {"type": "grafana", "url": "http://grafana"}),
        ("endpoints.main.uri", "http://prometheus"),
        ("endpoints.main", {"type": "webhook", "url": "ftp://files"}),
        ("crds.keep", False),
        ("recompute.schedule", "nightly"),
        ("recompute.canaries", [{"namespace": "team-a", "name": "fraud"}]),
        ("recompute.canaries", [{"namespace": "team-a", "name": "f" * 43, "configMap": "fraud"}]),
    ],
)
def test_a_bad_value_is_refused_by_its_name(path: str, value: object) -> None:
    given = value
    for name in reversed(path.split(".")):
        given = {name: given}
    assert isinstance(given, dict)
    done = template(given)
    assert done.returncode != 0
    said = done.stderr.replace("/", ".").replace("'", " ")
    assert path.rpartition(".")[2] in said and (path.split(".", maxsplit=1)[0] in said), said


@pytest.mark.parametrize(("version", "taken"), [("v1.32.9", False), ("v1.33.0", True), ("v1.35.1-gke.100", True)])
def test_it_asks_for_a_kubernetes_that_keeps_the_ports_of_native_sidecars(version: str, taken: bool) -> None:
    done = template({}, f"--kube-version={version}")
    assert (done.returncode == 0) is taken
    assert taken or "1.33" in done.stderr
