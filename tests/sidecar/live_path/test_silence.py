"""Without news from the scorer nothing is mirrored: that is counted, and said once."""

import time

from tests.sidecar.live_path.processes import until
from tests.sidecar.live_path.two_models import BASELINE, CANDIDATE, Stage, playing, post

from modelcanary_gate.protocol import Instructions
from modelcanary_sidecar.channel import News

SAID = "the scorer has said nothing for 5 s: users are served, nothing is mirrored"


def answer(stage: Stage) -> bytes:
    return stage.asks(post()).gets().rpartition(b"\r\n\r\n")[2]


def silent(stage: Stage) -> int:
    """How often it was said."""
    return sum(SAID in line for line in stage.process.lines)


def test_a_scorer_that_says_nothing_any_more_or_never_did_is_missed() -> None:
    with playing() as stage, playing() as never:
        for each in (stage, never):
            each.begin()
            each.baseline.always = BASELINE
            each.candidate.always = CANDIDATE
        stage.mirror(weight=1.0, grace=60.0, lease=60.0)
        told = time.monotonic()
        assert answer(never) == b'{"from":"base"}'
        assert answer(stage) == b'{"from":"cand"}'
        assert stage.captured()
        assert silent(stage) == 0

        until(lambda: silent(stage))
        assert time.monotonic() >= told + 4.9
        for _ in range(2):
            assert answer(stage) == b'{"from":"cand"}'  # the lease is not over
        assert stage.all_captured() == []
        stage.counts("dropped", {"silence": 2})
        assert stage.process.metric("scorer_silence_seconds") >= 4.9
        assert stage.process.metric("share") == 0.0
        assert silent(stage) == 1

        assert stage.scorer.tell(News(Instructions(0), 0.0))  # overtaken: nothing changes, but it is heard
        stage.settle()
        assert answer(stage) == b'{"from":"cand"}'
        assert stage.captured().candidate is not None
        assert stage.process.metric("share") == 1.0
        stage.counts("dropped", {"silence": 2})

        until(lambda: silent(never))
        assert answer(never) == b'{"from":"base"}'
        assert never.all_captured() == []
        never.counts("dropped", {})
        assert never.process.metric("weight") == 0.0
        assert never.process.metric("share") == 0.0
        for each in (stage, never):
            each.end()
