"""The project's gate, on many runs at once.

It is `modelcanary_gate.gate.Gate` with a leading axis of runs: the same `Wealth` and `DesignEffect`, and the same
rules around them (tests/gate/test_ville.py holds the two against each other, look by look). Called by the scenarios.
"""

import math
from dataclasses import dataclass, field

import numpy as np
from bench.gates.pools import Array
from bench.gates.sums import PROMOTE, ROLLBACK, RunSums
from numpy.typing import NDArray

from modelcanary_gate import gate as streaming
from modelcanary_gate.contrasts import EvidencePlan
from modelcanary_gate.eprocess import DesignEffect, Discount, Wealth
from modelcanary_gate.hysteresis import log_threshold
from modelcanary_gate.spec import Restarts, Spec
from modelcanary_gate.trend import Trend


@dataclass(frozen=True, slots=True)
class Judged:
    """Per run: the look (from 1) of the first confirmed roll-back and promotion, `inf` where there is none."""

    rollback: Array
    promote: Array
    flips: Array  # changes of what the two triggers say, in a gate that goes on
    evidence: Array  # (R, B, 2): log M
    phi: Array  # (R, B, 2)

    @property
    def rolled_back(self) -> NDArray[np.bool_]:
        """The run ended with a roll-back."""
        return np.isfinite(self.rollback) & (self.rollback <= self.promote)

    @property
    def promoted(self) -> NDArray[np.bool_]:
        return np.isfinite(self.promote) & (self.promote < self.rollback)


@dataclass(slots=True)
class _Trigger:
    """`hysteresis.Trigger`, of many runs."""

    threshold: float
    after: int
    on: NDArray[np.bool_]
    streak: NDArray[np.int64] = field(init=False)

    def __post_init__(self) -> None:
        self.streak = np.zeros(len(self.on), dtype=np.int64)

    def push(self, evidence: Array, *, allowed: bool) -> NDArray[np.bool_]:
        rises = (evidence >= self.threshold) & allowed
        self.on = (self.on | rises) & (evidence >= self.threshold / 2)
        self.streak = np.where(self.on, self.streak + 1, 0)
        return self.streak >= self.after


def judge(spec: Spec, sums: RunSums, *, discount: Discount | None = None, alpha: float | None = None) -> Judged:
    """Every look of every run. `alpha` overrides the loss's part of the roll-back's error budget."""
    plan, analysis, runs = EvidencePlan.of(spec), spec.analysis, sums.runs
    budget = streaming._error_budget(plan, analysis.error_rates.rollback)[plan.loss[ROLLBACK].name]
    off = np.zeros(runs, dtype=np.bool_)
    rollback = _Trigger(log_threshold(alpha or budget), analysis.hysteresis.rollback_after, off)
    promote_alpha = analysis.error_rates.promote / 2**analysis.attempt
    promote = _Trigger(log_threshold(promote_alpha), analysis.hysteresis.promote_after, off)
    restarts = np.broadcast_to([analysis.restarts is Restarts.ENABLED, False], (runs, 2))
    prior = np.broadcast_to(np.stack([c.prior() for c in plan.loss[:2]]), (runs, 2, sums.log.shape[-1]))
    wealth, effect = Wealth(restarts, prior), DesignEffect((runs, 2), discount or Discount())
    looks = len(sums.n)
    evidence, phis = np.empty((runs, looks, 2)), np.empty((runs, looks, 2))
    first = np.full((2, runs), np.inf)
    verdict, flips = np.zeros(runs), np.zeros(runs)
    rules, total = _Rules(sums, plan), 0.0
    for look in range(looks):
        total += sums.n[look]
        wealth.push(sums.log[:, look].astype(np.float64))
        effect.push(sums.n[look], sums.x[:, look], sums.xx[:, look])
        phi = effect.value()
        log_m = wealth.log_evidence(phi)
        evidence[:, look], phis[:, look] = log_m, phi
        bad = rollback.push(log_m[:, ROLLBACK], allowed=total >= analysis.min_samples.rollback)
        quiet = np.where(log_m[:, ROLLBACK] < streaming._SAFE, log_m[:, PROMOTE], -math.inf)
        good = promote.push(quiet, allowed=total >= analysis.min_samples.promote)
        now = np.where(bad, -1, np.where(good, 1, 0))
        flips += now != verdict
        verdict = now
        good &= rules.allow(look, phi[:, ROLLBACK])
        for kind, fired in ((ROLLBACK, bad), (PROMOTE, good)):
            first[kind] = np.where(fired & np.isinf(first[kind]), look + 1, first[kind])
    return Judged(first[ROLLBACK], first[PROMOTE], flips, evidence, phis)


class _Rules:
    """What else a promotion waits for: the last blocks within the margin, and no trend that leads beyond it."""

    def __init__(self, sums: RunSums, plan: EvidencePlan) -> None:
        self._sums, self._margin = sums, plan.loss[PROMOTE].margin
        self._trend = Trend()
        self._totals = np.zeros((5, sums.runs))
        self._n = 0.0

    def allow(self, look: int, phi: Array) -> NDArray[np.bool_]:
        sums, margin = self._sums, self._margin
        n, b, c = sums.n[look], sums.b[:, look], sums.c[:, look]
        self._n += n
        self._totals += [b, c, sums.bb[:, look], sums.cc[:, look], sums.bc[:, look]]
        self._trend.push(self._n / 1000, n, (c - b) / n)  # arrays of runs
        recent = slice(max(0, look + 1 - streaming._RECENT), look + 1)
        allowed = (1 + margin.relative) * sums.b[:, recent].sum(axis=1) + margin.absolute * sums.n[recent].sum()
        within: NDArray[np.bool_] = sums.c[:, recent].sum(axis=1) <= allowed
        return within & ~self._worsening(phi)

    def _worsening(self, phi: Array) -> NDArray[np.bool_]:
        n, trend, margin = self._n, self._trend, self._margin
        b, c, bb, cc, bc = self._totals
        found = trend.slope(1.0, 1.0)  # the standard error scales with √(variance · φ)
        if found is None:
            return np.zeros(len(b), dtype=np.bool_)
        slope, unit = found
        variance = np.maximum(0.0, (cc - 2 * bc + bb) / n - ((c - b) / n) ** 2)
        clear = slope > streaming._TREND_Z * unit * np.sqrt(variance * phi)
        beyond = trend.ahead(slope) > margin.relative * b / n + margin.absolute
        return np.asarray(clear & beyond)
