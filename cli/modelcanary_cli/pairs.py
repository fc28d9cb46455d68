"""A file of recorded pairs, run by run and in order of time: what `replay` judges.

Each row is one pair: `baseline` and `candidate` as lists of numbers with `label`, or `baseline_loss` and
`candidate_loss` in nats. `run`, `ts` and `id` are optional. What `modelcanary export` wrote is known by its
outcomes: its numbers are probabilities in the order of the baseline's classes, its labels are indices, each counts by
its weight unless it came late, and answers may be missing.
Columns are read whole and cut by run, without a Python object per row: files hold millions.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from modelcanary_cli.classes import MISSING, arranged, encode, settle
from modelcanary_cli.columns import Floats, Matrix, Numbers, flags, matrix, refused, scalars, seconds
from modelcanary_cli.errors import InputError
from modelcanary_cli.exported import indices
from modelcanary_cli.groups import COLUMNS, Places, grouped, numbers_of
from modelcanary_cli.predictions import kind_of
from modelcanary_cli.tables import Rows, Wanted, read_rows
from modelcanary_gate.errors import DataError
from modelcanary_gate.probabilities import log_probabilities
from modelcanary_gate.scoring import LabelledPairs, from_losses, score, score_agreement
from modelcanary_gate.spec import LabelMode, Spec, Task, Values

ANSWERS = ("baseline", "candidate")
LOSSES = ("baseline_loss", "candidate_loss")

#: The column that exports alone have.
_EXPORTED = "baselineOutcome"
_WANTED = Wanted((*COLUMNS, "ts", "label", "late", "weight", *ANSWERS, *LOSSES, _EXPORTED))


@dataclass(frozen=True, slots=True)
class RecordedRun:
    """The pairs of one run, in order of time."""

    run: str
    labelled: NDArray[np.bool_]  # (pairs,)
    scored: LabelledPairs  # of the labelled pairs only
    times: Floats | None  # seconds since the epoch, (pairs,)


@dataclass(frozen=True, slots=True)
class PairFile:
    """A file of pairs, read and checked as far as that goes without scoring."""

    source: Path
    spec: Spec  # with the classes that the file settled
    groups: list[tuple[str, Places]]
    times: Floats | None
    answers: "_Answers | None"
    losses: tuple[Numbers, Numbers] | None
    labels: NDArray[np.int64] | Floats | None  # None: label-free, or losses without classes
    labelled: NDArray[np.bool_]
    weight: Floats | None  # what each pair counts with its label; None: 1
    notes: list[str]

    def runs(self) -> Iterator[RecordedRun]:
        """Scores one run after the other, in the order in which they first appear. Raises InputError."""
        for run, unsorted in self.groups:
            rows = self._by_time(unsorted)
            try:
                scored = self._score(rows)
            except DataError as error:
                raise self._located(error, rows) from error
            times = None if self.times is None else self.times[rows]
            yield RecordedRun(run, self.labelled[rows], scored, times)

    def _by_time(self, rows: Places) -> Places:
        if self.times is None:
            return rows
        times = self.times[rows]
        if (times[1:] >= times[:-1]).all():
            return rows
        order = np.argsort(times, kind="stable")
        return numbers_of(rows, len(self.labelled))[order]

    def _score(self, rows: Places) -> LabelledPairs:
        known = self.labelled[rows]
        if self.losses is not None:
            pairs = from_losses(self.spec, *(_whole(losses[rows], known) for losses in self.losses))
            if self.labels is None or self.labels.ndim == 2:
                return pairs.take(known)
            return replace(pairs, label=self.labels[rows].astype(np.int64)).take(known)
        if self.answers is None:
            raise InputError(self.source, "has no answers", "add the columns baseline and candidate")
        baseline, candidate = (
            log_probabilities(values.numbers[rows], kind, self.answers.task)
            for values, kind in zip(self.answers.values, self.answers.kinds, strict=True)
        )
        # rows that do not count are scored too, and left out afterwards: row numbers stay the run's
        if self.labels is None:
            scored = score_agreement(self.spec, baseline, candidate)
        else:
            weight = None if self.weight is None else self.weight[rows]
            scored = score(self.spec, baseline, candidate, _filled(self.labels[rows], known), weight)
        return scored if known.all() else scored.take(known)

    def _located(self, error: DataError, rows: Places) -> InputError:
        """The error with the file's row instead of the run's, and the column that is to blame."""
        if error.row is None:
            return InputError(self.source, error.problem, "correct the column")
        row = int(numbers_of(rows, len(self.labelled))[error.row])
        if self.answers is None:
            return InputError(self.source, f"row {row + 1}: {error.problem}", "give cross-entropies in nats")
        for name, values, kind in zip(ANSWERS, self.answers.values, self.answers.kinds, strict=True):
            try:
                log_probabilities(values.numbers[row : row + 1], kind, self.answers.task)
            except DataError as own:
                return refused(own, row, self.source, name, kind)
        return InputError(self.source, f"row {row + 1}: {error.problem}", "correct the label")


@dataclass(frozen=True, slots=True)
class _Answers:
    values: tuple[Matrix, Matrix]
    kinds: tuple[Values, Values]
    task: Task


def read_pairs(source: Path, spec: Spec) -> PairFile:
    """Reads the columns and settles the classes. Raises InputError naming the column or the row."""
    rows = read_rows(source, _WANTED)
    answered = any(name in rows for name in ANSWERS)
    if not answered and not any(name in rows for name in LOSSES):
        rows.take(ANSWERS[0], "the baseline's probabilities; or baseline_loss and candidate_loss")
    groups = grouped(rows, instances=_EXPORTED in rows)
    times = seconds(rows.take("ts"), source, "ts") if "ts" in rows else None
    if answered:
        return _with_answers(rows, spec, groups, times)
    parts = [rows.take(name, "loss of each pair, in nats") for name in LOSSES]
    labelled = parts[0].is_valid().to_numpy() & parts[1].is_valid().to_numpy()
    labels = None
    if "label" in rows:
        known = rows.take("label")
        labelled &= (
            pc.is_valid(known).to_numpy()
            if not pa.types.is_floating(known.type)
            else ~pc.is_null(known, nan_is_null=True).to_numpy()
        )
        if spec.model.classes:
            labels = encode(known, spec.model.classes, spec.model.task, source)
    losses = [scalars(part, source, name, missing=True) for part, name in zip(parts, LOSSES, strict=True)]
    return PairFile(source, spec, groups, times, None, (losses[0], losses[1]), labels, labelled, None, [])


def _with_answers(rows: Rows, spec: Spec, groups: list[tuple[str, Places]], times: Floats | None) -> PairFile:
    source, exported = rows.source, _EXPORTED in rows
    columns = [rows.take(name, f"the {name}'s numbers, one per class") for name in ANSWERS]
    labelled = np.ones(rows.count, dtype=np.bool_)
    if exported:
        spec = _as_exported(spec, source)
        columns, labelled = _answered(columns, source)
    values = [matrix(column, source, name) for name, column in zip(ANSWERS, columns, strict=True)]
    kinds = [kind_of(spec.model.values, part, spec) for part in values]
    label_free = spec.labels.mode is LabelMode.AGREEMENT
    column_of_labels = None if label_free else rows.take("label", "what turned out to be true")
    order = settle(
        spec.model, [(source, part) for part in values], [] if column_of_labels is None else [column_of_labels]
    )
    owns = (spec.model.classes, spec.model.candidate_classes)
    values = [
        arranged(part, order.classes, own, source, kind) for part, own, kind in zip(values, owns, kinds, strict=True)
    ]
    spec = replace(spec, model=replace(spec.model, classes=order.classes))
    narrow = values[0].width == 1 and spec.model.task is Task.MULTICLASS
    labels: NDArray[np.int64] | Floats | None = None
    if column_of_labels is not None:
        labels = (
            indices(column_of_labels, spec, source)
            if exported
            else encode(column_of_labels, order.classes, spec.model.task, source)
        )
        labelled &= labels != MISSING if labels.ndim == 1 else ~np.isnan(labels[:, 0])
    weight = None
    if exported and column_of_labels is not None:
        if "late" in rows:
            labelled &= ~flags(rows.take("late"), source, "late")
        if "weight" in rows:
            given = np.asarray(scalars(rows.take("weight"), source, "weight", missing=True), dtype=np.float64)
            weight = np.where(np.isnan(given), 1.0, given)
    answers = _Answers((values[0], values[1]), (kinds[0], kinds[1]), Task.BINARY if narrow else spec.model.task)
    notes = [order.note] if order.note else []
    return PairFile(source, spec, groups, times, answers, None, labels, labelled, weight, notes)


def _as_exported(spec: Spec, source: Path) -> Spec:
    """How an export is read, whatever the models answered: the sidecar has brought it into one form."""
    if spec.model.generates:
        raise InputError(source, "holds a language model's pairs, scored already", "use `modelcanary recompute`")
    return replace(spec, model=replace(spec.model, values=Values.PROBABILITIES, candidate_classes=()))


def _answered(columns: list[pa.ChunkedArray], source: Path) -> tuple[list[pa.ChunkedArray], NDArray[np.bool_]]:
    """Both models' answers, another pair's in place of those that could not be scored; (n,): which could be."""
    known = columns[0].is_valid().to_numpy() & columns[1].is_valid().to_numpy()
    if known.all():
        return columns, known
    if not known.any():
        raise InputError(source, "has no pair that could be scored", "see its outcomes")
    rows = pa.array(np.where(known, np.arange(len(known)), int(np.argmax(known))))
    return [column.take(rows) for column in columns], known


def _whole(losses: Numbers, known: NDArray[np.bool_]) -> Floats:
    """Losses with 0 for those that are missing."""
    return np.where(known, losses, 0.0).astype(np.float64)


def _filled(labels: NDArray[np.int64] | Floats, known: NDArray[np.bool_]) -> NDArray[np.int64] | Floats:
    """Labels with the first class, or equal shares, for those that are missing."""
    if labels.ndim == 1:
        return np.where(known, labels, 0).astype(np.int64)
    return np.where(known[:, None], labels, 1.0 / labels.shape[1])
