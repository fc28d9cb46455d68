"""Who reads `labels.sources`: it is there where there is something to read, and may do little."""

from pathlib import Path
from typing import Any

import click
import pytest
import yaml
from tests.chart.helm import VARIANTS, Manifest, of_kind, render, template

from modelcanary_cli.main import cli
from modelcanary_ledger import settings as ledger_settings
from modelcanary_operator.endpoints import EndpointType, parse_endpoints

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(3600)]


@pytest.fixture(scope="module")
def manifests() -> list[Manifest]:
    return render(VARIANTS["everything"])


def pod(manifests: list[Manifest]) -> dict[str, Any]:
    found: dict[str, Any] = of_kind(manifests, "Deployment")["modelcanary-labels"]["spec"]["template"]["spec"]
    return found


def options(manifests: list[Manifest]) -> dict[str, Any]:
    """What the command line makes of the container's command. Raises for an option that there is not."""
    (only,) = pod(manifests)["containers"]
    words: list[str] = [*only["command"], *only["args"]]
    assert words[:3] == ["modelcanary", "labels", "follow"]
    group = cli.get_command(click.Context(cli), words[1])
    assert isinstance(group, click.Group)
    command = group.get_command(click.Context(group), words[2])
    assert command is not None
    return command.make_context(words[2], words[3:]).params


def test_there_is_none_where_no_labels_are_read() -> None:
    made = render({"endpoints": {"main": {"type": "prometheus", "url": "http://prometheus.monitoring:9090"}}})
    assert not [item for item in made if "modelcanary-label" in item["metadata"]["name"]]
    ledger = of_kind(made, "StatefulSet")["modelcanary-ledger"]["spec"]["template"]["spec"]["containers"][0]
    assert not [word for word in ledger["args"] if "follower" in word]


@pytest.mark.parametrize(
    ("replicas", "endpoint", "taken"),
    [
        (1, {"type": "kafka", "brokers": ["kafka.data:9092"], "topics": ["outcomes"]}, True),
        (2, {"type": "kafka", "brokers": ["kafka.data:9092"], "topics": ["outcomes"]}, False),
        (2, {"type": "files", "url": "s3://lake/labels"}, False),
        (2, {"type": "prometheus", "url": "http://prometheus.monitoring:9090"}, True),
    ],
)
def test_one_ledger_alone_knows_how_sources_get_on(replicas: int, endpoint: dict[str, Any], taken: bool) -> None:
    ledger = {"store": "postgresql", "replicas": replicas, "postgresql": {"secret": "database"}}
    done = template({"ledger": ledger, "endpoints": {"data": endpoint}})
    assert (done.returncode == 0) is taken, done.stderr
    assert taken or ("ledger.replicas" in done.stderr and "data" in done.stderr)


def test_it_understands_what_it_is_told(manifests: list[Manifest]) -> None:
    told = options(manifests)
    assert told["ledger"] == "https://modelcanary-ledger.canaries.svc:8071"
    assert (told["look"], told["metrics"]) == (90.0, "0.0.0.0:8072")
    (only,) = pod(manifests)["containers"]
    mounted = [Path(mount["mountPath"]) for mount in only["volumeMounts"]]
    for file in (told["token_file"], told["ledger_ca"], told["endpoints"], told["state"]):
        assert any(file.is_relative_to(folder) for folder in mounted), file
    assert {mount["name"] for mount in only["volumeMounts"]} == {volume["name"] for volume in pod(manifests)["volumes"]}
    plain = render({**VARIANTS["everything"], "tls": {"enabled": False}})
    assert (options(plain)["ledger"], options(plain)["ledger_ca"]) == (
        "http://modelcanary-ledger.canaries.svc:8071",
        None,
    )


def test_it_knows_where_labels_are_and_nothing_else(manifests: list[Manifest]) -> None:
    written = of_kind(manifests, "ConfigMap")["modelcanary-label-endpoints"]["data"]["endpoints.yaml"]
    found = parse_endpoints(yaml.safe_load(written)).by_name
    assert {name: each.type for name, each in found.items()} == {
        "events": EndpointType.KAFKA,
        "lake": EndpointType.FILES,
    }
    secrets = {
        volume["name"]: volume["secret"]["secretName"] for volume in pod(manifests)["volumes"] if "secret" in volume
    }
    assert secrets == {"secrets": "labels", "certificates": "kafka-user"}
    operator = of_kind(manifests, "Deployment")["modelcanary-operator"]["spec"]["template"]["spec"]
    assert "labels" not in [volume.get("secret", {}).get("secretName") for volume in operator["volumes"]]


def test_it_may_send_labels_and_nothing_of_the_cluster(manifests: list[Manifest]) -> None:
    """The ledger knows its account; no role is bound to it, and its token is for the ledger alone."""
    inside = {"KUBERNETES_SERVICE_HOST": "10.96.0.1"}
    ledger = of_kind(manifests, "StatefulSet")["modelcanary-ledger"]["spec"]["template"]["spec"]["containers"][0]
    review = ledger_settings.read_settings(ledger["args"], inside).review
    assert review is not None
    account = of_kind(manifests, "ServiceAccount")["modelcanary-labels"]
    assert pod(manifests)["serviceAccountName"] == account["metadata"]["name"]
    assert review.followers == {"system:serviceaccount:canaries:modelcanary-labels"}
    assert account["metadata"]["annotations"] == VARIANTS["everything"]["labels"]["serviceAccountAnnotations"]
    assert pod(manifests)["automountServiceAccountToken"] is False
    subjects = [
        subject["name"]
        for item in manifests
        if item["kind"] in ("RoleBinding", "ClusterRoleBinding")
        for subject in item["subjects"]
    ]
    assert subjects
    assert "modelcanary-labels" not in subjects
    (token,) = [volume for volume in pod(manifests)["volumes"] if volume["name"] == "token"]
    assert token["projected"]["sources"][0]["serviceAccountToken"]["audience"] == "modelcanary-ledger"


def test_it_reaches_the_ledger_and_what_the_admin_says(manifests: list[Manifest]) -> None:
    policy = of_kind(manifests, "NetworkPolicy")["modelcanary-labels"]["spec"]
    names, ledger, *more = policy["egress"]
    assert {port["port"] for port in names["ports"]} == {53, 5353}
    labels = of_kind(manifests, "StatefulSet")["modelcanary-ledger"]["spec"]["template"]["metadata"]["labels"]
    assert ledger["to"][0]["podSelector"]["matchLabels"].items() <= labels.items()
    assert more == VARIANTS["everything"]["networkPolicies"]["labelsEgress"]
    own = of_kind(manifests, "Deployment")["modelcanary-labels"]["spec"]["template"]["metadata"]["labels"]
    admitted = of_kind(manifests, "NetworkPolicy")["modelcanary-ledger"]["spec"]["ingress"][0]["from"][0]
    assert admitted["podSelector"]["matchLabels"].items() <= own.items()
