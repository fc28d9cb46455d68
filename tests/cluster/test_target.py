"""Which cluster is chosen, and what is said when one cannot be had."""

import json
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
from tests.cluster import node, target
from tests.cluster.build import build, missing
from tests.cluster.errors import ClusterError
from tests.cluster.images import docker_archive
from tests.cluster.places import Places


@pytest.fixture
def places(tmp_path: Path) -> Places:
    return Places(cache=tmp_path / "cache", state=tmp_path / "state")


@pytest.fixture
def commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The only folder in which commands are found."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.delenv("MODELCANARY_KUBECONFIG", raising=False)
    return folder


def put(folder: Path, name: str, script: str) -> None:
    (folder / name).write_text(f"#!/bin/sh\n{script}\n")
    (folder / name).chmod(0o755)


def test_the_users_cluster_is_used_only_where_the_user_says_so(
    places: Places, commands: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    config = tmp_path / "config"
    monkeypatch.setenv("KUBECONFIG", str(config))
    assert isinstance(target.choose(places), target.Own)
    monkeypatch.setenv("MODELCANARY_KUBECONFIG", str(config))
    chosen = target.choose(places)
    assert chosen == target.Yours(config)
    with pytest.raises(ClusterError, match="which is no file"):
        chosen.up()
    config.write_text("{}")
    with pytest.raises(ClusterError, match="kubectl is not there"):
        chosen.up()
    put(commands, "kubectl", "echo refused >&2; exit 1")
    with pytest.raises(ClusterError, match="readyz failed: refused"):
        chosen.up()
    put(commands, "kubectl", "exit 0")
    chosen.up()
    chosen.down()
    assert config.exists()
    with pytest.raises(ClusterError, match="push its image"):
        chosen.load(Path("x.tar"))


def test_kind_needs_an_engine_that_answers(places: Places, commands: Path, tmp_path: Path) -> None:
    calls = tmp_path / "calls"
    put(commands, "kind", f'echo "$@" >> {calls}')
    assert isinstance(target.choose(places), target.Own)
    put(commands, "docker", "exit 1")
    assert isinstance(target.choose(places), target.Own)
    put(commands, "podman", "exit 0")
    chosen = target.choose(places)
    assert isinstance(chosen, target.Kind)
    chosen.up()
    chosen.load(Path("image.tar"))
    chosen.down()
    lines = calls.read_text().splitlines()
    assert [line.split(" --name")[0] for line in lines] == ["create cluster", "load image-archive", "delete cluster"]
    assert all("--name modelcanary-test" in line for line in lines)


def test_a_machine_that_lacks_packages_is_told_which(commands: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(node, "has_root", lambda: False)
    with pytest.raises(ClusterError, match="needs Linux and root; point MODELCANARY_KUBECONFIG"):
        node.check_machine()
    monkeypatch.setattr(node, "has_root", lambda: True)
    monkeypatch.setattr(node, "CNI", commands)
    put(commands, "runc", "exit 0")
    with pytest.raises(
        ClusterError, match=r"apt-get install .*containerd containernetworking-plugins iproute2"
    ) as caught:
        node.check_machine()
    assert "runc" not in str(caught.value)


def test_nothing_is_built_that_is_there(places: Places, commands: Path) -> None:
    places.binaries.mkdir(parents=True)
    (places.binaries / "etcd").touch()
    assert build(places, ["etcd"]) == places.binaries
    assert missing(places, ["etcd", "kubelet"]) == ["kubelet"]
    put(commands, "go", "echo no module >&2; exit 1")
    with pytest.raises(ClusterError, match=r"building kubelet failed: .*\nno module"):
        build(places, ["kubelet"])
    assert missing(places, ["kubelet"]) == ["kubelet"]


def test_a_build_that_ends_is_put_in_its_place(places: Places, commands: Path) -> None:
    put(commands, "go", 'while [ "$1" != -o ]; do shift; done; echo built > "$2"')
    build(places, ["kubelet"])
    assert (places.binaries / "kubelet").read_text() == "built\n"
    assert [path.name for path in places.binaries.iterdir()] == ["kubelet"]


def test_without_go_one_is_installed_into_the_cache(
    places: Places, commands: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tests.cluster.build._USUAL", ())
    monkeypatch.setattr(sys, "executable", str(commands / "python"))
    put(commands, "python", "echo no network >&2; exit 1")
    with pytest.raises(ClusterError, match=r"Go, which is not there and could not be installed \(no network\)"):
        build(places, ["kubelet"])
    go = places.cache / "toolchain" / "go" / "bin"
    go.mkdir(parents=True)
    put(commands, "python", f"chmod +x {go}/go")
    put(go, "go", 'while [ "$1" != -o ]; do shift; done; echo built > "$2"')
    (go / "go").chmod(0o644)
    monkeypatch.setenv("PATH", f"{commands}:/usr/bin:/bin")
    build(places, ["kubelet"])
    assert (places.binaries / "kubelet").read_text() == "built\n"


def test_an_image_of_one_file(tmp_path: Path) -> None:
    (tmp_path / "program").write_bytes(b"\x7fELF")
    path = docker_archive(tmp_path / "image.tar", "localhost/p:1", {"/bin/p": tmp_path / "program"}, ["/bin/p"])
    with tarfile.open(path) as archive:
        (manifest,) = json.load(archive.extractfile("manifest.json") or pytest.fail("no manifest"))
        assert manifest["RepoTags"] == ["localhost/p:1"]
        config = json.load(archive.extractfile(manifest["Config"]) or pytest.fail("no config"))
        assert config["config"]["Entrypoint"] == ["/bin/p"]
        with tarfile.open(fileobj=archive.extractfile(manifest["Layers"][0])) as layer:
            (entry,) = layer.getmembers()
            assert (entry.name, entry.mode) == ("bin/p", 0o755)


def test_the_command_line_shows_one_line_for_an_error(tmp_path: Path) -> None:
    environment = {"PATH": "/usr/bin:/bin", "MODELCANARY_KUBECONFIG": str(tmp_path / "none")}
    run = subprocess.run(
        [sys.executable, "-m", "tests.cluster", "up"],
        cwd=Path(__file__).parents[2],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (run.returncode, run.stdout) == (1, "")
    assert run.stderr == f"error: MODELCANARY_KUBECONFIG names {tmp_path / 'none'}, which is no file\n"
