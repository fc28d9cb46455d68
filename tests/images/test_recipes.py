"""What an image is built from, and its digest."""

import zipfile
from pathlib import Path

import pytest
from images.errors import ImageError
from images.places import PROJECT, Places, project
from images.recipes import PARTS, Recipe, parts, unlocked, wheel


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "recipe"
    (made / "more" / "__pycache__").mkdir(parents=True)
    (made / "Containerfile").write_text("FROM scratch\n")
    (made / "more" / "serve.py").write_text("serve()\n")
    (made / "more" / "__pycache__" / "serve.pyc").write_text("")
    return made


def test_a_folder_is_a_recipe_without_what_python_leaves(folder: Path, tmp_path: Path) -> None:
    extra = tmp_path / "extra"
    extra.write_text("#!")
    extra.chmod(0o755)
    recipe = Recipe.of_folder("server", folder, {"bin/extra": extra})
    assert set(recipe.files) == {"Containerfile", "more/serve.py", "bin/extra"}
    recipe.write(tmp_path / "context")
    written = {path for path in (tmp_path / "context").rglob("*") if path.is_file()}
    assert {str(path.relative_to(tmp_path / "context")) for path in written} == set(recipe.files)
    assert (tmp_path / "context/bin/extra").stat().st_mode & 0o777 == 0o755
    assert (tmp_path / "context/more/serve.py").stat().st_mode & 0o777 == 0o644


def test_a_folder_without_a_containerfile_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match=r"has no Containerfile.*add one"):
        Recipe.of_folder("server", tmp_path)


def test_the_digest_is_of_all_that_decides(folder: Path) -> None:
    def digest(base: str = "a", **more: str) -> str:
        return Recipe.of_folder("server", folder, {}).digest(base)

    first = digest()
    assert digest() == first
    seen = {first, digest(base="b")}
    recipe = Recipe.of_folder("server", folder)
    seen.add(Recipe("server", recipe.files, target="other").digest("a"))
    seen.add(Recipe("server", recipe.files, arguments={"A": "b"}).digest("a"))
    (folder / "more" / "serve.py").chmod(0o755)
    seen.add(digest())
    (folder / "more" / "serve.py").write_text("serve( )\n")
    seen.add(digest())
    (folder / "more" / "serve.py").rename(folder / "more" / "server.py")
    seen.add(digest())
    assert len(seen) == 7


@pytest.mark.parametrize("part", PARTS)
def test_what_a_part_declares_is_locked(part: str) -> None:
    assert unlocked(part) == set(), "run make locks"
    assert "://" not in (PROJECT / "images" / "locks" / f"{part}.txt").read_text()


def test_a_lock_that_lacks_something_is_said(places: Places, monkeypatch: pytest.MonkeyPatch) -> None:
    found = project()
    found["optional-dependencies"]["ledger"].append("some_thing[extra]>=1; python_version>'3'")
    monkeypatch.setattr("images.recipes.project", lambda: found)
    with pytest.raises(ImageError, match=r"images/locks/ledger\.txt has no some_thing; run: make locks"):
        parts(places)


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> Places:
    return Places(cache=tmp_path_factory.mktemp("cache"), base=None, epoch=1580601600, certificates=None)


def test_the_wheel_is_the_same_twice_and_has_every_part(places: Places) -> None:
    once = wheel(places).read_bytes()
    built = wheel(places)
    assert built.read_bytes() == once
    names = zipfile.ZipFile(built).namelist()
    for part in (*PARTS, "gate", "cli"):
        assert any(name.startswith(f"modelcanary_{part}/") for name in names), part


def test_wheels_for_several_processors_may_be_given(places: Places, tmp_path: Path) -> None:
    given = [tmp_path / f"modelcanary-1-py3-none-manylinux_2_34_{machine}.whl" for machine in ("x86_64", "aarch64")]
    for path in given:
        path.write_text("")
    for recipe in parts(places, given):
        assert {place: path for place, path in recipe.files.items() if place.endswith(".whl")} == {
            path.name: path for path in given
        }


def test_the_three_parts_differ_in_their_target_only(places: Places) -> None:
    made = parts(places)
    assert [(recipe.name, recipe.target) for recipe in made] == [(f"modelcanary-{part}", part) for part in PARTS]
    assert len({frozenset(recipe.files) for recipe in made}) == 1
    text = (PROJECT / "images/Containerfile").read_text()
    for recipe in made:
        assert f"AS {recipe.target}\n" in text
        assert f"locks/{recipe.target}.txt" in recipe.files
