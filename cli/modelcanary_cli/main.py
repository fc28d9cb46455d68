"""The `modelcanary` command: finds the subcommands and turns every error into one line and an exit code.

Called by the console scripts and `python -m modelcanary_cli`. Must not know what a subcommand does. Each is imported
when it is called: who asks a cluster something does not wait for what reads Parquet.
"""

import os
import sys
import traceback
from collections.abc import Sequence
from importlib import import_module

import click
from click.shell_completion import shell_complete

from modelcanary_cli.errors import CliError, ExitCode
from modelcanary_cli.settings import COMPLETION, completion_asked
from modelcanary_gate.errors import GateError

#: In the order in which the help lists them: on one machine, then in a cluster.
_COMMANDS = {
    "run": "modelcanary_cli.run",
    "evaluate": "modelcanary_cli.evaluate",
    "replay": "modelcanary_cli.replay",
    "report": "modelcanary_cli.report",
    "export": "modelcanary_cli.export",
    "recompute": "modelcanary_cli.recompute",
    "labels": "modelcanary_cli.labels",
    "status": "modelcanary_cli.cluster.status",
    "wait": "modelcanary_cli.cluster.wait",
    **dict.fromkeys(("promote", "rollback", "pause", "resume", "retry"), "modelcanary_cli.cluster.verbs"),
}


class _Commands(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in self.commands and cmd_name in _COMMANDS:
            self.add_command(getattr(import_module(_COMMANDS[cmd_name]), cmd_name))
        return super().get_command(ctx, cmd_name)


@click.group(
    cls=_Commands,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 80},
)
@click.version_option(package_name="modelcanary", prog_name="modelcanary")
@click.pass_context
def cli(context: click.Context) -> int | None:
    """Compare a candidate model with the model that serves users, and say: promote, roll back, or keep
    watching. On one machine (run, evaluate, replay), and in a cluster whose operator does it (status and below).

    Exit codes: 0 promote (or done), 1 roll back, 2 undecided, 3 bad input.
    """
    if context.invoked_subcommand is None:
        # a script whose arguments turned out empty must not read this as a promotion
        click.echo(context.get_help(), err=True)
        return ExitCode.BAD_INPUT
    return None


def invoke(arguments: Sequence[str], name: str = "modelcanary") -> int:
    """The exit code of one command line; what went wrong is told on stderr."""
    try:
        # not cli.main(): it ends a broken pipe with 1, which here means that the candidate is rolled back
        with cli.make_context(name, list(arguments)) as context:
            code = cli.invoke(context)
        sys.stdout.flush()
        return code if isinstance(code, int) else ExitCode.PROMOTE
    except click.exceptions.Exit as end:  # after --help and --version
        return end.exit_code
    except (click.ClickException, CliError, GateError) as error:
        # click would end a usage error with 2, which here means that the gate is undecided
        _complain(error.format_message() if isinstance(error, click.ClickException) else str(error))
        return error.exit_code if isinstance(error, CliError) else ExitCode.BAD_INPUT
    except (click.Abort, KeyboardInterrupt):
        return ExitCode.INTERRUPTED
    except BrokenPipeError:
        # the reader (`| head`) has seen enough; what Python would flush at exit goes nowhere
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return ExitCode.BROKEN_PIPE
    except Exception:  # noqa: BLE001 - the outermost boundary: a bug must not end with the code of a verdict
        traceback.print_exc()
        _complain("this is a bug of modelcanary, not of the input")
        return ExitCode.INTERNAL


def _complain(message: str) -> None:
    # what a file holds may be quoted in it: no line breaks, and nothing that a terminal would obey
    line = "".join(character if character.isprintable() else "?" for character in " ".join(message.split()))
    click.echo(f"modelcanary: {line}", err=True)


def main() -> None:
    asked = completion_asked()
    if asked:
        sys.exit(shell_complete(cli, {}, "modelcanary", COMPLETION, asked))
    sys.exit(invoke(sys.argv[1:]))


def plugin() -> None:
    """`kubectl modelcanary`: the same commands."""
    sys.exit(invoke(sys.argv[1:], "kubectl modelcanary"))
