"""Archives in the cache: built once for each content, the old ones forgotten; and which program builds them."""

import os
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from images import build as building
from images.engines import Buildah, Docker, Podman, choose
from images.errors import ImageError
from images.places import Places
from images.recipes import Recipe


@dataclass
class Counting:
    """Builds nothing, and says what it was asked."""

    built: list[str] = field(default_factory=list)
    broken: bool = False

    def base(self) -> str | None:
        return "some/base:1"

    def build(self, recipe: Recipe, context: Path, reference: str, archive: Path) -> None:
        archive.write_text("half")
        if self.broken:
            raise ImageError("no space")
        archive.write_text((context / "Containerfile").read_text())
        self.built.append(reference)


@pytest.fixture
def places(tmp_path: Path) -> Places:
    return Places(cache=tmp_path / "cache", base=None, epoch=1580601600, certificates=None)


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> Counting:
    made = Counting()
    monkeypatch.setattr(building, "choose", lambda places: made)
    return made


@pytest.fixture
def recipe(tmp_path: Path) -> Callable[[str], Recipe]:
    def make(content: str) -> Recipe:
        folder = tmp_path / "recipe"
        folder.mkdir(exist_ok=True)
        (folder / "Containerfile").write_text(content)
        return Recipe.of_folder("server", folder)

    return make


def test_it_builds_what_has_changed_only(places: Places, engine: Counting, recipe: Callable[[str], Recipe]) -> None:
    (first,) = building.build(places, [recipe("FROM a")])
    (again,) = building.build(places, [recipe("FROM a")])
    assert first == again and len(engine.built) == 1
    assert first.archive.read_text() == "FROM a"
    (other,) = building.build(places, [recipe("FROM b")])
    assert other.archive != first.archive and other.reference != first.reference
    assert other.reference.startswith("localhost/server:") and len(engine.built) == 2


def test_a_failed_build_leaves_no_archive(places: Places, engine: Counting, recipe: Callable[[str], Recipe]) -> None:
    engine.broken = True
    with pytest.raises(ImageError, match="no space"):
        building.build(places, [recipe("FROM a")])
    assert list(places.cache.glob("*.tar")) == []
    engine.broken = False
    (built,) = building.build(places, [recipe("FROM a")])
    assert built.archive.read_text() == "FROM a"


def test_the_newest_few_are_kept(places: Places, engine: Counting, recipe: Callable[[str], Recipe]) -> None:
    other = places.cache / "server-more-0123456789ab.tar"
    places.cache.mkdir()
    other.touch()
    archives = []
    for number in range(6):
        (built,) = building.build(places, [recipe(f"FROM a{number}")])
        os.utime(built.archive, (number, number))
        archives.append(built.archive)
    assert [archive.exists() for archive in archives] == [False, False, True, True, True, True]
    assert other.exists(), "another image's"


# Which program, and how it is called: programs that write down their arguments stand in for the real ones.


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    folder = tmp_path / "programs"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
    monkeypatch.setattr("images.engines.answers", lambda *command: (folder / command[0]).exists() and _works(command))

    def _works(command: tuple[str, ...]) -> bool:
        return "exit 1" not in (folder / command[0]).read_text()

    def make(name: str, does: str = "exit 0") -> Path:
        program = folder / name
        program.write_text(f'#!/bin/sh\necho "$@" >>{folder}/said\n{does}\n')
        program.chmod(0o755)
        return folder / "said"

    return make


def test_an_engine_that_answers_comes_first(programs: Callable[..., Path], places: Places) -> None:
    with pytest.raises(ImageError, match=r"start docker or podman.*apt-get install .*buildah debootstrap"):
        choose(places)
    programs("docker", "exit 1")  # the command without its service
    programs("buildah")
    assert isinstance(choose(places), Buildah)
    programs("podman")
    assert isinstance(choose(places), Podman)
    programs("docker")
    assert isinstance(choose(places), Docker)


@pytest.mark.parametrize("engine", [Docker, Podman, Buildah])
def test_each_gets_base_target_arguments_and_certificates(
    engine: type[Docker | Podman | Buildah], programs: Callable[..., Path], places: Places, tmp_path: Path
) -> None:
    said = programs(engine.__name__.lower())
    recipe = Recipe("server", {"Containerfile": tmp_path / "none"}, target="one", arguments={"COLOUR": "red"})
    there = replace(places, base="my/python:3.12", certificates=tmp_path / "ca.pem")
    engine(there).build(recipe, tmp_path, "localhost/server:1", tmp_path / "out.tar")
    built, saved = said.read_text().splitlines()
    for option in (
        "--build-arg=BASE=my/python:3.12",
        "--build-arg=COLOUR=red",
        "--target=one",
        f"--secret=id=certificates,src={tmp_path / 'ca.pem'}",
        "--tag=localhost/server:1",
        "1580601600",
    ):
        assert option in built
    assert "localhost/server:1" in saved and str(tmp_path / "out.tar") in saved


def test_without_a_base_the_containerfiles_own_holds(programs: Callable[..., Path], places: Places) -> None:
    said = programs("podman")
    Podman(places).build(Recipe("server", {}), Path("/context"), "localhost/server:1", Path("/out.tar"))
    assert "BASE" not in said.read_text() and "--secret" not in said.read_text()


def test_what_a_program_says_when_it_fails_is_told(programs: Callable[..., Path], places: Places) -> None:
    programs("podman", 'echo "no such base" >&2; exit 2')
    with pytest.raises(ImageError, match=r"podman build .* failed:\nno such base"):
        Podman(places).build(Recipe("server", {}), Path("/context"), "localhost/server:1", Path("/out.tar"))
