"""The fold against its definition, written out."""

import numpy as np
import pytest

from modelcanary_gate.eprocess import (
    FIRST_WEIGHT,
    RESTART_BLOCKS,
    DesignEffect,
    Discount,
    Wealth,
    restart_weight,
    unspent_weight,
)

RNG = np.random.default_rng(11)


UNIFORM = np.full((2, 4), 0.25)


def test_restart_weights_sum_to_one() -> None:
    spent = sum(restart_weight(block) for block in range(3000))
    assert spent + unspent_weight(2999) == pytest.approx(1.0)
    assert restart_weight(0) == FIRST_WEIGHT
    assert unspent_weight(RESTART_BLOCKS) == pytest.approx((1 - FIRST_WEIGHT) / 2)
    assert all(restart_weight(block) > 1e-5 for block in range(3000))  # a regression is looked for to the end


def _by_definition(increments: np.ndarray, prior: np.ndarray, phi: float) -> float:
    """log of the mixture over bets and starts, each wealth to the power 1/φ."""
    starts = [restart_weight(block) for block in range(len(increments))]
    wealth = [w * float(prior @ np.exp(increments[i:].sum(axis=0) / phi)) for i, w in enumerate(starts)]
    return float(np.log(sum(wealth) + 1 - sum(starts)))


@pytest.mark.parametrize("phi", [1.0, 1.25, 2.0, 10.0, 30.0])
def test_wealth_is_the_mixture_over_bets_and_starts(phi: float) -> None:
    prior = np.array([0.1, 0.2, 0.3, 0.4])
    increments = RNG.normal(0.0, 0.7, (7, 4))
    wealth = Wealth(np.array([True, False]), np.stack([prior, prior]))
    for row in increments:
        wealth.push(np.stack([row, row]))
    whole = np.log(prior @ np.exp(increments.sum(axis=0) / phi))
    expected = [_by_definition(increments, prior, phi), whole]
    assert wealth.log_evidence(np.full(2, phi)) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("phi", [1.02, 1.37, 2.2, 3.4, 17.0, 100.0])
def test_between_two_powers_wealth_is_close_to_its_definition_and_a_test(phi: float) -> None:
    prior = np.full(4, 0.25)
    increments = RNG.normal(0.3, 0.7, (40, 4))
    wealth = Wealth(np.array([True]), prior[None])
    for row in increments:
        wealth.push(row[None])
    found = float(wealth.log_evidence(np.array([phi]))[0])
    assert found == pytest.approx(_by_definition(increments, prior, phi), abs=0.35)
    # Jensen and the chord: it cannot reach a level above 0 that the undiscounted mixture has not reached
    assert found <= max(0.0, _by_definition(increments, prior, 1.0))


def test_no_evidence_before_the_first_block() -> None:
    assert Wealth(np.array([True, False]), UNIFORM).log_evidence(np.ones(2)).tolist() == [0.0, 0.0]


def test_the_discount_divides_log_wealth() -> None:
    wealth = Wealth(np.array([False]), np.ones((1, 1)))
    wealth.push(np.array([[3.0]]))
    assert wealth.log_evidence(np.array([2.0]))[0] == pytest.approx(1.5)


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
    pairs = np.repeat(RNG.normal(0.0, 1.0, 6001), 10)
    blocks = pairs[5:60005].reshape(600, 100)
    assert _effect(blocks, 100, Discount(edge=0.0)) == pytest.approx(10.0, rel=0.25)
    assert 10.0 < _effect(blocks, 100, Discount()) < 17.0  # it errs to the side of caution


def test_design_effect_allows_for_bursts_across_the_edges_of_blocks() -> None:
    # bursts of geometric length, 40 on average: the mean of so many pairs has 79 times a pair's share in it
    share = 0.05

    def run() -> np.ndarray:
        user = np.repeat(RNG.normal(0.0, np.sqrt(share), 900), RNG.geometric(1 / 40, 900))[:20_000]
        return (user + RNG.normal(0.0, np.sqrt(1 - share), 20_000)).reshape(200, 100)

    expected = 1 + share * (79 - 1)
    runs = [run() for _ in range(40)]
    plain = float(np.mean([_effect(run, 100, Discount(edge=0.0, levels=1)) for run in runs]))
    raised = float(np.mean([_effect(run, 100, Discount(levels=1)) for run in runs]))
    assert plain + 0.5 < raised < 1.1 * expected


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
