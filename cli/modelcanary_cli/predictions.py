"""Two files of predictions, joined by id: what `evaluate` judges.

Each file has `id`, one model's numbers, and perhaps `label`; else the labels are in a third file. The numbers
are one list column - `probabilities`, `logits` or `log_probabilities` - or one column `p_<class>` per class.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from modelcanary_cli.classes import MISSING, arranged, encode, settle
from modelcanary_cli.columns import Floats, Matrix, matrix, scalars, texts, to_log_probabilities
from modelcanary_cli.errors import InputError
from modelcanary_cli.tables import column, read_table
from modelcanary_gate.sampling import position
from modelcanary_gate.spec import LabelMode, Spec, Task, Values

PREFIX = "p_"
#: Names of the list column, and what its numbers are.
LISTS: Mapping[str, Values] = {
    "probabilities": Values.PROBABILITIES,
    "logits": Values.LOGITS,
    "log_probabilities": Values.LOG_PROBABILITIES,
    "logProbabilities": Values.LOG_PROBABILITIES,
    "score": Values.BINARY_SCORE,
}
_REMEDY = "add one of the columns probabilities, logits, log_probabilities, score, or p_<class> for each class"


@dataclass(frozen=True, slots=True)
class Joined:
    """Rows that both models answered, in an order that does not depend on the files' own."""

    ids: list[str]
    baseline: Floats  # (n, C) log-probabilities
    candidate: Floats
    labels: NDArray[np.int64] | Floats | None  # None: label-free
    labelled: NDArray[np.bool_]
    classes: tuple[str, ...]
    counts: dict[str, int]
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _File:
    source: Path
    ids: pa.Array
    name: str  # of the column, as messages call it
    values: Matrix
    kind: Values
    labels: pa.ChunkedArray | None


def read_predictions(baseline: Path, candidate: Path, labels: Path | None, spec: Spec) -> Joined:
    """Reads, checks and joins. Raises InputError naming the file and the row or column."""
    files = (_read(baseline, spec), _read(candidate, spec))
    source, label_ids, label_values = _labels(files, labels, spec)
    order = settle(spec.model, [(file.source, file.values) for file in files], label_values)
    owns = (spec.model.classes, spec.model.candidate_classes)
    log_p = [_log_probabilities(file, order.classes, own, spec) for file, own in zip(files, owns, strict=True)]

    in_candidate = pc.index_in(files[0].ids, value_set=files[1].ids)
    both = np.flatnonzero(in_candidate.is_valid().to_numpy(zero_copy_only=False))
    if len(both) == 0:
        raise InputError(candidate, f"has no id in common with {baseline}", "give predictions for the same rows")
    counts = {
        "onlyBaseline": len(files[0].ids) - len(both),
        "onlyCandidate": len(files[1].ids) - len(both),
    }
    ids = files[0].ids.take(pa.array(both)).to_pylist()
    # a file sorted by class must not look like a drift; the salt keeps it apart from what is mirrored
    shuffled = np.argsort([position(id_, "evaluate") for id_ in ids], kind="stable")
    rows = both[shuffled]
    other = in_candidate.take(pa.array(rows)).to_numpy(zero_copy_only=False).astype(np.int64)
    ids = [ids[i] for i in shuffled]
    codes: NDArray[np.int64] | Floats | None = None
    labelled = np.ones(len(rows), dtype=np.bool_)
    if label_values is not None and label_ids is not None:
        encoded = encode(label_values, order.classes, spec.model.task, source)
        at = pc.index_in(pa.array(ids), value_set=label_ids)
        labelled = at.is_valid().to_numpy(zero_copy_only=False)
        codes = encoded[at.fill_null(0).to_numpy(zero_copy_only=False)]
        labelled = labelled & (codes != MISSING if codes.ndim == 1 else ~np.isnan(codes[:, 0]))
        counts["unlabelled"] = int((~labelled).sum())
        counts["unmatchedLabels"] = len(label_ids) - int(at.is_valid().sum().as_py() or 0)
    return Joined(
        ids,
        log_p[0][rows],
        log_p[1][other],
        codes,
        labelled,
        order.classes,
        counts,
        [order.note] if order.note else [],
    )


def _read(source: Path, spec: Spec) -> _File:
    table = read_table(source, ("id", "label", *LISTS), PREFIX)
    ids = _unique(table, source)
    name, values, kind = _numbers(table, source, spec)
    labels = table.column("label") if "label" in table.column_names else None
    return _File(source, ids, name, values, kind, labels)


def _unique(table: pa.Table, source: Path) -> pa.Array:
    ids = texts(column(table, "id", source, "which row is which"), source, "id").combine_chunks()
    if pc.count_distinct(ids).as_py() == len(ids):
        return ids
    codes = ids.dictionary_encode().indices.to_numpy()
    first = np.unique(codes, return_index=True)[1]
    again = int(np.setdiff1d(np.arange(len(codes)), first)[0])
    before = int(first[codes[again]])
    raise InputError(
        source,
        f"row {again + 1}: the id {ids[again].as_py()!r} is also in row {before + 1}",
        "give each row an id of its own",
    )


def _numbers(table: pa.Table, source: Path, spec: Spec) -> tuple[str, Matrix, Values]:
    lists = [name for name in table.column_names if name in LISTS]
    single = [name for name in table.column_names if name.startswith(PREFIX)]
    if len(lists) + bool(single) > 1:
        found = ", ".join(lists + single[:1])
        raise InputError(source, f"has predictions in several forms ({found})", "keep one of them")
    if lists:
        values = matrix(table.column(lists[0]), source, lists[0])
        return lists[0], values, kind_of(LISTS[lists[0]], values, spec)
    if not single:
        column(table, "probabilities", source, "the model's predictions; or logits, log_probabilities, p_<class>")
    parts = [scalars(table.column(name), source, name) for name in single]
    names = tuple(name.removeprefix(PREFIX) for name in single)
    kind = Values.PROBABILITIES if spec.model.values is Values.BINARY_SCORE else spec.model.values
    return f"{PREFIX}...", Matrix(np.stack(parts, axis=1), names), kind


def kind_of(named: Values, values: Matrix, spec: Spec) -> Values:
    """What the numbers are: one number where two classes are asked for is the probability of the second."""
    if spec.model.task is Task.MULTILABEL:
        return named
    if values.width == 1 and named is Values.PROBABILITIES:
        return Values.BINARY_SCORE
    if values.width > 1 and named is Values.BINARY_SCORE:
        return Values.PROBABILITIES
    return named


def _log_probabilities(file: _File, classes: tuple[str, ...], own: tuple[str, ...], spec: Spec) -> Floats:
    values = arranged(file.values, classes, own, file.source, file.kind)
    task = Task.BINARY if values.width == 1 and spec.model.task is Task.MULTICLASS else spec.model.task
    return to_log_probabilities(values, file.kind, task, file.source, file.name)


def _labels(
    files: tuple[_File, _File], labels: Path | None, spec: Spec
) -> tuple[Path, pa.Array | None, pa.ChunkedArray | None]:
    """Where labels are: (file, ids, values)."""
    if spec.labels.mode is LabelMode.AGREEMENT:
        return files[0].source, None, None
    if labels is not None:
        table = read_table(labels, ("id", "label"))
        return labels, _unique(table, labels), column(table, "label", labels, "what turned out to be true")
    baseline, candidate = files
    if baseline.labels is None and candidate.labels is None:
        raise InputError(
            baseline.source,
            f"has no column 'label', nor has {candidate.source}",
            "add the column to either, or give --labels",
        )
    if baseline.labels is not None and candidate.labels is not None:
        _refuse_conflict(baseline, candidate)
    chosen = baseline if baseline.labels is not None else candidate
    return chosen.source, chosen.ids, chosen.labels


def _refuse_conflict(baseline: _File, candidate: _File) -> None:
    at = pc.index_in(baseline.ids, value_set=candidate.ids)
    theirs = candidate.labels.combine_chunks().take(at).to_pylist() if candidate.labels is not None else []
    ours = baseline.labels.to_pylist() if baseline.labels is not None else []
    for row, (one, other) in enumerate(zip(ours, theirs, strict=True)):
        if None not in (one, other) and one != other and str(one) != str(other):
            raise InputError(
                candidate.source,
                f"id {baseline.ids[row].as_py()!r}: the label is {other!r}, and {one!r} in {baseline.source}",
                "correct one, or give the labels in one file with --labels",
            )
