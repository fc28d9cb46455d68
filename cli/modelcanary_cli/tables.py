"""Reads a file of rows - Parquet, CSV or NDJSON - into an Arrow table, without a Python object per row.

Called by `predictions` and `pairs`. Knows how files are encoded, and nothing of what their columns mean.
"""

from collections.abc import Collection
from pathlib import Path

import pyarrow as pa
import pyarrow.csv
import pyarrow.json
import pyarrow.parquet

from modelcanary_cli.errors import InputError

#: Columns whose values are names: "007" must not become 7, nor an id that looks like a date a date.
NAMES = ("id", "label", "run")
#: A row of NDJSON must fit into one block.
_JSON_BLOCK = 16 << 20
_SUFFIXES = {
    ".parquet": "parquet",
    ".pq": "parquet",
    ".csv": "csv",
    ".ndjson": "ndjson",
    ".jsonl": "ndjson",
    ".json": "ndjson",
}


def read_table(path: Path, wanted: Collection[str] = (), prefix: str | None = None) -> pa.Table:
    """The file's columns that are `wanted` or start with `prefix` (both empty: all of them).

    Raises InputError where the file is not there, is empty, or is not of its format.
    """
    try:
        match _format(path):
            case "parquet":
                with pa.parquet.ParquetFile(path) as file:
                    table = file.read(_chosen(file.schema_arrow.names, wanted, prefix))
            case "csv":
                table = _read_csv(path)
            case _:
                table = _read_ndjson(path)
    except pa.ArrowInvalid as error:
        raise InputError(path, f"cannot be read: {_first_line(error)}", "give Parquet, CSV or NDJSON") from error
    except OSError as error:
        reason = error.strerror or _first_line(error)
        raise InputError(path, f"cannot be read ({reason})", "give the path of a readable file") from error
    _refuse_repeated(path, table.column_names)
    if table.num_rows == 0:
        raise InputError(path, "has no rows", "give a file with at least one row")
    return table.select(_chosen(table.column_names, wanted, prefix))


def column(table: pa.Table, name: str, source: Path, what: str) -> pa.ChunkedArray:
    """Raises InputError that names the column and those that there are."""
    if name not in table.column_names:
        present = ", ".join(map(repr, table.column_names)) or "none"
        raise InputError(source, f"has no column {name!r} ({what}); its columns are {present}", "add or rename it")
    return table.column(name)


def _format(path: Path) -> str:
    """By content where it is plain, else by suffix (`.gz` apart), else a guess at the first character."""
    with path.open("rb") as file:
        head = file.read(4)
    if head == b"PAR1":
        return "parquet"
    suffixes = [suffix for suffix in path.suffixes if suffix != ".gz"]
    by_suffix = _SUFFIXES.get(suffixes[-1]) if suffixes else None
    if by_suffix == "parquet":
        raise pa.ArrowInvalid("it does not start as a Parquet file does")
    return by_suffix or ("ndjson" if head.lstrip()[:1] in (b"{", b"[") else "csv")


def _chosen(names: list[str], wanted: Collection[str], prefix: str | None) -> list[str]:
    if not wanted and prefix is None:
        return names
    return [name for name in names if name in wanted or (prefix is not None and name.startswith(prefix))]


def _read_csv(path: Path) -> pa.Table:
    convert = pa.csv.ConvertOptions(
        column_types=dict.fromkeys(NAMES, pa.string()),
        # an empty cell is missing; "NA" and "null" may be names of classes, and "nan" is a number gone wrong
        null_values=[""],
        strings_can_be_null=True,
    )
    with pa.input_stream(path, compression="detect") as stream:
        return pa.csv.read_csv(stream, convert_options=convert)


def _read_ndjson(path: Path) -> pa.Table:
    read = pa.json.ReadOptions(block_size=_JSON_BLOCK)
    with pa.input_stream(path, compression="detect") as stream:
        table = pa.json.read_json(stream, read_options=read)
    dated = [
        name for name in NAMES if name in table.column_names and pa.types.is_timestamp(table.schema.field(name).type)
    ]
    if not dated:
        return table
    parse = pa.json.ParseOptions(explicit_schema=pa.schema([(name, pa.string()) for name in dated]))
    with pa.input_stream(path, compression="detect") as stream:
        return pa.json.read_json(stream, read_options=read, parse_options=parse)


def _refuse_repeated(path: Path, names: list[str]) -> None:
    for position, name in enumerate(names):
        if name in names[:position]:
            raise InputError(path, f"has two columns {name!r}", "name each column once")


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n")[0]
