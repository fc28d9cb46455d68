"""Files are written whole or not at all."""

import os
import stat
from pathlib import Path

import pytest

from modelcanary_cli.errors import InputError
from modelcanary_cli.files import refuse_unwritable, write_whole


def test_writes_over_what_is_there_with_the_rights_that_the_umask_leaves(tmp_path: Path) -> None:
    target = tmp_path / "report.html"
    target.write_text("old")
    before = os.umask(0o027)
    try:
        write_whole(target, b"new")
    finally:
        os.umask(before)
    assert target.read_bytes() == b"new"
    assert stat.S_IMODE(target.stat().st_mode) == 0o640
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]


def test_what_fails_half_way_leaves_the_old_content(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "report.html"
    target.write_text("old")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(InputError, match="No space left on device"):
        write_whole(target, b"new")
    assert target.read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]


@pytest.mark.parametrize("name", ["missing/report.html", "file/report.html", "."])
def test_places_that_cannot_hold_a_file(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").write_text("")
    target = tmp_path / name
    for attempt in (lambda: write_whole(target, b""), lambda: refuse_unwritable(None, target)):
        with pytest.raises(InputError) as caught:
            attempt()
        assert str(target) in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_place_that_can(tmp_path: Path) -> None:
    refuse_unwritable(None, tmp_path / "new", Path("relative"))
