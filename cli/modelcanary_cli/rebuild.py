"""Evidence built anew from exported pairs, by the ledger's own counting, and compared with what a ledger has.

Called by `recompute`. Blocks come out in order; where they are cut may differ from the live run's, what they
sum up to does not. Must not know files.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from modelcanary_cli.exported import ExportedPairs, Targets
from modelcanary_cli.rejoin import Joined, apart
from modelcanary_gate.blocks_json import loss_block_to_json, traffic_block_to_json
from modelcanary_gate.contrasts import EvidencePlan
from modelcanary_gate.evidence import LossBlock, TrafficBlock
from modelcanary_gate.scoring import score, score_agreement
from modelcanary_gate.spec import LabelMode, Spec
from modelcanary_ledger.run import Progress, Run

Rows = NDArray[np.intp]


class Rebuild:
    """One run. `add` the batches in order of arrival."""

    def __init__(self, spec: Spec, *, started: float, maturity: float | None, now: float | None) -> None:
        """`maturity` in seconds after the request, None: `labels.maxDelay`; `now`: None when all has matured."""
        if maturity is not None:
            spec = replace(spec, labels=replace(spec.labels, maturity=maturity))
        self.spec = spec
        self._now = np.inf if now is None else now
        self._run = Run(0, 0, "", spec, started, Progress(0, 0, maturity, started, started, started, started))
        self.pairs = 0
        self.labelled = 0
        self.expired = 0  # labels that came too late
        self.conflict = 0  # pairs of which another label says otherwise, however often
        self.unscored = 0  # labels of pairs that are not scored

    @property
    def plan(self) -> EvidencePlan:
        return self._run.plan

    @property
    def last(self) -> float:
        """When the last pair's request came."""
        return self._run.traffic.clock

    def add(self, batch: ExportedPairs, labels: Targets, in_time: NDArray[np.bool_], *, as_counted: bool) -> None:
        """`labels` of all rows; `in_time`, (n,), says which of them came before their time was over.

        `as_counted`: what had matured, and what it weighed, is what the ledger had found, by its own labels and by
        the maturity that it knew then. Else all is by age, and nothing is weighed.
        """
        run, scored = self._run, batch.scored
        run.add_answered(batch.times, batch.answered)
        self.pairs += len(batch.times)
        times = batch.times[scored]
        if self.spec.labels.mode is LabelMode.AGREEMENT:
            run.add_scored(times, times, score_agreement(self.spec, batch.baseline, batch.candidate))
            return
        given = labels[scored]
        there = are_there(given)
        self.unscored += int(are_there(labels).sum() - there.sum())
        known = there & in_time[scored]
        self.expired += int((there & ~known).sum())
        self.labelled += int(known.sum())
        over = times + run.horizon <= self._now
        coverage, weight = np.ones((2, len(scored)))
        if as_counted:
            coverage, weight = batch.coverage[scored], batch.weight[scored]
            over = over if batch.matured is None else batch.matured[scored]
        missing = np.where(known, 1.0 - 1.0 / coverage, 1.0)
        run.add_coverage(batch.baseline[over], batch.candidate[over], missing[over])
        counts = np.flatnonzero(known if run.at_once else known & over)
        counts = counts[np.argsort(times[counts], kind="stable")]
        if len(counts):
            pairs = score(self.spec, batch.baseline[counts], batch.candidate[counts], given[counts], weight[counts])
            run.add_scored(times[counts], times[counts], pairs)

    def in_time(self, batch: ExportedPairs, at: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Whether labels that came at `at`, (n,), count; where the time is not known, they do."""
        return np.isnan(at) | (at <= batch.times + self._run.horizon)

    def blocks(self) -> Iterator[LossBlock | TrafficBlock]:
        """All of them, the open ones at the end."""
        for stream in (self._run.loss, self._run.traffic):
            yield from stream.closed
            if stream.block.n or isinstance(stream.block, LossBlock):
                yield stream.block


def rebuilt(
    rebuild: Rebuild, batches: Iterable[ExportedPairs], joined: Joined | None, *, as_counted: bool = True
) -> None:
    """All batches, each with its own labels, or with those of files where these came earlier.

    `as_counted`: by the maturity that the ledger had; with labels of files that is never known.
    """
    as_counted = as_counted and joined is None
    start = 0
    for batch in batches:
        end = start + len(batch.times)
        labels, at, contradicted = batch.labels, batch.labelled_at, batch.contradicted
        if joined is not None:
            labels, at, other = _merged(batch, joined, joined.rows[start:end])
            contradicted = contradicted | joined.contradicted[start:end] | other
        rebuild.conflict += int(contradicted.sum())
        in_time = rebuild.in_time(batch, at)
        rebuild.add(batch, labels, in_time & ~batch.late if as_counted else in_time, as_counted=as_counted)
        start = end


def _merged(
    batch: ExportedPairs, joined: Joined, rows: NDArray[np.int64]
) -> tuple[Targets, NDArray[np.float64], NDArray[np.bool_]]:
    """The earlier of the pair's own label and the file's, when it came, and where the two say different things.

    Of two that do not say when, the pair's own. Where one says classes and the other shares of them, a class is all of
    its share.
    """
    own, files = batch.labels, joined.labels
    theirs: Targets = files.values[rows]
    if own.ndim < theirs.ndim:
        own = _shares(own, theirs.shape[1])
    elif theirs.ndim < own.ndim:
        theirs = _shares(theirs, own.shape[1])
    there, found = are_there(own), rows >= 0
    earlier = ~there | (files.at[rows] < np.where(np.isnan(batch.labelled_at), -np.inf, batch.labelled_at))
    taken = found & earlier
    labels = np.where(taken if own.ndim == 1 else taken[:, None], theirs, own)
    if own.ndim == 1:
        labels = labels.astype(np.int64)
    return labels, np.where(taken, files.at[rows], batch.labelled_at), there & found & apart(own, theirs)


def _shares(classes: Targets, width: int) -> Targets:
    """Class indices (n,) as soft labels (n, `width`), NaN where there is none."""
    shares = np.full((len(classes), width), np.nan)
    there = are_there(classes)
    shares[there] = np.eye(width)[classes[there].astype(np.intp)]
    return shares


def are_there(labels: Targets) -> NDArray[np.bool_]:
    """(n,): which pairs have a label."""
    found: NDArray[np.bool_] = labels >= 0 if labels.ndim == 1 else ~np.isnan(labels[:, 0])
    return found


@dataclass(frozen=True, slots=True)
class Difference:
    """Where the sums differ most: the relative difference, and its place."""

    largest: float
    place: str
    live: float
    rebuilt: float


def compare(
    plan: EvidencePlan, live: Sequence[LossBlock | TrafficBlock], own: Sequence[LossBlock | TrafficBlock]
) -> Difference:
    """Of all sums, counts and histograms; relative to the larger of the two, or to 1 where both are smaller."""
    worst = Difference(0.0, "", 0.0, 0.0)
    for a, b in zip(_totals(plan, live), _totals(plan, own), strict=True):
        names = {**dict(_numbers(a)), **dict.fromkeys(dict(_numbers(b)), 0.0)}
        left, right = dict(_numbers(a)), dict(_numbers(b))
        for place in names:
            x, y = left.get(place, 0.0), right.get(place, 0.0)
            apart = abs(x - y) / max(1.0, abs(x), abs(y))
            if apart > worst.largest:
                worst = Difference(apart, place, x, y)
    return worst


def _totals(
    plan: EvidencePlan, blocks: Sequence[LossBlock | TrafficBlock]
) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
    loss = [block for block in blocks if isinstance(block, LossBlock)]
    traffic = [block for block in blocks if isinstance(block, TrafficBlock)]
    sums = sum_of(loss), sum_of(traffic)
    return (
        loss_block_to_json(plan, sums[0]) if sums[0] is not None else {},
        traffic_block_to_json(plan, sums[1]) if sums[1] is not None else {},
    )


def sum_of(blocks: Sequence[Any]) -> Any:
    total = None
    for block in blocks:
        total = block if total is None else total + block
    return total


def _numbers(value: object, place: str = "") -> Iterator[tuple[str, float]]:
    """Every number of a block's JSON by its place; not where blocks were cut."""
    if isinstance(value, Mapping):
        for name, part in value.items():
            if not place and name in ("seq", "opened", "closed"):
                continue
            yield from _numbers(part, f"{place}.{name}" if place else str(name))
    elif isinstance(value, list):
        for index, part in enumerate(value):
            yield from _numbers(part, f"{place}[{index}]")
    elif isinstance(value, int | float):
        yield place, float(value)
