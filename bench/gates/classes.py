"""Guards per class: the chance that any of them ever fires, when each class is exactly at its limit.

Called by `__main__`. The guard's contrasts, budget and trigger are the project's own; runs are drawn from the pool
of seven classes, the smallest of which is 2% of the traffic.
"""

from dataclasses import dataclass, replace

import numpy as np
from bench.gates import pools, streams
from bench.gates.pools import Array
from bench.gates.scenarios import PAIRS, SPEC
from bench.gates.sums import BLOCK
from numpy.typing import NDArray

from modelcanary_gate.contrasts import EvidencePlan, loss_contrast
from modelcanary_gate.eprocess import DesignEffect, Discount, Wealth
from modelcanary_gate.gate import _error_budget
from modelcanary_gate.hysteresis import log_threshold
from modelcanary_gate.spec import Guard, GuardType, Margin, Model

MARGIN = 0.10
PART = 50
SPEC_OF_CLASSES = replace(
    SPEC,
    model=Model(classes=tuple("abcdefg")),
    guards=(Guard("classes", GuardType.PER_CLASS, margin=Margin(relative=MARGIN)),),
)


@dataclass(frozen=True, slots=True)
class Found:
    """Runs of one setting: pairs at which the first class fired, inf where none did."""

    name: str
    stream: str
    fired: Array


def plan(scale: float) -> list[tuple[str, str, int]]:
    """(setting, stream, part) of PART runs each."""
    null = max(1, round(1500 * scale / PART))
    todo = [("at the limit", stream, part) for stream in ("independent", "bursts") for part in range(null)]
    power = max(1, round(200 * scale / PART))
    return todo + [("one rare class +100%", "independent", part) for part in range(power)]


def simulate(work: tuple[str, str, int]) -> Found:
    name, stream_name, part = work
    pool = pools.load("cov")
    candidate = at_the_limit(pool) if name == "at the limit" else one_bad_class(pool)
    plan_ = EvidencePlan.of(SPEC_OF_CLASSES)
    mine = [(contrast, grid) for contrast, grid in zip(plan_.loss, plan_.loss_grids, strict=True) if contrast.guard]
    # x of the one contrast that a row is of; it is 0 for the other classes, and all contrasts have one margin
    contrast, grid = mine[0]
    x = loss_contrast(contrast, pool.baseline, candidate)
    columns = np.concatenate([np.stack([x, x * x], axis=1), np.log1p(x[:, None] * grid)], axis=1)
    stream = (streams.bursts if stream_name == "bursts" else streams.independent)(pool)
    rng = np.random.default_rng([part, len(name), len(stream_name)])
    sums = np.stack([_sums(stream(rng, PAIRS), pool.label, columns, len(mine)) for _ in range(PART)])
    budget = _error_budget(plan_, SPEC.analysis.error_rates.rollback)
    thresholds = np.array([log_threshold(budget[contrast.name]) for contrast, _ in mine])
    return Found(name, stream_name, _first_fired(sums, thresholds, np.stack([one.prior() for one, _ in mine])))


def _sums(rows: NDArray[np.int32], label: NDArray[np.int64], columns: Array, classes: int) -> Array:
    """Sums of the columns per block and class, (B, classes, columns)."""
    key = np.arange(len(rows)) // BLOCK * classes + label[rows]
    order = np.argsort(key, kind="stable")
    found, starts = np.unique(key[order], return_index=True)
    out = np.zeros((len(rows) // BLOCK * classes, columns.shape[1]))
    out[found] = np.add.reduceat(columns[rows[order]], starts, axis=0)
    return out.reshape(-1, classes, columns.shape[1])


def _first_fired(sums: Array, thresholds: Array, prior: Array) -> Array:
    """Pairs at which a class is above its threshold for the second block in a row, (R,)."""
    runs, blocks, classes, _ = sums.shape
    wealth = Wealth(np.ones((runs, classes), dtype=np.bool_), np.broadcast_to(prior, (runs, *prior.shape)))
    effect = DesignEffect((runs, classes), Discount())
    before = np.zeros((runs, classes), dtype=np.bool_)
    fired = np.full(runs, np.inf)
    for block in range(blocks):
        wealth.push(sums[:, block, :, 2:])
        effect.push(BLOCK, sums[:, block, :, 0], sums[:, block, :, 1])
        above = (wealth.log_evidence(effect.value()) >= thresholds) & (block >= 2)
        now = (above & before).any(axis=1)
        fired[now & np.isinf(fired)] = (block + 1) * BLOCK
        before = above
    return fired


def one_bad_class(pool: pools.Pool) -> Array:
    """The equal candidate, but for the rarest class: twice the baseline's loss there."""
    rows = pool.label == np.bincount(pool.label).argmin()
    candidate = pool.candidates["equal"].copy()
    goal = 2 * pool.baseline[rows].mean()
    low, high = 1.0, 50.0
    for _ in range(60):
        middle = (low + high) / 2
        too_low = np.minimum(candidate[rows] * middle, pools.BOUND).mean() < goal
        low, high = (middle, high) if too_low else (low, middle)
    candidate[rows] = np.minimum(candidate[rows] * low, pools.BOUND)
    return candidate


def at_the_limit(pool: pools.Pool) -> Array:
    """A candidate whose mean loss is (1 + MARGIN) of the baseline's in each class, by mixing losses of others."""
    candidate = np.empty(len(pool.label))
    for number in np.unique(pool.label):
        rows = pool.label == number
        equal, worse, baseline = (
            values[rows] for values in (pool.candidates["equal"], pool.candidates["+100%"], pool.baseline)
        )
        goal = (1 + MARGIN) * baseline.mean()
        low, high = (equal, worse) if equal.mean() <= goal else (baseline, equal)
        if not low.mean() <= goal <= high.mean():
            low, high = baseline * 0.5, np.minimum(baseline * 2 + equal, pools.BOUND)
        share = (goal - low.mean()) / (high.mean() - low.mean())
        candidate[rows] = (1 - share) * low + share * high
    return candidate


def joined(several: list[Found]) -> list[Found]:
    keys = dict.fromkeys((one.name, one.stream) for one in several)
    return [
        Found(*key, np.concatenate([one.fired for one in several if (one.name, one.stream) == key])) for key in keys
    ]
