"""The fold against its definition, written out."""

import numpy as np
import pytest

from modelcanary_gate.eprocess import FIRST_WEIGHT, RESTART_BLOCKS, DesignEffect, Discount, Wealth, restart_weight

RNG = np.random.default_rng(11)


def test_restart_weights_sum_to_one() -> None:
    assert sum(restart_weight(block) for block in range(RESTART_BLOCKS + 50)) == pytest.approx(1.0)
    assert restart_weight(0) == FIRST_WEIGHT


def test_wealth_is_the_mixture_over_bets_and_starts() -> None:
    blocks, grid = 7, 4
    increments = RNG.normal(0.0, 0.7, (blocks, grid))
    wealth = Wealth(np.array([True, False]), grid)
    for row in increments:
        wealth.push(np.stack([row, row]), np.ones(2))
    after = [restart_weight(block) for block in range(blocks)]
    by_start = [w * np.exp(increments[start:].sum(axis=0)).mean() for start, w in enumerate(after)]
    expected = sum(by_start) + 1 - sum(after)
    assert wealth.log_evidence()[0] == pytest.approx(np.log(expected), abs=1e-12)
    assert wealth.log_evidence()[1] == pytest.approx(np.log(np.exp(increments.sum(axis=0)).mean()), abs=1e-12)


def test_no_evidence_before_the_first_block() -> None:
    assert Wealth(np.array([True, False]), 3).log_evidence().tolist() == [0.0, 0.0]


def test_the_discount_divides_log_wealth() -> None:
    wealth = Wealth(np.array([False]), 1)
    wealth.push(np.array([[3.0]]), np.array([2.0]))
    assert wealth.log_evidence()[0] == pytest.approx(1.5)


def _effect(blocks: np.ndarray, n: int, discount: Discount) -> float:
    effect = DesignEffect((1,), discount)
    for block in blocks:
        effect.push(n, np.array([block.sum()]), np.array([(block**2).sum()]))
    return float(effect.value()[0])


def test_design_effect_of_independent_pairs_is_about_one() -> None:
    blocks = RNG.normal(0.0, 1.0, (600, 50))
    assert _effect(blocks, 50, Discount()) < 1.6


def test_design_effect_of_a_shift_is_not_autocorrelation() -> None:
    blocks = RNG.normal(0.0, 1.0, (600, 50))
    blocks[300:] += 0.3
    superblocks = blocks[:592].reshape(37, -1)
    assert superblocks.shape[1] * superblocks.mean(axis=1).var() > 15  # the variance of means takes it for that
    assert _effect(blocks, 50, Discount()) < 4.0


def test_design_effect_of_bursts_is_their_length() -> None:
    # each value is repeated 10 times: ten pairs tell as much as one
    blocks = np.repeat(RNG.normal(0.0, 1.0, (600, 10)), 10, axis=1)
    assert _effect(blocks, 100, Discount()) == pytest.approx(10.0, rel=0.35)


def test_design_effect_sees_bursts_longer_than_a_block() -> None:
    blocks = RNG.normal(0.0, 1.0, (640, 20)) + np.repeat(RNG.normal(0.0, 1.0, 80), 8)[:, None]
    assert _effect(blocks, 20, Discount(levels=1)) < _effect(blocks, 20, Discount(levels=8)) / 1.5


def test_design_effect_starts_at_its_prior_and_never_falls_below_one() -> None:
    effect = DesignEffect((1,), Discount(prior=2.0))
    assert effect.value()[0] == 2.0
    for _ in range(300):
        effect.push(10, np.array([0.0]), np.array([10.0]))  # every block mean is exactly 0
    assert 1.0 <= effect.value()[0] < 1.1


def test_leading_axes_are_independent_runs() -> None:
    x = RNG.normal(0.0, 1.0, (40, 3, 30))
    together = DesignEffect((3,), Discount())
    for block in x:
        together.push(30, block.sum(axis=1), (block**2).sum(axis=1))
    alone = [_effect(x[:, run], 30, Discount()) for run in range(3)]
    assert together.value() == pytest.approx(alone, abs=1e-12)
