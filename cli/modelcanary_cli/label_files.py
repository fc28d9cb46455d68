"""A file of labels as batches that a ledger takes: Parquet, CSV or NDJSON with columns, or SageMaker's records.

Called by `labels` and `follow.folders`. A file is read and checked whole before its first batch. What a label means is
the ledger's to say, which knows the classes; the form of SageMaker's records is told by its own reader of them.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from modelcanary_cli.columns import matrix, scalars, texts, times
from modelcanary_cli.errors import InputError
from modelcanary_cli.exported import ids_of
from modelcanary_cli.tables import Rows, Wanted, read_rows
from modelcanary_ledger.aliases import events, labels_of
from modelcanary_ledger.batches import MAX_ID, MAX_INDEX
from modelcanary_ledger.errors import BadRequest
from modelcanary_ledger.labels import MAX_LABELS

FORMS = ("auto", "parquet", "csv", "ndjson", "sagemaker")
#: Below the 16 MiB that a ledger takes at once.
_MOST_BYTES = 12 << 20
COLUMNS = ("id", "index", "label", "ts", "source")
_MARK = b'"groundTruthData"'
_HEAD = 1 << 16


@dataclass(frozen=True, slots=True)
class Batch:
    """Lines of JSON for one request, and the file's row of each label in it."""

    source: str
    body: bytes
    rows: list[int]


@dataclass(frozen=True, slots=True)
class LabelFile:
    """Checked, but for what only the ledger knows."""

    labels: int
    source: str
    lines: Iterator[tuple[bytes, int, int]]  # one record, its row from 1, and how many labels it has

    def batches(self) -> Iterator[Batch]:
        lines: list[bytes] = []
        rows: list[int] = []
        size = 0
        for line, row, labels in self.lines:
            if rows and (len(rows) + labels > MAX_LABELS or size + len(line) > _MOST_BYTES):
                yield Batch(self.source, b"\n".join(lines), rows)
                lines, rows, size = [], [], 0
            lines.append(line)
            rows.extend([row] * labels)
            size += len(line) + 1
        if rows:
            yield Batch(self.source, b"\n".join(lines), rows)


def read_label_file(path: Path, name: str, form: str) -> LabelFile:
    """Raises InputError naming the row or the column. `name`: what the user calls the file."""
    if form == "sagemaker" or (form == "auto" and _is_sagemaker(path)):
        return _sagemaker(path, name)
    return _columns(read_rows(path, Wanted(COLUMNS), None if form == "auto" else form), path, name)


def _columns(rows: Rows, path: Path, name: str) -> LabelFile:
    labels = _values(rows.take("label", "what turned out to be true"), path)
    ids = ids_of(pa.table({"id": rows.take("id", "of the request")}), path).column("id")
    length = pc.utf8_length(ids)
    unfit = pc.or_(pc.equal(length, 0), pc.greater(length, MAX_ID))
    _refuse(unfit, path, "id is empty or too long", f"give the id that the request had, 1 to {MAX_ID} characters")
    columns: dict[str, pa.ChunkedArray] = {"id": ids, "label": labels}
    if "index" in rows:
        columns["index"] = _whole(rows.take("index"), path, "index")
        unfit = pc.or_(pc.less(columns["index"], 0), pc.greater(columns["index"], MAX_INDEX))
        _refuse(unfit, path, "index is none", f"instances of a request count from 0 to {MAX_INDEX}")
    if "ts" in rows:
        # null where a row does not say
        columns["ts"] = pa.chunked_array([pa.array(times(rows.take("ts"), path, "ts"), from_pandas=True)])
    if "source" in rows:
        columns["source"] = texts(pc.fill_null(rows.take("source").cast(pa.string()), ""), path, "source")
    return LabelFile(rows.count, name, _records(pa.table(columns)))


def _records(table: pa.Table) -> Iterator[tuple[bytes, int, int]]:
    for start in range(0, table.num_rows, MAX_LABELS):
        for row, record in enumerate(table.slice(start, MAX_LABELS).to_pylist(), start=start + 1):
            yield msgspec.json.encode({key: value for key, value in record.items() if value is not None}), row, 1


def _values(values: pa.ChunkedArray, path: Path) -> pa.ChunkedArray:
    """Text, or a list of numbers in each row. Numbers become text too: a class may be called by one."""
    kind = values.type
    if pa.types.is_dictionary(kind):
        values = values.cast(kind.value_type)
        kind = values.type
    _refuse(values.is_null(nan_is_null=True), path, "label is missing", "fill it in, or leave the row out")
    if pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        numbers = np.asarray(matrix(values, path, "label").numbers, dtype=np.float64)
        unfit = ~np.isfinite(numbers).all(axis=1)
        _refuse(pa.array(unfit), path, "label has a number missing", "give one number per class")
        return pa.chunked_array([pa.FixedSizeListArray.from_arrays(pa.array(numbers.ravel()), numbers.shape[1])])
    if pa.types.is_boolean(kind) or pa.types.is_nested(kind):
        what = "true and false" if pa.types.is_boolean(kind) else "objects"
        raise InputError(path, f"column 'label' holds {what}", "give classes by name or index, or a number per class")
    if pa.types.is_floating(kind) or pa.types.is_integer(kind) or pa.types.is_decimal(kind):
        return _whole(values, path, "label").cast(pa.string())
    labels = texts(values, path, "label")
    _refuse(pc.equal(pc.utf8_length(labels), 0), path, "label is empty", "fill it in, or leave the row out")
    return labels


def _whole(values: pa.ChunkedArray, path: Path, name: str) -> pa.ChunkedArray:
    """Whole numbers, however they are written; a column with missing values is one of decimals to many tools."""
    if pa.types.is_integer(values.type):
        _refuse(values.is_null(), path, f"{name} is missing", "fill it in, or leave the row out")
        return values.cast(pa.int64())
    numbers = np.asarray(scalars(values, path, name), dtype=np.float64)
    unfit = ~((np.abs(numbers) < 2**53) & (numbers == np.floor(numbers)))
    _refuse(pa.array(unfit), path, f"{name} is no whole number", "give whole numbers, or classes by name")
    return pa.chunked_array([numbers.astype(np.int64)])


def _refuse(unfit: pa.Array | pa.ChunkedArray, path: Path, problem: str, remedy: str) -> None:
    row = pc.index(unfit, True).as_py()
    if row >= 0:
        raise InputError(path, f"row {row + 1}: {problem}", remedy)


def _is_sagemaker(path: Path) -> bool:
    """By the first record: its field is nobody else's."""
    with _reading(path), pa.input_stream(path, compression="detect") as stream:
        head = bytes(stream.read(_HEAD))
    return head.lstrip()[:1] in (b"{", b"[") and _MARK in head


def _sagemaker(path: Path, name: str) -> LabelFile:
    with _reading(path), pa.input_stream(path, compression="detect") as stream:
        body = bytes(stream.read())
    records = []
    try:
        for row, (value, _) in enumerate(events(body, {})):
            if not isinstance(value, dict) or "groundTruthData" not in value:
                raise BadRequest(f"row {row}: no groundTruthData", row=row, remedy="give SageMaker's records alone")
            # the classes are not known here: names and indices are told apart by the ledger
            records.append((msgspec.json.encode(value), row + 1, len(labels_of(value, None, row, {}))))
    except BadRequest as error:
        row = 0 if error.row is None else error.row
        problem = error.detail.removeprefix(f"row {row}: ")
        raise InputError(path, f"row {row + 1}: {problem}", error.remedy) from error
    if not records:
        raise InputError(path, "has no rows", "give a file with at least one row")
    return LabelFile(sum(labels for _, _, labels in records), name, iter(records))


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    try:
        yield
    except (pa.ArrowException, OSError, EOFError) as error:
        reason = (error.strerror if isinstance(error, OSError) else None) or " ".join(str(error).split())[:200]
        raise InputError(path, f"cannot be read ({reason})", "give a readable file of labels") from error
