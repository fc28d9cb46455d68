"""The `modelcanary` command: registers the subcommands and turns every error into one line and an exit code.

Called by the console script and `python -m modelcanary_cli`. Must not know what a subcommand does.
"""

import os
import sys
import traceback
from collections.abc import Sequence

import click

from modelcanary_cli.errors import CliError, ExitCode
from modelcanary_cli.evaluate import evaluate
from modelcanary_cli.export import export
from modelcanary_cli.recompute import recompute
from modelcanary_cli.replay import replay
from modelcanary_cli.report import report
from modelcanary_cli.run import run
from modelcanary_gate.errors import GateError


@click.group(
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 80},
)
@click.version_option(package_name="modelcanary", prog_name="modelcanary")
@click.pass_context
def cli(context: click.Context) -> int | None:
    """Compare a candidate model with the model that serves users, and say: promote, roll back, or keep
    watching.

    Exit codes: 0 promote (or done), 1 roll back, 2 undecided, 3 bad input.
    """
    if context.invoked_subcommand is None:
        # a script whose arguments turned out empty must not read this as a promotion
        click.echo(context.get_help(), err=True)
        return ExitCode.BAD_INPUT
    return None


for _command in (run, evaluate, replay, report, export, recompute):
    cli.add_command(_command)


def invoke(arguments: Sequence[str]) -> int:
    """The exit code of one command line; what went wrong is told on stderr."""
    try:
        # not cli.main(): it ends a broken pipe with 1, which here means that the candidate is rolled back
        with cli.make_context("modelcanary", list(arguments)) as context:
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
    sys.exit(invoke(sys.argv[1:]))
