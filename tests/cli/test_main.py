"""The command line as a whole: exit codes, one line per error, streams."""

import os
import re
import subprocess
import sys
from pathlib import Path

import click
import pytest
from tests.cli.made import Cli, models, parquet

from modelcanary_cli.main import cli as group


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["frobnicate"], "frobnicate"),
        (["evaluate"], "--baseline"),
        (["evaluate", "--baseline", "x"], "--candidate"),
        (["replay"], "FILE"),
        (["replay", "x", "--looks", "0"], "--looks"),
        (["replay", "x", "--looks", "many"], "--looks"),
        (["replay", "x", "--no-such"], "--no-such"),
        (["report"], "RECORD"),
    ],
)
def test_a_wrong_use_is_no_verdict(cli: Cli, arguments: list[str], named: str) -> None:
    """click's own code for it is 2, which here says that the gate is undecided."""
    answer = cli(*arguments)
    assert (answer.code, answer.out) == (3, "")
    assert answer.err.count("\n") == 1 and named in answer.err


def test_no_command_is_no_promotion(cli: Cli) -> None:
    answer = cli()
    assert (answer.code, answer.out) == (3, "")
    assert "Commands:" in answer.err


def test_help_is_asked_for_and_fits_80_columns(cli: Cli) -> None:
    for name in ("", *group.list_commands(click.Context(group))):
        answer = cli(*filter(None, [name]), "--help")
        assert answer.code == 0 and max(map(len, answer.out.splitlines())) <= 80
        assert not re.search(r"[a-z]\.\.\.$", answer.out, re.MULTILINE), "nothing is cut off"
    assert cli("--version").out.startswith("modelcanary, version ")


def test_what_a_file_holds_cannot_break_the_line_nor_the_terminal(cli: Cli) -> None:
    Path("evil.csv").write_text("id,p_a,p_b,label\n1,0.5,0.5,a\n2,\x07boo\n")
    complaint = cli("evaluate", "--baseline", "evil.csv", "--candidate", "evil.csv").complaint()
    assert "\x07" not in complaint and "boo" in complaint


def test_a_bug_does_not_end_with_the_code_of_a_verdict(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> None:
        raise ZeroDivisionError

    monkeypatch.setitem(group.commands, "report", click.Command("report", callback=fail))
    answer = cli("report")
    assert answer.code == 70
    assert answer.err.endswith("modelcanary: this is a bug of modelcanary, not of the input\n")


def test_an_interrupt_is_no_verdict(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted() -> None:
        raise KeyboardInterrupt

    monkeypatch.setitem(group.commands, "report", click.Command("report", callback=interrupted))
    assert cli("report").code == 130


def test_a_reader_that_goes_away_is_no_error(tmp_path: Path) -> None:
    made = models(300, 0.0)
    columns = {"baseline_loss": made.baseline[:, 0], "candidate_loss": made.candidate[:, 0]}
    parquet(tmp_path / "p.parquet", **columns, run=[f"{'r' * 400}{row}" for row in range(300)])
    reader, writer = os.pipe()
    process = subprocess.Popen(
        [sys.executable, "-m", "modelcanary_cli", "replay", str(tmp_path / "p.parquet"), "--json"],
        stdout=writer,
        stderr=subprocess.PIPE,
    )
    os.close(writer)
    os.close(reader)
    _, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (141, b"")


@pytest.mark.parametrize("colour", [True, False])
def test_colours_only_in_a_terminal_that_wants_them(tmp_path: Path, colour: bool) -> None:
    made = models(1200, 2.0)
    parquet(tmp_path / "b.parquet", id=made.ids, probabilities=made.baseline, label=made.names)
    parquet(tmp_path / "c.parquet", id=made.ids, probabilities=made.candidate)
    controller, terminal = os.openpty()
    environment = {**os.environ, "TERM": "xterm-256color", "COLUMNS": "80"}
    environment.pop("NO_COLOR", None)
    if not colour:
        environment["NO_COLOR"] = "1"
    process = subprocess.Popen(
        [sys.executable, "-m", "modelcanary_cli", "evaluate", "--baseline", "b.parquet", "--candidate", "c.parquet"],
        cwd=tmp_path,
        stdout=terminal,
        env=environment,
    )
    os.close(terminal)
    said = b""
    while True:
        try:
            part = os.read(controller, 65536)
        except OSError:  # the other end is closed
            break
        if not part:
            break
        said += part
    os.close(controller)
    assert process.wait(60) == 1
    assert (b"\x1b[1;31mRollBack" in said) == colour
    assert b"RollBack" in said


@pytest.mark.parametrize(("command", "unwanted"), [("evaluate", "kubernetes"), ("status", "pyarrow")])
def test_no_command_waits_for_what_another_needs(command: str, unwanted: str) -> None:
    program = f"import sys; from modelcanary_cli.main import invoke; invoke(['{command}', '--help'])"
    program += f"; sys.exit('{unwanted}' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], stdout=subprocess.DEVNULL, check=False).returncode == 0


def test_a_shell_is_told_what_completes_a_line() -> None:
    environment = {**os.environ, "COMP_WORDS": "modelcanary ro", "COMP_CWORD": "1"}
    environment["_MODELCANARY_COMPLETE"] = "bash_complete"
    program = "from modelcanary_cli.main import main; main()"
    said = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, check=True, text=True)
    assert said.stdout.split() == ["plain,rollback"]
