"""Reads a file of rows - Parquet, CSV or NDJSON - into Arrow columns, without a Python object per row.

Called by `predictions` and `pairs`. Knows how files are encoded, and nothing of what their columns mean.
"""

import json
import re
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.csv
import pyarrow.json
import pyarrow.parquet

from modelcanary_cli.errors import InputError

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
#: Names of columns that a message quotes before it says that there are more.
_MOST_NAMES = 12


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which columns are read: those of these names, and those that start with `prefix`."""

    names: Collection[str]
    prefix: str | None = None

    def of(self, present: Collection[str]) -> list[str]:
        return [
            name for name in present if name in self.names or (self.prefix is not None and name.startswith(self.prefix))
        ]


class Rows:
    """The wanted columns of one file, each given away once, so that no more than one is held here.

    `table` has them; None: each is read from the Parquet file when it is its turn.
    """

    def __init__(self, source: Path, wanted: Wanted, present: list[str], count: int, table: pa.Table | None) -> None:
        self.source = source
        self.count = count
        self.names = wanted.of(present)
        self._present = present
        self._columns = None if table is None else {name: table.column(name) for name in self.names}

    def __contains__(self, name: object) -> bool:
        return name in self.names

    def take(self, name: str, what: str = "") -> pa.ChunkedArray:
        """Raises InputError that names the column and those that there are."""
        if name not in self.names:
            shown = ", ".join(map(repr, self._present[:_MOST_NAMES]))
            more = f" and {len(self._present) - _MOST_NAMES} more" if len(self._present) > _MOST_NAMES else ""
            raise InputError(
                self.source, f"has no column {name!r} ({what}); its columns are {shown}{more}", "add or rename it"
            )
        if self._columns is not None:
            return self._columns.pop(name)
        with _reading(self.source), pa.parquet.ParquetFile(self.source) as file:
            return file.read([name]).column(name)


def read_rows(path: Path, wanted: Wanted, form: str | None = None) -> Rows:
    """Raises InputError where the file is not there, is empty, or is not of its format.

    `form`: parquet, csv or ndjson, where that is known.
    """
    with _reading(path):
        match form or _format(path):
            case "parquet":
                rows = _read_parquet(path, wanted)
            case "csv":
                rows = _read_csv(path, wanted)
            case _:
                rows = _read_ndjson(path, wanted)
    if rows.count == 0:
        raise InputError(path, "has no rows", "give a file with at least one row")
    return rows


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    try:
        yield
    except pa.ArrowException as error:
        raise InputError(path, f"cannot be read: {_first_line(error)}", "give Parquet, CSV or NDJSON") from error
    except OSError as error:
        reason = error.strerror or _first_line(error)
        raise InputError(path, f"cannot be read ({reason})", "give the path of a readable file") from error


def _format(path: Path) -> str:
    """By content where it is plain, else by suffix (`.gz` apart), else a guess at the first character."""
    with path.open("rb") as file:
        head = file.read(4)
    if head == b"PAR1":
        return "parquet"
    suffixes = [suffix for suffix in path.suffixes if suffix != ".gz"]
    by_suffix = _SUFFIXES.get(suffixes[-1]) if suffixes else None
    if by_suffix == "parquet":
        raise InputError(path, "does not start as a Parquet file does", "give Parquet, CSV or NDJSON")
    if not head:
        raise InputError(path, "is empty", "give a file with at least one row")
    return by_suffix or ("ndjson" if head.lstrip()[:1] in (b"{", b"[") else "csv")


def _read_parquet(path: Path, wanted: Wanted) -> Rows:
    with pa.parquet.ParquetFile(path) as file:
        present = file.schema_arrow.names
        _refuse_repeated(path, present)
        return Rows(path, wanted, present, file.metadata.num_rows, None)


def _read_csv(path: Path, wanted: Wanted) -> Rows:
    try:
        with pa.input_stream(path, compression="detect") as stream:
            # a reader of one thread knows the row that it stumbles over
            present = pa.csv.open_csv(stream, pa.csv.ReadOptions(use_threads=False)).schema.names
        _refuse_repeated(path, present)
        chosen = wanted.of(present)
        convert = pa.csv.ConvertOptions(
            include_columns=chosen or present[:1],
            # A guess at types goes by the first rows: "007" would become 7, and later decimals an error.
            column_types=dict.fromkeys(chosen, pa.string()),
            # an empty cell is missing; "NA" and "null" may be names of classes, and "nan" is a number gone wrong
            null_values=[""],
            strings_can_be_null=True,
        )
        with pa.input_stream(path, compression="detect") as stream:
            table = pa.csv.read_csv(stream, pa.csv.ReadOptions(use_threads=False), convert_options=convert)
    except pa.ArrowInvalid as error:
        raise _csv_error(path, error) from error
    return Rows(path, wanted, present, table.num_rows, table)


def _csv_error(path: Path, error: pa.ArrowInvalid) -> InputError:
    text = _first_line(error)
    found = re.search(r"Row #(\d+): (.*)", text)
    # Arrow counts the header, messages of this program do not
    place = f"row {int(found[1]) - 1}" if found else "some row"
    if "invalid UTF8" in text:
        return InputError(path, f"{place} is not UTF-8", "save the file as UTF-8")
    if found is None:
        return InputError(path, f"cannot be read: {text}", "give Parquet, CSV or NDJSON")
    return InputError(path, f"{place}: {found[2]}", "give each row one value per column, separated by commas")


def _read_ndjson(path: Path, wanted: Wanted) -> Rows:
    read = pa.json.ReadOptions(block_size=_JSON_BLOCK)
    try:
        with pa.input_stream(path, compression="detect") as stream:
            table = pa.json.read_json(stream, read_options=read)
        present = table.column_names
        dated = [name for name in wanted.of(present) if pa.types.is_timestamp(table.schema.field(name).type)]
        if dated:  # a name that looks like a date is still a name
            parse = pa.json.ParseOptions(explicit_schema=pa.schema([(name, pa.string()) for name in dated]))
            with pa.input_stream(path, compression="detect") as stream:
                table = pa.json.read_json(stream, read_options=read, parse_options=parse)
    except pa.ArrowInvalid as error:
        problem = _bad_line(path) or f"cannot be read: {_first_line(error)}"
        raise InputError(path, problem, "write one JSON object per line, each field of one kind") from error
    return Rows(path, wanted, present, table.num_rows, table)


def _bad_line(path: Path) -> str | None:
    """What Arrow stumbled over, by its line: Arrow counts rows within a block, and from 0."""
    with pa.input_stream(path, compression="detect") as stream:
        content = stream.read()
    seen: dict[str, tuple[str, int]] = {}
    for number, line in enumerate(content.split(b"\n"), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            return f"line {number} is not JSON"
        if not isinstance(row, dict):
            return f"line {number} is {'null' if row is None else _in_words(row)}, not an object"
        for key, value in row.items():
            if value is None:
                continue
            kind = _in_words(value)
            first, before = seen.setdefault(key, (kind, number))
            if first != kind:
                return f"line {number}: {key} is {kind}, and in line {before} it is {first}"
    return None


def _in_words(value: object) -> str:
    if isinstance(value, bool):
        return "true or false"
    if isinstance(value, int | float):
        return "a number"
    return "text" if isinstance(value, str) else "a list" if isinstance(value, list) else "an object"


def _refuse_repeated(path: Path, names: list[str]) -> None:
    for position, name in enumerate(names):
        if name in names[:position]:
            raise InputError(path, f"has two columns {name!r}", "name each column once")


def _first_line(error: Exception) -> str:
    line = (str(error).strip() or type(error).__name__).split("\n")[0]
    return line if len(line) <= 200 else line[:197] + "..."
