"""CronJobs that compute runs once more: what they call exists, what they name is mounted, and they may do little."""

from pathlib import Path
from typing import Any

import click
import pytest
from tests.chart.helm import VARIANTS, Manifest, of_kind, render

from modelcanary_cli.main import cli

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(3600)]


@pytest.fixture(scope="module")
def manifests() -> list[Manifest]:
    return render(VARIANTS["everything"])


def pod(manifests: list[Manifest], name: str) -> dict[str, Any]:
    found: dict[str, Any] = of_kind(manifests, "CronJob")[name]["spec"]["jobTemplate"]["spec"]["template"]["spec"]
    return found


def parsed(container: dict[str, Any]) -> dict[str, Any]:
    """What the command line makes of a container's command. Raises for an option that there is not."""
    words: list[str] = [*container["command"], *container["args"]]
    assert words[0] == "modelcanary"
    command = cli.get_command(click.Context(cli), words[1])
    assert command is not None
    return command.make_context(words[1], words[2:]).params


def test_there_is_one_for_each_in_its_namespace_and_none_unasked(manifests: list[Manifest]) -> None:
    made = of_kind(manifests, "CronJob")
    assert {name: (job["metadata"]["namespace"], job["spec"]["schedule"]) for name, job in made.items()} == {
        "fraud-recompute": ("team-a", "@daily"),
        "pets-recompute": ("team-b", "0 4 * * 1-5"),
    }
    assert (
        of_kind(render({"recompute": {"canaries": VARIANTS["everything"]["recompute"]["canaries"]}}), "CronJob") == {}
    )


def test_the_command_line_understands_what_they_call(manifests: list[Manifest]) -> None:
    spec = pod(manifests, "pets-recompute")
    export, recompute = parsed(spec["initContainers"][0]), parsed(spec["containers"][0])
    assert (export["name"], export["namespace"]) == ("pets", "team-b")
    assert export["ledger"] == "https://modelcanary-ledger.canaries.svc:8071"
    assert recompute["pairs"] == (export["output"],)
    assert recompute["labels"] == (Path("/data/labels.parquet"),)
    assert recompute["maturity"] == "2d"
    assert recompute["exit_zero"] is True
    plain = render({**VARIANTS["everything"], "tls": {"enabled": False}})
    export = parsed(pod(plain, "pets-recompute")["initContainers"][0])
    assert (export["ledger"], export["ledger_ca"]) == ("http://modelcanary-ledger.canaries.svc:8071", None)


@pytest.mark.parametrize("name", ["fraud-recompute", "pets-recompute"])
def test_files_that_they_are_told_of_are_mounted(manifests: list[Manifest], name: str) -> None:
    spec = pod(manifests, name)
    volumes = {volume["name"]: volume for volume in spec["volumes"]}
    assert ("persistentVolumeClaim" in volumes["data"]) is (name == "pets-recompute")
    for container in (*spec["initContainers"], *spec["containers"]):
        mounts = {Path(mount["mountPath"]): mount for mount in container["volumeMounts"]}
        assert {mount["name"] for mount in mounts.values()} <= set(volumes)
        paths = [Path(value) for value in parsed(container).values() if isinstance(value, Path)]
        assert paths
        for path in (*paths, Path(container["workingDir"])):
            assert any(path.is_relative_to(folder) for folder in mounts), path
    sources = volumes["token"]["projected"]["sources"]
    assert sources[0]["serviceAccountToken"]["audience"] == "modelcanary-ledger"
    assert sources[1]["configMap"]["name"] == "modelcanary-ca"


@pytest.mark.parametrize("name", ["fraud-recompute", "pets-recompute"])
def test_their_pods_are_restricted_and_have_no_token_for_the_cluster(manifests: list[Manifest], name: str) -> None:
    spec = pod(manifests, name)
    account = of_kind(manifests, "ServiceAccount")[spec["serviceAccountName"]]
    assert account["metadata"]["namespace"] == of_kind(manifests, "CronJob")[name]["metadata"]["namespace"]
    assert spec["automountServiceAccountToken"] is account["automountServiceAccountToken"] is False
    assert spec["securityContext"]["runAsNonRoot"] is True
    for container in (*spec["initContainers"], *spec["containers"]):
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "readOnlyRootFilesystem": True,
        }
        assert {"cpu", "memory"} <= set(container["resources"]["requests"]) and "memory" in container["resources"][
            "limits"
        ]
    bound = [item for item in manifests if item["kind"] in ("RoleBinding", "ClusterRoleBinding")]
    assert all(subject["name"] != account["metadata"]["name"] for item in bound for subject in item["subjects"])
