"""The images as they are built: who they run as, what is in them, how large they are. Needs what they need."""

import json
import tarfile
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

import pytest
from images.build import Built, build
from images.places import Places
from images.recipes import PARTS, parts

pytestmark = [pytest.mark.node, pytest.mark.timeout(1800, func_only=True)]


@pytest.fixture(scope="module")
def images() -> dict[str, Built]:
    places = Places.of_environment()
    return dict(zip(PARTS, build(places, parts(places)), strict=True))


def config(image: Built) -> dict[str, Any]:
    with tarfile.open(image.archive) as archive:
        (manifest,) = json.load(archive.extractfile("manifest.json"))  # type: ignore[arg-type]
        return json.load(archive.extractfile(manifest["Config"]))["config"]  # type: ignore[arg-type, no-any-return]


def files(image: Built) -> Iterator[PurePosixPath]:
    with tarfile.open(image.archive) as archive:
        (manifest,) = json.load(archive.extractfile("manifest.json"))  # type: ignore[arg-type]
        for layer in manifest["Layers"]:
            with tarfile.open(fileobj=archive.extractfile(layer)) as unpacked:
                yield from (PurePosixPath("/", entry.name) for entry in unpacked)


def compressed(path: Path) -> int:
    """As registries keep it, about: by gzip's own method."""
    packer, size = zlib.compressobj(6), 0
    with path.open("rb") as source:
        while piece := source.read(1 << 20):
            size += len(packer.compress(piece))
    return size + len(packer.flush())


@pytest.mark.parametrize("part", PARTS)
def test_it_runs_its_part_as_nobody_in_particular(images: dict[str, Built], part: str) -> None:
    found = config(images[part])
    assert found["User"] == "65532:65532"
    assert found["Entrypoint"] == [f"modelcanary-{part}"]
    assert not found.get("Cmd")


@pytest.mark.parametrize("part", PARTS)
def test_it_has_the_part_compiled_and_nothing_to_install_with(images: dict[str, Built], part: str) -> None:
    own = [path for path in files(images[part]) if path.is_relative_to("/opt/modelcanary")]
    names = {path.name for path in own}
    assert f"modelcanary-{part}" in names
    packages = {path.name: path for path in own if path.parent.name == "site-packages"}
    assert "numpy" in packages and f"modelcanary_{part}" in packages
    assert not [name for name in packages if name.startswith(("pip", "setuptools"))]
    assert any(path.parent == packages[f"modelcanary_{part}"] / "__pycache__" for path in own)
    assert not [path for path in own if path.name == "tests" or path.suffix in (".pyi", ".pyx", ".c")]
    assert not [path for path in files(images[part]) if path.is_relative_to("/build")]


def test_the_sidecar_alone_has_the_live_process_and_the_list_of_its_crates(images: dict[str, Built]) -> None:
    for part in PARTS:
        names = {path.name for path in files(images[part])}
        assert {"modelcanary-live", "modelcanary-live.cdx.json"} & names == (
            {"modelcanary-live", "modelcanary-live.cdx.json"} if part == "sidecar" else set()
        ), part


def test_the_sidecar_is_small(images: dict[str, Built]) -> None:
    assert compressed(images["sidecar"].archive) <= 120_000_000
