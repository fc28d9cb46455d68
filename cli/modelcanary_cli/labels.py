"""`modelcanary labels import`: labels that a batch job left in files, sent to a ledger.

Knows neither how files are encoded nor how the ledger is asked; counts, shows, and says it at the end.
"""

from collections import Counter
from importlib import import_module
from pathlib import Path

import click
import msgspec
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from modelcanary_cli import feedback
from modelcanary_cli.cluster.options import timeout_option
from modelcanary_cli.errors import CliError
from modelcanary_cli.feedback import COUNTS, Feedback
from modelcanary_cli.label_files import FORMS, LabelFile, read_label_file
from modelcanary_cli.ledger_access import connect, ledger_options
from modelcanary_cli.sources import find


class _Labels(click.Group):
    """`follow` needs what reads Kafka, and is imported when it is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted({*super().list_commands(ctx), "follow"})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name == "follow" and cmd_name not in self.commands:
            self.add_command(import_module("modelcanary_cli.follow.command").follow)
        return super().get_command(ctx, cmd_name)


@click.group(cls=_Labels)
def labels() -> None:
    """Labels: what turned out to be true of requests."""


@labels.command(name="import")
@click.argument("files", nargs=-1, required=True)
@ledger_options
@click.option("-n", "--namespace", default="default", show_default=True, help="Of the ModelCanary.")
@click.option("--name", required=True, metavar="NAME", help="The ModelCanary.")
@click.option("--format", "form", type=click.Choice(FORMS), default="auto", show_default=True)
@timeout_option("5m")
@click.option("--json", "as_json", is_flag=True, help="One line of JSON.")
def import_(
    files: tuple[str, ...],
    ledger: str,
    token_file: Path | None,
    ledger_ca: Path | None,
    namespace: str,
    name: str,
    form: str,
    timeout: float,
    as_json: bool,
) -> None:
    """Send labels from files to a ledger.

    FILES are Parquet, CSV or NDJSON with the columns id and label (index, ts, source), or SageMaker's ground truth
    records: paths, folders, globs, or s3:// addresses of these. A file is sent only if all of it can be read. It may
    be done twice: what the ledger has already counts as duplicate.

    Ends with 0 when all were taken (whatever became of them), 3 for bad input, 69 where the ledger did not answer
    for --timeout.
    """
    sources = find(files)
    totals: Counter[str] = Counter()
    done = 0
    report = _say if as_json else click.echo
    with connect(ledger, token_file, ledger_ca, feedback.LIMIT) as client:
        ledger_of_one = Feedback(client, namespace, name, timeout, _say)
        try:
            for source in sources:
                with source.local() as path:
                    counts = _send(read_label_file(path, source.name, form), ledger_of_one, totals)
                done += 1
                report(f"{source.name}: {_in_words(counts)}")
        except CliError:
            if totals["labels"]:
                taken = f"{totals['labels']:,} labels were taken before, {done} files of them whole"
                _say(f"{taken}; send all of them again, what is known already changes nothing")
            raise
    if as_json:
        row = {"files": done, "labels": totals["labels"], **{name: totals[name] for name in COUNTS}}
        click.echo(msgspec.json.encode(row).decode())
    elif done > 1:
        click.echo(f"{done} files: {_in_words(totals)}")


def _send(file: LabelFile, ledger: Feedback, totals: Counter[str]) -> Counter[str]:
    """What became of a file's labels; `totals` has what was taken, should it end in the middle."""
    found: Counter[str] = Counter()
    with _progress() as progress:
        task = progress.add_task(file.source, total=file.labels)
        for batch in file.batches():
            counts = ledger.post(batch)
            counts["labels"] = len(batch.rows)
            found += counts
            totals += counts
            progress.advance(task, len(batch.rows))
    return found


def _progress() -> Progress:
    """In a terminal alone; elsewhere the line of each file is all."""
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    return Progress(*columns, console=console, transient=True, disable=not console.is_terminal)


def _in_words(counts: Counter[str]) -> str:
    """Without counts that are 0."""
    parts = [f"{counts['labels']:,} labels", *(f"{counts[name]:,} {name}" for name in COUNTS if counts[name])]
    return ", ".join(parts)


def _say(message: str) -> None:
    click.echo(f"modelcanary: {message}", err=True)
