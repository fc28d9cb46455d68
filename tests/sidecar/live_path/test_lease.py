"""What holds when: a share until it is changed, a weight for as long as its lease. The ledger's answers come in any
order, and now and then not at all; when each was heard is told with it."""

import time
from dataclasses import replace

import pytest
from tests.sidecar.live_path.processes import until
from tests.sidecar.live_path.two_models import BASELINE, CANDIDATE, Stage, playing, post

from modelcanary_gate.protocol import Instructions

CAND, BASE = b'{"from":"cand"}', b'{"from":"base"}'


@pytest.fixture
def run(stage: Stage) -> Instructions:
    return instructions(stage)


def instructions(stage: Stage) -> Instructions:
    """Not told yet: all users, for 15 s."""
    stage.baseline.always, stage.candidate.always = BASELINE, CANDIDATE
    return stage.instructions(version=3, weight=1.0, lease=15.0, grace=60.0)


def answer(stage: Stage) -> bytes:
    return stage.asks(post()).gets().rpartition(b"\r\n\r\n")[2]


def test_a_weight_holds_for_its_lease_from_when_the_ledger_said_so() -> None:
    with playing() as stage:
        stage.begin()
        run = instructions(stage)
        stage.tell(run, heard=time.monotonic() - 15.0)
        assert answer(stage) == BASE
        assert stage.captured().candidate is None  # a share is no risk to users
        assert stage.candidate.connections == 0
        stage.swept()
        assert stage.process.metric("weight") == 0.0
        assert stage.process.metric("share") == 1.0
        stage.counts("canary", {})
        stage.tell(run, heard=time.monotonic() - 8.0)
        assert answer(stage) == CAND
        until(lambda: stage.process.metric("weight") == 1.0)
        stage.end()


def test_a_weight_ends_by_itself_and_the_same_instructions_renew_it(stage: Stage, run: Instructions) -> None:
    run = replace(run, lease=2.0)
    stage.tell(run)
    until(lambda: stage.process.metric("weight") == 1.0)
    until(lambda: stage.process.metric("weight") == 0.0)
    assert answer(stage) == BASE
    stage.tell(run)
    assert answer(stage) == CAND


def test_instructions_that_are_heard_again_are_no_change(stage: Stage, run: Instructions) -> None:
    for _ in range(3):
        stage.tell(run)
        assert answer(stage) == CAND
    assert stage.candidate.connections == 1


def test_connections_to_the_candidate_outlive_what_does_not_concern_them(stage: Stage, run: Instructions) -> None:
    for share in (1.0, 0.5):
        stage.tell(replace(run, share=share))
        assert answer(stage) == CAND
    assert stage.candidate.connections == 1


def test_an_answer_that_was_overtaken_changes_nothing(stage: Stage, run: Instructions) -> None:
    now = time.monotonic()
    stage.tell(replace(run, version=4, weight=0.0), heard=now)
    stage.tell(run, heard=now - 1.0)
    assert answer(stage) == BASE
    assert stage.captured().candidate is None
    assert stage.candidate.connections == 0


def test_a_ledger_that_counts_anew_is_followed(stage: Stage, run: Instructions) -> None:
    stage.tell(run)
    stage.tell(replace(run, version=1, weight=0.0, share=0.5))
    assert answer(stage) == BASE
    until(lambda: stage.process.metric("share") == 0.5)


@pytest.mark.parametrize("lacks", [{"run": ""}, {"candidate": None}, {"share": 0.0}])
def test_without_a_run_a_candidate_or_a_share_nothing_is_mirrored_and_nobody_moved(
    stage: Stage, run: Instructions, lacks: dict[str, object]
) -> None:
    stage.tell(run)
    stage.tell(replace(run, **lacks))  # type: ignore[arg-type]
    assert answer(stage) == BASE
    assert stage.all_captured() == []
    assert stage.candidate.connections == 0
    stage.counts("dropped", {})
    stage.counts("canary", {})
    assert stage.process.metric("share") == 0.0
