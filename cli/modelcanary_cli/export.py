"""`modelcanary export`: a run's pairs from a ledger into a Parquet file, before the ledger forgets them.

What `recompute` and `replay` read. It must not know what a pair means.
"""

import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import click
import httpx
import msgspec
import pyarrow as pa
import pyarrow.parquet

from modelcanary_cli.errors import InputError
from modelcanary_cli.exported import BATCH
from modelcanary_cli.files import refuse_unwritable, write_whole
from modelcanary_cli.ledger_access import connect, ledger_options
from modelcanary_cli.ledger_client import LedgerError
from modelcanary_cli.options import PATH

_LIMIT = httpx.Timeout(60.0, connect=5.0)
_NUMBERS = pa.list_(pa.float64())
_COLUMNS: list[tuple[str, pa.DataType]] = [
    ("run", pa.string()),
    ("id", pa.string()),
    ("index", pa.int32()),
    ("ts", pa.float64()),
    ("baseline", _NUMBERS),
    ("candidate", _NUMBERS),
    ("label", pa.int32()),  # or numbers over the classes: by the first label
    ("labelledAt", pa.float64()),
    ("late", pa.bool_()),
    ("contradicted", pa.bool_()),
    ("matured", pa.bool_()),
    ("coverage", pa.float64()),
    ("weight", pa.float64()),
    ("baselineOutcome", pa.string()),
    ("candidateOutcome", pa.string()),
    ("baselineLatency", pa.float64()),
    ("candidateLatency", pa.float64()),
]


@click.command()
@click.argument("name")
@ledger_options
@click.option("-n", "--namespace", default="default", show_default=True, help="Of the ModelCanary.")
@click.option("--run", metavar="RUN", help="A run's id; else the present one.")
@click.option("--evidence", type=PATH, metavar="FILE", help="Write the run's evidence too (JSON).")
@click.option("-o", "--output", required=True, type=PATH, metavar="FILE", help="The Parquet file.")
def export(
    name: str,
    ledger: str,
    namespace: str,
    run: str | None,
    token_file: Path | None,
    ledger_ca: Path | None,
    evidence: Path | None,
    output: Path,
) -> None:
    """Save a run's pairs from a ledger as Parquet.

    NAME is the ModelCanary. The ledger keeps pairs until no label is waited for any more (labels.maxDelay).
    """
    refuse_unwritable(output, evidence)
    base = f"/v1/runs/{quote(namespace, safe='')}/{quote(name, safe='')}"
    query = {"run": run} if run is not None else {}
    with _asking(), connect(ledger, token_file, ledger_ca, _LIMIT) as client:
        if evidence is not None:
            answer = client.get(f"{base}/evidence", params={**query, "unclosed": "true"})
            _refuse(answer)
            write_whole(evidence, answer.content)
        with client.stream("GET", f"{base}/pairs", params=query) as lines:
            if lines.is_error:
                lines.read()
            _refuse(lines)
            count = write_pairs(lines.iter_lines(), output)
    click.echo(f"{output}: {count:,} pairs")


def write_pairs(lines: Iterator[str], output: Path) -> int:
    """Writes lines of JSON as Parquet, whole or not at all; returns how many."""
    partial = output.with_name(f".{output.name}.partial")
    rows: Iterator[dict[str, Any]] = (msgspec.json.decode(line) for line in lines if line)
    count = 0
    try:
        schema, rows = _schema(rows)
        with pa.parquet.ParquetWriter(partial, schema) as writer:
            while batch := list(itertools.islice(rows, BATCH)):
                writer.write_table(_table(batch, schema))
                count += len(batch)
        partial.replace(output)
    except pa.ArrowInvalid as error:
        raise InputError(
            output, f"the labels are of two kinds: {error}", "export runs with one kind of label"
        ) from error
    finally:
        partial.unlink(missing_ok=True)
    return count


def _schema(rows: Iterator[dict[str, Any]]) -> tuple[pa.Schema, Iterator[dict[str, Any]]]:
    """The label's kind is that of the first label within the first batches."""
    first = list(itertools.islice(rows, BATCH))
    soft = any(isinstance(row["label"], list) for row in first)
    columns = [(name, _NUMBERS if soft and name == "label" else kind) for name, kind in _COLUMNS]
    return pa.schema(columns), itertools.chain(first, rows)


def _table(batch: list[dict[str, Any]], schema: pa.Schema) -> pa.Table:
    return pa.table([pa.array([row[field.name] for row in batch], field.type) for field in schema], schema=schema)


@contextmanager
def _asking() -> Iterator[None]:
    try:
        yield
    except (httpx.HTTPError, msgspec.DecodeError) as error:
        raise LedgerError(f"the ledger did not answer to the end: {str(error) or type(error).__name__}") from error


def _refuse(answer: httpx.Response) -> None:
    if answer.is_error:
        raise LedgerError(f"the ledger refused: {answer.status_code} {answer.text[:500]}")
