"""The folder of a run: its lock, and what a restart resumes."""

import os
import subprocess
import sys
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from modelcanary_cli.errors import InputError
from modelcanary_cli.state import RunFile, StateFolder

FRESH = RunFile("digits-1", "abc", "http://a:80", "http://b:80", 1000.0)
LATER = replace(FRESH, run="digits-2", startedAt=2000.0)


def test_the_same_run_is_resumed_with_a_later_epoch(tmp_path: Path) -> None:
    with closing(StateFolder(tmp_path)) as state:
        run, why = state.begin(FRESH, new=False)
        assert (run, bool(why)) == (FRESH, True)
        run, why = state.begin(LATER, new=False)
        assert (run.run, run.startedAt, run.epoch, why) == ("digits-1", 1000.0, 2, "")


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"digest": "other"}, "specification"),
        ({"candidate": "http://c:80"}, "candidate"),
        ({"baseline": "http://c:80"}, "baseline"),
    ],
)
def test_what_is_judged_changed_so_a_new_run_begins(tmp_path: Path, change: dict[str, str], why: str) -> None:
    with closing(StateFolder(tmp_path)) as state:
        state.begin(FRESH, new=False)
        state.record.write_text("{}")
        run, said = state.begin(replace(LATER, **change), new=False)
        assert why in said
        assert (run.run, run.epoch) == ("digits-2", 2)
        assert not state.record.exists(), "the verdict of another run"


def test_a_new_run_can_be_asked_for(tmp_path: Path) -> None:
    with closing(StateFolder(tmp_path)) as state:
        state.begin(FRESH, new=False)
        assert state.begin(LATER, new=True)[0].run == "digits-2"


def test_a_folder_in_use_by_a_living_process_is_refused(tmp_path: Path) -> None:
    with (
        closing(StateFolder(tmp_path)),
        pytest.raises(InputError, match=rf"in use by another `modelcanary run` \(process {os.getpid()}\)"),
    ):
        StateFolder(tmp_path)


def test_the_parts_of_a_killed_run_are_waited_for(tmp_path: Path) -> None:
    state = StateFolder(tmp_path)
    # a part that holds the lock for as long as its input is open, as one that is still draining does
    part = subprocess.Popen(
        [sys.executable, "-c", "import sys; sys.stdin.read()"], stdin=subprocess.PIPE, pass_fds=(state.lock,)
    )
    assert part.stdin is not None
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    (tmp_path / "lock").write_text(str(gone.pid))
    state.close()
    waiting = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "from pathlib import Path; from modelcanary_cli.state import StateFolder; import sys\n"
            "print('trying', flush=True); StateFolder(Path(sys.argv[1])); print('taken', flush=True)",
            str(tmp_path),
        ],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert waiting.stdout is not None
    assert waiting.stdout.readline() == "trying\n"
    with pytest.raises(subprocess.TimeoutExpired):
        waiting.wait(0.5)
    part.stdin.close()
    part.wait(10)
    assert waiting.stdout.readline() == "taken\n"
    waiting.wait(10)
    waiting.stdout.close()


def test_a_folder_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"--state: .* cannot be written"):
        StateFolder(tmp_path / "file")


def test_a_broken_run_file_is_an_error_and_stays(tmp_path: Path) -> None:
    with closing(StateFolder(tmp_path)) as state:
        (tmp_path / "run.json").write_text('{"run": 1}')
        with pytest.raises(InputError, match=r"run\.json: is not a run's state"):
            state.begin(FRESH, new=False)
        assert (tmp_path / "run.json").read_text() == '{"run": 1}'
