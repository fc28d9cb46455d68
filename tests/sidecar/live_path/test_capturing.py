"""What is handed to the scorer, and when not."""

from dataclasses import replace

import pytest

from modelcanary_gate.protocol import Instructions
from modelcanary_gate.sampling import position
from modelcanary_gate.vocabulary import Outcome
from modelcanary_sidecar.capture import LiveAnswer
from modelcanary_sidecar.channel import News
from modelcanary_sidecar.figures import Drop

OK = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"


def ask(stage, message: bytes, answer: bytes = OK):
    client = stage.client()
    client.sends(message)
    stage.open()
    model = next(model for model in stage.models if model.connection.exchange is not None)
    stage.now += 0.25
    model.sends(answer)
    return client


def test_a_pair_holds_what_the_candidate_is_to_be_asked_and_what_the_baseline_said(stage, request_of) -> None:
    stage.mirror()
    ask(
        stage,
        request_of(
            "/infer?a=1",
            b'{"x": 1}',
            "Authorization: Bearer secret",
            "Cookie: c",
            "Accept-Encoding: gzip",
            "accept-encoding: br",
            "X-Kept: 1",
        ),
    )
    (captured,) = stage.captured
    assert captured.id == "q0"
    assert not captured.minted
    assert captured.run == "r1"
    assert captured.time == 1.7e9 + 1000.0
    assert (captured.method, captured.target) == (b"POST", b"/infer?a=1")
    assert captured.body == b'{"x": 1}'
    assert captured.headers == (
        b"X-ModelCanary-Shadow: 1\r\naccept-encoding: identity\r\nHost: fraud\r\nX-Request-Id: q0\r\nX-Kept: 1\r\n"
    )
    assert captured.baseline == LiveAnswer(None, 200, 0.25, b"Content-Type: application/json\r\n", b"{}")
    assert captured.candidate is None


def test_the_user_gets_the_answer_first(stage, request_of) -> None:
    stage.mirror()
    got_at_offer = []
    client = stage.client()
    stage.state._offer = lambda captured: not got_at_offer.append(client.port.written)
    client.sends(request_of())
    stage.open()
    stage.models[0].sends(OK)
    assert got_at_offer[0].endswith(b"{}")


def test_credentials_are_forwarded_where_the_user_says_so(stage, request_of) -> None:
    stage.mirror(forwardCredentials=True)
    ask(stage, request_of("/x", b"{}", "Authorization: Bearer secret", "Cookie: c"))
    assert b"Authorization: Bearer secret\r\nCookie: c\r\n" in stage.captured[0].headers


def test_a_minted_id_goes_to_both_models(stage, request_of) -> None:
    stage.mirror()
    client = ask(stage, request_of(id=False))
    (captured,) = stage.captured
    assert captured.minted
    assert f"X-Request-Id: {captured.id}\r\n".encode() in captured.headers
    assert f"X-Request-Id: {captured.id}\r\n".encode() in client.gets()


@pytest.mark.parametrize(
    ("headers", "id", "minted"),
    [
        (["X-Request-Id: a", "Ce-Id: b"], "a", False),
        (["Ce-Id: b"], "b", False),
        (["X-Request-Id:", "Ce-Id: b"], "b", False),
        (["x-request-id: caf\u00e9"], "caf\u00e9", False),
    ],
)
def test_the_id_is_the_id_headers_else_ce_id(stage, request_of, headers: list[str], id: str, minted: bool) -> None:
    stage.mirror()
    ask(stage, request_of("/x", b"", *headers, id=False))
    assert (stage.captured[0].id, stage.captured[0].minted) == (id, minted)


def test_instructions_may_name_another_id_header(stage, request_of) -> None:
    stage.mirror(idHeader="X-Trace")
    ask(stage, request_of("/x", b"", "x-trace: t1"))
    assert stage.captured[0].id == "t1"
    client = ask(stage, request_of("/x", b""))
    assert b"X-Trace: " in client.gets()


def test_an_id_that_cannot_be_one_is_served_and_counted(stage, request_of) -> None:
    stage.mirror()
    client = ask(stage, request_of("/x", b"", "X-Request-Id: " + "a" * 300, id=False))
    assert client.gets().startswith(b"HTTP/1.1 200 ")
    assert stage.captured == []
    assert stage.state.figures.dropped == {"id": 1}


def test_nothing_is_captured_without_instructions(stage, request_of) -> None:
    ask(stage, request_of())
    stage.mirror(run="")
    ask(stage, request_of())
    assert stage.captured == []
    assert stage.state.figures.dropped == {}


def test_only_posts_to_the_listed_paths_are_captured(stage, request_of) -> None:
    stage.mirror(paths=["/infer"])
    for target, method in [("/infer", "POST"), ("/infer?x=1", "POST"), ("/infer/2", "POST"), ("/infer", "PUT")]:
        ask(stage, request_of(target, method=method))
    assert [captured.target for captured in stage.captured] == [b"/infer", b"/infer?x=1"]


def test_the_share_is_chosen_by_the_hash_of_the_id(stage, request_of) -> None:
    stage.mirror(share=0.3)
    client = stage.client()
    for n in range(300):
        client.sends(request_of("/x", b"", f"X-Request-Id: id-{n}", id=False))
        stage.open()
        stage.models[0].sends(OK)
    expected = [f"id-{n}" for n in range(300) if position(f"id-{n}") < 0.3]
    assert [captured.id for captured in stage.captured] == expected
    assert 60 < len(expected) < 120
    assert stage.state.figures.dropped == {}


def test_what_is_too_large_is_served_and_not_captured(stage, request_of) -> None:
    stage.mirror(maxBodyBytes=1000)
    ask(stage, request_of("/x", bytes(1001)))
    client = ask(stage, request_of(), b"HTTP/1.1 200 OK\r\nContent-Length: 1001\r\n\r\n" + bytes(1001))
    assert client.gets().endswith(bytes(1001))
    ask(stage, request_of("/x", bytes(1000)), b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n" + bytes(1000))
    assert len(stage.captured) == 1
    assert stage.state.figures.dropped == {"tooLarge": 2}


def test_bodies_that_are_kept_for_pairs_are_bounded_in_sum(stage, request_of) -> None:
    stage.mirror()
    stage.state.most_held = 10_000
    clients = [stage.client() for _ in range(3)]
    for client in clients:
        client.sends(request_of("/x", bytes(4000)))
    stage.open()
    assert stage.state.held == 8000
    assert stage.state.figures.dropped == {"held": 1}
    first, second, third = stage.models
    first.sends(b"HTTP/1.1 200 OK\r\nContent-Length: 3000\r\n\r\n" + bytes(1000))
    assert stage.state.held == 9000
    first.sends(bytes(2000))
    assert stage.state.figures.dropped == {"held": 2}  # the answer counts too
    assert stage.state.held == 4000
    for model in (second, third):
        model.sends(OK)
    assert [client.gets()[:13] for client in clients] == [b"HTTP/1.1 200 "] * 3
    assert len(stage.captured) == 1
    assert stage.state.held == 0


def test_one_body_alone_has_its_own_bound(stage, request_of) -> None:
    stage.mirror()
    stage.state.most_held = 10_000
    ask(stage, request_of("/x", bytes(20_000)), b"HTTP/1.1 200 OK\r\nContent-Length: 20000\r\n\r\n" + bytes(20_000))
    assert len(stage.captured) == 1
    assert stage.state.held == 0


@pytest.mark.parametrize("end", ["client", "model", "late"])
def test_what_was_kept_is_let_go_however_a_request_ends(stage, request_of, end: str) -> None:
    stage.mirror()
    client = stage.client()
    client.sends(request_of("/x", bytes(4000))[:-1])
    stage.open()
    assert stage.state.held == 3999
    if end == "client":
        client.leaves()
    elif end == "model":
        stage.models[0].closes()
    else:
        client.sends(b"\0")
        stage.passes(61)
    assert stage.state.held == 0


def test_what_the_channel_has_no_room_for_is_counted(stage, request_of) -> None:
    stage.mirror()
    stage.room = False
    client = ask(stage, request_of())
    assert client.gets().startswith(b"HTTP/1.1 200 ")
    assert stage.state.figures.dropped == {"queue": 1}
    assert stage.state.figures.captured == 0


def test_nothing_is_captured_while_the_scorer_sheds_or_is_silent(stage, request_of) -> None:
    news = News(Instructions(1, "r", "http://c", 1.0), stage.now, shedding=True)
    stage.state.hear(news)
    ask(stage, request_of())
    assert stage.captured == []
    assert stage.state.figures.dropped == {"shed": 1}
    stage.state.hear(replace(news, shedding=False))
    ask(stage, request_of())
    assert len(stage.captured) == 1
    stage.passes(6.0)
    ask(stage, request_of())
    assert len(stage.captured) == 1


def test_what_the_baseline_fails_to_answer_is_a_pair_too(make_stage, request_of) -> None:
    stage = make_stage(answer_time=10.0)
    stage.mirror()
    ask(stage, request_of(), b"HTTP/1.1 500 Oops\r\nContent-Length: 2\r\n\r\nno")
    ask(stage, request_of(), b"garbage")
    client = stage.client()
    client.sends(request_of())
    stage.open()
    stage.passes(11.0)
    assert client.gets().startswith(b"HTTP/1.1 504 ")
    assert [captured.baseline.failure for captured in stage.captured] == [
        None,
        Outcome.UNDECODABLE,
        Outcome.TIMEOUT,
    ]
    assert [captured.baseline.status for captured in stage.captured] == [500, 0, 0]


def test_what_the_model_never_got_is_no_pair(stage, request_of) -> None:
    stage.mirror()
    client = stage.client()
    client.sends(request_of())
    stage.refuse()
    assert client.gets().startswith(b"HTTP/1.1 502 ")
    assert stage.captured == []
    assert stage.state.figures.dropped == {"notSent": 1}


def test_a_client_that_leaves_takes_its_pair_with_it(stage, request_of) -> None:
    stage.mirror()
    client = stage.client()
    client.sends(request_of())
    stage.open()
    client.leaves()
    stage.models[0].closes()
    assert stage.captured == []
    assert stage.state.figures.dropped == {"clientLeft": 1}


def test_bodies_are_captured_without_their_chunks(stage) -> None:
    stage.mirror()
    ask(
        stage,
        b"POST /x HTTP/1.1\r\nHost: a\r\nX-Request-Id: i\r\nTransfer-Encoding: chunked\r\n\r\n"
        b"2\r\n{}\r\n1\r\n \r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n[\r\n1\r\n]\r\n0\r\n\r\n",
    )
    (captured,) = stage.captured
    assert (captured.body, captured.baseline.body) == (b"{} ", b"[]")
    assert b"ncoding: chunked" not in captured.headers + captured.baseline.headers


def test_credentials_stay_out_of_copies_however_they_are_written_and_however_many_names_came_before(
    stage, request_of
) -> None:
    stage.mirror()
    for n in range(5):
        ask(stage, request_of("/x", b"{}", *(f"X-{n}-{m}: 1" for m in range(200))))
    ask(stage, request_of("/x", b"{}", "aUTHORIZATION: Bearer secret", "cOOKIE: secret", "x-mODELcanary-a: 1"))
    assert b"secret" not in stage.captured[-1].headers
    assert stage.captured[-1].headers.startswith(b"X-ModelCanary-Shadow: 1\r\n")
    assert stage.captured[-1].headers.lower().count(b"x-modelcanary") == 1


def test_a_long_lived_connection_is_not_worn_out_by_heads_in_two_pieces(stage, request_of) -> None:
    client = stage.client()
    for _ in range(400):
        client.sends(request_of())
        stage.open()
        stage.models[0].sends(b"HTTP/1.1 200 OK\r\nX-Long: " + b"a" * 1000)
        stage.models[0].sends(b"\r\nContent-Length: 2\r\n\r\nok")
        assert client.gets().endswith(b"ok")
    assert len(stage.models) == 1


def test_the_time_that_a_client_takes_to_send_is_not_the_models(stage) -> None:
    stage.mirror()
    client = stage.client()
    client.sends(b"POST /x HTTP/1.1\r\nHost: a\r\nX-Request-Id: i\r\nContent-Length: 4\r\n\r\n{}")
    stage.open()
    stage.now += 3.0
    client.sends(b"  ")
    stage.now += 0.25
    stage.models[0].sends(OK)
    assert stage.captured[0].baseline.latency == 0.25


def test_what_the_scorer_is_too_silent_for_is_counted_and_said_once(stage, request_of, caplog) -> None:
    stage.mirror()
    stage.passes(6)
    ask(stage, request_of())
    ask(stage, request_of())
    assert stage.captured == []
    assert stage.state.figures.dropped == {Drop.SILENCE: 2}
    assert stage.state.figures.silence > 5.0
    assert [record.message for record in caplog.records] == [
        "the scorer has said nothing for 5 s: users are served, nothing is mirrored"
    ]
    stage.mirror()
    ask(stage, request_of())
    assert len(stage.captured) == 1


def test_a_scorer_that_never_says_anything_is_missed(stage, caplog) -> None:
    stage.passes(6)
    assert "the scorer has said nothing" in caplog.text


@pytest.mark.parametrize("where", ["_offer", "sampler"])
def test_a_fault_of_ours_costs_a_pair_and_no_user_an_answer(stage, request_of, caplog, where: str) -> None:
    stage.mirror()

    class Broken:
        def __call__(self, captured: object) -> bool:
            raise TypeError("a fault")

        admit = __call__

    setattr(stage.state, where, Broken())
    for _ in range(2):
        client = stage.client()
        client.sends(request_of())
        stage.open()
        stage.models[0].sends(OK)
        assert client.gets().endswith(b"{}")
    assert len(stage.models) == 1  # and the connection was used again
    assert stage.state.figures.dropped == {Drop.FAULT: 2}
    assert [record.message for record in caplog.records] == ["a request is not mirrored"]
    assert "a fault" in caplog.text


def test_nothing_is_captured_for_a_moment_after_the_way_to_the_scorer_was_full(stage, request_of) -> None:
    stage.mirror()
    stage.state.lost(7)
    client = ask(stage, request_of(), OK)  # a quarter of a second passes in it
    assert client.gets().endswith(b"{}")
    assert stage.captured == []
    assert stage.state.figures.dropped == {Drop.QUEUE: 8}
    ask(stage, request_of())
    assert len(stage.captured) == 1
