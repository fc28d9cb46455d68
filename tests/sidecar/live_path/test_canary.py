"""Users under a canary weight: whatever the candidate does, they get an answer, and no later than they must."""

import gc
from collections.abc import Callable

import pytest

from modelcanary_gate.sampling import position
from modelcanary_gate.vocabulary import Outcome
from modelcanary_sidecar.canary import Canary, CandidateAsk
from modelcanary_sidecar.exchange import UserExchange

BASELINE = b'HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 14\r\n\r\n{"from":"base"}'
BASELINE = BASELINE.replace(b"14", b"15")
CANDIDATE = b'HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 15\r\n\r\n{"from":"cand"}'


def reply(status: int, body: bytes, kind: str = "application/json") -> bytes:
    return f"HTTP/1.1 {status} X\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body


class Asked:
    """A user's request, at both models."""

    def __init__(self, stage, message: bytes) -> None:
        self.stage = stage
        self.client = stage.client()
        self.client.sends(message)
        before = len(stage.models)
        stage.open()
        by_role = {model.is_candidate: model for model in stage.models[before:]}
        self.baseline, self.candidate = by_role[False], by_role[True]

    @property
    def given(self) -> dict[str, int]:
        return {str(key): count for key, count in self.stage.state.figures.canary.items()}


@pytest.fixture
def ask(stage, request_of):
    def make(message: bytes | None = None, **changes: object) -> Asked:
        stage.mirror(weight=1.0, grace=0.05, **changes)
        return Asked(stage, message or request_of("/infer", b'{"x":1}', "Authorization: a", "Accept-Encoding: gzip"))

    return make


def test_both_are_asked_the_same_and_the_user_gets_the_candidates_answer_at_once(stage, ask) -> None:
    asked = ask()
    at_baseline, at_candidate = asked.baseline.gets(), asked.candidate.gets()
    assert at_baseline == (
        b"POST /infer HTTP/1.1\r\nHost: fraud\r\nX-Request-Id: q0\r\nAuthorization: a\r\n"
        b'Accept-Encoding: gzip\r\ncontent-length: 7\r\n\r\n{"x":1}'
    )
    assert at_candidate == at_baseline.replace(b"Authorization: a\r\n", b"")  # it answers a user: no shadow
    stage.now += 0.02
    asked.candidate.sends(CANDIDATE)
    assert asked.client.gets().endswith(b'{"from":"cand"}')
    assert not asked.client.port.ended
    stage.now += 0.01
    asked.baseline.sends(BASELINE)
    assert asked.client.gets() == b""
    (pair,) = stage.captured
    assert pair.baseline.body == b'{"from":"base"}'
    assert pair.candidate.body == b'{"from":"cand"}'
    assert (pair.baseline.latency, pair.candidate.latency) == pytest.approx((0.03, 0.02))
    assert asked.given == {"candidate": 1}


def test_the_candidate_may_be_later_than_the_baseline_by_the_grace(stage, ask) -> None:
    asked = ask()
    asked.baseline.sends(BASELINE)
    stage.passes(0.04)
    assert asked.client.gets() == b""
    asked.candidate.sends(CANDIDATE)
    assert asked.client.gets().endswith(b'{"from":"cand"}')
    stage.passes(0.1)
    assert asked.client.gets() == b""
    assert len(stage.captured) == 1


def test_a_candidate_later_than_that_is_not_waited_for_and_still_makes_a_pair(stage, ask, request_of) -> None:
    asked = ask()
    asked.baseline.sends(BASELINE)
    stage.passes(0.06)
    assert asked.client.gets().endswith(b'{"from":"base"}')
    assert stage.captured == []
    asked.client.sends(request_of("/next"))  # the user has gone on
    assert asked.baseline.gets().count(b"POST") == 2
    stage.passes(0.5)
    asked.candidate.sends(CANDIDATE)
    assert asked.client.gets() == b""
    assert stage.captured[0].candidate.latency == pytest.approx(0.56)
    assert asked.given == {"late": 1}


FAULTS = {
    "500": (reply(500, b"{}"), "error", None),
    "404": (reply(404, b"{}"), "error", None),
    "redirect": (reply(307, b"{}"), "error", None),
    "nested beyond reading": (reply(200, b"[" * 4000), "malformed", None),
    "a length beyond reading": (
        reply(200, b"{}", "application/json\r\nInference-Header-Content-Length: " + "9" * 5000),
        "malformed",
        None,
    ),
    "html": (reply(200, b"<html>", "text/html"), "malformed", None),
    "no JSON": (reply(200, b'{"x": NaN}'), "malformed", None),
    "garbage": (b"\x00\xffgarbage\r\n\r\n", "malformed", Outcome.UNDECODABLE),
    "two lengths": (
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nx",
        "malformed",
        Outcome.UNDECODABLE,
    ),
    "too large": (reply(200, bytes(6000)), "tooLarge", Outcome.TOO_LARGE),
}


@pytest.mark.parametrize("baseline_first", [True, False])
@pytest.mark.parametrize("case", FAULTS)
def test_a_candidate_that_answers_wrongly_is_the_baselines_case(stage, ask, case: str, baseline_first: bool) -> None:
    answer, given, failure = FAULTS[case]
    asked = ask(maxBodyBytes=5000)
    for model, data in [(asked.baseline, BASELINE), (asked.candidate, answer)][:: 1 if baseline_first else -1]:
        model.sends(data)
    got = asked.client.gets()  # without waiting for the grace
    assert got.endswith(b'{"from":"base"}')
    assert got.count(b"HTTP/1.1") == 1
    assert stage.captured[0].candidate.failure == failure
    assert asked.given == {given: 1}


@pytest.mark.parametrize("said", [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\nhalf"])
def test_a_candidate_that_dies_is_the_baselines_case(stage, ask, said: bytes) -> None:
    asked = ask()
    if said:
        asked.candidate.sends(said)
    asked.candidate.closes(ConnectionResetError())
    assert asked.client.gets() == b""
    asked.baseline.sends(BASELINE)
    assert asked.client.gets().endswith(b'{"from":"base"}')
    assert stage.captured[0].candidate.failure == Outcome.REFUSED


def test_a_candidate_that_is_not_there_is_the_baselines_case(stage, request_of) -> None:
    stage.mirror(weight=1.0)
    client = stage.client()
    client.sends(request_of())
    pool, exchange = next(asked for asked in stage.asked if asked[0] is stage.state.candidate)
    stage.asked = [asked for asked in stage.asked if asked[0] is stage.state.baseline]
    pool.connect_failed(exchange)
    stage.open()
    stage.models[0].sends(BASELINE)
    assert client.gets().endswith(b'{"from":"base"}')


def test_a_candidate_that_hangs_costs_the_grace_and_no_more(stage, ask) -> None:
    asked = ask(timeout=2.0)
    asked.candidate.sends(b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n")
    stage.passes(0.01)
    asked.baseline.sends(BASELINE)
    stage.passes(0.06)
    assert asked.client.gets().endswith(b'{"from":"base"}')
    for _ in range(25):
        if not asked.candidate.port.ended:
            asked.candidate.sends(b"x")  # a byte now and then is no way to stay
        stage.passes(0.1)
    assert asked.candidate.port.ended == "abort"
    assert stage.captured[0].candidate.failure == Outcome.TIMEOUT
    assert stage.state.idle


def test_the_baselines_failure_is_covered_by_a_candidate_that_answers(stage, ask) -> None:
    asked = ask()
    asked.baseline.sends(b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\nhalf")
    asked.baseline.closes()
    stage.passes(0.01)
    asked.candidate.sends(CANDIDATE)
    assert asked.client.gets().endswith(b'{"from":"cand"}')
    assert stage.captured[0].baseline.failure == Outcome.REFUSED


def test_where_both_fail_the_user_is_told_so(stage, ask) -> None:
    asked = ask()
    asked.baseline.sends(b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\nhalf")
    asked.baseline.closes()
    asked.candidate.closes()
    got = asked.client.gets()
    assert got.startswith(b"HTTP/1.1 502 ")
    assert got.count(b"HTTP/1.1") == 1


def test_an_answer_too_large_to_be_held_streams_from_the_baseline(stage, ask) -> None:
    asked = ask(maxBodyBytes=1000)
    asked.baseline.sends(b"HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n" + bytes(900))
    assert asked.client.gets() == b""
    asked.baseline.sends(bytes(200))
    assert asked.client.gets().endswith(bytes(1100))
    asked.candidate.sends(CANDIDATE)
    asked.baseline.sends(bytes(3900))
    assert asked.client.gets() == bytes(3900)
    assert not asked.client.port.ended
    assert stage.captured == []


def test_a_request_too_large_is_the_baselines_alone(stage, request_of) -> None:
    stage.mirror(weight=1.0, maxBodyBytes=1000)
    client = stage.client()
    client.sends(request_of("/x", bytes(1001)))
    stage.open()
    (model,) = stage.models
    model.sends(BASELINE)
    assert client.gets().endswith(b'{"from":"base"}')


def test_a_client_that_leaves_aborts_both(stage, ask) -> None:
    asked = ask()
    asked.client.leaves()
    assert (asked.baseline.port.ended, asked.candidate.port.ended) == ("abort", "abort")
    asked.baseline.closes()
    asked.candidate.closes()
    assert stage.captured == []
    assert stage.state.idle


def test_a_client_that_leaves_with_the_candidates_answer_leaves_the_pair(stage, ask) -> None:
    asked = ask()
    asked.candidate.sends(CANDIDATE)
    asked.client.leaves()
    asked.baseline.sends(BASELINE)
    assert len(stage.captured) == 1


def test_a_weight_moves_the_users_of_its_hash_and_no_others(stage, request_of) -> None:
    stage.mirror(weight=0.25)
    moved = []
    for n in range(200):
        client = stage.client()
        client.sends(request_of("/x", b"", f"X-Request-Id: u{n}", id=False))
        if any(pool is stage.state.candidate for pool, _ in stage.asked):
            moved.append(f"u{n}")
        stage.asked = []
    assert moved == [f"u{n}" for n in range(200) if position(f"u{n}", "r1") < 0.25]
    assert 25 < len(moved) < 75


def test_a_weight_ends_with_its_lease(stage, request_of) -> None:
    stage.mirror(weight=1.0, lease=15.0)
    assert stage.state.figures.weight == 1.0
    for seconds, connections in [(14.9, 2), (0.2, 1)]:
        stage.now += seconds
        stage.client().sends(request_of())
        assert len(stage.asked) == connections
        stage.asked = []
    stage.state.sweep()
    assert stage.state.figures.weight == 0.0


def test_what_is_not_mirrored_is_not_moved_either(stage, request_of) -> None:
    stage.mirror(weight=1.0, paths=["/infer"])
    stage.client().sends(request_of("/other"))
    stage.client().sends(request_of("/infer", method="PUT"))
    assert all(pool is stage.state.baseline for pool, _ in stage.asked)


def test_connections_to_the_candidate_end_with_its_weight(stage, ask) -> None:
    asked = ask()
    stage.mirror(weight=0.0)
    assert asked.candidate.port.ended == "abort"
    asked.baseline.sends(BASELINE)
    assert asked.client.gets().endswith(b'{"from":"base"}')
    assert stage.state.candidate is None


def test_a_candidate_that_cannot_be_reached_from_here_gets_no_users(stage, request_of) -> None:
    stage.mirror(weight=1.0, candidate="https://elsewhere")
    client = stage.client()
    client.sends(request_of())
    stage.open()
    (model,) = stage.models
    model.sends(BASELINE)
    assert client.gets().endswith(b'{"from":"base"}')


def test_the_candidates_connections_are_bounded(stage, request_of) -> None:
    stage.mirror(weight=1.0, maxInFlight=2)
    clients = [stage.client() for _ in range(6)]
    for client in clients:
        client.sends(request_of())
    stage.open()
    assert sum(model.is_candidate for model in stage.models) == 2
    for model in stage.models:
        if not model.is_candidate:
            model.sends(BASELINE)
    stage.passes(0.06)
    assert all(client.gets().endswith(b'{"from":"base"}') for client in clients)


def test_a_pipelined_request_is_asked_of_the_candidate_when_its_turn_comes(stage, request_of) -> None:
    stage.mirror(weight=1.0)
    client = stage.client()
    client.sends(request_of("/1") + request_of("/2"))
    stage.open()
    candidate = next(model for model in stage.models if model.is_candidate)
    assert candidate.gets().count(b"POST") == 1
    candidate.sends(CANDIDATE)
    assert client.gets().count(b"HTTP/1.1") == 1
    assert candidate.gets().startswith(b"POST /2 ")


def test_a_baseline_that_answers_before_the_request_is_whole_is_not_asked_again(stage) -> None:
    stage.mirror(weight=1.0)
    client = stage.client()
    client.sends(b"POST /x HTTP/1.1\r\nHost: a\r\nX-Request-Id: i\r\nContent-Length: 500\r\n\r\nhello")
    stage.open()
    stage.models[0].sends(reply(413, b"no"))
    assert client.gets().startswith(b"HTTP/1.1 413 ")
    client.sends(b"x" * 495)
    assert client.gets() == b""
    assert len(stage.models) == 1
    assert not stage.asked


def test_a_user_who_does_not_read_the_candidates_answer_leaves_the_baselines_alone(stage, ask) -> None:
    asked = ask()
    write = asked.client.port.write

    def write_more_than_fits(data: bytes) -> None:
        write(data)
        asked.client.conversation.pause_writing()

    asked.client.port.write = write_more_than_fits
    asked.candidate.sends(CANDIDATE)
    assert asked.baseline.port.reading
    asked.baseline.sends(BASELINE)
    assert [captured.baseline.failure for captured in stage.captured] == [None]


def test_users_who_leave_take_no_place_in_the_candidates_queue(stage, request_of) -> None:
    stage.mirror(weight=1.0, maxInFlight=1)
    for _ in range(3):
        client = stage.client()
        client.sends(request_of())
        client.leaves()
    Asked(stage, request_of()).candidate.sends(CANDIDATE)
    assert [str(given) for given in stage.state.figures.canary] == ["candidate"]


class Users:
    """One after the other, each with a connection of their own; the baseline answers at once."""

    def __init__(self, stage, request_of, **changes: object) -> None:
        stage.mirror(weight=1.0, grace=0.05, **changes)
        self.stage = stage
        self._request_of = request_of

    def ask(self, answer: bytes | None = None) -> bool:
        """Whether the candidate was asked; it then answers so, or not at all."""
        stage = self.stage
        client = stage.client()
        before = {id(model) for model in stage.models}
        client.sends(self._request_of())
        stage.open()
        asked = [model for model in stage.models if model.gets().startswith(b"POST") or id(model) not in before]
        for model in asked:
            if model.is_candidate and answer is not None:
                model.sends(answer)
        for model in asked:
            if not model.is_candidate:
                model.sends(BASELINE)
        if any(model.is_candidate for model in asked) and answer is None:
            assert client.gets() == b""
            stage.passes(0.06)  # the grace, and no more
        assert client.gets().count(b"HTTP/1.1 200") == 1
        return any(model.is_candidate for model in asked)


@pytest.mark.parametrize("answer", [None, reply(500, b"{}"), b"garbage\r\n\r\n", reply(200, b"<html>", "text/html")])
def test_after_failures_in_a_row_users_are_spared_until_one_of_them_is_answered(
    stage, request_of, answer: bytes | None
) -> None:
    users = Users(stage, request_of)
    assert [users.ask(answer) for _ in range(8)] == [True] * 5 + [False] * 3
    stage.passes(1.1)
    assert [users.ask(answer) for _ in range(3)] == [True, False, False]  # one probe, in vain
    stage.passes(1.1)
    assert not users.ask(answer)  # the pause is longer now
    stage.passes(1.0)
    assert [users.ask(CANDIDATE) for _ in range(3)] == [True] * 3
    counts = stage.state.figures.canary
    assert counts["skipped"] == 6
    assert counts["candidate"] == 3
    # Spared users are mirrored like all others: their pairs are the scorer's to make.
    assert sum(captured.candidate is None for captured in stage.captured) == 6


def test_requests_that_are_wrong_themselves_are_no_failures_of_the_candidate(stage, request_of) -> None:
    users = Users(stage, request_of)
    assert all(users.ask(reply(422, b"{}")) for _ in range(12))


def test_a_probe_whose_user_leaves_is_not_the_last(stage, request_of) -> None:
    users = Users(stage, request_of)
    for _ in range(5):
        users.ask(reply(500, b"{}"))
    stage.passes(1.1)
    client = stage.client()
    client.sends(request_of())
    assert stage.state.figures.canary.get("skipped", 0) == 0
    client.leaves()
    assert users.ask(CANDIDATE)


def test_another_candidate_starts_without_a_record(stage, request_of) -> None:
    users = Users(stage, request_of)
    for _ in range(5):
        users.ask(reply(500, b"{}"))
    assert not users.ask()
    stage.mirror(weight=1.0, run="r2", candidate="http://127.0.0.1:2")
    assert users.ask(CANDIDATE)


def _settled_at_once(asked: Asked) -> None:
    asked.candidate.sends(CANDIDATE)
    asked.baseline.sends(BASELINE)


def _baseline_after_the_grace(asked: Asked) -> None:
    asked.baseline.sends(BASELINE)
    asked.stage.passes(0.1)
    asked.candidate.sends(CANDIDATE)


def _candidate_fails(asked: Asked) -> None:
    asked.candidate.closes()
    asked.baseline.sends(BASELINE)


def _client_leaves(asked: Asked) -> None:
    asked.client.leaves()
    asked.baseline.closes()
    asked.candidate.closes()


def _too_large(asked: Asked) -> None:
    asked.baseline.sends(reply(200, b"x" * 2000))
    asked.candidate.sends(CANDIDATE)


@pytest.mark.parametrize(
    "end", [_settled_at_once, _baseline_after_the_grace, _candidate_fails, _client_leaves, _too_large]
)
def test_nothing_of_a_request_is_left_to_the_collector(stage, ask, end: Callable[[Asked], None]) -> None:
    """It looks once in many thousand requests, and each holds its body and both answers."""

    def alive() -> list[object]:
        return [found for found in gc.get_objects() if isinstance(found, UserExchange | Canary | CandidateAsk)]

    gc.collect()
    gc.disable()
    try:
        asked = ask(maxBodyBytes=1000)
        assert stage.state.held
        end(asked)
        stage.passes(1)  # timers
        assert stage.state.held == 0
        if asked.client.port.ended:
            del asked.client
        stage.captured.clear()
        assert not alive()
    finally:
        gc.enable()
