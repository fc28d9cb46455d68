"""CronJobs that compute runs once more: what they call exists and does its work, what they name is
mounted, and they may do little."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import click
import httpx
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from tests.chart.helm import VARIANTS, Manifest, of_kind, render
from tests.cli.recorded import CLASSES, live, resource
from tests.cluster.pki import Authority
from tests.ledger.serving import digest, ledger

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


def container(manifests: list[Manifest], part: str, folder: Path, url: str) -> subprocess.CompletedProcess[str]:
    """Runs what one of the pod's containers runs, with its mounts under `folder` and the ledger at `url`."""
    (found,) = pod(manifests, "fraud-recompute")[part]
    mounts = [mount["mountPath"] for mount in found["volumeMounts"]]

    def here(word: str) -> str:
        for mount in mounts:
            word = re.sub(rf"(^|=){mount}(?=/|$)", rf"\g<1>{folder}{mount}", word)
        return re.sub(r"https://modelcanary-ledger\.canaries\.svc:8071", url, word)

    command, *arguments = [here(word) for word in (*found["command"], *found["args"])]
    assert command == "modelcanary"
    return subprocess.run(
        [sys.executable, "-m", "modelcanary_cli", *arguments],
        cwd=here(found["workingDir"]),
        env={"PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def test_what_they_call_does_its_work(tmp_path: Path) -> None:
    """Against a real ledger with a certificate and a token; labels contradict there, and in the file, one more."""
    entry = {"namespace": "shop", "name": "fraud", "configMap": "fraud", "args": ["--labels=/data/labels.parquet"]}
    manifests = render({"recompute": {"enabled": True, "canaries": [entry]}})
    volumes = pod(manifests, "fraud-recompute")["volumes"]
    assert {
        "name": "canary",
        "configMap": {"name": "fraud", "items": [{"key": "canary.yaml", "path": "canary.yaml"}]},
    } in volumes
    data, canary, token = (
        tmp_path / name for name in ("data", "etc/modelcanary/canary", "var/run/secrets/modelcanary")
    )
    for folder in (data, canary, token):
        folder.mkdir(parents=True)
    (canary / "canary.yaml").write_text(yaml.safe_dump(resource("0s", lenient=True)))
    with live(tmp_path / "state", "0s", 1200, lenient=True) as made:
        others = [{"id": f"id-{row}", "label": CLASSES[made.labels[row] - 1]} for row in range(100)]
        httpx.post(f"{made.url}/v1/feedback?namespace=shop&name=fraud", json=others, timeout=60).raise_for_status()
    contradicting = {"id": ["id-300", "id-1400"], "label": [CLASSES[made.labels[300] - 1], CLASSES[made.labels[1400]]]}
    pq.write_table(pa.table(contradicting), data / "labels.parquet")

    authority = Authority(tmp_path / "authority")
    authority.issue("ledger", "/CN=modelcanary-ledger", "DNS:localhost,IP:127.0.0.1")
    shutil.copy(authority.certificate, token / "ca.crt")
    (token / "token").write_text("of-the-pod\n")
    (tmp_path / "callers").write_text(f"{digest('of-the-pod')} shop fraud-recompute\n")
    keys = [f"--tls-{kind}={authority.folder}/ledger.{end}" for kind, end in (("certificate", "crt"), ("key", "key"))]
    with ledger(tmp_path / "state", *keys, f"--token-file={tmp_path / 'callers'}") as (url, _):
        export = container(manifests, "initContainers", tmp_path, url)
        assert (export.returncode, export.stdout) == (0, f"{data}/pairs.parquet: 1,500 pairs\n"), export.stderr
        done = container(manifests, "containers", tmp_path, url)
    assert done.returncode == 0, done.stderr
    assert re.search(r"^verdict +Continue \(LabelsConflicting\)$", done.stdout, re.MULTILINE), done.stdout
    assert re.search(r"^conflict +101$", done.stdout, re.MULTILINE), done.stdout
    assert re.search(r"^labelled +1,188 in time$", done.stdout, re.MULTILINE), done.stdout
    assert json.loads((data / "record.json").read_text())["counts"]["conflict"] == 101
    assert "LabelsConflicting" in (data / "report.html").read_text()
    assert json.loads((data / "evidence.json").read_text())["counts"]["conflict"] == 100
    assert not [path for path in data.iterdir() if path.name.startswith(".")]
