"""`modelcanary report`: one self-contained HTML file from a decision record."""

from pathlib import Path

import click

from modelcanary_cli.errors import InputError
from modelcanary_cli.files import write_whole
from modelcanary_cli.options import PATH
from modelcanary_cli.page import page
from modelcanary_cli.record import read_record
from modelcanary_gate.record import Record, finite


@click.command()
@click.argument("record", type=PATH)
@click.option("-o", "--output", type=PATH, metavar="FILE", help="Where to; default: beside the record, as .html.")
def report(record: Path, output: Path | None) -> None:
    """Draw a decision record as one HTML file that needs nothing else."""
    target = output or record.with_suffix(".html")
    if target.resolve() == record.resolve():
        raise InputError(record, "is the record itself, which the report would replace", "name another file with -o")
    write_report(read_record(record), target)
    click.echo(str(target))


def write_report(record: Record, path: Path) -> None:
    """Draws the record into one file. Raises InputError when it cannot be written."""
    write_whole(path, page(finite(record)).encode())
