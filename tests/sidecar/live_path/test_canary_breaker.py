"""Under a canary weight, after failures in a row: users are spared, until one of them is answered."""

import time
from dataclasses import dataclass

import pytest
from tests.sidecar.live_path.processes import until
from tests.sidecar.live_path.two_models import BASELINE, CANDIDATE, PlayedModel, Stage, User, post, reply

#: Of the first pause; the next one is twice as long.
PAUSE = 1.0


@dataclass(frozen=True)
class Visit:
    """What came of one user, and when."""

    asked: bool  # the candidate
    began: float
    ended: float


class Users:
    """One after the other, each with a connection of their own; the baseline answers at once."""

    def __init__(self, stage: Stage, answer: bytes | None, **changes: object) -> None:
        stage.baseline.always = BASELINE
        stage.candidate.always = answer
        self._stage = stage
        self._instructions = stage.instructions(**{"weight": 1.0, "grace": 0.05, **changes})

    def visit(self) -> Visit:
        stage = self._stage
        stage.tell(self._instructions)  # again and again, as the scorer does
        skipped, came = self._skipped, stage.candidate.came
        began = time.monotonic()
        answer = stage.asks(post()).gets()
        ended = time.monotonic()
        assert answer.startswith(b"HTTP/1.1 200 ")
        until(lambda: stage.candidate.came > came or self._skipped > skipped)
        return Visit(stage.candidate.came > came, began, ended)

    @property
    def _skipped(self) -> int:
        return self._stage.counted("canary").get("skipped", 0)

    def fail(self) -> Visit:
        """As many as it takes; the last of them."""
        visits = [self.visit() for _ in range(5)]
        assert all(visit.asked for visit in visits)
        return visits[-1]

    def are_spared(self, failed: Visit, pause: float) -> Visit:
        """For so long after that failure, and no longer; the first who is not."""
        while True:
            visit = self.visit()
            if visit.asked:
                assert visit.ended >= failed.began + pause
                return visit
            assert visit.began <= failed.ended + pause


FAULTS = [None, reply(b"{}", status="500 No"), b"garbage\r\n\r\n", reply(b"<html>", kind="text/html")]


@pytest.mark.parametrize("answer", FAULTS)
def test_after_failures_in_a_row_users_are_spared(stage: Stage, answer: bytes | None) -> None:
    users = Users(stage, answer)
    failed = users.fail()
    visit = users.visit()
    assert not visit.asked or visit.ended >= failed.began + PAUSE


def test_pauses_grow_until_a_user_is_answered(stage: Stage) -> None:
    users = Users(stage, reply(b"{}", status="503 No"))
    failed = users.fail()
    failed = users.are_spared(failed, PAUSE)  # one probe, in vain
    stage.candidate.always = CANDIDATE
    users.are_spared(failed, 2.0 * PAUSE)
    assert all(users.visit().asked for _ in range(3))
    stage.swept()
    counts = stage.counted("canary")
    assert counts["error"] == 6
    assert counts["candidate"] == 4
    # Spared users are mirrored like all others: their pairs are the scorer's to make.
    captured = stage.all_captured()
    assert sum(each.candidate is None for each in captured) == counts["skipped"]
    assert len(captured) == sum(counts.values())
    stage.candidate.always = reply(b"{}", status="503 No")
    users.are_spared(users.fail(), PAUSE)  # as if nothing had been


@pytest.mark.parametrize("answer", [reply(b"{}", status="422 No"), reply(bytes(6000))], ids=["4xx", "too large"])
def test_requests_that_are_wrong_themselves_are_no_failures_of_the_candidate(stage: Stage, answer: bytes) -> None:
    users = Users(stage, answer, maxBodyBytes=5000)
    assert users.visit().asked
    for _ in range(12):
        assert stage.asks(post()).gets().endswith(b'{"from":"base"}')
    assert users.visit().asked


def test_failures_that_are_not_in_a_row_open_nothing(stage: Stage) -> None:
    users = Users(stage, CANDIDATE)
    assert users.visit().asked
    for _ in range(3):
        for answer in [*[reply(b"{}", status="500 No")] * 4, CANDIDATE]:
            stage.candidate.always = answer
            assert stage.asks(post()).gets()
    assert users.visit().asked


def test_a_probe_whose_user_leaves_is_not_the_last(stage: Stage) -> None:
    users = Users(stage, reply(b"{}", status="500 No"))
    users.fail()
    stage.candidate.always = None
    stage.mirror(weight=1.0, grace=60.0)  # the same candidate, with its record

    def probe() -> User | None:
        user = stage.asks(post())
        until(lambda: user.has_something or stage.candidate.untaken)
        return user if stage.candidate.untaken else None

    user = until(probe)
    asked = stage.candidate.next()
    user.leaves()
    asked.await_end()
    stage.asks(post())
    stage.candidate.next().send(CANDIDATE)
    stage.candidate.always = CANDIDATE
    stage.swept()  # those who were spared while a probe was awaited have been counted
    assert users.visit().asked


def test_another_candidate_starts_without_a_record(stage: Stage) -> None:
    users = Users(stage, reply(b"{}", status="500 No"))
    failed = users.fail()
    visit = users.visit()
    assert not visit.asked or visit.ended >= failed.began + PAUSE
    another = PlayedModel(CANDIDATE)
    stage.mirror(weight=1.0, grace=60.0, candidate=f"http://127.0.0.1:{another.port}")
    assert stage.asks(post()).gets().endswith(b'{"from":"cand"}')
    another.stop()
