"""What is handed to the scorer, and when not."""

import threading
import time

import pytest
from tests.sidecar.live_path.processes import Connection, until
from tests.sidecar.live_path.two_models import BASELINE, Stage, User, playing, post, reply

from modelcanary_gate.vocabulary import Outcome

OK = reply(b"{}")


def ask(stage: Stage, message: bytes, answer: bytes = OK) -> User:
    """Until it has been answered."""
    user = stage.asks(message)
    stage.baseline.next().send(answer)
    assert user.gets()
    return user


def test_a_pair_holds_what_the_candidate_is_to_be_asked_and_what_the_baseline_said(stage: Stage) -> None:
    stage.mirror()
    began, came = time.time(), time.monotonic()
    headers = ["Authorization: Bearer secret", "Cookie: c", "Accept-Encoding: gzip", "accept-encoding: br", "X-Kept: 1"]
    user = stage.asks(post("/infer?a=1", b'{"x": 1}', *headers))
    asked = stage.baseline.next()
    stage.settle()
    answered = time.monotonic()
    asked.send(OK)
    assert user.gets()
    got = time.monotonic()
    captured = stage.captured()
    assert (captured.id, captured.minted) == ("q", False)
    assert began - 0.01 <= captured.time <= time.time()  # not the same clock as is read for durations
    assert (captured.method, captured.target) == (b"POST", b"/infer?a=1")
    assert captured.body == b'{"x": 1}'
    assert captured.headers == (
        b"X-ModelCanary-Shadow: 1\r\naccept-encoding: identity\r\nHost: fraud\r\nX-Request-Id: q\r\nX-Kept: 1\r\n"
    )
    baseline = captured.baseline
    assert (baseline.failure, baseline.status, baseline.body) == (None, 200, b"{}")
    assert baseline.headers == b"Content-Type: application/json\r\n"
    assert answered - asked.arrived <= baseline.latency <= got - came
    assert captured.candidate is None


def test_credentials_are_forwarded_where_the_user_says_so(stage: Stage) -> None:
    stage.mirror(forwardCredentials=True)
    ask(stage, post("/x", b"{}", "Authorization: Bearer secret", "Cookie: c", "Accept-Encoding: gzip"))
    assert stage.captured().headers == (
        b"X-ModelCanary-Shadow: 1\r\naccept-encoding: identity\r\nHost: fraud\r\nX-Request-Id: q\r\n"
        b"Authorization: Bearer secret\r\nCookie: c\r\n"
    )


def test_credentials_stay_out_of_copies_however_they_are_written_and_however_many_names_came_before(
    stage: Stage,
) -> None:
    stage.mirror()
    for n in range(5):
        ask(stage, post("/x", b"{}", *(f"X-{n}-{m}: 1" for m in range(200))))
        stage.captured()
    ask(stage, post("/x", b"{}", "aUTHORIZATION: Bearer secret", "cOOKIE: secret", "x-mODELcanary-a: secret"))
    headers = stage.captured().headers
    assert headers == (b"X-ModelCanary-Shadow: 1\r\naccept-encoding: identity\r\nHost: fraud\r\nX-Request-Id: q\r\n")


def test_only_posts_to_the_listed_paths_are_captured(stage: Stage) -> None:
    stage.mirror(paths=["/infer", "/other"])
    for target in ["/infer", "/infer?x=1", "/infer/2", "/infer/", "/Infer", "/other", "/inf"]:
        ask(stage, post(target))
    for method in ["PUT", "PATCH", "DELETE"]:
        ask(stage, post("/infer", method=method))
    assert [stage.captured().target for _ in range(3)] == [b"/infer", b"/infer?x=1", b"/other"]
    assert stage.all_captured() == []
    stage.counts("dropped", {})


def test_what_is_too_large_is_served_and_not_captured(stage: Stage) -> None:
    stage.mirror(maxBodyBytes=1000)
    ask(stage, post("/x", bytes(1001)))
    user = stage.asks(post())
    stage.baseline.next().send(reply(bytes(1001)))
    assert user.gets().endswith(b"\r\n\r\n" + bytes(1001))
    chunk = b"%x\r\n%b\r\n" % (600, bytes(600))
    user = stage.asks(post())
    stage.baseline.next().send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%b%b0\r\n\r\n" % (chunk, chunk))
    assert user.gets_until(b"0\r\n\r\n").endswith(b"0\r\n\r\n")
    ask(stage, post("/x", bytes(1000)), reply(bytes(1000)))
    captured = stage.captured()
    assert (captured.body, captured.baseline.body) == (bytes(1000), bytes(1000))
    assert stage.all_captured() == []
    stage.counts("dropped", {"tooLarge": 3})


@pytest.mark.parametrize("size", [47_000, 900_000], ids=["in messages", "in shared memory"])
def test_what_the_channel_has_no_room_for_is_counted_and_costs_no_user_an_answer(stage: Stage, size: int) -> None:
    stage.baseline.always = OK
    stage.mirror(maxBodyBytes=size)
    user = stage.user()
    body, asked = bytes(size), 0

    def full() -> bool:
        nonlocal asked
        user.sends(post("/x", body))
        assert user.gets().endswith(b"{}")
        asked += 1
        if asked % 20 == 0:
            stage.mirror(maxBodyBytes=size)  # the scorer lives, and does not read
        return asked % 20 == 0 and "queue" in stage.counted("dropped")

    until(full)
    stage.swept()
    dropped = stage.counted("dropped")
    assert set(dropped) == {"queue"}
    captured = stage.all_captured()  # which makes room
    assert all(each.body == body for each in captured)
    assert len(captured) + dropped["queue"] == asked
    assert 2 << 20 < len(captured) * size <= 16 << 20
    user.sends(post("/x", body))
    assert user.gets()
    assert stage.captured().body == body


def test_nothing_is_captured_while_the_scorer_sheds(stage: Stage) -> None:
    stage.tell(stage.instructions(), shedding=True)
    ask(stage, post())
    assert stage.all_captured() == []
    stage.counts("dropped", {"shed": 1})
    stage.tell(stage.instructions())
    ask(stage, post())
    assert stage.captured()
    stage.counts("dropped", {"shed": 1})


def test_what_the_baseline_fails_to_answer_is_a_pair_too() -> None:
    with playing("--answer-time", "500ms") as stage:
        stage.begin()
        stage.mirror()
        ask(stage, post(), reply(b"no", status="500 Oops"))
        assert ask(stage, post(), b"garbage").gets_bytes(1) == b""
        began = time.monotonic()
        user = stage.asks(post())
        asked = stage.baseline.next()
        assert user.gets().startswith(b"HTTP/1.1 504 ")
        asked.await_end()
        got = time.monotonic()
        pairs = [stage.captured().baseline for _ in range(3)]
        assert [pair.failure for pair in pairs] == [None, Outcome.UNDECODABLE, Outcome.TIMEOUT]
        assert [pair.status for pair in pairs] == [500, 0, 0]
        assert 0.5 <= pairs[2].latency <= got - began
        user = stage.asks(post())
        asked = stage.baseline.next()
        asked.send(b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\nhalf")
        asked.close()
        assert user.gets().endswith(b"half")  # and no more
        assert stage.captured().baseline.failure is Outcome.REFUSED
        stage.counts("dropped", {})
        stage.end()


def test_what_the_model_never_got_is_no_pair() -> None:
    with playing() as stage:
        stage.begin()
        stage.mirror()
        stage.baseline.stop()
        assert stage.asks(post()).gets().startswith(b"HTTP/1.1 502 ")
        assert stage.all_captured() == []
        stage.counts("dropped", {"notSent": 1})
        stage.end()


def test_a_client_that_leaves_takes_its_pair_with_it(stage: Stage) -> None:
    stage.mirror()
    user = stage.asks(post())
    asked = stage.baseline.next()
    user.leaves()
    asked.await_end()
    stage.counts("dropped", {"clientLeft": 1})
    assert stage.all_captured() == []


def test_a_client_that_leaves_before_its_request_is_whole_takes_its_pair_with_it(stage: Stage) -> None:
    stage.mirror()
    user = stage.asks(post("/x", None, "Content-Length: 500") + b"{")
    stage.settle()
    user.leaves()
    stage.counts("dropped", {"clientLeft": 1})
    assert stage.all_captured() == []


def test_bodies_are_captured_without_their_chunks(stage: Stage) -> None:
    def answer_in_chunks(connection: Connection) -> None:
        while not connection.buffer.endswith(b"0\r\n\r\n"):
            connection.buffer += connection.socket.recv(1 << 16)
        connection.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n[\r\n1\r\n]\r\n0\r\n\r\n")
        connection.socket.recv(1)

    stage.mirror()
    stage.baseline.hang_up()
    stage.baseline.play(answer_in_chunks)
    user = stage.asks(
        post("/x", None, "Transfer-Encoding: chunked") + b"2\r\n{}\r\n1;a=b\r\n \r\n0\r\nX-Trailer: 1\r\n\r\n"
    )
    assert user.gets_until(b"0\r\n\r\n").endswith(b"0\r\n\r\n")
    captured = stage.captured()
    stage.baseline.play()
    stage.baseline.hang_up()
    assert (captured.body, captured.baseline.body) == (b"{} ", b"[]")
    assert (captured.headers, captured.baseline.headers) == (
        b"X-ModelCanary-Shadow: 1\r\naccept-encoding: identity\r\nHost: fraud\r\nX-Request-Id: q\r\n",
        b"",
    )


def test_a_long_lived_connection_is_not_worn_out_by_heads_in_two_pieces(stage: Stage) -> None:
    user, other = stage.user(), stage.user()
    for _ in range(50):  # more bytes together than one head may have
        user.sends(post())
        asked = stage.baseline.next()
        asked.send(b"HTTP/1.1 200 OK\r\nX-Long: " + b"a" * 2000)
        other.sends(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")  # answered: the piece has been read
        assert other.gets().endswith(b"ok")
        asked.send(b"\r\nContent-Length: 2\r\n\r\nok")
        assert user.gets().endswith(b"ok")
    assert stage.baseline.connections <= 3  # of users and of `settle`; an idle one may have been left


def test_the_time_that_a_client_takes_to_send_is_not_the_models(stage: Stage) -> None:
    stage.mirror()
    user = stage.asks(post("/x", None, "Content-Length: 4") + b"{}")
    stage.settle()
    threading.Event().wait(0.2)
    rest = time.monotonic()
    user.sends(b"  ")
    stage.baseline.next().send(OK)
    assert user.gets()
    assert stage.captured().baseline.latency <= time.monotonic() - rest


def test_what_follows_is_captured_for_the_run_that_holds_then(stage: Stage) -> None:
    stage.mirror()
    user = stage.asks(post())
    asked = stage.baseline.next()
    stage.mirror(run="another")
    asked.send(BASELINE)
    assert user.gets()
    ask(stage, post("/then"))
    stage.run = "another"
    while stage.captured().target != b"/then":
        pass
