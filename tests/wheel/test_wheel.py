"""The wheel brings the sidecar's live process, compiled: for the systems that can run it, and for those alone."""

import importlib.util
import json
import os
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path
from types import ModuleType

import pytest

PROJECT = Path(__file__).parents[2]
VERSION = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]["version"]
PLACE = "modelcanary_sidecar/bin/modelcanary-live"


@pytest.fixture(scope="module")
def hook() -> ModuleType:
    spec = importlib.util.spec_from_file_location("hatch_build", PROJECT / "hatch_build.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["hatch_build"] = module  # where dataclasses look for it
    spec.loader.exec_module(module)
    return module


def build(into: Path, kind: str = "--wheel", **environment: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "uv", "build", kind, "--out-dir", str(into), str(PROJECT)]
    given = {**os.environ, **environment}
    return subprocess.run(command, capture_output=True, text=True, timeout=280, check=False, env=given)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    into = tmp_path_factory.mktemp("wheel")
    done = build(into)
    assert done.returncode == 0, done.stderr
    (built,) = into.glob("*.whl")
    return built


def test_it_is_for_systems_that_can_run_it(wheel: Path, hook: ModuleType) -> None:
    with zipfile.ZipFile(wheel) as archive:
        binary = archive.read(PLACE)
        about = archive.read(f"modelcanary-{VERSION}.dist-info/WHEEL").decode()
    tag = hook.wheel_tag(binary)
    assert tag.startswith("py3-none-manylinux_2_") and tag.endswith(f"_{os.uname().machine}")
    assert wheel.name == f"modelcanary-{VERSION}-{tag}.whl"
    assert f"Tag: {tag}\n" in about and "Root-Is-Purelib: false\n" in about


def test_it_installs_a_program_that_runs(wheel: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "uv", "pip", "install", "--quiet", "--no-deps", "--target", str(tmp_path)]
    subprocess.run([*command, str(wheel)], check=True, timeout=120)
    told = subprocess.run([tmp_path / PLACE, "--cells"], check=True, timeout=60, capture_output=True, text=True).stdout
    assert told.startswith("stage\n") and "dropped." in told


def test_it_names_no_path_of_this_machine(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        binary = archive.read(PLACE)
    for path in (str(Path.home()), str(PROJECT), os.environ.get("CARGO_HOME", ".cargo/")):
        assert path.encode() not in binary, path


def test_it_lists_the_crates_that_are_in_it_with_their_licences(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        found = json.loads(archive.read(f"modelcanary-{VERSION}.dist-info/sboms/modelcanary-live.cdx.json"))
    licences = {crate["name"]: crate["licenses"][0]["expression"] for crate in found["components"]}
    assert {"libc", "memchr", "serde_json", "rmp-serde", "blake2b_simd"} <= set(licences)
    assert licences["libc"] == "MIT OR Apache-2.0" and "NOASSERTION" not in licences.values()
    # What compiles the others is not in it.
    assert not {"modelcanary-live", "serde_derive", "syn", "autocfg"} & set(licences)
    (memchr,) = (crate for crate in found["components"] if crate["name"] == "memchr")
    texts = [notice["license"]["text"]["content"] for notice in memchr["evidence"]["licenses"]]
    assert any("Permission is hereby granted" in text for text in texts)


def test_a_binary_may_be_named_and_its_needs_are_the_tags(tmp_path: Path) -> None:
    named = tmp_path / "live"
    named.write_bytes(b"\x7fELF".ljust(18, b"\0") + b"\xb7\0" + b"\0GLIBC_2.9\0GLIBC_2.31\0GLIBC_2.2.5\0")
    done = build(tmp_path, MODELCANARY_LIVE_BINARY=str(named), PATH="/nowhere")
    assert done.returncode == 0, done.stderr
    with zipfile.ZipFile(tmp_path / f"modelcanary-{VERSION}-py3-none-manylinux_2_31_aarch64.whl") as archive:
        assert archive.read(PLACE) == named.read_bytes()


@pytest.mark.parametrize(
    ("content", "says"),
    [(b"#!/bin/sh\nexec something\n", "no program of Linux"), (b"\x7fELF".ljust(18, b"\0") + b"\xf3\0", "machine 243")],
)
def test_what_is_no_program_for_a_wheel_is_refused(content: bytes, says: str, hook: ModuleType) -> None:
    with pytest.raises(hook.LiveError, match=says):
        hook.wheel_tag(content)


def test_one_that_is_linked_statically_runs_anywhere(hook: ModuleType) -> None:
    assert hook.wheel_tag(b"\x7fELF".ljust(18, b"\0") + b"\x3e\0") == "py3-none-manylinux_2_17_x86_64"


def test_without_cargo_it_says_what_to_install(tmp_path: Path) -> None:
    done = build(tmp_path, PATH="/nowhere")
    assert done.returncode != 0
    assert "https://rustup.rs" in done.stderr and "MODELCANARY_LIVE_BINARY" in done.stderr
    assert not list(tmp_path.glob("*.whl"))


def test_a_named_binary_that_is_not_there_is_said(tmp_path: Path) -> None:
    done = build(tmp_path, MODELCANARY_LIVE_BINARY=str(tmp_path / "none"))
    assert done.returncode != 0 and "none, which is no file" in done.stderr


def test_the_source_distribution_has_the_crate_and_not_what_was_compiled(tmp_path: Path) -> None:
    done = build(tmp_path, "--sdist", PATH="/nowhere")
    assert done.returncode == 0, done.stderr
    with tarfile.open(tmp_path / f"modelcanary-{VERSION}.tar.gz") as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {"hatch_build.py", "sidecar/live/Cargo.lock", "sidecar/live/Cargo.toml", "sidecar/live/src/main.rs"} <= names
    assert f"sidecar/{PLACE}" not in names and not any("/target/" in name for name in names)


def test_a_rust_that_is_too_old_is_said(tmp_path: Path) -> None:
    (tmp_path / "cargo").write_text("#!/bin/sh\n")
    (tmp_path / "rustc").write_text("#!/bin/sh\nprintf 'rustc 1.63.0\\nhost: x\\nrelease: 1.63.0\\n'\n")
    for name in ("cargo", "rustc"):
        (tmp_path / name).chmod(0o755)
    done = build(tmp_path, PATH=f"{tmp_path}:/usr/bin:/bin")
    assert done.returncode != 0 and "Rust 1.82 or newer is needed, and this is rustc 1.63.0" in done.stderr
