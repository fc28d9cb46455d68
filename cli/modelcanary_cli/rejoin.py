"""Joins labels from files to exported pairs, by id and index: the first label of a pair wins.

Called by `recompute`. DuckDB does the join, within a bound of memory: both sides may have millions of rows.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from modelcanary_cli.classes import encode
from modelcanary_cli.columns import Floats, times
from modelcanary_cli.errors import InputError
from modelcanary_cli.exported import BATCH, Targets, ids_of, read_ids
from modelcanary_cli.tables import Wanted, read_rows
from modelcanary_gate.spec import Spec

_MEMORY = "800MB"
_COLUMNS = ("id", "index", "label", "labelledAt")
#: Soft labels that a file has in fewer digits than another file or the ledger are the same.
_SAME = 1e-6


@dataclass(frozen=True, slots=True)
class Labels:
    """Labels from files, in the files' order."""

    ids: pa.Table  # id, idx
    values: Targets
    at: Floats  # when each came; NaN where the file does not say


@dataclass(frozen=True, slots=True)
class Joined:
    """Of each pair, in the order of the files: the row of its label in `labels`, −1 where it has none."""

    labels: Labels
    rows: NDArray[np.int64]
    contradicted: NDArray[np.bool_]  # of each pair: the files themselves say two things of it
    duplicate: int  # the same label again
    unmatched: int  # labels without a pair


def read_labels(sources: Sequence[Path], spec: Spec) -> Labels:
    """Raises InputError naming the column or the row."""
    if spec.model.generates:
        problem = "holds labels, and a language model's references are scored while its run is on"
        raise InputError(sources[0], problem, "leave --labels out: what was scored by then is in the export")
    tables, values, came = [], [], []
    for source in sources:
        rows = read_rows(source, Wanted(_COLUMNS))
        label = rows.take("label", "what turned out to be true")
        if label.null_count:
            row = int(np.argmax(label.is_null().to_numpy()))
            raise InputError(source, f"row {row + 1}: label is missing", "leave the row out")
        values.append(encode(label, spec.model.classes, spec.model.task, source))
        names = [name for name in ("id", "index") if name in rows or name == "id"]
        tables.append(ids_of(pa.table({name: rows.take(name, "of the request") for name in names}), source))
        came.append(
            times(rows.take("labelledAt"), source, "labelledAt")
            if "labelledAt" in rows
            else np.full(rows.count, np.nan)
        )
    if len({part.ndim for part in values}) > 1:
        raise InputError(sources[0], "one file holds classes, another numbers per class", "give one kind of labels")
    together: Targets = np.concatenate(values)  # type: ignore[assignment]  # of one kind, as was checked
    return Labels(pa.concat_tables(tables), together, np.concatenate(came))


def apart(first: Targets, second: Targets) -> NDArray[np.bool_]:
    """(n,): which labels say different things, of two columns of one kind."""
    if first.ndim == 1:
        return np.asarray(first != second)
    return np.asarray((np.abs(first - second) > _SAME).any(axis=1))


def join(pairs: Sequence[Path], labels: Labels) -> Joined:
    """Raises InputError where a pair comes twice."""
    ids = pa.concat_tables([read_ids(source) for source in pairs])
    at = np.where(np.isnan(labels.at), -np.inf, labels.at)
    with duckdb.connect() as database:
        database.execute(f"SET memory_limit = '{_MEMORY}'; SET preserve_insertion_order = false")
        database.register("pair", ids.append_column("row", pa.array(np.arange(ids.num_rows))))
        posted = labels.ids.append_column("row", pa.array(np.arange(len(at)))).append_column("came", pa.array(at))
        database.register("posted", posted)
        database.execute(
            """CREATE TEMP TABLE earliest AS
            SELECT id, idx, arg_min(row, (came, row)) AS row, count(*) AS n FROM posted GROUP BY id, idx"""
        )
        found = database.execute(
            """SELECT pair.row AS pair, earliest.row AS label
            FROM pair JOIN earliest ON pair.id = earliest.id AND pair.idx = earliest.idx"""
        ).fetchnumpy()
        further = database.execute(
            """SELECT posted.row AS row, earliest.row AS first
            FROM posted JOIN earliest ON posted.id = earliest.id AND posted.idx = earliest.idx
            WHERE earliest.n > 1 AND posted.row <> earliest.row"""
        ).fetchnumpy()
        unmatched = _count(
            database,
            "SELECT count(*) FROM earliest ANTI JOIN pair ON pair.id = earliest.id AND pair.idx = earliest.idx",
        )
    rows = np.full(ids.num_rows, -1, dtype=np.int64)
    contradicted = np.zeros(ids.num_rows, dtype=np.bool_)
    left, right = found["pair"], found["label"]
    disputed, again = _further(labels.values, further["row"], further["first"])
    rows[left], contradicted[left] = right, disputed[right]
    _refuse_repeated(pairs[0], ids, left, right)
    return Joined(labels, rows, contradicted, again, unmatched)


def _further(values: Targets, rows: NDArray[np.int64], first: NDArray[np.int64]) -> tuple[NDArray[np.bool_], int]:
    """Of labels by row: which first ones another contradicts, and how many say the same again."""
    disputed, again = np.zeros(len(values), dtype=np.bool_), 0
    for start in range(0, len(rows), BATCH):  # some at a time: soft labels of many classes are large
        theirs, own = rows[start : start + BATCH], first[start : start + BATCH]
        differs = apart(values[theirs], values[own])
        disputed[own[differs]] = True
        again += int((~differs).sum())
    return disputed, again


def _count(database: duckdb.DuckDBPyConnection, query: str) -> int:
    row = database.execute(query).fetchone()
    return 0 if row is None else int(row[0])


def _refuse_repeated(source: Path, ids: pa.Table, left: NDArray[np.int64], right: NDArray[np.int64]) -> None:
    """Two pairs with the same label are the same pair twice."""
    order = np.argsort(right, kind="stable")
    same = np.flatnonzero(np.diff(right[order]) == 0)
    if len(same):
        row = int(max(left[order[same[0]]], left[order[same[0] + 1]]))
        name = ids.column("id")[row].as_py()
        raise InputError(source, f"the id {name!r} comes twice", "give each pair once, and one run at a time")
