"""What holds when: a share until it is changed, a weight for as long as its lease. The ledger's answers come in any
order, and now and then not at all; when each was heard is told with it."""

import time
from dataclasses import replace

from tests.sidecar.live_path.played import BASELINE, CANDIDATE, Stage, post
from tests.sidecar.live_path.processes import until

from modelcanary_gate.protocol import Instructions

WEIGHT = 0.75
#: Of which the user is one, in every run: `follow` looks for an id whose position says so.
CAND, BASE = b'{"from":"cand"}', b'{"from":"base"}'


def begin(stage: Stage, **changes: object) -> Instructions:
    """Instructions that are not told yet."""
    stage.baseline.always, stage.candidate.always = BASELINE, CANDIDATE
    return stage.instructions(**{"weight": 1.0, "lease": 15.0, "grace": 60.0, "version": 3, **changes})


def answer(stage: Stage) -> bytes:
    return stage.asks(post()).gets().rpartition(b"\r\n\r\n")[2]


def test_a_weight_holds_for_its_lease_and_a_share_is_no_risk_to_users(played: Stage) -> None:
    run = begin(played)
    now = time.monotonic()
    played.tell(run, heard=now - 7.0)
    assert answer(played) == CAND
    until(lambda: played.process.metric("weight") == 1.0)
    played.begin()
    run = begin(played)
    played.tell(run, heard=time.monotonic() - 15.0)
    assert answer(played) == BASE
    assert played.captured().candidate is None
    assert played.candidate.connections == 0
    until(lambda: played.process.metric("weight") == 0.0)
    assert played.process.metric("share") == 1.0
    played.counts("canary", {})
