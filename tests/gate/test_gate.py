"""The verdict, from blocks made of known losses."""

import itertools
from dataclasses import replace

import numpy as np
import pytest

from modelcanary_gate.decision import Decision, Facts, GuardStatus
from modelcanary_gate.errors import DataError
from modelcanary_gate.evidence import OUTCOME_CODES, AnsweredPairs, Coverage, loss_block, loss_blocks, traffic_block
from modelcanary_gate.gate import Gate
from modelcanary_gate.scoring import from_losses, score, score_agreement
from modelcanary_gate.spec import (
    AgreementLimits,
    Analysis,
    Guard,
    GuardType,
    LabelMode,
    Labels,
    Limit,
    LimitKind,
    Margin,
    Model,
    OnTimeout,
    PerVerdict,
    Restarts,
    Spec,
)
from modelcanary_gate.vocabulary import Outcome, Reason, Verdict

MODEL = Model(classes=("a", "b", "c"))
SPEC = Spec(model=MODEL, guards=())
ERRORS = Guard("errors", GuardType.ERROR_RATE, max=Limit(LimitKind.OVER_BASELINE, 0.005))
LATER = Facts(elapsed=3600.0, pairs=10_000, labelled=10_000, labels_per_second=10.0)


def _losses(n: int, effect: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Losses like a real classifier's: mostly small, some large; the candidate's mean is (1 + effect) times."""
    rng = np.random.default_rng(seed)
    baseline = rng.exponential(0.3, n)
    return baseline, np.abs(baseline * (1 + effect) * rng.lognormal(-0.02, 0.2, n))


def _fold(gate: Gate, baseline: np.ndarray, candidate: np.ndarray, *, block: int = 100) -> Decision:
    spec = gate._spec
    pairs = from_losses(spec, baseline, candidate)
    starts = np.arange(0, len(baseline) - block + 1, block)
    spans = [(60.0 * i, 60.0 * (i + 1)) for i in range(len(starts))]
    for each in loss_blocks(gate.plan, pairs, starts, gate.next_loss, spans):
        gate.add_loss(each)
    return gate.decide(LATER)


def _answers(gate: Gate, candidate: Outcome, share: float, *, n: int = 100, blocks: int = 1) -> None:
    for _ in range(blocks):
        outcomes = np.full(n, OUTCOME_CODES[Outcome.OK])
        outcomes[: round(n * share)] = OUTCOME_CODES[candidate]
        answers = AnsweredPairs(np.full(n, OUTCOME_CODES[Outcome.OK]), outcomes, np.full(n, 0.01), np.full(n, 0.02))
        gate.add_traffic(traffic_block(gate.plan, answers, seq=gate.next_traffic, opened=0.0, closed=1.0))


def test_a_worse_candidate_is_rolled_back() -> None:
    decision = _fold(Gate(SPEC), *_losses(6000, 0.3))
    assert (decision.verdict, decision.reason) == (Verdict.ROLL_BACK, Reason.LOSS_REGRESSION)
    assert decision.measures.delta == pytest.approx(0.09, abs=0.02)


def test_a_better_candidate_is_promoted() -> None:
    decision = _fold(Gate(SPEC), *_losses(6000, -0.2))
    assert (decision.verdict, decision.reason) == (Verdict.PROMOTE, Reason.CANDIDATE_NO_WORSE)
    measures = decision.measures
    assert measures.lower is not None and measures.upper is not None and measures.delta is not None
    assert measures.lower < measures.delta < measures.upper < 0


def test_an_identical_candidate_is_never_rolled_back() -> None:
    gate, (baseline, _) = Gate(SPEC), _losses(20_000, 0.0)
    for part in np.split(baseline, 200):
        decision = _fold(gate, part, part)
        assert decision.verdict is not Verdict.ROLL_BACK
        assert decision.measures.rollback_evidence <= 1e-12


def test_a_regression_that_starts_mid_run_is_found_with_restarts_only() -> None:
    def pairs_to_rollback(restarts: Restarts) -> int:
        gate = Gate(replace(SPEC, analysis=Analysis(restarts=restarts)))
        _fold(gate, *_losses(30_000, -0.02))
        baseline, candidate = _losses(20_000, 0.2, seed=1)
        for i in range(200):
            part = slice(100 * i, 100 * (i + 1))
            if _fold(gate, baseline[part], candidate[part]).verdict is Verdict.ROLL_BACK:
                return 100 * (i + 1)
        return 20_000

    # with a design effect that takes the shift for autocorrelation it takes 8,500
    assert pairs_to_rollback(Restarts.ENABLED) <= 4500
    assert pairs_to_rollback(Restarts.DISABLED) > pairs_to_rollback(Restarts.ENABLED) + 1000


def test_a_roll_back_is_the_verdict_whenever_one_asks_first() -> None:
    """Someone who comes back after a restart folds at once what another has looked at block by block."""
    baseline, candidate = _losses(30_000, 0.0)
    candidate[:1500] += 0.5
    candidate[1500:] = np.maximum(candidate[1500:] - 0.15, 0.0)
    patient, late = Gate(SPEC), Gate(SPEC)
    decision = _fold(patient, baseline[:1500], candidate[:1500])
    assert decision.verdict is Verdict.ROLL_BACK
    decision = _fold(late, baseline, candidate)
    assert decision.measures.rollback_evidence < decision.measures.rollback_threshold / 2
    assert (decision.verdict, decision.reason) == (Verdict.ROLL_BACK, Reason.LOSS_REGRESSION)
    assert "(which it had reached)" in decision.message


def test_a_guard_that_failed_has_failed() -> None:
    gate = Gate(replace(SPEC, guards=(ERRORS,)))
    _answers(gate, Outcome.TIMEOUT, 0.5, blocks=5)
    _answers(gate, Outcome.OK, 0.0, blocks=2000, n=1000)
    decision = gate.decide(LATER)
    (guard,) = decision.measures.guards
    assert guard.log_evidence is not None and guard.log_threshold is not None
    assert guard.log_evidence < guard.log_threshold
    assert (decision.verdict, decision.reason) == (Verdict.ROLL_BACK, Reason.ERROR_RATE)
    assert decision.message.endswith("(which it had reached)")


def test_blocks_are_folded_in_order_without_a_gap() -> None:
    gate, (baseline, candidate) = Gate(SPEC), _losses(100, 0.0)
    early = loss_block(gate.plan, from_losses(SPEC, baseline, candidate), seq=1, opened=0.0, closed=1.0)
    with pytest.raises(DataError, match="block 1 of evidence came where block 0 is due"):
        gate.add_loss(early)
    assert gate.next_loss == 0


def test_labels_that_are_taken_back_leave_a_reachable_margin() -> None:
    gate = Gate(SPEC)
    _fold(gate, *_losses(2000, 0.0))
    reachable = {gate.decide(replace(LATER, labels_per_second=rate)).measures.reachable_margin for rate in (0.0, -5.0)}
    assert len(reachable) == 1 and None not in reachable


def test_a_run_judged_as_a_whole_is_not_rolled_back_before_min_duration() -> None:
    """Blocks of a minute each: 14 are too short a run, 16 are not."""

    def verdict(restarts: Restarts, minutes: int, *, timed: bool = True) -> Verdict:
        spec = replace(SPEC, analysis=Analysis(restarts=restarts, min_duration=900.0))
        return _fold(Gate(spec, timed=timed), *_losses(1000 * minutes, 0.3), block=1000).verdict

    assert verdict(Restarts.DISABLED, 14) is Verdict.CONTINUE
    assert verdict(Restarts.DISABLED, 16) is Verdict.ROLL_BACK
    assert verdict(Restarts.ENABLED, 14) is Verdict.ROLL_BACK
    assert verdict(Restarts.DISABLED, 14, timed=False) is Verdict.ROLL_BACK


def test_the_verdict_is_the_same_however_often_a_block_is_read() -> None:
    once, often = Gate(SPEC), Gate(SPEC)
    pairs = from_losses(SPEC, *_losses(3000, 0.1))
    blocks = loss_blocks(once.plan, pairs, np.arange(0, 3000, 100), 0, [(0.0, 1.0)] * 30)
    for block in blocks:
        once.add_loss(block)
    for block in itertools.chain(blocks[:10], blocks[:20], blocks):
        often.add_loss(block)
    assert often.decide(LATER) == once.decide(LATER)


@pytest.mark.parametrize(
    ("facts", "reason"),
    [
        (Facts(), Reason.WAITING_FOR_PAIRS),
        (Facts(pairs=5), Reason.WAITING_FOR_LABELS),
        (Facts(pairs=5, labelled=5), Reason.WAITING_FOR_MATURITY),
        (Facts(pairs=500, elapsed=80 * 3600.0), Reason.HELD),
    ],
)
def test_says_what_it_waits_for(facts: Facts, reason: Reason) -> None:
    decision = Gate(SPEC).decide(facts)
    assert (decision.verdict, decision.reason) == (Verdict.CONTINUE, reason)
    assert decision.message


def test_without_a_clock_nothing_matures() -> None:
    assert Gate(SPEC, timed=False).decide(Facts(pairs=500, labelled=5)).reason is Reason.TOO_FEW_SAMPLES


def test_too_few_samples_decide_nothing() -> None:
    baseline, _ = _losses(200, 0.0)
    assert _fold(Gate(SPEC), baseline, baseline + 3.0).verdict is Verdict.CONTINUE
    few = replace(SPEC, analysis=Analysis(min_samples=PerVerdict(200, 1000)))
    baseline, _ = _losses(300, 0.0)
    assert _fold(Gate(few), baseline, baseline + 3.0).verdict is Verdict.ROLL_BACK
    good = _fold(Gate(SPEC), *_losses(900, -0.9))
    assert (good.verdict, good.reason) == (Verdict.CONTINUE, Reason.TOO_FEW_SAMPLES)


def test_a_verdict_takes_as_many_blocks_in_a_row_as_asked() -> None:
    gate = Gate(SPEC)
    baseline, candidate = _losses(3000, -0.4)
    parts = [slice(100 * i, 100 * (i + 1)) for i in range(30)]
    reasons = [_fold(gate, baseline[part], candidate[part]).reason for part in parts]
    first = reasons.index(Reason.NOT_YET_CONSISTENT)
    assert reasons[first + 1] is Reason.CANDIDATE_NO_WORSE


def test_a_promotion_waits_for_min_duration_and_a_roll_back_does_not() -> None:
    early = Facts(elapsed=60.0, pairs=6000, labelled=6000)
    good, bad = Gate(SPEC), Gate(SPEC)
    _fold(good, *_losses(6000, -0.2))
    _fold(bad, *_losses(6000, 0.3))
    assert good.decide(early).reason is Reason.TOO_EARLY
    assert bad.decide(early).verdict is Verdict.ROLL_BACK
    untimed = Gate(SPEC, timed=False)
    _fold(untimed, *_losses(6000, -0.2))
    assert untimed.decide(early).verdict is Verdict.PROMOTE


def test_a_time_out_holds_or_rolls_back_as_the_user_says_and_never_promotes() -> None:
    late = Facts(elapsed=73 * 3600.0, pairs=500, labelled=500)
    assert Gate(SPEC).decide(late).reason is Reason.HELD
    strict = Gate(replace(SPEC, analysis=Analysis(on_timeout=OnTimeout.ROLLBACK)))
    assert (strict.decide(late).verdict, strict.decide(late).reason) == (
        Verdict.ROLL_BACK,
        Reason.ANALYSIS_TIMED_OUT,
    )
    assert Gate(SPEC, timed=False).decide(late).reason is not Reason.HELD


def test_each_retry_halves_the_promotions_error_budget() -> None:
    thresholds = [Gate(replace(SPEC, analysis=Analysis(attempt=attempt))).decide(LATER).measures for attempt in (0, 1)]
    assert thresholds[1].promotion_threshold - thresholds[0].promotion_threshold == pytest.approx(np.log(2))
    assert thresholds[1].rollback_threshold == thresholds[0].rollback_threshold


def test_guards_that_can_roll_back_share_half_of_the_error_budget() -> None:
    guards = (
        Guard("errors", GuardType.ERROR_RATE, max=Limit(LimitKind.OVER_BASELINE, 0.005)),
        Guard("classes", GuardType.PER_CLASS),
        Guard("p99", GuardType.LATENCY, max=Limit(LimitKind.TIMES_BASELINE, 1.2)),
    )
    gate = Gate(replace(SPEC, guards=guards))
    alphas = [
        np.exp(-trigger.threshold)
        for stream in (gate._loss, gate._traffic)
        for contrast, trigger in zip(stream.contrasts, stream.triggers, strict=True)
        if contrast.name != "loss.promote"
    ]
    assert sum(alphas) == pytest.approx(0.001)
    assert alphas[0] == pytest.approx(0.0005)


@pytest.mark.parametrize(
    ("outcome", "reason"),
    [(Outcome.ERROR_STATUS, Reason.ERROR_RATE), (Outcome.NON_FINITE, Reason.NON_FINITE)],
)
def test_bad_answers_roll_back_without_any_label(outcome: Outcome, reason: Reason) -> None:
    gate = Gate(Spec(model=MODEL))
    _answers(gate, outcome, 0.2, blocks=5)
    decision = gate.decide(Facts(pairs=500))
    assert (decision.verdict, decision.reason) == (Verdict.ROLL_BACK, reason)
    assert decision.measures.guards[0 if reason is Reason.ERROR_RATE else 1].status is GuardStatus.FAILED


def test_good_answers_do_not_roll_back() -> None:
    gate = Gate(Spec(model=MODEL))
    _answers(gate, Outcome.ERROR_STATUS, 0.0, blocks=50)
    assert gate.decide(Facts(pairs=5000)).verdict is Verdict.CONTINUE
    assert [guard.status for guard in gate.decide(Facts(pairs=5000)).measures.guards] == [GuardStatus.OK] * 2


def test_a_slow_candidate_is_not_promoted_and_not_rolled_back() -> None:
    spec = replace(
        SPEC, guards=(Guard("p50", GuardType.LATENCY, quantile=0.5, max=Limit(LimitKind.TIMES_BASELINE, 1.2)),)
    )
    gate = Gate(spec)
    _answers(gate, Outcome.OK, 0.0, blocks=4)
    decision = _fold(gate, *_losses(6000, -0.2))
    assert (decision.verdict, decision.reason) == (Verdict.CONTINUE, Reason.GUARD_VETO)
    assert "p50" in decision.message and "x1.2" in decision.message


def _with_class_c_worse(n: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Better on the whole, much worse where the rare class 2 is the label."""
    rng = np.random.default_rng(1)
    labels = rng.choice(3, n, p=[0.5, 0.4, 0.1])
    log_p = []
    for strength in (np.array([2.0, 2.0, 2.0]), np.array([3.0, 3.0, 0.5])):
        logits = rng.normal(0.0, 1.0, (n, 3)) + strength[labels][:, None] * np.eye(3)[labels]
        log_p.append(logits - np.log(np.exp(logits).sum(axis=1, keepdims=True)))
    return log_p[0], log_p[1], labels


def test_one_class_that_gets_worse_rolls_back_and_is_named() -> None:
    spec = replace(SPEC, guards=(Guard("classes", GuardType.PER_CLASS, margin=Margin(0.1)),))
    gate = Gate(spec)
    pairs = score(spec, *_with_class_c_worse(6000))
    for block in loss_blocks(gate.plan, pairs, np.arange(0, 6000, 100), 0, [(0.0, 1.0)] * 60):
        gate.add_loss(block)
    decision = gate.decide(LATER)
    assert (decision.verdict, decision.reason) == (Verdict.ROLL_BACK, Reason.CLASS_REGRESSION)
    assert decision.measures.guards[0].detail == "c"
    assert decision.measures.delta is not None and decision.measures.delta < 0


def test_confident_errors_are_shown_of_both_models() -> None:
    guard = Guard("sure", GuardType.CONFIDENT_ERRORS, max=Limit(LimitKind.OVER_BASELINE, 0.01), threshold=0.9)
    gate = Gate(replace(SPEC, guards=(replace(guard, name="wrong", threshold=0.5), guard)))
    sure, unsure = np.log([0.96, 0.02, 0.02]), np.log([0.6, 0.3, 0.1])
    labels = np.tile([0, 0, 0, 1], 500)  # the first class is always predicted: one in four is wrong
    baseline = np.tile([unsure, unsure, unsure, unsure, unsure, unsure, unsure, sure], (250, 1))
    pairs = score(gate._spec, baseline, np.tile(sure, (2000, 1)), labels)
    for block in loss_blocks(gate.plan, pairs, np.arange(0, 2000, 100), 0, [(0.0, 1.0)] * 20):
        gate.add_loss(block)
    decision = gate.decide(LATER)
    wrong, sure_of_it = decision.measures.guards
    assert (wrong.baseline, wrong.candidate, wrong.status) == (0.25, 0.25, GuardStatus.OK)
    assert (sure_of_it.baseline, sure_of_it.candidate, sure_of_it.status) == (0.125, 0.25, GuardStatus.FAILED)
    assert "guard 'sure': candidate 0.25, baseline 0.125, limit max +0.01" in decision.message


@pytest.mark.parametrize("outcome", sorted(set(Outcome) - {Outcome.OK, Outcome.NON_FINITE}))
def test_answers_that_leave_pairs_without_a_loss_are_errors(outcome: Outcome) -> None:
    """A candidate that is better where it answers, and gives no usable answer to a third of the requests."""
    gate = Gate(replace(SPEC, guards=(ERRORS,)))
    _answers(gate, outcome, 1 / 3, blocks=20)
    decision = _fold(gate, *_losses(6000, -0.2))
    assert (decision.verdict, decision.reason) == (Verdict.ROLL_BACK, Reason.ERROR_RATE)


def test_an_error_rate_says_what_most_answers_were() -> None:
    gate = Gate(replace(SPEC, guards=(ERRORS,)))
    _answers(gate, Outcome.LABELS_ONLY, 1.0, blocks=5)
    assert "; 500 of 500 answers of the candidate could not be scored: labelsOnly; " in gate.decide(LATER).message


def test_labels_that_are_missing_for_one_class_hold_a_promotion() -> None:
    gate = Gate(SPEC)
    baseline, candidate = _losses(6000, -0.3)
    pairs = from_losses(SPEC, baseline, candidate)
    predicted = np.repeat([0, 1, 2], 700)
    missing = (predicted == 2) & (np.arange(2100) % 2 == 0)
    coverage = Coverage.of(gate.plan, predicted, predicted, missing)
    gate.add_loss(loss_block(gate.plan, pairs.take(slice(0, 3000)), seq=0, opened=0, closed=1, coverage=coverage))
    gate.add_loss(loss_block(gate.plan, pairs.take(slice(3000, 6000)), seq=1, opened=1, closed=2))
    decision = gate.decide(LATER)
    assert decision.reason is Reason.LABELS_BIASED
    assert "'c'" in decision.message


def _half_labelled(effect: float, *, guards: tuple[Guard, ...] = ()) -> Gate:
    """4,000 pairs of a worse or better candidate; half of the labels are missing where class c is predicted."""
    gate = Gate(replace(SPEC, guards=guards))
    baseline, candidate = _losses(4000, effect)
    pairs = from_losses(SPEC, baseline, candidate)
    predicted = np.repeat([0, 1, 2], 700)
    missing = (predicted == 2) & (np.arange(2100) % 2 == 0)
    coverage = Coverage.of(gate.plan, predicted, predicted, missing.astype(float))
    starts = np.arange(0, 4000, 1000)
    for block in loss_blocks(gate.plan, pairs, starts, 0, [(0.0, 1.0)] * 4, coverage):
        gate.add_loss(block)
    return gate


def test_biased_labels_hold_a_roll_back_while_users_are_safe() -> None:
    gate = _half_labelled(0.5)
    decision = gate.decide(LATER)
    assert (decision.verdict, decision.reason) == (Verdict.CONTINUE, Reason.LABELS_BIASED)
    assert "roll-back evidence" in decision.message
    assert "held: labels are missing at another rate where 'c' is predicted" in decision.message
    assert decision.measures.biased == "c"
    # Who shows users the candidate's answers waits for nothing.
    exposed = gate.decide(replace(LATER, exposed=True))
    assert (exposed.verdict, exposed.reason) == (Verdict.ROLL_BACK, Reason.LOSS_REGRESSION)


def test_a_held_roll_back_is_made_once_the_labels_are_in() -> None:
    gate = _half_labelled(0.5)
    pairs = from_losses(SPEC, *_losses(3000, 0.5))
    predicted = np.tile([0, 1, 2], 4000)
    coverage = Coverage.of(gate.plan, predicted, predicted, np.zeros(12000))
    blocks = loss_blocks(gate.plan, pairs, np.arange(0, 3000, 1000), gate.next_loss, [(1.0, 2.0)] * 3, coverage)
    gate.add_loss(blocks[0])
    assert gate.decide(LATER).verdict is Verdict.CONTINUE  # blocks in a row count from here on
    gate.add_loss(blocks[1])
    decision = gate.decide(LATER)
    assert (decision.verdict, decision.reason) == (Verdict.ROLL_BACK, Reason.LOSS_REGRESSION)
    assert decision.measures.biased == ""


def test_labels_that_contradict_each_other_hold_a_promotion_and_no_roll_back() -> None:
    gate = _gate_after(np.full(100, -0.3))
    allowed = replace(LATER, labels=1000, conflicts=50)
    assert gate.decide(allowed).verdict is Verdict.PROMOTE
    held = gate.decide(replace(allowed, conflicts=51))
    assert (held.verdict, held.reason) == (Verdict.CONTINUE, Reason.LABELS_CONFLICTING)
    assert held.message == (
        "other labels contradict 51 of the 1000 that count as the first; labels.maxConflictShare is 5%"
    )
    assert _gate_after(np.full(100, 0.5)).decide(replace(allowed, conflicts=900)).verdict is Verdict.ROLL_BACK


def _gate_after(effects: np.ndarray) -> Gate:
    """After blocks of 100 pairs whose candidate's loss is (1 + effect) times the baseline's."""
    gate = Gate(replace(SPEC, guards=()))
    baseline, candidate = _losses(100 * len(effects), float(effects[0]))
    pairs = from_losses(SPEC, baseline, candidate)
    for block in loss_blocks(gate.plan, pairs, np.arange(0, len(pairs), 100), 0, [(0.0, 1.0)] * len(effects)):
        gate.add_loss(block)
    return gate


def test_weights_judge_the_population_that_the_labels_are_a_part_of() -> None:
    """Of the half whose candidate is worse, half of the labels are in: as they come, both halves cancel out."""
    rng = np.random.default_rng(3)
    worse = rng.random(12000) < 0.5
    baseline = rng.gamma(2.0, 0.2, 12000)
    candidate = baseline * np.where(worse, 1.2, 0.9) + 0.02 * rng.standard_normal(12000)
    came = ~worse | (rng.random(12000) < 0.5)
    losses = baseline[came], np.maximum(candidate[came], 0.0)
    decisions = []
    for weight in (np.ones(int(came.sum())), np.where(worse[came], 1.0, 0.5)):
        gate = Gate(replace(SPEC, guards=()))
        pairs = from_losses(SPEC, *losses, weight)
        starts = np.arange(0, len(pairs), 100)
        for block in loss_blocks(gate.plan, pairs, starts, 0, [(0.0, 1.0)] * len(starts)):
            gate.add_loss(block)
        decisions.append(gate.decide(LATER))
    plain, weighed = (decision.measures for decision in decisions)
    assert plain.delta == pytest.approx(0.0, abs=0.003)
    assert weighed.delta == pytest.approx(0.02, abs=0.003)
    assert weighed.baseline_loss == pytest.approx(0.4, abs=0.01)
    assert weighed.lower is not None
    assert weighed.upper is not None
    assert 0 < weighed.lower < 0.02 < weighed.upper < 0.04
    assert decisions[0].verdict is not Verdict.ROLL_BACK
    assert decisions[1].verdict is Verdict.ROLL_BACK


def _reason_after(effects: np.ndarray) -> Reason:
    """The reason after blocks of 100 pairs whose candidate's loss is (1 + effect) times the baseline's."""
    gate = Gate(SPEC, timed=False)
    for i, effect in enumerate(effects):
        decision = _fold(gate, *_losses(100, effect, seed=i))
    return decision.reason


def test_a_promotion_waits_when_the_latest_blocks_are_worse() -> None:
    assert _reason_after(np.repeat([-0.5, 0.1], [30, 20])) is Reason.RECENT_REGRESSION
    assert _reason_after(np.repeat([-0.5, 0.0], [30, 20])) is not Reason.RECENT_REGRESSION


def test_a_promotion_waits_when_the_advantage_is_going() -> None:
    assert _reason_after(np.linspace(-0.6, -0.1, 50)) is Reason.TREND_WORSENING
    # going as clearly, but not to where it would be worse than the margin
    assert _reason_after(np.linspace(-0.6, -0.4, 50)) is Reason.CANDIDATE_NO_WORSE


def test_evidence_for_a_roll_back_takes_that_for_a_promotion_away() -> None:
    gate = Gate(SPEC)
    _fold(gate, *_losses(6000, -0.3))
    assert gate._loss.triggers[1].on
    for i in range(100):
        _fold(gate, *_losses(100, 0.3, seed=i))
        if gate._loss.log_evidence[0] > np.log(10.0):
            break
    assert gate._loss.log_evidence[1] > gate._loss.triggers[1].threshold
    assert not gate._loss.triggers[1].on


def _agreement(promote_below: float | None, noise: float) -> Decision:
    labels = Labels(mode=LabelMode.AGREEMENT, agreement=AgreementLimits(0.5, promote_below))
    spec = Spec(model=MODEL, labels=labels, guards=())
    rng = np.random.default_rng(7)
    logits = rng.normal(0.0, 2.0, (8000, 3))
    log_p = []
    for extra in (0.0, noise):
        z = logits + rng.normal(0.0, 1.0, (8000, 3)) * extra
        log_p.append(z - np.log(np.exp(z).sum(axis=1, keepdims=True)))
    gate = Gate(spec)
    pairs = score_agreement(spec, log_p[0], log_p[1])
    for block in loss_blocks(gate.plan, pairs, np.arange(0, 8000, 100), 0, [(0.0, 1.0)] * 80):
        gate.add_loss(block)
    return gate.decide(Facts(elapsed=3600.0, pairs=8000))


def test_agreement_promotes_only_when_allowed() -> None:
    assert _agreement(0.02, 0.02).verdict is Verdict.PROMOTE
    held = _agreement(None, 0.02)
    assert (held.verdict, held.reason) == (Verdict.CONTINUE, Reason.PROMOTION_NOT_ALLOWED)


def test_disagreement_rolls_back() -> None:
    decision = _agreement(0.02, 4.0)
    assert (decision.verdict, decision.reason) == (Verdict.ROLL_BACK, Reason.AGREEMENT_TOO_LOW)


def test_an_absolute_margin_promotes_where_the_baseline_is_nearly_perfect() -> None:
    rng = np.random.default_rng(9)
    baseline = rng.exponential(0.002, 25_000)
    candidate = rng.exponential(0.002, 25_000)
    assert _fold(Gate(SPEC), baseline, candidate).verdict is Verdict.CONTINUE
    absolute = replace(SPEC, analysis=Analysis(margin=Margin(0.0, 0.005), rollback_margin=Margin(0.0, 0.0)))
    assert _fold(Gate(absolute), baseline, candidate).verdict is Verdict.PROMOTE


def test_says_how_far_it_is() -> None:
    decision = _fold(Gate(SPEC), *_losses(1500, -0.03))
    measures = decision.measures
    assert decision.reason is Reason.EVIDENCE_BELOW_THRESHOLD
    assert measures.pairs_to_promotion is not None and measures.pairs_to_promotion > 0
    assert measures.seconds_to_verdict == pytest.approx(measures.pairs_to_promotion / 10.0)
    assert measures.reachable_margin is not None
    assert "promotion evidence" in decision.message and "of 200" in decision.message
    # the estimate is honest: twice as many pairs than it says are enough
    more = _fold(Gate(SPEC), *_losses(1500 + 2 * int(measures.pairs_to_promotion), -0.03))
    assert more.verdict is Verdict.PROMOTE
