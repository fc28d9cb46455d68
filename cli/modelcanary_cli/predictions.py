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
from modelcanary_cli.tables import Rows, Wanted, read_rows
from modelcanary_gate.sampling import position
from modelcanary_gate.spec import LabelMode, Spec, Task, Values

Labels = NDArray[np.int64] | Floats

PREFIX = "p_"
#: Names of the list column, and what its numbers are.
LISTS: Mapping[str, Values] = {
    "probabilities": Values.PROBABILITIES,
    "logits": Values.LOGITS,
    "log_probabilities": Values.LOG_PROBABILITIES,
    "logProbabilities": Values.LOG_PROBABILITIES,
    "score": Values.BINARY_SCORE,
}
_WANTED = Wanted(("id", "label", *LISTS), prefix=PREFIX)
_LABELS = Wanted(("id", "label"))


@dataclass(frozen=True, slots=True)
class Joined:
    """Rows that both models answered, in an order that does not depend on the files' own."""

    ids: list[str]
    baseline: Floats  # (n, C) log-probabilities
    candidate: Floats
    labels: Labels | None  # None: label-free
    labelled: NDArray[np.bool_]
    classes: tuple[str, ...]
    counts: dict[str, int]
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _Labels:
    source: Path
    ids: pa.Array
    values: pa.ChunkedArray


@dataclass(frozen=True, slots=True)
class _File:
    source: Path
    ids: pa.Array
    name: str  # of the column, as messages call it
    values: Matrix
    kind: Values
    labels: _Labels | None


def read_predictions(baseline: Path, candidate: Path, labels: Path | None, spec: Spec) -> Joined:
    """Reads, checks and joins. Raises InputError naming the file and the row or column."""
    files = (_read(baseline), _read(candidate))
    given = _labels(files, labels, spec)
    order = settle(spec.model, [(file.source, file.values) for file in files], [part.values for part in given])
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
    codes: Labels | None = None
    labelled = np.ones(len(rows), dtype=np.bool_)
    if given:
        codes, labelled = _joined(given, ids, order.classes, spec.model.task)
        counts["unlabelled"] = int((~labelled).sum())
    if labels is not None:
        matched = pc.index_in(given[0].ids, value_set=pa.array(ids)).is_valid()
        counts["unmatchedLabels"] = len(matched) - int(pc.sum(matched).as_py() or 0)
    notes = [order.note] if order.note else []
    return Joined(ids, log_p[0][rows], log_p[1][other], codes, labelled, order.classes, counts, notes)


def kind_of(named: Values, values: Matrix, spec: Spec) -> Values:
    """What the numbers are: one number where two classes are asked for is the probability of the second."""
    if spec.model.task is Task.MULTILABEL:
        return named
    if values.width == 1 and named is Values.PROBABILITIES:
        return Values.BINARY_SCORE
    if values.width > 1 and named is Values.BINARY_SCORE:
        return Values.PROBABILITIES
    return named


def _read(source: Path) -> _File:
    rows = read_rows(source, _WANTED)
    ids = _unique(rows)
    name, values, named = _numbers(rows)
    labels = _Labels(source, ids, rows.take("label")) if "label" in rows else None
    return _File(source, ids, name, values, named, labels)


def _unique(rows: Rows) -> pa.Array:
    ids = texts(rows.take("id", "which row is which"), rows.source, "id").combine_chunks()
    if pc.count_distinct(ids).as_py() == len(ids):
        return ids
    codes = ids.dictionary_encode().indices.to_numpy()
    first = np.unique(codes, return_index=True)[1]
    again = int(np.setdiff1d(np.arange(len(codes)), first)[0])
    before = int(np.argmax(codes == codes[again]))
    raise InputError(
        rows.source,
        f"row {again + 1}: the id {ids[again].as_py()!r} is also in row {before + 1}",
        "give each row an id of its own",
    )


def _numbers(rows: Rows) -> tuple[str, Matrix, Values]:
    """(the column as messages call it, its numbers, what its name says that they are)."""
    lists = [name for name in rows.names if name in LISTS]
    single = [name for name in rows.names if name.startswith(PREFIX)]
    if len(lists) + bool(single) > 1:
        found = ", ".join(lists + single[:1])
        raise InputError(rows.source, f"has predictions in several forms ({found})", "keep one of them")
    if lists:
        return lists[0], matrix(rows.take(lists[0]), rows.source, lists[0]), LISTS[lists[0]]
    if not single:
        rows.take("probabilities", "the model's predictions; or logits, log_probabilities, score, p_<class>")
    parts = [scalars(rows.take(name), rows.source, name) for name in single]
    names = tuple(name.removeprefix(PREFIX) for name in single)
    return f"{PREFIX}...", Matrix(np.stack(parts, axis=1), names), Values.PROBABILITIES


def _log_probabilities(file: _File, classes: tuple[str, ...], own: tuple[str, ...], spec: Spec) -> Floats:
    kind = kind_of(file.kind, file.values, spec)
    values = arranged(file.values, classes, own, file.source, kind)
    task = Task.BINARY if values.width == 1 and spec.model.task is Task.MULTICLASS else spec.model.task
    return to_log_probabilities(values, kind, task, file.source, file.name)


def _labels(files: tuple[_File, _File], labels: Path | None, spec: Spec) -> list[_Labels]:
    """Where labels are: in a file of their own, else in either file of predictions or in both."""
    if spec.labels.mode is LabelMode.AGREEMENT:
        return []
    if labels is not None:
        rows = read_rows(labels, _LABELS)
        return [_Labels(labels, _unique(rows), rows.take("label", "what turned out to be true"))]
    found = [file.labels for file in files if file.labels is not None]
    if not found:
        raise InputError(
            files[0].source,
            f"has no column 'label', nor has {files[1].source}",
            "add the column to either, or give --labels",
        )
    return found


def _joined(
    given: list[_Labels], ids: list[str], classes: tuple[str, ...], task: Task
) -> tuple[Labels, NDArray[np.bool_]]:
    """The labels of `ids` and where there is one. Two files may both have labels; then they must agree."""
    codes, known = _aligned(given[0], ids, classes, task)
    for more in given[1:]:
        theirs, there = _aligned(more, ids, classes, task)
        if codes.ndim != theirs.ndim:
            raise InputError(
                more.source,
                f"its labels are of another kind than those in {given[0].source}",
                "give the labels in one file with --labels",
            )
        differs = (codes != theirs).reshape(len(ids), -1).any(axis=1) & known & there
        if differs.any():
            raise InputError(
                more.source,
                f"id {ids[int(differs.argmax())]!r} has another label than in {given[0].source}",
                "correct one, or give the labels in one file with --labels",
            )
        codes, known = np.where(known if codes.ndim == 1 else known[:, None], codes, theirs), known | there
    return codes, known


def _aligned(labels: _Labels, ids: list[str], classes: tuple[str, ...], task: Task) -> tuple[Labels, NDArray[np.bool_]]:
    encoded = encode(labels.values, classes, task, labels.source)
    at = pc.index_in(pa.array(ids), value_set=labels.ids)
    codes: Labels = encoded[at.fill_null(0).to_numpy(zero_copy_only=False)]
    known = at.is_valid().to_numpy(zero_copy_only=False)
    return codes, known & (codes != MISSING if codes.ndim == 1 else ~np.isnan(codes[:, 0]))
