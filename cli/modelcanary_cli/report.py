"""`modelcanary report`: one self-contained HTML file from a decision record, of a file or of the cluster."""

import time
from pathlib import Path

import click

from modelcanary_cli.cluster.drawing import printable
from modelcanary_cli.cluster.options import Where, cluster_options
from modelcanary_cli.cluster.reports import Kept, choose, kept_reports
from modelcanary_cli.cluster.tree import short_age
from modelcanary_cli.errors import InputError
from modelcanary_cli.files import write_whole
from modelcanary_cli.options import PATH
from modelcanary_cli.page import page
from modelcanary_cli.record import read_record
from modelcanary_gate.record import Record, finite


@click.command(short_help="Draw a verdict as one HTML file.")
@click.argument("record", type=PATH, required=False)
@click.option("-o", "--output", type=PATH, metavar="FILE", help="Where to; default: beside the record, as .html.")
@click.option("--from-cluster", "name", metavar="NAME", help="A ModelCanary's latest, as the operator kept it.")
@click.option("--run", metavar="ID", help="With --from-cluster: of this run.")
@click.option("--list", "listed", is_flag=True, help="With --from-cluster: say which are kept.")
@cluster_options
def report(
    record: Path | None,
    output: Path | None,
    name: str | None,
    run: str | None,
    listed: bool,
    namespace: str | None,
    context: str | None,
    kubeconfig: Path | None,
) -> None:
    """Draw a decision record as one HTML file that needs nothing else.

    The record is a FILE that `run`, `evaluate --record` or `replay --record` wrote, or with --from-cluster one of the
    last ten that the operator kept for a ModelCanary.
    """
    if (record is None) == (name is None):
        raise InputError("RECORD", "is missing, or is there twice", "give a file, or --from-cluster NAME")
    if name is not None:
        with Where(namespace, context, kubeconfig).cluster() as (cluster, chosen):
            reports = kept_reports(cluster, chosen, name)
        if listed:
            _list(reports)
            return
        kept = choose(reports, run)
        target = output or Path(f"{kept.name}.html")
        write_report(kept.read(), target)
    elif record is not None:
        if run is not None or listed:
            raise InputError("--run and --list", "go with --from-cluster", "leave them out for a file")
        target = output or record.with_suffix(".html")
        if target.resolve() == record.resolve():
            raise InputError(
                record, "is the record itself, which the report would replace", "name another file with -o"
            )
        write_report(read_record(record), target)
    click.echo(str(target))


def write_report(record: Record, path: Path) -> None:
    """Draws the record into one file. Raises InputError when it cannot be written."""
    write_whole(path, page(finite(record)).encode())


def _list(reports: list[Kept]) -> None:
    """Whole images, however long: a line that a terminal breaks can be read, and one that is cut cannot."""
    rows = [("RUN", "VERDICT", "REASON", "AGE", "CANDIDATE")]
    now = time.time()
    rows += [(kept.run, kept.verdict, kept.reason, short_age(now - kept.since), kept.candidate) for kept in reports]
    widths = [max(len(row[index]) for row in rows) for index in range(4)]
    for row in rows:
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=False)]
        click.echo(printable("  ".join([*cells, row[4]])))
