import json

import numpy as np
import pytest

from modelcanary_gate import blocks_json
from modelcanary_gate.contrasts import EvidencePlan
from modelcanary_gate.errors import DataError
from modelcanary_gate.evidence import (
    OUTCOME_CODES,
    AnsweredPairs,
    BlockRule,
    Coverage,
    LossBlock,
    loss_block,
    loss_blocks,
    traffic_block,
)
from modelcanary_gate.scoring import LabelledPairs, score
from modelcanary_gate.spec import Guard, GuardType, Limit, LimitKind, Model, Spec
from modelcanary_gate.vocabulary import Outcome

GUARDS = (
    Guard("errors", GuardType.ERROR_RATE, max=Limit(LimitKind.OVER_BASELINE, 0.005)),
    Guard("invalid", GuardType.NON_FINITE, max=Limit(LimitKind.ABSOLUTE, 0.0)),
    Guard("overconfident", GuardType.CONFIDENT_ERRORS, max=Limit(LimitKind.OVER_BASELINE, 0.01)),
    Guard("classes", GuardType.PER_CLASS),
)
SPEC = Spec(model=Model(classes=("a", "b", "c")), guards=GUARDS)
PLAN = EvidencePlan.of(SPEC)


def _pairs(n: int, seed: int = 0) -> LabelledPairs:
    rng = np.random.default_rng(seed)
    log_p = [np.log(rng.dirichlet([0.3, 0.3, 0.3], n)) for _ in range(2)]
    return score(SPEC, log_p[0], log_p[1], rng.integers(0, 3, n))


def _answers(n: int, seed: int = 0) -> AnsweredPairs:
    rng = np.random.default_rng(seed)
    codes = np.array([OUTCOME_CODES[o] for o in (Outcome.OK, Outcome.OK, Outcome.TIMEOUT, Outcome.NON_FINITE)])
    return AnsweredPairs(rng.choice(codes, n), rng.choice(codes, n), rng.lognormal(-5, 1, n), rng.lognormal(-5, 1, n))


def _block(pairs: LabelledPairs, seq: int = 0) -> LossBlock:
    return loss_block(PLAN, pairs, seq=seq, opened=1.0, closed=2.0)


def test_sums_are_sums_over_the_pairs() -> None:
    pairs = _pairs(150)
    block = _block(pairs)
    b, c = pairs.baseline_loss, pairs.candidate_loss
    assert block.n == 150
    assert block.moments == pytest.approx([b.sum(), c.sum(), (b * b).sum(), (c * c).sum(), (b * c).sum()])
    x = c - b
    assert block.contrasts.x[0] == pytest.approx(x.sum())
    assert block.contrasts.log[0] == pytest.approx([np.log1p(bet * x).sum() for bet in PLAN.loss[0].grid()])
    assert block.classes[0].tolist() == [(pairs.label == k).sum() for k in range(3)]
    assert block.classes[2] == pytest.approx([c[pairs.label == k].sum() for k in range(3)])


def test_a_class_contrast_sees_its_class_only() -> None:
    pairs = _pairs(150)
    index = next(i for i, contrast in enumerate(PLAN.loss) if contrast.name == "class.1.classes")
    of_b = pairs.label == 1
    x = (pairs.candidate_loss - 1.1 * pairs.baseline_loss)[of_b]
    assert _block(pairs).contrasts.x[index] == pytest.approx(x.sum())


def test_confident_errors_are_wrong_and_sure() -> None:
    index = next(i for i, contrast in enumerate(PLAN.loss) if contrast.name == "confidentErrors.overconfident")
    sure = np.log(np.array([[0.95, 0.03, 0.02], [0.95, 0.03, 0.02], [0.6, 0.3, 0.1], [0.95, 0.03, 0.02]]))
    unsure = np.log(np.full((4, 3), 1 / 3))
    pairs = score(SPEC, unsure, sure, np.array([0, 1, 1, 2]))
    assert _block(pairs).contrasts.x[index] == pytest.approx(2 - 4 * 0.01)


def test_blocks_at_once_are_the_blocks_one_by_one() -> None:
    pairs = _pairs(350)
    starts = np.array([0, 100, 220])
    together = loss_blocks(PLAN, pairs, starts, 7, [(0.0, 1.0)] * 3)
    for block, start, end in zip(together, starts, [100, 220, 350], strict=True):
        alone = _block(pairs.take(slice(int(start), end)))
        assert block.n == end - start
        assert block.contrasts.log == pytest.approx(alone.contrasts.log, abs=1e-9)
        assert block.moments == pytest.approx(alone.moments, abs=1e-9)
    assert [block.seq for block in together] == [7, 8, 9]


def test_parts_add_up_to_the_whole() -> None:
    pairs, answers = _pairs(200), _answers(200)
    whole = _block(pairs)
    parts = _block(pairs.take(slice(0, 77))) + _block(pairs.take(slice(77, 200)))
    assert parts.contrasts.log == pytest.approx(whole.contrasts.log, abs=1e-12 * 200)
    assert parts.n == whole.n
    assert parts.reliability[1].error() == pytest.approx(whole.reliability[1].error())
    traffic = traffic_block(PLAN, answers, seq=0, opened=0.0, closed=1.0)
    halves = [
        traffic_block(PLAN, answers.take(part), seq=0, opened=0.0, closed=1.0)
        for part in (slice(0, 90), slice(90, 200))
    ]
    assert (halves[0] + halves[1]).outcomes.tolist() == traffic.outcomes.tolist()
    assert (halves[0] + halves[1]).latency == traffic.latency


def test_traffic_counts_outcomes_and_times_good_answers_only() -> None:
    answers = _answers(300)
    block = traffic_block(PLAN, answers, seq=0, opened=0.0, closed=1.0)
    timeouts = answers.candidate_outcome == OUTCOME_CODES[Outcome.TIMEOUT]
    baseline_timeouts = answers.baseline_outcome == OUTCOME_CODES[Outcome.TIMEOUT]
    invalid = answers.candidate_outcome == OUTCOME_CODES[Outcome.NON_FINITE]
    assert block.contrasts.x[0] == pytest.approx(timeouts.sum() - baseline_timeouts.sum() - 300 * 0.005)
    assert block.contrasts.x[1] == invalid.sum()
    assert block.latency[1].n == (answers.candidate_outcome == OUTCOME_CODES[Outcome.OK]).sum()


def test_json_round_trips_are_exact() -> None:
    pairs = _pairs(120)
    missing = np.arange(120) % 5 == 0
    coverage = Coverage.of(PLAN, pairs.baseline_predicted, pairs.candidate_predicted, missing)
    block = loss_block(PLAN, pairs, seq=3, opened=1.25, closed=2.5, coverage=coverage)
    data = blocks_json.loss_block_to_json(PLAN, block)
    again = blocks_json.loss_block_from_json(PLAN, json.loads(json.dumps(data)))
    assert blocks_json.loss_block_to_json(PLAN, again) == data
    assert again.contrasts.log.tolist() == block.contrasts.log.tolist()
    assert again.coverage.baseline.tolist() == coverage.baseline.tolist()
    traffic = traffic_block(PLAN, _answers(50), seq=1, opened=0.0, closed=1.0)
    data = blocks_json.traffic_block_to_json(PLAN, traffic)
    again_traffic = blocks_json.traffic_block_from_json(PLAN, json.loads(json.dumps(data)))
    assert blocks_json.traffic_block_to_json(PLAN, again_traffic) == data
    assert again_traffic.latency == traffic.latency


def test_a_block_of_another_specification_is_refused() -> None:
    data = blocks_json.loss_block_to_json(PLAN, _block(_pairs(10)))
    other = EvidencePlan.of(Spec(model=SPEC.model, guards=(Guard("per-class", GuardType.PER_CLASS),)))
    with pytest.raises(DataError, match=r"class.0.per-class.*another specification"):
        blocks_json.loss_block_from_json(other, data)
    del data["moments"]
    with pytest.raises(DataError, match="moments"):
        blocks_json.loss_block_from_json(PLAN, data)


def test_coverage_counts_what_is_missing_by_predicted_class() -> None:
    predicted = np.array([0, 0, 1, 2, 2, 2])
    missing = np.array([True, False, False, True, True, False])
    coverage = Coverage.of(PLAN, predicted, predicted[::-1], missing)
    assert coverage.baseline.tolist() == [[2, 1, 3], [1, 0, 2]]
    assert coverage.candidate.tolist() == [[2, 1, 3], [1, 1, 1]]


def test_blocks_are_cut_by_count_and_by_time() -> None:
    rule = BlockRule()
    assert not rule.due(99, 100.0, 0.0)
    assert not rule.due(100, 4.9, 0.0)
    assert rule.due(100, 5.0, 0.0)
    assert not rule.due(100, 5.0, 2000.0)
    assert rule.due(100, 10.0, 2000.0)
