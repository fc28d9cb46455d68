"""Pairs as a ledger exports them, read a batch at a time from Parquet, NDJSON or CSV.

Called by `recompute`. The numbers are taken as they are: they went through the gate's checks when they were
recorded, and dividing by a sum again would change their last digits. Must not know how pairs are counted.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet
from numpy.typing import NDArray

from modelcanary_cli.classes import MISSING, encode
from modelcanary_cli.columns import Floats, flags, matrix, scalars, seconds
from modelcanary_cli.errors import InputError
from modelcanary_cli.tables import Wanted, read_rows
from modelcanary_gate.evidence import OUTCOME_CODES, AnsweredPairs
from modelcanary_gate.spec import Spec, Task
from modelcanary_gate.vocabulary import Outcome

BATCH = 65_536
IDS = ("id", "index")
_COLUMNS = (
    *("ts", "baseline", "candidate", "label", "labelledAt", "late", "contradicted", "matured", "coverage", "weight"),
    *("baselineOutcome", "candidateOutcome", "baselineLatency", "candidateLatency"),
)
_REQUIRED = ("ts", "baseline", "candidate")
_OK = OUTCOME_CODES[Outcome.OK]
#: Of a probability that was a float32 logarithm.
_ROUNDING = 1e-6

Targets = NDArray[np.int64] | Floats


@dataclass(frozen=True, slots=True)
class ExportedPairs:
    """Columns of n pairs, in order of arrival."""

    times: Floats  # of the requests, seconds since the epoch
    answered: AnsweredPairs
    scored: NDArray[np.intp]  # rows of which both answers can be scored
    baseline: Floats  # log-probabilities of those rows, (scored, C)
    candidate: Floats
    labels: Targets  # class indices (n,), MISSING where there is none; or (n, C), NaN where there is none
    labelled_at: Floats  # (n,), NaN where it is not known
    late: NDArray[np.bool_]  # the label came after its time was over
    contradicted: NDArray[np.bool_]  # another label said otherwise; in no file that does not say so
    matured: NDArray[np.bool_] | None  # the pair's time for a label was over; None: its age tells
    coverage: Floats  # (n,): the share of the labels of its class that was in by the maturity; 1 where it is not known
    weight: Floats  # (n,): what the pair counts with its label


def read_exported(source: Path, spec: Spec) -> Iterator[ExportedPairs]:
    """Raises InputError naming the column or the row."""
    first = 0
    for table in _batches(source, _COLUMNS):
        yield _pairs(table, spec, source, first)
        first += table.num_rows


def read_ids(source: Path) -> pa.Table:
    """Columns `id` (text) and `idx` (int64) of all pairs, in the file's order."""
    return ids_of(pa.concat_tables(_batches(source, IDS, required=("id",))), source)


def ids_of(table: pa.Table, source: Path) -> pa.Table:
    ids = table.column("id")
    if ids.null_count:
        row = pc.index(ids.is_null(), True).as_py()
        raise InputError(source, f"row {row + 1}: id is missing", "fill it in, or leave the row out")
    if pa.types.is_floating(ids.type) or pa.types.is_nested(ids.type):
        raise InputError(source, "column 'id' holds no text", "give text or integers")
    index = table.column("index").cast(pa.int64()) if "index" in table.column_names else None
    zeros = pa.chunked_array([np.zeros(table.num_rows, dtype=np.int64)])
    return pa.table({"id": ids.cast(pa.string()), "idx": zeros if index is None else index.fill_null(0)})


def _batches(source: Path, columns: Sequence[str], required: Sequence[str] = _REQUIRED) -> Iterator[pa.Table]:
    rows = read_rows(source, Wanted(columns))
    for name in required:
        if name not in rows:
            rows.take(name, "as `modelcanary export` writes it")  # raises
    if not _is_parquet(source):
        table = pa.table({name: rows.take(name) for name in rows.names})
        for start in range(0, rows.count, BATCH):
            yield table.slice(start, BATCH)
        return
    # a batch at a time: the answers of millions of pairs are larger than the memory for them
    with pa.parquet.ParquetFile(source) as file:
        for batch in file.iter_batches(BATCH, columns=rows.names):
            yield pa.Table.from_batches([batch])


def _is_parquet(source: Path) -> bool:
    with source.open("rb") as file:
        return file.read(4) == b"PAR1"


def _pairs(table: pa.Table, spec: Spec, source: Path, first: int) -> ExportedPairs:
    n = table.num_rows
    times = seconds(table.column("ts"), source, "ts")
    outcomes = [_outcomes(table, name, source, first) for name in ("baseline", "candidate")]
    answered = AnsweredPairs(
        outcomes[0],
        outcomes[1],
        _optional(table, "baselineLatency", source, 0.0),
        _optional(table, "candidateLatency", source, 0.0),
    )
    scored = np.flatnonzero((outcomes[0] == _OK) & (outcomes[1] == _OK))
    answers = [
        _log_probabilities(_rows(table.column(name), scored), spec, source, name, scored + first)
        for name in ("baseline", "candidate")
    ]
    late, contradicted, matured = (_flags(table, name, source) for name in ("late", "contradicted", "matured"))
    never = np.zeros(n, dtype=np.bool_)
    labels: Targets = np.full(n, MISSING, dtype=np.int64)
    if "label" in table.column_names:
        labels = indices(table.column("label"), spec, source, first)
    at = _optional(table, "labelledAt", source, np.nan)
    coverage, weight = (_optional(table, name, source, 1.0) for name in ("coverage", "weight"))
    return ExportedPairs(
        times,
        answered,
        scored,
        answers[0],
        answers[1],
        labels,
        at,
        never if late is None else late,
        never if contradicted is None else contradicted,
        matured,
        coverage,
        weight,
    )


def _flags(table: pa.Table, name: str, source: Path) -> NDArray[np.bool_] | None:
    return flags(table.column(name), source, name) if name in table.column_names else None


def indices(values: pa.ChunkedArray, spec: Spec, source: Path, first: int = 0) -> Targets:
    """Labels as the ledger has them: whole numbers are class indices, also where classes are called by numbers.

    Of a language model they are 0.
    """
    if values.null_count == len(values):
        return np.full(len(values), MISSING, dtype=np.int64)
    if spec.model.task is Task.MULTILABEL or not (
        pa.types.is_integer(values.type) or pa.types.is_floating(values.type)
    ):
        return encode(values, spec.model.classes, spec.model.task, source)
    numbers = np.asarray(scalars(values, source, "label", missing=True), dtype=np.float64)
    numbers = np.where(np.isnan(numbers), MISSING, numbers)
    unfit = (numbers != np.floor(numbers)) | (numbers < MISSING) | (numbers >= spec.model.columns)
    if unfit.any():
        row = int(np.argmax(unfit))
        problem = f"row {first + row + 1}: the label {numbers[row]:g} is no class's index"
        raise InputError(source, problem, "give the run's own spec")
    return numbers.astype(np.int64)


def _rows(values: pa.ChunkedArray, rows: NDArray[np.intp]) -> pa.ChunkedArray:
    return values if len(rows) == len(values) else values.take(rows)


def _outcomes(table: pa.Table, role: str, source: Path, first: int) -> NDArray[np.int64]:
    """Without the column, an answer that is there is OK, and one that is not says nothing."""
    name = f"{role}Outcome"
    if name not in table.column_names:
        there = table.column(role).is_valid().to_numpy()
        return np.where(there, _OK, OUTCOME_CODES[Outcome.UNDECODABLE]).astype(np.int64)
    encoded = table.column(name).combine_chunks().dictionary_encode()
    known = {str(outcome): code for outcome, code in OUTCOME_CODES.items()}
    codes = np.array([known.get(value, -1) for value in encoded.dictionary.to_pylist()] + [-1], dtype=np.int64)
    found = codes[encoded.indices.fill_null(len(codes) - 1).to_numpy(zero_copy_only=False)]
    if (found < 0).any():
        row = int(np.argmax(found < 0))
        value = table.column(name)[row].as_py()
        raise InputError(source, f"row {first + row + 1}: {name} is {value!r}", f"give one of {', '.join(known)}")
    result: NDArray[np.int64] = found
    return result


def _optional(table: pa.Table, name: str, source: Path, default: float) -> Floats:
    if name not in table.column_names:
        return np.full(table.num_rows, default)
    values = np.asarray(scalars(table.column(name), source, name, missing=True), dtype=np.float64)
    return np.where(np.isnan(values), default, values)


def _log_probabilities(values: pa.ChunkedArray, spec: Spec, source: Path, name: str, rows: NDArray[np.intp]) -> Floats:
    classes = spec.model.columns
    if not len(values):
        return np.zeros((0, classes))
    if values.null_count:
        row = int(rows[pc.index(values.is_null(), True).as_py()])
        raise InputError(source, f"row {row + 1}: {name} is missing, and its outcome is ok", "export the run again")
    p = np.asarray(matrix(values, source, name).numbers, dtype=np.float64)
    if p.shape[1] != classes:
        wanted = "a language model" if spec.model.generates else f"{classes} classes"
        problem = f"column {name!r} has {p.shape[1]} numbers per row for {wanted}"
        raise InputError(source, problem, "give the run's own spec")
    bad = ~((p >= 0) & (p <= 1 + _ROUNDING)).all(axis=1)
    if bad.any():
        row = int(rows[int(np.argmax(bad))])
        raise InputError(source, f"row {row + 1}: {name} are no probabilities", "give pairs as the ledger exports them")
    with np.errstate(divide="ignore"):
        result: Floats = np.minimum(np.log(p), 0.0)
    return result
