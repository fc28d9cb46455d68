"""Beyond maxPairsPerSecond the share is lowered until the rate holds: it is the ids that decide, not who came first."""

import re
import time
from dataclasses import replace

import pytest
from tests.sidecar.live_path.processes import EVERYTHING, RawModel, answer_all, receive_answer, start_lives, until
from tests.sidecar.live_path.two_models import BASELINE, Stage, post

from modelcanary_gate.protocol import MirrorLimits
from modelcanary_gate.sampling import position
from modelcanary_sidecar.channel import News


@pytest.fixture
def busy(stage: Stage) -> Stage:
    stage.baseline.always = BASELINE
    return stage


def ask(stage: Stage, ids: list[str]) -> None:
    user = stage.user()
    for id in ids:
        user.sends(post("/x", b"", id=id))
        assert user.gets().startswith(b"HTTP/1.1 200 ")


def test_the_share_adapts_so_that_the_rate_holds_and_the_choice_follows_the_ids(busy: Stage) -> None:
    rate, share, seconds = 10.0, 0.5, 4.0  # less than what would be silence
    began = time.monotonic()
    busy.mirror(share=share, maxPairsPerSecond=rate)
    user = busy.user()
    asked = late = 0  # ids from `late` on came when the share had adapted
    while (elapsed := time.monotonic() - began) < seconds:
        user.sends(post("/x", b"", id=f"id-{asked}"))
        assert user.gets()
        asked += 1
        late = late or (asked if elapsed > 0.6 * seconds else 0)
    captured = [each.id for each in busy.all_captured()]
    ended = time.monotonic()
    assert all(position(id) < share for id in captured)
    assert len(captured) <= rate + rate * (ended - began) + 1.0  # a second's worth at the most, at the start
    in_share = sum(position(f"id-{n}") < share for n in range(asked))
    busy.counts("dropped", {"rate": in_share - len(captured)})
    assert in_share > 6 * len(captured)  # else this is no test of anything
    assert busy.process.metric("share") < share / 2
    # Adapted, it is the lowest positions that are taken, not those that came first in each second.
    afterwards = [position(id) for id in captured if int(id[3:]) >= late]
    assert len(afterwards) >= 0.2 * rate * 0.4 * seconds
    assert sum(where < share / 3 for where in afterwards) > 0.9 * len(afterwards)


def test_below_the_rate_everything_in_the_share_is_taken(busy: Stage) -> None:
    busy.mirror(maxPairsPerSecond=1e5)
    ids = [f"id-{n}" for n in range(200)]
    ask(busy, ids)
    assert [busy.captured().id for _ in ids] == ids
    busy.counts("dropped", {})
    assert busy.process.metric("share") == 1.0


def test_a_rate_of_nothing_takes_nothing(busy: Stage) -> None:
    busy.mirror(maxPairsPerSecond=0.0)
    ask(busy, ["a", "b", "c"])
    assert busy.all_captured() == []
    busy.counts("dropped", {"rate": 3})


def test_a_rate_below_one_a_second_takes_one_now_and_then(busy: Stage) -> None:
    began = time.monotonic()
    busy.mirror(maxPairsPerSecond=0.5)
    ids = [f"id-{n}" for n in range(50)]
    ask(busy, ids)
    first = [each.id for each in busy.all_captured()]
    assert first[:1] == ["id-0"]
    assert len(first) <= 1 + 0.5 * (time.monotonic() - began)

    def another() -> bool:
        ask(busy, [min(ids, key=position)])
        return bool(busy.all_captured())

    until(another)


def test_the_rate_is_of_all_live_processes_together() -> None:
    model = RawModel()
    model.script = answer_all
    process, scorers = start_lives(4, model.port, "--drain-time", "1s")
    instructions = replace(EVERYTHING, mirror=MirrorLimits(maxPairsPerSecond=20.0))
    began = time.monotonic()
    for scorer in scorers:
        assert scorer.tell(News(instructions, time.monotonic()))
    until(lambda: process.metric("share") == 1.0)  # of each
    with process.connect() as client:  # who is one process's
        for n in range(40):
            client.sendall(post("/x", b"", id=f"id-{n}"))
            assert receive_answer(client)
    ended = time.monotonic()

    def seen() -> bool:
        dropped = re.search(r'_dropped_total\{[^}]*reason="rate"\} (\S+)', process.admin_says("/metrics"))
        return dropped is not None and float(dropped[1]) + process.metric("captured_total") == 40.0

    until(seen)
    assert 5 <= process.metric("captured_total") <= 5 + 5 * (ended - began)
    for scorer in scorers:
        scorer.close()
    assert process.stop() == 0
    model.stop()


def test_other_limits_hold_from_when_they_are_told(busy: Stage) -> None:
    busy.mirror(maxPairsPerSecond=0.0)
    ask(busy, ["a"])
    busy.mirror(maxPairsPerSecond=1e5)
    ask(busy, ["b"])
    assert busy.captured().id == "b"
    busy.mirror(share=0.0, maxPairsPerSecond=1e5)
    ask(busy, ["c"])
    assert busy.all_captured() == []
