"""In how many parts a block was summed, in which order, after how many restarts: nothing of it is in the verdict."""

import itertools
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelcanary_gate.blocks_json import loss_block_from_json, loss_block_to_json
from modelcanary_gate.contrasts import EvidencePlan
from modelcanary_gate.decision import Decision, Facts
from modelcanary_gate.evidence import LossBlock, loss_block, loss_blocks
from modelcanary_gate.gate import Gate
from modelcanary_gate.scoring import LabelledPairs, score
from modelcanary_gate.spec import Guard, GuardType, Limit, LimitKind, Model, Spec
from modelcanary_gate.vocabulary import Verdict

GUARDS = (
    Guard("overconfident", GuardType.CONFIDENT_ERRORS, max=Limit(LimitKind.OVER_BASELINE, 0.01)),
    Guard("classes", GuardType.PER_CLASS),
)
SPEC = Spec(model=Model(classes=("a", "b", "c")), guards=GUARDS)
PLAN = EvidencePlan.of(SPEC)
FACTS = Facts(elapsed=3600.0, pairs=10_000, labelled=10_000)


def _pairs(n: int, seed: int, blur: float) -> LabelledPairs:
    """Pairs whose candidate is the baseline with noise of size `blur` in its logits."""
    rng = np.random.default_rng(seed)
    label = rng.integers(0, 3, n)
    logits = rng.normal(0, 1, (n, 3)) + 2.0 * (np.arange(3) == label[:, None])
    noisy = logits + blur * rng.normal(0, 1, (n, 3))
    log_p = [x - np.log(np.exp(x).sum(axis=1, keepdims=True)) for x in (logits, noisy)]
    return score(SPEC, log_p[0], log_p[1], label)


def _flat(block: LossBlock) -> np.ndarray:
    sums = block.contrasts
    reliability = [
        array for bins in block.reliability for array in (bins.n, bins.confidence, bins.correct, bins.gap_squares)
    ]
    parts = [block.moments, sums.x, sums.xx, sums.log, block.classes, block.confident_errors, *reliability]
    return np.concatenate([np.ravel(part) for part in parts])


@settings(max_examples=50, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    n=st.integers(8, 300),
    cuts=st.sets(st.integers(1, 7), max_size=6),
    data=st.data(),
)
def test_the_order_of_the_parts_changes_nothing(seed: int, n: int, cuts: set[int], data: st.DataObject) -> None:
    pairs = _pairs(n, seed, 0.5)
    edges = [0, *sorted(cuts), n]
    parts = [
        loss_block(PLAN, pairs.take(slice(start, end)), seq=3, opened=float(start), closed=float(end))
        for start, end in itertools.pairwise(edges)
    ]
    whole = loss_block(PLAN, pairs, seq=3, opened=0.0, closed=float(n))
    order = data.draw(st.permutations(parts))
    merged = order[0]
    for part in order[1:]:
        merged = merged + part
    assert (merged.seq, merged.n, merged.opened, merged.closed) == (3, n, 0.0, float(n))
    assert np.abs(_flat(merged) - _flat(whole)).max() < 1e-12 * max(1.0, np.abs(_flat(whole)).max())


def _blocks(seed: int, blur: float, count: int = 60) -> list[LossBlock]:
    pairs = _pairs(100 * count, seed, blur)
    spans = [(float(i), i + 1.0) for i in range(count)]
    return loss_blocks(PLAN, pairs, np.arange(count) * 100, 0, spans)


def _looks(gate: Gate, blocks: list[LossBlock]) -> list[Decision]:
    found = []
    for block in blocks:
        gate.add_loss(block)
        found.append(gate.decide(FACTS))
    return found


@settings(max_examples=15, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    blur=st.sampled_from([0.0, 0.3, 1.5]),
    restarts=st.sets(st.integers(1, 59), max_size=3),
)
def test_a_restart_changes_nothing(seed: int, blur: float, restarts: set[int]) -> None:
    """The gate keeps nothing: what it had folded is read again, as JSON, and folded by a new one."""
    blocks = _blocks(seed, blur)
    stored = [json.dumps(loss_block_to_json(PLAN, block)) for block in blocks]
    undisturbed = _looks(Gate(SPEC), blocks)
    gate, found = Gate(SPEC), []
    for number in range(len(blocks)):
        if number in restarts:
            gate = Gate(SPEC)
        since = max(0, gate.next_loss - 2)  # some are read twice
        read = [loss_block_from_json(PLAN, json.loads(text)) for text in stored[since : number + 1]]
        for block in read:
            gate.add_loss(block)
        found.append(gate.decide(FACTS))
    assert found == undisturbed


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), blur=st.sampled_from([0.0, 0.3, 1.5]))
def test_evidence_does_not_depend_on_how_blocks_were_summed(seed: int, blur: float) -> None:
    pairs = _pairs(3000, seed, blur)
    rng = np.random.default_rng(seed)
    whole, parts = Gate(SPEC), Gate(SPEC)
    for number in range(30):
        part = pairs.take(slice(100 * number, 100 * (number + 1)))
        of = {"seq": number, "opened": float(number), "closed": number + 1.0}
        whole.add_loss(loss_block(PLAN, part, **of))  # type: ignore[arg-type]
        source = rng.integers(0, 3, 100)  # three sources that each sum what they saw
        several = [loss_block(PLAN, part.take(source == k), **of) for k in range(3) if (source == k).any()]  # type: ignore[arg-type]
        merged = several[0]
        for one in several[1:]:
            merged = one + merged
        parts.add_loss(merged)
        first, second = whole.decide(FACTS), parts.decide(FACTS)
        assert (first.verdict, first.reason) == (second.verdict, second.reason)
        assert first.measures.rollback_evidence == pytest.approx(
            second.measures.rollback_evidence, abs=1e-12, rel=1e-12
        )
        assert first.measures.promotion_evidence == pytest.approx(
            second.measures.promotion_evidence, abs=1e-12, rel=1e-12
        )


def test_these_runs_do_reach_verdicts() -> None:
    """The properties above are of runs that end: a blurred candidate is rolled back, an identical one promoted."""
    assert _looks(Gate(SPEC), _blocks(1, 1.5))[-1].verdict is Verdict.ROLL_BACK
    assert Verdict.PROMOTE in {look.verdict for look in _looks(Gate(SPEC), _blocks(1, 0.0, 300))}
