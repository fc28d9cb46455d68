"""Whatever comes in whatever order: requests are answered once and in order, or the connection ends.

Seeded clients and models (`anyhow`) act on a live process. None of its counts may get lost, nor may a descriptor stay.
"""

import random
import re
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from tests.sidecar.live_path.anyhow import Models, User, wait_for_any
from tests.sidecar.live_path.processes import EVERYTHING, Process, start_live, until

from modelcanary_gate.protocol import Instructions
from modelcanary_sidecar.capture import Captured
from modelcanary_sidecar.channel import News, ScorerEnd
from modelcanary_sidecar.figures import AFTERWARDS, Drop

_USERS = 6  # at once; more than can be served, and wait
_ACTS = 300
_DEADLINE = 30.0


class Play:
    """One live process with its models. Each seed is played on it."""

    def __init__(self, weight: float) -> None:
        self.random = random.Random()
        self.model, self.candidate = Models(self.random), Models(self.random)
        self.captured: list[Captured] = []
        self.names = 0
        self.users: list[User] = []
        self.process: Process
        self.scorer: ScorerEnd
        self.process, self.scorer = start_live(
            self.model.port, "--connections", "2", "--waiting", "3", "--waiting-time", "60s", "--upstream-idle", "300ms"
        )
        self.instructions: Instructions = replace(
            EVERYTHING,
            candidate=f"http://127.0.0.1:{self.candidate.port}",
            weight=weight,
            lease=600.0,
            grace=0.05,
        )
        self.files = 0  # that it has open when nobody is connected

    def begin(self) -> None:
        until(self._is_heard)
        self.play(seed=-1, may_leave=False)  # so that what is made at the first need is there
        self.end()
        self.model.leave()
        self.candidate.leave()
        until(lambda: self.metric("model_connections") == 0)
        self.files = self.open_files()

    def _is_heard(self) -> bool:
        self.scorer.tell(News(self.instructions, time.monotonic()))
        return self.metric("weight") == self.instructions.weight and self.metric("share") == 1.0

    def metric(self, name: str) -> float:
        return self.process.metric(name)

    def dropped(self) -> dict[str, float]:
        said = self.process.admin_says("/metrics")
        return {reason: float(count) for reason, count in re.findall(r'dropped_total\{.*reason="(\w+)"\} (\S+)', said)}

    def open_files(self) -> int:
        process = (self.process.children() or [self.process.popen.pid])[0]
        return sum(1 for _ in Path(f"/proc/{process}/fd").iterdir())

    def connect(self) -> None:
        self.users.append(User(self.process.connect(), self.names, self.random))
        self.names += 1

    # -- playing

    def play(self, seed: int, *, may_leave: bool) -> None:
        self.random.seed(seed)
        self.users = []
        for models in (self.model, self.candidate):
            models.misdeeds = 0
            models.early.clear()
            models.unlike.clear()
        for _ in range(_ACTS):
            self.look()
            here = [user for user in self.users if not user.ended and not user.left]
            if len(here) < _USERS and self.random.random() < 0.3:
                self.connect()
            elif here:
                self.random.choice(here).act(may_leave=may_leave)
            for models in (self.model, self.candidate):
                models.act(well=False)
        deadline = time.monotonic() + _DEADLINE
        while not all(self.is_done(user) for user in self.users):  # and now all do what is right
            assert time.monotonic() < deadline, "somebody is not answered"
            for user in self.users:
                user.stalled = False
                if not user.left:
                    user.say(1 << 16)
            self.go_on()

    def look(self) -> None:
        here = [user for user in self.users if not (user.left or user.ended or user.stalled)]
        wait_for_any([*here, *self.model.sides, *self.candidate.sides], 0.0005)
        for user in here:
            user.listen()
        self.model.attend()
        self.candidate.attend()
        self.scorer.tell(News(self.instructions, time.monotonic()))
        while (message := self.scorer.receive()) is not None:
            self.captured += message if isinstance(message, list) else []

    def is_done(self, user: User) -> bool:
        return user.left or user.ended or (not user.to_say and len(user.answers()[0]) >= user.asked)

    def end(self) -> None:
        """All users leave, and the models go on as long as they are asked."""
        for user in self.users:
            user.socket.close()
            user.left = True
        deadline = time.monotonic() + _DEADLINE
        while self.metric("clients") or self.metric("in_flight") or self.metric("waiting"):
            assert time.monotonic() < deadline, "something is still under way"
            self.go_on()

    def go_on(self) -> None:
        """The models, as long as they are asked."""
        self.look()
        for models in (self.model, self.candidate):
            for _ in models.sides:
                models.act(well=True)

    def stop(self) -> None:
        for user in self.users:
            user.socket.close()
        self.model.close()
        self.candidate.close()
        ended = self.process.stop()
        self.scorer.close()
        assert ended == 0


@pytest.fixture(scope="module", params=[0.0, 1.0], ids=["baseline", "canary"])
def play(request: pytest.FixtureRequest) -> Iterator[Play]:
    play = Play(request.param)
    try:
        play.begin()
        yield play
    finally:
        play.stop()


@pytest.mark.parametrize("may_leave", [False, True])
@pytest.mark.parametrize("seed", range(10))
def test_answers_belong_to_their_requests(play: Play, seed: int, may_leave: bool) -> None:
    captured, dropped = play.metric("captured_total"), play.dropped()
    play.captured.clear()
    play.play(seed, may_leave=may_leave)
    answered = refused = broken = early = 0
    for user in play.users:
        whole, rest = user.answers()
        for n, (status, body) in enumerate(whole):
            if status == 200:
                assert body == b"/%d/%d" % (user.name, n)
            else:
                assert status in (502, 503)
                assert user.ended
                assert n == len(whole) - 1
                refused += status == 502
        answered += len(whole)
        assert not rest or user.ended or user.left, "half an answer"
        if user.ended and not user.left:
            was_early = (
                bool(whole) and b"/%d/%d" % (user.name, len(whole) - 1) in play.model.early | play.candidate.early
            )
            was_refused = bool(whole) and whole[-1][0] != 200
            early += was_early
            broken += bool(rest)
            assert rest or was_refused or was_early, "the connection was ended without a reason"
    assert answered > 10
    assert refused + broken <= play.model.misdeeds
    assert not play.model.unlike
    assert not play.candidate.unlike

    play.end()
    until(lambda: play.metric("in_flight") == 0)
    for one in play.captured:
        assert one.target.decode() == one.id
        if one.baseline.status == 200:
            assert one.baseline.body == one.target

    def counted() -> tuple[float, float]:
        """Requests that were captured, or dropped but not because their client was gone; and those that were."""
        lost = {reason: count - dropped.get(reason, 0.0) for reason, count in play.dropped().items()}
        gone = lost.pop(Drop.CLIENT_LEFT, 0.0)
        left_out = sum(count for reason, count in lost.items() if reason not in AFTERWARDS)
        return play.metric("captured_total") - captured + left_out, gone

    asked = sum(user.asked for user in play.users)
    if play.instructions.weight:  # who was answered before the request was whole makes no pair
        until(lambda: answered / 2 < sum(counted()) <= asked)
    elif may_leave:
        until(lambda: answered <= sum(counted()) <= asked)
    else:
        until(lambda: counted()[0] == answered + broken)
    play.model.leave()
    play.candidate.leave()
    until(lambda: play.open_files() <= play.files)
