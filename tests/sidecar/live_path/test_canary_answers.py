"""Users under a canary weight: whatever the candidate does, they get an answer, and no later than they must."""

import socket
import time

import pytest
from tests.sidecar.live_path.processes import Connection, until
from tests.sidecar.live_path.two_models import BASELINE, CANDIDATE, Asked, Stage, User, playing, post, reply

from modelcanary_gate.sampling import position
from modelcanary_gate.vocabulary import Outcome

BASE, CAND = b'{"from":"base"}', b'{"from":"cand"}'
LONG = 60.0  # seconds of grace, or of timeout: who waits for them fails
OFFER = post("/infer", b'{"x":1}', "Authorization: a", "Accept-Encoding: gzip")


class Offered:
    """A user's request, at both models."""

    def __init__(self, stage: Stage, message: bytes = OFFER) -> None:
        self.began = time.monotonic()
        self.user: User = stage.asks(message)
        self.baseline: Asked = stage.baseline.next()
        self.candidate: Asked = stage.candidate.next()


def offer(stage: Stage, **changes: object) -> Offered:
    stage.mirror(**{"weight": 1.0, "grace": LONG, **changes})
    return Offered(stage)


def test_both_are_asked_the_same_and_the_user_gets_the_candidates_answer_at_once(stage: Stage) -> None:
    offered = offer(stage)
    assert offered.baseline.request == (
        b"POST /infer HTTP/1.1\r\nHost: fraud\r\nX-Request-Id: q\r\nAuthorization: a\r\n"
        b'Accept-Encoding: gzip\r\ncontent-length: 7\r\n\r\n{"x":1}'
    )
    # It answers a user: no shadow.
    assert offered.candidate.request == offered.baseline.request.replace(b"Authorization: a\r\n", b"")
    answered = time.monotonic()
    offered.candidate.send(CANDIDATE)
    assert offered.user.gets().endswith(CAND)
    given = time.monotonic()
    stage.settle()
    baseline_answered = time.monotonic()
    offered.baseline.send(BASELINE)
    pair = stage.captured()
    assert not offered.user.has_something  # neither a second answer nor an end
    assert (pair.baseline.body, pair.candidate.body) == (BASE, CAND)
    assert answered - offered.candidate.arrived <= pair.candidate.latency <= given - offered.began
    assert pair.baseline.latency >= baseline_answered - offered.baseline.arrived
    offered.user.sends(OFFER)
    stage.candidate.next().send(CANDIDATE)
    assert offered.user.gets().endswith(CAND)
    stage.counts("canary", {"candidate": 2})


def test_credentials_go_to_a_candidate_that_may_have_them(stage: Stage) -> None:
    offered = offer(stage, forwardCredentials=True)
    assert offered.candidate.request == offered.baseline.request


def test_an_id_that_was_minted_goes_to_both_and_comes_with_the_candidates_answer(stage: Stage) -> None:
    stage.mirror(weight=1.0, grace=LONG)
    offered = Offered(stage, post(id=None))
    assert offered.candidate.request == offered.baseline.request
    offered.candidate.send(reply(CAND, "X-Request-Id: mine"))
    head = offered.user.gets().partition(b"\r\n\r\n")[0]
    offered.baseline.send(BASELINE)
    pair = stage.captured()
    assert pair.minted
    assert head.endswith(f"\r\nX-Request-Id: {pair.id}".encode())
    assert head.count(b"X-Request-Id") == 1
    assert f"X-Request-Id: {pair.id}\r\n".encode() in offered.baseline.request


def test_the_candidate_may_be_later_than_the_baseline_by_the_grace(stage: Stage) -> None:
    offered = offer(stage)
    offered.baseline.send(BASELINE)
    stage.settle()
    assert not offered.user.has_something
    offered.candidate.send(CANDIDATE)
    assert offered.user.gets().endswith(CAND)
    assert stage.captured().baseline.body == BASE
    assert not offered.user.has_something
    assert stage.all_captured() == []
    stage.counts("canary", {"candidate": 1})


def test_a_candidate_later_than_that_is_not_waited_for_and_still_makes_a_pair(stage: Stage) -> None:
    offered = offer(stage, grace=0.05, timeout=LONG)
    offered.baseline.send(BASELINE)
    assert offered.user.gets().endswith(BASE)
    assert stage.all_captured() == []
    offered.user.sends(post("/next"))  # the user has gone on
    assert stage.baseline.next().request.startswith(b"POST /next ")
    late = time.monotonic()
    offered.candidate.send(CANDIDATE)
    pair = stage.captured()
    assert (pair.target, pair.baseline.body, pair.candidate.body) == (b"/infer", BASE, CAND)
    assert pair.candidate.latency >= late - offered.candidate.arrived
    assert not offered.user.has_something
    stage.counts("canary", {"late": 1})


HUGE_DIGITS = "Inference-Header-Content-Length: " + "9" * 5000
FAULTS = {
    "500": (reply(b"{}", status="500 No"), "error", None),
    "404": (reply(b"{}", status="404 No"), "error", None),
    "redirect": (reply(b"{}", status="307 No"), "error", None),
    "nested beyond reading": (reply(b"[" * 4000), "malformed", None),
    "a length beyond reading": (reply(b"{}", HUGE_DIGITS), "malformed", None),
    "html": (reply(b"<html>", kind="text/html"), "malformed", None),
    "html with a charset": (reply(b"<html>", kind="Text/HTML; charset=utf-8"), "malformed", None),
    "no JSON": (reply(b'{"x": NaN}'), "malformed", None),
    "something behind the JSON": (reply(b"{} {}"), "malformed", None),
    "JSON of another name": (reply(b"{", kind="application/problem+json"), "malformed", None),
    "no JSON before tensors": (reply(b"{,\x00\x01", "inference-header-content-length: 2"), "malformed", None),
    "garbage": (b"\x00\xffgarbage\r\n\r\n", "malformed", Outcome.UNDECODABLE),
    "two lengths": (
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nx",
        "malformed",
        Outcome.UNDECODABLE,
    ),
    "too large": (reply(bytes(6000)), "tooLarge", Outcome.TOO_LARGE),
}


@pytest.mark.parametrize("baseline_first", [True, False])
@pytest.mark.parametrize("case", FAULTS)
def test_a_candidate_that_answers_wrongly_is_the_baselines_case(stage: Stage, case: str, baseline_first: bool) -> None:
    answer, given, failure = FAULTS[case]
    offered = offer(stage, maxBodyBytes=5000)
    for model, data in [(offered.baseline, BASELINE), (offered.candidate, answer)][:: 1 if baseline_first else -1]:
        assert not offered.user.has_something
        model.send(data)
        stage.settle()
    assert offered.user.gets().endswith(BASE)  # without waiting for the grace
    pair = stage.captured()
    assert pair.candidate.failure == failure
    assert pair.candidate.status == (0 if failure else int(answer[9:12]))
    assert not offered.user.has_something
    stage.counts("canary", {given: 1})


SOUND = {
    "no body": b"HTTP/1.1 204 No Content\r\nContent-Type: application/json\r\n\r\n",
    "no JSON, and none promised": reply(b"{", kind="application/octet-stream"),
    "compressed": reply(b"\x1f\x8b", "Content-Encoding: gzip"),
    "tensors behind the JSON": reply(b"{}\x00\x01", "Inference-Header-Content-Length: 2"),
    "another 2xx": reply(b"[1]", status="201 Created"),
    "escapes and numbers": reply(rb' {"a": [1e5, -0.0, "\u00e9\"", null, true], "": {}} '),
    "chunks": b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
    b"1\r\n[\r\n1\r\n]\r\n0\r\n\r\n",
    "up to the connection's end": b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n[2]",
}


@pytest.mark.parametrize("case", SOUND)
def test_an_answer_that_is_sound_is_given(stage: Stage, case: str) -> None:
    offered = offer(stage)
    offered.candidate.send(SOUND[case])
    if case.startswith("up to"):
        offered.candidate.close()
    offered.baseline.send(BASELINE)
    assert stage.captured().candidate.failure is None
    assert BASE not in offered.user.gets_bytes(20)
    stage.counts("canary", {"candidate": 1})


@pytest.mark.parametrize("said", [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\nhalf"])
def test_a_candidate_that_dies_is_the_baselines_case(stage: Stage, said: bytes) -> None:
    offered = offer(stage)
    if said:
        offered.candidate.send(said)
        stage.settle()
    offered.candidate.close()
    stage.settle()
    assert not offered.user.has_something
    offered.baseline.send(BASELINE)
    assert offered.user.gets().endswith(BASE)
    assert stage.captured().candidate.failure == Outcome.REFUSED
    stage.counts("canary", {"refused": 1})


def test_a_candidate_that_is_not_there_is_the_baselines_case(stage: Stage) -> None:
    stage.candidate.stop()
    stage.mirror(weight=1.0, grace=LONG)
    user = stage.asks(post())
    stage.baseline.next().send(BASELINE)
    assert user.gets().endswith(BASE)
    assert stage.captured().candidate.failure == Outcome.REFUSED
    stage.counts("canary", {"refused": 1})


def test_a_candidate_that_hangs_costs_the_grace_and_no_more(stage: Stage) -> None:
    offered = offer(stage, grace=0.05, timeout=0.5)
    offered.candidate.send(b"HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n")
    offered.baseline.send(BASELINE)
    assert offered.user.gets().endswith(BASE)

    def dripped() -> bool:
        try:
            offered.candidate.send(b"x")  # a byte now and then is no way to stay
        except OSError:
            return True
        return offered.candidate.ended

    until(dripped)
    offered.candidate.await_end()
    assert stage.captured().candidate.failure == Outcome.TIMEOUT
    stage.counts("canary", {"late": 1})


def test_a_user_waits_for_the_timeout_of_the_candidate_at_most(stage: Stage) -> None:
    offered = offer(stage, timeout=0.3)
    offered.baseline.send(BASELINE)
    assert offered.user.gets().endswith(BASE)  # though there is more of the grace
    stage.counts("canary", {"timeout": 1})


def test_the_baselines_failure_is_covered_by_a_candidate_that_answers(stage: Stage) -> None:
    offered = offer(stage)
    offered.baseline.send(b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\nhalf")
    offered.baseline.close()
    stage.settle()
    assert not offered.user.has_something
    offered.candidate.send(CANDIDATE)
    assert offered.user.gets().endswith(CAND)
    assert stage.captured().baseline.failure == Outcome.REFUSED
    stage.counts("canary", {"candidate": 1})


def test_where_both_fail_the_user_is_told_so(stage: Stage) -> None:
    offered = offer(stage)
    offered.baseline.send(b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\nhalf")
    offered.baseline.close()
    stage.settle()
    offered.candidate.close()
    assert offered.user.gets().startswith(b"HTTP/1.1 502 ")
    assert offered.user.gets_bytes(1) == b""
    pair = stage.captured()
    assert (pair.baseline.failure, pair.candidate.failure) == (Outcome.REFUSED, Outcome.REFUSED)


def test_an_answer_too_large_to_be_held_streams_from_the_baseline(stage: Stage) -> None:
    offered = offer(stage, maxBodyBytes=1000)
    head = b"HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n"
    offered.baseline.send(head + bytes(900))
    stage.settle()
    assert not offered.user.has_something
    offered.baseline.send(bytes(200))
    assert offered.user.gets_bytes(len(head) + 1100).endswith(b"\r\n\r\n" + bytes(1100))
    offered.candidate.send(CANDIDATE)
    stage.settle()
    offered.baseline.send(bytes(3900))
    assert offered.user.gets_bytes(3900) == bytes(3900)
    stage.counts("canary", {"tooLarge": 1})
    assert not offered.user.has_something
    assert stage.all_captured() == []
    stage.counts("dropped", {"tooLarge": 1})


def test_a_request_too_large_is_the_baselines_alone(stage: Stage) -> None:
    stage.mirror(weight=1.0, grace=LONG, maxBodyBytes=1000)
    user = stage.asks(post("/x", bytes(1001)))
    stage.baseline.next().send(BASELINE)
    assert user.gets().endswith(BASE)
    assert stage.candidate.connections == 0
    assert stage.all_captured() == []
    stage.counts("dropped", {"tooLarge": 1})


def test_a_client_that_leaves_aborts_both(stage: Stage) -> None:
    offered = offer(stage)
    offered.user.leaves()
    offered.baseline.await_end()
    offered.candidate.await_end()
    stage.counts("dropped", {"clientLeft": 1})
    assert stage.all_captured() == []
    stage.counts("canary", {})


def test_a_client_that_leaves_with_the_candidates_answer_leaves_the_pair(stage: Stage) -> None:
    offered = offer(stage)
    offered.candidate.send(CANDIDATE)
    assert offered.user.gets().endswith(CAND)
    offered.user.leaves()
    stage.settle()
    offered.baseline.send(BASELINE)
    pair = stage.captured()
    assert (pair.baseline.body, pair.candidate.body) == (BASE, CAND)


def test_a_weight_moves_the_users_of_its_hash_and_no_others(stage: Stage) -> None:
    stage.baseline.always = BASELINE
    stage.candidate.always = CANDIDATE
    stage.mirror(weight=0.25, grace=LONG)
    user = stage.user()
    moved = []
    for n in range(200):
        user.sends(post("/x", b"", id=f"u{n}"))
        if user.gets().endswith(CAND):
            moved.append(f"u{n}")
    assert moved == [f"u{n}" for n in range(200) if position(f"u{n}", stage.run) < 0.25]
    assert 25 < len(moved) < 75
    until(lambda: stage.process.metric("weight") == 0.25)
    stage.mirror(weight=0.25, grace=LONG, run="another")
    again = [f"u{n}" for n in range(200) if _is_moved(user, f"u{n}")]
    assert again == [f"u{n}" for n in range(200) if position(f"u{n}", "another") < 0.25]
    assert again != moved


def _is_moved(user: User, id: str) -> bool:
    user.sends(post("/x", b"", id=id))
    return user.gets().endswith(CAND)


def test_users_are_moved_whom_the_share_leaves_out_and_make_no_pair(stage: Stage) -> None:
    stage.baseline.always = BASELINE
    stage.candidate.always = CANDIDATE
    stage.mirror(weight=1.0, share=0.3, grace=LONG)
    user = stage.user()
    assert all(_is_moved(user, f"u{n}") for n in range(60))
    ids = sorted(captured.id for captured in stage.all_captured())  # a pair is made when the slower one has answered
    assert ids == sorted(f"u{n}" for n in range(60) if position(f"u{n}") < 0.3)


def test_what_is_not_mirrored_is_not_moved_either(stage: Stage) -> None:
    stage.baseline.always = BASELINE
    stage.mirror(weight=1.0, grace=LONG, paths=["/infer"])
    user = stage.user()
    for target, method in [("/other", "POST"), ("/infer", "PUT"), ("/infer/", "POST")]:
        user.sends(post(target, method=method))
        assert user.gets().endswith(BASE)
    assert stage.candidate.connections == 0
    stage.counts("canary", {})


def test_connections_to_the_candidate_end_with_its_weight(stage: Stage) -> None:
    offered = offer(stage)
    idle = Offered(stage)
    idle.candidate.send(CANDIDATE)
    assert idle.user.gets().endswith(CAND)
    stage.mirror(weight=0.0)
    offered.candidate.await_end()
    idle.candidate.await_end()
    offered.baseline.send(BASELINE)
    assert offered.user.gets().endswith(BASE)
    stage.counts("canary", {"candidate": 1, "refused": 1})


def test_a_candidate_that_cannot_be_reached_from_here_gets_no_users(stage: Stage) -> None:
    stage.baseline.always = BASELINE
    said = len(stage.process.lines)
    stage.mirror(weight=1.0, grace=LONG, candidate="https://elsewhere")
    assert stage.asks(post()).gets().endswith(BASE)
    stage.mirror(weight=1.0, grace=1.0, candidate="https://elsewhere")  # whatever else changes
    assert stage.asks(post()).gets().endswith(BASE)
    stage.counts("canary", {})
    until(lambda: any("users stay with the baseline" in line for line in stage.process.lines[said:]))


def test_the_candidates_connections_are_bounded(stage: Stage) -> None:
    stage.mirror(weight=1.0, grace=0.05, maxInFlight=2)
    offered = [Offered(stage) for _ in range(2)]
    users = [stage.asks(post()) for _ in range(4)]
    at_baseline = [each.baseline for each in offered] + [stage.baseline.next() for _ in users]
    users += [each.user for each in offered]
    for asked in at_baseline:
        asked.send(BASELINE)
    assert all(user.gets().endswith(BASE) for user in users)
    assert stage.candidate.connections == 2
    assert stage.candidate.untaken == 0
    stage.counts("canary", {"late": 4, "refused": 2})  # two at the candidate, two that waited, two too many


def test_a_pipelined_request_is_asked_of_the_candidate_when_its_turn_comes(stage: Stage) -> None:
    stage.mirror(weight=1.0, grace=LONG)
    user = stage.asks(post("/1") + post("/2"))
    first = stage.candidate.next()
    assert first.request.startswith(b"POST /1 ")
    stage.settle()
    assert stage.candidate.untaken == 0
    first.send(CANDIDATE)
    assert user.gets().count(b"HTTP/1.1") == 1
    second = stage.candidate.next()
    assert second.request.startswith(b"POST /2 ")
    second.send(CANDIDATE)
    assert user.gets().endswith(CAND)


def test_a_baseline_that_answers_before_the_request_is_whole_is_not_asked_again(stage: Stage) -> None:
    def answer_at_the_head(connection: Connection) -> None:
        connection.socket.recv(1 << 16)
        connection.send(reply(b"no", status="413 No"))
        while connection.socket.recv(1 << 16):
            pass

    stage.mirror(weight=1.0, grace=LONG)
    stage.baseline.play(answer_at_the_head)
    stage.baseline.hang_up()
    user = stage.asks(post("/x", None, "Content-Length: 500") + b"hello")
    assert user.gets().startswith(b"HTTP/1.1 413 ")
    user.sends(b"x" * 495)
    stage.baseline.play()
    stage.settle()
    assert stage.candidate.connections == 0
    assert stage.baseline.connections == 2  # and that of `settle`
    stage.counts("canary", {"unasked": 1})
    assert stage.all_captured() == []


def test_a_user_who_does_not_read_the_candidates_answer_leaves_the_baselines_alone(stage: Stage) -> None:
    more_than_fits = reply(bytes(5 << 20), kind="application/octet-stream")  # into the kernel, on the user's way
    stage.mirror(weight=1.0, grace=LONG, maxBodyBytes=6 << 20)
    user = stage.user()
    user.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    user.sends(post())
    baseline, candidate = stage.baseline.next(), stage.candidate.next()
    candidate.send(more_than_fits)
    stage.settle()
    baseline.send(reply(bytes(2 << 20)))  # both together within what is kept of bodies at once
    pair = stage.captured()
    assert pair.baseline.failure is None
    assert (len(pair.candidate.body), len(pair.baseline.body)) == (5 << 20, 2 << 20)


def test_users_who_leave_take_no_place_in_the_candidates_queue(stage: Stage) -> None:
    stage.mirror(weight=1.0, grace=LONG, maxInFlight=1)
    first = Offered(stage)
    for left in range(3):
        user = stage.asks(post())
        stage.baseline.next()
        user.leaves()
        until(lambda left=left: stage.counted("dropped") == {"clientLeft": left + 1})
    last = stage.asks(post("/last"))
    stage.baseline.next()
    first.candidate.send(CANDIDATE)
    assert first.user.gets().endswith(CAND)
    asked = stage.candidate.next()
    assert asked.request.startswith(b"POST /last ")
    asked.send(CANDIDATE)
    assert last.gets().endswith(CAND)
    stage.counts("canary", {"candidate": 2})


def test_a_candidate_that_answers_before_the_baseline_could_be_asked_adds_no_time() -> None:
    """The baseline has one connection, which is busy: the second user has an answer while it waits for that."""
    with playing("--connections", "1") as stage:
        stage.begin()
        stage.candidate.always = CANDIDATE
        stage.mirror(weight=1.0, lease=60.0)
        assert stage.asks(post(id="a")).gets().endswith(CAND)
        assert stage.asks(post(id="b")).gets().endswith(CAND)
        stage.swept()
        stage.swept()
        assert stage.process.metric("added_seconds_sum") >= 0.0
        for _ in range(2):
            stage.baseline.next().send(BASELINE)
        assert {stage.captured().id, stage.captured().id} == {"a", "b"}
        stage.end()
