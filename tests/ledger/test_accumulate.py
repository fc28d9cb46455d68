"""Blocks are cut where the rule says, however the pairs arrive in slices."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelcanary_gate.blocks_json import loss_block_from_json, loss_block_to_json, traffic_block_to_json
from modelcanary_gate.contrasts import EvidencePlan
from modelcanary_gate.evidence import AnsweredPairs, BlockRule, traffic_block
from modelcanary_gate.parse import parse_spec
from modelcanary_ledger.accumulate import Accumulator, cuts, empty_loss, empty_traffic

PLAN = EvidencePlan.of(parse_spec({"model": {"classes": ["a", "b"]}}, require_target=False))
SMALL = BlockRule(minimum=3, seconds=1.0, fraction=0.05)


def one_by_one(clock: list[float], n: int, opened: float, rule: BlockRule) -> list[int]:
    """The rule, asked after each row."""
    ends = []
    for row, now in enumerate(clock):
        if n == 0:
            opened = now
        n += 1
        if rule.due(n, now - opened, now):
            ends.append(row + 1)
            n = 0
    return ends


@settings(derandomize=True, max_examples=300)
@given(st.lists(st.floats(0, 3), max_size=60), st.integers(0, 5))
def test_cuts_are_those_of_the_rule(steps, n):
    clock = np.cumsum([1.0, *steps])[1:]
    assert cuts(n, 0.5, clock, 0.0, SMALL) == one_by_one(clock.tolist(), n, 0.5, SMALL)


def answered(n: int, seed: int) -> tuple[np.ndarray, AnsweredPairs]:
    rng = np.random.default_rng(seed)
    # Requests overtake each other on their way here.
    times = 1000 + np.arange(n) / 50 + rng.normal(0, 0.5, n)
    outcome = rng.choice([0, 1, 2], n, p=[0.9, 0.05, 0.05])
    return times, AnsweredPairs(outcome, rng.permutation(outcome), rng.random(n), rng.random(n))


def summed(times: np.ndarray, pairs: AnsweredPairs, ends: list[int]) -> Accumulator:
    made = Accumulator(empty_traffic(PLAN, 0), 0.0, 0.0, lambda seq: empty_traffic(PLAN, seq))
    for start, end in zip([0, *ends], [*ends, len(times)], strict=True):
        part, rows = times[start:end], pairs.take(slice(start, end))
        made.add(
            part,
            part,
            1000.0,
            lambda rows_, opened, closed, rows=rows: traffic_block(
                PLAN, rows.take(rows_), seq=0, opened=opened, closed=closed
            ),
        )
    return made


@settings(derandomize=True, max_examples=30, deadline=None)
@given(st.lists(st.integers(0, 2000), max_size=12))
def test_slices_do_not_matter(ends):
    times, pairs = answered(2000, 1)
    whole, sliced = summed(times, pairs, []), summed(times, pairs, sorted(ends))
    assert [block.seq for block in whole.closed] == list(range(len(whole.closed)))
    assert len(whole.closed) == len(sliced.closed) >= 5
    for one, other in zip([*whole.closed, whole.block], [*sliced.closed, sliced.block], strict=True):
        assert (one.n, one.opened, one.closed) == (other.n, other.opened, other.closed)
        np.testing.assert_allclose(one.contrasts.log, other.contrasts.log, rtol=1e-12, atol=1e-12)
    assert sum(block.n for block in whole.closed) + whole.block.n == 2000
    assert traffic_block_to_json(PLAN, whole.closed[0])["outcomes"]


def test_the_clock_never_falls_back():
    times, pairs = answered(2000, 2)
    made = summed(times, pairs, [])
    clock = np.maximum.accumulate(times)
    expected = one_by_one((clock - 1000).tolist(), 0, 0.0, BlockRule())
    assert [block.n for block in made.closed] == np.diff([0, *expected]).tolist()
    assert made.clock == pytest.approx(times.max())


def test_an_empty_block_can_be_kept():
    empty = empty_loss(PLAN, 4)
    assert loss_block_from_json(PLAN, loss_block_to_json(PLAN, empty)).seq == 4
