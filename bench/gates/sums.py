"""Runs as block sums: all that the gate and the rival rules ever see of the pairs.

Called by the scenarios. The sums of the gate's contrasts are computed with the project's own contrasts and bets; for
speed, Σ ln(1 + λx) is looked up per row of the pool, once computed.
"""

from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from bench.gates.pools import Array, Pool
from bench.gates.streams import Rows, Stream
from numpy.typing import NDArray

from modelcanary_gate.contrasts import EvidencePlan, loss_contrast
from modelcanary_gate.spec import Spec

Sums = NDArray[np.floating[Any]]

BLOCK = 100  # labelled pairs
ROLLBACK, PROMOTE = 0, 1


@dataclass(frozen=True, slots=True)
class RunSums:
    """Of R runs with B blocks: `n` (B,) pairs; the rest (R, B): sums over each block.

    The last axes of `x`, `xx` and `log` are the two contrasts of the loss (and the bets).
    """

    n: Array
    b: Array
    c: Array
    bb: Array
    cc: Array
    bc: Array
    x: Array
    xx: Array
    log: Sums
    #: the baseline's losses on other traffic, as if users were split between the models
    split: Array

    @property
    def runs(self) -> int:
        return len(self.b)

    @property
    def pairs(self) -> Array:
        """Labelled pairs up to each look, (B,)."""
        return np.cumsum(self.n)

    def take(self, rows: NDArray[np.intp] | NDArray[np.bool_] | slice) -> "RunSums":
        return RunSums(self.n, *(getattr(self, field.name)[rows] for field in fields(self)[1:]))


@dataclass(frozen=True, slots=True)
class Tables:
    """Per row of a pool, what is summed: losses, contrasts, and ln(1 + λx)."""

    b: Array
    c: Array
    x: Array  # (N, 2)
    log: Sums  # (N, 2 · bets)

    @classmethod
    def of(cls, spec: Spec, pool: Pool, candidate: str, *, exact: bool = False) -> "Tables":
        plan = EvidencePlan.of(spec)
        baseline = np.minimum(pool.baseline, plan.bound)
        answered = np.minimum(pool.candidates[candidate], plan.bound)
        x = [loss_contrast(plan.loss[i], baseline, answered) for i in (ROLLBACK, PROMOTE)]
        log = np.concatenate([np.log1p(x[i][:, None] * plan.loss_grids[i]) for i in (ROLLBACK, PROMOTE)], axis=1)
        return cls(baseline, answered, np.stack(x, axis=1), log if exact else log.astype(np.float32))


def simulate(
    tables: Tables,
    stream: Stream,
    *,
    runs: int,
    seed: int,
    starts: NDArray[np.intp] | None = None,
    pairs: int = 100_000,
    before: Tables | None = None,
    change: int = 0,
    split: bool = False,
) -> RunSums:
    """Draws runs of so many pairs. `starts` are the blocks' first pairs; `before` holds for the first `change`."""
    rng = np.random.default_rng(seed)
    starts = np.arange(0, pairs, BLOCK) if starts is None else starts
    n = np.diff(np.append(starts, pairs)).astype(np.float64)
    bets = tables.log.shape[1] // 2
    shape = (runs, len(starts))
    flat = {name: np.empty(shape) for name in ("b", "c", "bb", "cc", "bc", "split")}
    x, xx = np.empty((*shape, 2)), np.empty((*shape, 2))
    log = np.empty((*shape, 2, bets), dtype=tables.log.dtype)
    for run in range(runs):
        rows = stream(rng, pairs)
        b, c = tables.b[rows], _drawn(tables.c, before.c if before else None, rows, change)
        for name, values in (("b", b), ("c", c), ("bb", b * b), ("cc", c * c), ("bc", b * c)):
            flat[name][run] = np.add.reduceat(values, starts)
        contrasts = _drawn(tables.x, before.x if before else None, rows, change)
        x[run] = np.add.reduceat(contrasts, starts, axis=0)
        xx[run] = np.add.reduceat(contrasts * contrasts, starts, axis=0)
        found = _drawn(tables.log, before.log if before else None, rows, change)
        log[run] = _sum_blocks(found, starts, n).reshape(len(starts), 2, bets)
        flat["split"][run] = np.add.reduceat(tables.b[stream(rng, pairs)], starts) if split else np.nan
    return RunSums(n, flat["b"], flat["c"], flat["bb"], flat["cc"], flat["bc"], x, xx, log, flat["split"])


def _drawn(after: Sums, before: Sums | None, rows: Rows, change: int) -> Sums:
    values = after[rows]
    if before is not None:
        values[:change] = before[rows[:change]]
    return values


def _sum_blocks(values: Sums, starts: NDArray[np.intp], n: Array) -> Sums:
    if n.min() == n.max():  # three times as fast
        return np.asarray(values.reshape(len(starts), int(n[0]), -1).sum(axis=1))
    return np.asarray(np.add.reduceat(values, starts, axis=0))
