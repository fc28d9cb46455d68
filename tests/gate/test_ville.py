"""Ville's inequality by simulation: runs in which nothing is wrong, looked at 1,000 times each.

The larger simulations, on real losses, are `make bench-gates`. Each rate here is also shown with the part that it rests
on taken away, so that the test is known to notice.
"""

import math
from dataclasses import dataclass, replace
from functools import cache

import numpy as np
import pytest
from bench.gates import ours, streams, sums
from bench.gates.pools import Pool
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from scipy.stats import beta

from modelcanary_gate.contrasts import EvidencePlan
from modelcanary_gate.decision import Facts
from modelcanary_gate.eprocess import DesignEffect, Discount, Wealth, restart_weight, unspent_weight
from modelcanary_gate.evidence import loss_blocks
from modelcanary_gate.gate import Gate
from modelcanary_gate.hysteresis import log_threshold
from modelcanary_gate.scoring import from_losses
from modelcanary_gate.spec import Analysis, Margin, Model, Spec
from modelcanary_gate.vocabulary import Verdict

RUNS, LOOKS, BLOCK = 10_000, 1000, 100
ALPHA = 0.001
LOSS_ALPHA = ALPHA / 2  # the loss's part, with the default guards
SPEC = Spec(model=Model(classes=("0", "1")))
CONTRAST = EvidencePlan.of(SPEC).loss[0]
#: a pair's contrast is HIGH with chance P, LOW otherwise, and 0 on average: skewed as losses are
P, HIGH, LOW = 0.2, 1.4, -0.35
USER = 20  # pairs of one user in a row
TILT = 0.1  # by which a user's chance of HIGH differs from P, either way


@dataclass(frozen=True, slots=True)
class Found:
    """Per run, the highest of log M over all looks from 300 pairs (minSamples) on."""

    plain: NDArray[np.float64]  # without discount, by the definition of M
    discounted: NDArray[np.float64]  # by the project; −inf for runs in which `plain` stays below `watched`
    watched: float
    means: dict[int, tuple[float, float]]  # look → mean of the plain M, its standard error


def _ups(rng: np.random.Generator, stream: str, drift: float) -> NDArray[np.int16]:
    """HIGHs per block, (RUNS, LOOKS)."""
    chance = P + drift
    if stream == "independent":
        return rng.binomial(BLOCK, chance, (RUNS, LOOKS)).astype(np.int16)
    # Each block holds four whole users, and half a user at either edge whom it shares with its neighbour.
    whole = sum(rng.binomial(USER, chance + TILT * rng.choice([-1.0, 1.0], (RUNS, LOOKS))) for _ in range(4))
    edge = TILT * rng.choice([-1.0, 1.0], (RUNS, LOOKS + 1))
    half = USER // 2
    left, right = rng.binomial(half, chance + edge[:, :-1]), rng.binomial(half, chance + edge[:, 1:])
    return np.asarray(whole + left + right, dtype=np.int16)


@cache
def _simulated(stream: str, seed: int = 20) -> Found:
    watched = log_threshold(0.05) if stream == "independent" else log_threshold(LOSS_ALPHA)
    ups = _ups(np.random.default_rng(seed), stream, 0.0)
    prior, log_of = CONTRAST.prior(), np.log(_factors())
    plain, means = _by_definition(ups, _factors(), prior)
    chosen = np.flatnonzero(plain >= watched)
    discounted = np.full(RUNS, -np.inf)
    wealth = Wealth(np.ones(len(chosen), dtype=np.bool_), np.broadcast_to(prior, (len(chosen), len(prior))))
    effect, at_one = DesignEffect((len(chosen),), Discount()), np.full(len(chosen), -np.inf)
    for look in range(LOOKS):
        k = ups[chosen, look].astype(np.int64)
        wealth.push(log_of[k])
        effect.push(BLOCK, k * HIGH + (BLOCK - k) * LOW, k * HIGH**2 + (BLOCK - k) * LOW**2)
        if look >= FIRST_LOOK:
            discounted[chosen] = np.maximum(discounted[chosen], wealth.log_evidence(effect.value()))
            at_one = np.maximum(at_one, wealth.log_evidence(np.ones(len(chosen))))
    assert at_one == pytest.approx(plain[chosen], abs=1e-9)
    return Found(plain, discounted, watched, means)


def _factors() -> NDArray[np.float64]:
    """What a block multiplies the wealth by, per number of HIGHs in it and bet: (BLOCK + 1, bets)."""
    grid, highs = CONTRAST.grid(), np.arange(BLOCK + 1)[:, None]
    return np.asarray((1 + grid * HIGH) ** highs * (1 + grid * LOW) ** (BLOCK - highs))


FIRST_LOOK = 2  # counted from 0: 300 pairs


def _by_definition(
    ups: NDArray[np.int16], factor_of: NDArray[np.float64], prior: NDArray[np.float64], looks: int = LOOKS
) -> tuple[NDArray[np.float64], dict[int, tuple[float, float]]]:
    """`(M + w)·W` per bet, block by block, and what is not staked yet."""
    m, highest, means = np.zeros((RUNS, len(prior))), np.zeros(RUNS), {}
    for look in range(looks):
        m = (m + restart_weight(look)) * factor_of[ups[:, look]]
        evidence = m @ prior + unspent_weight(look)
        if look >= FIRST_LOOK:
            highest = np.maximum(highest, evidence)
        if look in {9, 49, 199}:
            means[look] = (float(evidence.mean()), float(evidence.std() / math.sqrt(RUNS)))
    return np.log(highest), means


def _rate(highest: NDArray[np.float64], alpha: float) -> tuple[float, float]:
    """Share of runs that ever reached 1/α, and its 97.5% upper bound (Clopper-Pearson)."""
    hits, runs = int((highest >= log_threshold(alpha)).sum()), len(highest)
    return hits / runs, float(beta.ppf(0.975, hits + 1, runs - hits))


@pytest.mark.slow
def test_independent_runs_are_rolled_back_less_often_than_alpha() -> None:
    found = _simulated("independent")
    assert _rate(found.discounted, LOSS_ALPHA)[1] < ALPHA
    # The bound is Ville's at every level, also where there is enough to count: with the discount, and without.
    for alpha in (0.05, 0.01):
        assert _rate(found.discounted, alpha)[0] <= _rate(found.plain, alpha)[0] <= alpha
    # With the threshold lowered, the test fails.
    assert _rate(found.plain, 0.05)[0] > ALPHA


@pytest.mark.slow
def test_runs_in_bursts_are_rolled_back_less_often_than_alpha() -> None:
    # What is at stake is a rate of about 0.03%: it takes 20,000 runs to see that it is below 0.1%.
    found = [_simulated("bursts", seed) for seed in (20, 21)]
    assert _rate(np.concatenate([one.discounted for one in found]), LOSS_ALPHA)[1] < ALPHA
    # Without the discount, the test fails.
    assert _rate(found[0].plain, LOSS_ALPHA)[0] > 5 * ALPHA


@pytest.mark.slow
def test_the_mean_of_the_evidence_is_at_most_one() -> None:
    for mean, error in _simulated("independent").means.values():
        assert mean <= 1 + 3 * error
    # A candidate that is worse by a twentieth of a standard deviation is noticed.
    worse = _ups(np.random.default_rng(20), "independent", 0.02)
    mean, error = _by_definition(worse, _factors(), CONTRAST.prior(), looks=10)[1][9]
    assert mean > 1 + 3 * error


def _pool(effect: float, rows: int = 5000) -> Pool:
    rng = np.random.default_rng(8)
    baseline = np.minimum(rng.exponential(0.4, rows), 9.0)
    candidate = np.minimum(baseline * rng.lognormal(-0.08, 0.4, rows) + 0.1 * rng.exponential(1.0, rows), 9.0)
    equal = candidate * baseline.mean() / candidate.mean()
    label = np.zeros(rows, dtype=np.int64)
    return Pool("test", label, baseline, {"equal": equal, "shown": np.minimum(equal * (1 + effect), 9.2)})


@pytest.mark.parametrize("effect", [-0.1, 0.0, 0.04, 0.15, 1.0])
@pytest.mark.parametrize("stream", [streams.independent, streams.bursts])
def test_many_runs_at_once_are_the_streaming_gate(effect: float, stream: object) -> None:
    """What `make bench-gates` simulates is the gate: the same evidence and verdict at every look."""
    pairs, runs = 15_000, 4
    pool = _pool(effect)
    spec = replace(SPEC, analysis=Analysis(margin=Margin(relative=0.05, absolute=0.002)))
    draw = stream(pool)  # type: ignore[operator]
    tables = sums.Tables.of(spec, pool, "shown", exact=True)
    judged = ours.judge(spec, sums.simulate(tables, draw, runs=runs, seed=4, pairs=pairs))
    rng = np.random.default_rng(4)
    starts = np.arange(0, pairs, sums.BLOCK)
    for run in range(runs):
        rows = draw(rng, pairs)
        gate = Gate(spec, timed=False)
        verdicts, evidence = [], []
        losses = from_losses(spec, pool.baseline[rows], pool.candidates["shown"][rows])
        for block in loss_blocks(gate.plan, losses, starts, 0, [(0.0, 1.0)] * len(starts)):
            gate.add_loss(block)
            decision = gate.decide(Facts(pairs=1, labelled=1))
            verdicts.append(decision.verdict)
            evidence.append((decision.measures.rollback_evidence, decision.measures.promotion_evidence))
        assert np.array(evidence) == pytest.approx(judged.evidence[run], abs=1e-9)
        for verdict, look in ((Verdict.ROLL_BACK, judged.rollback[run]), (Verdict.PROMOTE, judged.promote[run])):
            expected = verdicts.index(verdict) + 1 if verdict in verdicts else math.inf
            assert look == expected or (verdict is Verdict.PROMOTE and judged.rollback[run] <= look)


def test_the_gates_runs_above_hold_every_verdict() -> None:
    ends = set()
    for effect in (-0.1, 0.15):
        pool = _pool(effect)
        tables = sums.Tables.of(SPEC, pool, "shown")
        judged = ours.judge(SPEC, sums.simulate(tables, streams.bursts(pool), runs=4, seed=4, pairs=15_000))
        ends.add((bool(judged.rolled_back.all()), bool(judged.promoted.all())))
    assert ends == {(True, False), (False, True)}


@settings(max_examples=60, deadline=None)
@given(
    losses=arrays(np.float64, st.integers(1, 30), elements=st.floats(0, 12)),
    size=st.integers(1, 400),
    blocks=st.integers(4, 60),
)
def test_an_identical_candidate_is_never_rolled_back(losses: NDArray[np.float64], size: int, blocks: int) -> None:
    gate = Gate(SPEC, timed=False)
    same = np.resize(losses, size * blocks)
    starts = np.arange(blocks) * size
    for block in loss_blocks(gate.plan, from_losses(SPEC, same, same), starts, 0, [(0.0, 1.0)] * blocks):
        gate.add_loss(block)
        decision = gate.decide(Facts(pairs=1, labelled=1))
        assert decision.verdict is not Verdict.ROLL_BACK
        assert decision.measures.rollback_evidence <= 1e-12
