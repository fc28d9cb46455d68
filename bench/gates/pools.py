"""Pools of paired losses whose mean effects are known exactly; runs are drawn from them.

A pool holds, for every row, the baseline's loss and the losses of several candidates. A candidate is made
from an equally good model of other training data, mixed with a worse (or a better) model until the mean of
its losses over the pool is what its name says: so "+2%" is exactly at a margin of 2% and not about there.

Called by the scenarios; knows nothing of gates. Pools are kept in $MODELCANARY_CACHE, outside of the tree.
"""

import os
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit
from sklearn.datasets import load_digits, make_classification
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.neural_network import MLPClassifier

Array = NDArray[np.float64]

EPSILON = 1e-4
BOUND = -float(np.log(EPSILON))
#: candidates and the relative change of the mean loss that each one has, exactly
EFFECTS = {
    "equal": 0.0,
    "+1%": 0.01,
    "+2%": 0.02,
    "+5%": 0.05,
    "+20%": 0.20,
    "+100%": 1.0,
    "-5%": -0.05,
}
#: candidates that are as the equal one but for a small share of rows, answered with another row's answer
SPARSE = {"sparse +5%": 0.05, "sparse +20%": 0.20}
#: changes when a pool's making does, so that no stale file is read
VERSION = 4


@dataclass(frozen=True, slots=True)
class Pool:
    """`baseline` (N,), each of `candidates` (N,): losses in nats within [0, BOUND]; `label` (N,) classes."""

    name: str
    label: NDArray[np.int64]
    baseline: Array
    candidates: dict[str, Array]

    def contrast(self, candidate: str) -> Array:
        return self.candidates[candidate] - self.baseline


def cache_folder() -> Path:
    """Where pools are kept between runs."""
    root = os.environ.get("MODELCANARY_CACHE") or Path.home() / ".cache" / "modelcanary"
    folder = Path(root) / "bench-pools"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def load(name: str) -> Pool:
    """The pool of that name: read from the cache, or made (about half a minute) and kept."""
    path = cache_folder() / f"{name}-{VERSION}.npz"
    if not path.exists():
        pool = MAKERS[name]()
        part = path.with_suffix(".part.npz")
        np.savez(part, label=pool.label, baseline=pool.baseline, **pool.candidates)  # type: ignore[arg-type]  # columns
        part.replace(path)
    with np.load(path) as file:
        candidates = {key: file[key] for key in file.files if key not in {"label", "baseline"}}
        return Pool(name, file["label"], file["baseline"], candidates)


def _bisect(mean_at: Callable[[float], float], low: float, high: float, target: float) -> float:
    """The argument at which a monotone `mean_at` is `target`."""
    rising = mean_at(high) > mean_at(low)
    for _ in range(60):
        middle = (low + high) / 2
        if (mean_at(middle) < target) == rising:
            low = middle
        else:
            high = middle
    return (low + high) / 2


def _cross_entropy(probabilities: Array, label: NDArray[np.int64]) -> Array:
    picked = probabilities[np.arange(len(label)), label]
    return -np.log(np.clip(picked, EPSILON, 1.0))


def _from_models(
    name: str, label: NDArray[np.int64], baseline: Array, equal: Array, worse: Array, better: Array
) -> Pool:
    """Candidates by mixing probabilities (N, C) of an equal model with those of a worse or a better one."""

    def mixed(start: Array, other: Array, target: float) -> Array:
        share = _bisect(lambda w: float(_cross_entropy((1 - w) * start + w * other, label).mean()), 0.0, 1.0, target)
        return (1 - share) * start + share * other

    baseline_loss = _cross_entropy(baseline, label)
    mean = float(baseline_loss.mean())
    too_bad = _cross_entropy(equal, label).mean() > mean
    equal = mixed(equal, better if too_bad else worse, mean)
    candidates = {
        key: _cross_entropy(mixed(equal, worse if effect > 0 else better, mean * (1 + effect)), label)
        for key, effect in EFFECTS.items()
    }
    candidates |= _sparse(candidates["equal"], lambda order: _cross_entropy(equal[order], label), mean)
    return Pool(name, label, baseline_loss, candidates)


def _sparse(equal: Array, answered_in_order: Callable[[NDArray[np.int64]], Array], mean: float) -> dict[str, Array]:
    rng = np.random.default_rng(20)
    broken = answered_in_order(rng.permutation(len(equal)))
    chance = rng.random(len(equal))
    candidates = {}
    for key, effect in SPARSE.items():
        share = _bisect(partial(_mean_of_mix, broken, equal, chance), 0.0, 1.0, mean * (1 + effect))
        candidates[key] = np.where(chance < share, broken, equal)
    return candidates


def covertype_like() -> Pool:
    """Seven classes of very different sizes, as in forest-cover data: gradient boosting against itself."""
    features, label = make_classification(
        n_samples=90_000,
        n_features=30,
        n_informative=14,
        n_redundant=6,
        n_classes=7,
        n_clusters_per_class=2,
        weights=[0.36, 0.48, 0.06, 0.02, 0.02, 0.03, 0.03],
        class_sep=1.3,
        flip_y=0.03,
        random_state=3,
    )
    order = np.random.default_rng(7).permutation(len(label))
    first, second, long, held_out = np.split(order, [12_000, 24_000, 54_000])

    def boosted(rows: NDArray[np.int64], seed: int, rounds: int) -> Array:
        model = HistGradientBoostingClassifier(
            max_iter=rounds, learning_rate=0.12, max_leaf_nodes=15, random_state=seed
        )
        return np.asarray(model.fit(features[rows], label[rows]).predict_proba(features[held_out]))

    linear = LogisticRegression(max_iter=300).fit(features[first[:4000]], label[first[:4000]])
    worse = 0.5 * linear.predict_proba(features[held_out]) + 0.5 / 7
    return _from_models(
        "cov",
        label[held_out].astype(np.int64),
        boosted(first, 0, 60),
        boosted(second, 1, 60),
        worse,
        boosted(long, 2, 120),
    )


def noisy_digits() -> Pool:
    """Small neural networks on digits with noise that they never saw: overconfident, hardly correlated."""
    features, label = load_digits(return_X_y=True)
    rng = np.random.default_rng(7)
    order = rng.permutation(len(label))
    train, held_out = order[:900], order[900:]
    seen = np.repeat(features[held_out], 30, axis=0)
    seen = seen + rng.normal(0, 1.3, seen.shape)
    truth = np.repeat(label[held_out], 30).astype(np.int64)

    def network(x: Array, y: NDArray[np.int64], seed: int, width: int) -> Array:
        model = MLPClassifier((width,), random_state=seed, max_iter=120, alpha=1e-4)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # stopped early, as it is meant to be
            return np.asarray(model.fit(x, y).predict_proba(seen))

    x, y = features[train], label[train]
    noisy = [x + rng.normal(0, 1.3, x.shape) for _ in range(2)]
    linear = LogisticRegression(C=0.001, max_iter=200).fit(x[:300], y[:300])
    return _from_models(
        "digits",
        truth,
        network(x[:600], y[:600], 0, 40),
        network(x[300:], y[300:], 1, 40),
        0.15 * linear.predict_proba(seen) + 0.085,
        network(np.concatenate([x, *noisy]), np.concatenate([y] * 3), 2, 120),
    )


def heavy_tailed() -> Pool:
    """Two classes with logits of Student's t (2.2 degrees of freedom): rare and very large losses."""
    rng = np.random.default_rng(7)
    rows = 60_000
    margin = 2.2 + 2.0 * rng.standard_t(2.2, rows)
    label = (rng.random(rows) < 0.3).astype(np.int64)
    noise, hurt = 0.5 * rng.standard_t(2.2, rows), 0.5 + np.abs(rng.standard_t(2.2, rows))

    def loss(logit: Array) -> Array:
        return np.asarray(-np.log(np.clip(expit(logit), EPSILON, 1.0)))

    baseline = loss(margin)
    mean = float(baseline.mean())
    equal = margin + noise
    equal = equal + _bisect(lambda s: float(loss(equal + s).mean()), -2.0, 3.0, mean)
    candidates = {}
    for key, effect in EFFECTS.items():
        lowered = hurt if effect > 0 else np.ones(rows)
        by = _bisect(lambda s, d=lowered: float(loss(equal - s * d).mean()), -3.0, 20.0, mean * (1 + effect))  # type: ignore[misc]
        candidates[key] = loss(equal if effect == 0 else equal - by * lowered)
    signs = rng.choice([-1.0, 1.0], rows)
    candidates |= _sparse(candidates["equal"], lambda order: loss(equal[order] * signs), mean)
    return Pool("heavy", label, baseline, candidates)


def _mean_of_mix(first: Array, second: Array, chance: Array, share: float) -> float:
    return float(np.where(chance < share, first, second).mean())


def sharp() -> Pool:
    """A baseline that is nearly always right and sure of it: mean loss 0.03, nearly all of it from 2% of the rows.

    Effects are absolute here, in nats: the candidates are wrong on other rows, and a few more.
    """
    rng = np.random.default_rng(7)
    rows = 60_000

    def loss(wrong: Array, share: float) -> Array:
        sure = rng.exponential(0.004, rows)
        return np.minimum(np.where(wrong < share, 0.3 + rng.exponential(1.0, rows), sure), BOUND)

    hard, other = rng.random(rows), rng.random(rows)
    baseline = loss(hard, 0.02)
    mixed = np.where(rng.random(rows) < 0.5, hard, other)
    much = loss(mixed, 0.06)
    little = np.minimum(baseline, loss(mixed, 0.005))
    candidates = {}
    for key, effect in {"equal": 0.0, "+0.005": 0.005, "+0.02": 0.02}.items():
        # each row is answered like `much` below a chance, like `little` above
        chance, goal = rng.random(rows), float(baseline.mean()) + effect
        share = _bisect(partial(_mean_of_mix, much, little, chance), 0.0, 1.0, goal)
        drawn = np.where(chance < share, much, little)
        # the last row or so that a share cannot split
        candidates[key] = np.minimum(drawn * (goal / drawn.mean()), BOUND)
    return Pool("sharp", np.zeros(rows, dtype=np.int64), baseline, candidates)


MAKERS: dict[str, Callable[[], Pool]] = {
    "cov": covertype_like,
    "digits": noisy_digits,
    "heavy": heavy_tailed,
    "sharp": sharp,
}
