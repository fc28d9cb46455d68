"""Evidence folded look by look; warnings that say what to repair."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from modelcanary_cli.ledger_client import Counts, Evidence
from modelcanary_cli.watch import Watch, finished
from modelcanary_gate.blocks_json import loss_block_to_json
from modelcanary_gate.contrasts import EvidencePlan
from modelcanary_gate.evidence import loss_block
from modelcanary_gate.parse import parse_spec
from modelcanary_gate.scoring import from_losses
from modelcanary_gate.vocabulary import Outcome, Reason, Role, Verdict

SPEC = parse_spec(
    {
        "model": {"classes": ["no", "yes"]},
        "analysis": {"minDuration": "0s", "maxDuration": "1h"},
        "guards": [],
    },
    require_target=False,
)
PLAN = EvidencePlan.of(SPEC)
START = 1000.0


def blocks(worse: float, count: int, first: int = 0) -> list[dict[str, Any]]:
    rng = np.random.default_rng(3)
    made = []
    for seq in range(first, first + count):
        baseline = rng.exponential(0.3, 200)
        losses = from_losses(SPEC, baseline, baseline * (1 + worse) + 0.05 * rng.random(200) * np.sign(worse))
        pairs = replace(losses, label=np.zeros(200, dtype=np.int64))
        block = loss_block(PLAN, pairs, seq=seq, opened=START + 10.0 * seq, closed=START + 10.0 * seq + 10)
        made.append(loss_block_to_json(PLAN, block))
    return made


def evidence(loss: list[dict[str, Any]], *, now: float = START + 60, **counts: Any) -> Evidence:
    return Evidence(startedAt=START, now=now, next="", specDigest=PLAN.digest, counts=Counts(**counts), loss=loss)


def test_a_worse_candidate_is_rolled_back_and_every_change_is_an_event() -> None:
    watch = Watch(SPEC)
    watch.take(evidence([], pairs=10))
    assert watch.decide().reason is Reason.WAITING_FOR_LABELS
    watch.take(evidence(blocks(0.5, 10), pairs=2000, labelled=2000))
    decision = watch.decide()
    assert (decision.verdict, decision.reason) == (Verdict.ROLL_BACK, Reason.LOSS_REGRESSION)
    assert finished(decision)
    record = watch.recorder.record(decision, run="r", command="run", pairs=2000, labelled=2000, version="0")
    assert [event.kind for event in record.events] == ["WaitingForLabels", "LossRegression"]


def test_why_answers_cannot_be_scored_is_said_before_a_block_is_full() -> None:
    watch = Watch(SPEC)
    watch.take(evidence([], pairs=30, outcomes={"baseline": {"ok": 30}, "candidate": {"classCount": 30}}))
    decision = watch.decide()
    assert decision.reason is Reason.WAITING_FOR_LABELS
    assert "30 of 30 answers of the candidate could not be scored: classCount" in decision.message


def test_blocks_that_come_again_count_once() -> None:
    once, twice = Watch(SPEC), Watch(SPEC)
    made = blocks(0.02, 4)
    once.take(evidence(made, pairs=800, labelled=800))
    twice.take(evidence(made[:2], pairs=400, labelled=400))
    assert twice.cursor == "2.0"
    twice.take(evidence(made, pairs=800, labelled=800))
    assert twice.cursor == once.cursor == "4.0"
    ends = [watch.decide() for watch in (once, twice)]
    assert ends[0].measures == ends[1].measures
    rows = [
        watch.recorder.record(end, run="r", command="run", pairs=800, labelled=800, version="0").classes
        for watch, end in zip((once, twice), ends, strict=True)
    ]
    assert rows[0] == rows[1]
    assert rows[0][0].labelled == 800


def test_labelled_pairs_in_no_block_yet_wait_for_their_maturity() -> None:
    watch = Watch(SPEC)
    watch.take(evidence([], pairs=50, labelled=30, unlabelled=20))
    assert watch.decide().reason is Reason.WAITING_FOR_MATURITY


def test_a_run_that_is_held_is_finished() -> None:
    watch = Watch(SPEC)
    watch.take(evidence(blocks(0.0, 1), now=START + 3601, pairs=200, labelled=200))
    decision = watch.decide()
    assert (decision.reason, finished(decision)) == (Reason.HELD, True)


def test_the_rate_is_of_the_last_minute() -> None:
    watch = Watch(SPEC)
    for second in range(0, 200, 10):
        labelled = second * 2 if second < 100 else 200 + (second - 100) * 5
        watch.take(evidence([], now=START + second, labelled=labelled))
    assert watch.labels_per_second() == pytest.approx(5.0)
    watch.take(evidence([], now=START + 200, labelled=10))  # the others turned out to be late
    assert watch.labels_per_second() == 0.0


@pytest.mark.parametrize("outcome", [outcome for outcome in Outcome if outcome is not Outcome.OK])
def test_a_role_that_was_never_scored_is_told_once_with_its_remedy(outcome: Outcome) -> None:
    watch = Watch(SPEC)
    counts = {"pairs": 40, "outcomes": {Role.CANDIDATE: {outcome: 40}, Role.BASELINE: {Outcome.OK: 40}}}
    watch.take(evidence([], **counts))
    (warning,) = watch.warnings(0)
    assert warning.startswith(f"no answer of the candidate could be scored: 40 of 40 are {outcome}; ")
    assert watch.warnings(0) == []


def test_few_failures_and_some_failures_are_no_warning() -> None:
    watch = Watch(SPEC)
    watch.take(evidence([], pairs=5, outcomes={Role.CANDIDATE: {Outcome.TIMEOUT: 5}}))
    assert watch.warnings(0) == []
    watch.take(evidence([], pairs=100, outcomes={Role.CANDIDATE: {Outcome.TIMEOUT: 99, Outcome.OK: 1}}))
    assert watch.warnings(0) == []


def test_labels_that_match_no_pair_are_told() -> None:
    watch = Watch(SPEC)
    watch.take(evidence([], pairs=50, unmatched=30))
    assert watch.warnings(0) == [], "they may be faster than their pairs"
    assert watch.warnings(0) == []
    (warning,) = watch.warnings(0)
    assert "30 labels came and none matches a pair" in warning


def test_users_whose_requests_are_not_mirrored_are_told_what_is() -> None:
    watch = Watch(SPEC)
    watch.take(evidence([]))
    assert watch.warnings(None) == []
    assert watch.warnings(199) == []
    (warning,) = watch.warnings(200)
    assert "only POST requests on spec.model.paths are (every path)" in warning
    mirrored = Watch(SPEC)
    mirrored.take(evidence([], pairs=1))
    assert mirrored.warnings(200) == []
