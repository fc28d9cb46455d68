"""Transcripts of the live path with a model: what it answers, and what it must not be believed."""

import pytest

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


@pytest.fixture
def asked(stage, request_of):
    """A client whose request is at a model, on a connection that has answered before."""
    client = stage.client()
    client.sends(request_of())
    stage.open()
    (model,) = stage.models
    model.sends(OK)
    client.gets()
    model.gets()
    client.sends(request_of("/now"))
    assert model.gets().startswith(b"POST /now ")
    return client, model


PASSED = {
    "plain": (OK, b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok", True),
    "100 first": (b"HTTP/1.1 100 Continue\r\n\r\n" + OK, b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok", True),
    "103 first": (
        b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" + OK,
        b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok",
        True,
    ),
    "204": (b"HTTP/1.1 204 No Content\r\n\r\n", b"HTTP/1.1 204 No Content\r\n\r\n", True),
    "304": (
        b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n",
        b"HTTP/1.1 304 Not Modified\r\ncontent-length: 5\r\n\r\n",
        True,
    ),
    "chunked": (
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2;x\r\nok\r\n0\r\nX-T: 1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
        True,
    ),
    "no reason": (
        b"HTTP/1.1 200\r\nContent-Length: 2\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok",
        True,
    ),
    "unknown status": (
        b"HTTP/1.1 299 Quite Good\r\nContent-Length: 2\r\n\r\nok",
        b"HTTP/1.1 299 \r\ncontent-length: 2\r\n\r\nok",
        True,
    ),
    "no body": (b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n", True),
    "Connection: close": (
        b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok",
        False,
    ),
    "HTTP/1.0": (
        b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok",
        False,
    ),
    "hop-by-hop": (
        b"HTTP/1.1 200 OK\r\nConnection: x-a\r\nX-A: 1\r\nKeep-Alive: 5\r\nX-B: 2\r\nContent-Length: 2\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\nX-B: 2\r\ncontent-length: 2\r\n\r\nok",
        True,
    ),
}


def _joined(chunked: bytes) -> bytes:
    """Chunks are cut where the reads were: only what they hold matters."""
    head, _, body = chunked.partition(b"\r\n\r\n")
    return head + b"|" + b"".join(line for line in body.split(b"\r\n") if not line.isdigit())


@pytest.mark.parametrize("by", [0, 1, 3])
@pytest.mark.parametrize("case", PASSED)
def test_answers_pass_framed_in_our_own_words(stage, asked, request_of, case: str, by: int) -> None:
    client, model = asked
    answer, expected, reusable = PASSED[case]
    model.sends(answer, by=by)
    got = client.gets()
    assert got == expected or (b"chunked" in expected and _joined(got) == _joined(expected))
    assert not client.port.ended
    assert model.port.ended == ("" if reusable else "close")
    client.sends(request_of("/next"))
    if reusable:
        assert model.gets().startswith(b"POST /next ")
    else:
        assert len(stage.asked) == 1


BAD = {
    "garbage": b"\x00\xff not http\r\n\r\n",
    "101": b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\nrawrawraw",
    "CL and TE": b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
    "CL twice": b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nok",
    "TE gzip, chunked": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
    "folded": b"HTTP/1.1 200 OK\r\nX: a\r\n b\r\nContent-Length: 2\r\n\r\nok",
    "bare LF": b"HTTP/1.1 200 OK\nContent-Length: 2\n\nok",
    "099": b"HTTP/1.1 099 No\r\nContent-Length: 2\r\n\r\nok",
    "HTTP/2": b"HTTP/2 200\r\nContent-Length: 2\r\n\r\nok",
    "many headers": b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 300 + b"Content-Length: 2\r\n\r\nok",
}


@pytest.mark.parametrize("by", [0, 1])
@pytest.mark.parametrize("case", BAD)
def test_an_answer_that_is_not_one_is_a_502_and_its_connection_is_gone(stage, asked, case: str, by: int) -> None:
    client, model = asked
    for start in range(0, len(BAD[case]), by or len(BAD[case])):
        if not model.port.ended:
            model.sends(BAD[case][start : start + (by or len(BAD[case]))])
    assert client.gets().startswith(b"HTTP/1.1 502 ")
    assert model.port.ended == "abort"
    assert client.port.ended == "eof"


def test_a_204_with_a_body_does_not_become_the_next_answer(stage, asked, request_of) -> None:
    client, model = asked
    model.sends(b"HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\nhello")
    assert client.gets() == b"HTTP/1.1 204 No Content\r\n\r\n"
    assert model.port.ended == "close"


@pytest.mark.parametrize(
    "extra", [b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nEVIL", b"EVIL", b"\r\nEVIL", b"HTTP/1.1 200"]
)
def test_bytes_behind_an_answer_close_its_connection(stage, asked, extra: bytes) -> None:
    client, model = asked
    model.sends(OK + extra)
    assert client.gets().endswith(b"ok")
    assert model.port.ended == "close"


def test_bytes_that_were_not_asked_for_close_an_idle_connection(stage, asked, request_of) -> None:
    client, model = asked
    model.sends(OK)
    client.gets()
    model.sends(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nEVIL")
    assert model.port.ended == "abort"
    client.sends(request_of())
    assert len(stage.asked) == 1  # a fresh connection
    assert client.gets() == b""


def test_a_head_answer_ends_with_its_head(stage, request_of) -> None:
    client = stage.client()
    client.sends(request_of("/x", None, method="HEAD"))
    stage.open()
    stage.models[0].sends(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello")
    assert client.gets() == b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n"
    assert not client.port.ended
    assert stage.models[0].port.ended == "close"


def test_a_refusal_of_a_head_request_has_no_body(stage, request_of) -> None:
    client = stage.client()
    client.sends(request_of("/x", None, method="HEAD"))
    stage.open()
    stage.models[0].closes()
    assert client.gets().endswith(b"content-length: 16\r\nconnection: close\r\n\r\n")


@pytest.mark.parametrize("by", [0, 1])
def test_an_answer_that_ends_with_its_connection_becomes_chunked(stage, asked, request_of, by: int) -> None:
    client, model = asked
    model.sends(b"HTTP/1.1 200 OK\r\nContent-Type: a/b\r\n\r\nuntil-eof", by=by)
    model.closes()
    got = client.gets()
    assert got.startswith(b"HTTP/1.1 200 OK\r\nContent-Type: a/b\r\ntransfer-encoding: chunked\r\n\r\n")
    assert _joined(got).endswith(b"|until-eof")
    assert got.endswith(b"0\r\n\r\n")
    assert not client.port.ended


def test_an_answer_without_length_that_was_reset_is_not_whole(stage, asked) -> None:
    client, model = asked
    model.sends(b"HTTP/1.1 200 OK\r\n\r\nuntil")
    model.closes(ConnectionResetError())
    assert not client.gets().endswith(b"0\r\n\r\n")
    assert client.port.ended == "abort"


def test_an_answer_that_breaks_off_breaks_the_clients_off(stage, asked) -> None:
    client, model = asked
    model.sends(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nok")
    model.closes()
    assert client.gets().endswith(b"\r\n\r\nok")
    assert client.port.ended == "abort"
    assert stage.state.figures.broken_off == 1


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE"])
def test_a_connection_that_the_model_closed_first_costs_one_more_try(stage, asked, request_of, method: str) -> None:
    client, model = asked
    model.sends(OK)
    client.gets()
    client.sends(request_of("/again", b"abc", method=method))
    before = model.gets()
    model.closes()
    stage.open()
    assert stage.models[-1].gets() == before  # the same bytes, on a fresh connection
    stage.models[-1].closes()  # once, not twice
    assert client.gets().startswith(b"HTTP/1.1 502 ")
    assert stage.state.baseline.retries == 1
    assert not stage.asked


def test_a_post_is_tried_again_only_where_the_model_never_got_it(stage, asked, monkeypatch) -> None:
    client, model = asked
    model.closes()
    assert client.gets().startswith(b"HTTP/1.1 502 ")
    assert not stage.asked


def test_a_post_that_the_model_never_got_is_tried_again(stage, asked, monkeypatch) -> None:
    client, model = asked
    monkeypatch.setattr(type(model.connection), "unread_by_model", lambda connection: True)
    model.closes(ConnectionResetError())
    stage.open()
    assert stage.models[-1].gets().startswith(b"POST /now ")
    stage.models[-1].sends(OK)
    assert client.gets().endswith(b"ok")


def test_what_was_begun_to_be_answered_is_not_tried_again(stage, asked, request_of, monkeypatch) -> None:
    client, model = asked
    monkeypatch.setattr(type(model.connection), "unread_by_model", lambda connection: True)
    model.sends(b"HTTP/1.1 2")
    model.closes()
    assert client.gets().startswith(b"HTTP/1.1 502 ")
    assert not stage.asked


def test_a_fresh_connection_that_breaks_is_no_idle_one(stage, request_of) -> None:
    client = stage.client()
    client.sends(request_of(method="GET", body=None))
    stage.open()
    stage.models[0].closes()
    assert client.gets().startswith(b"HTTP/1.1 502 ")
    assert not stage.asked


def test_a_request_too_long_to_be_kept_is_not_tried_again(stage, asked, request_of) -> None:
    client, model = asked
    model.sends(OK)
    client.gets()
    client.sends(request_of("/put", bytes(300_000), method="PUT"))
    model.closes()
    assert client.gets().startswith(b"HTTP/1.1 502 ")


def test_a_model_that_says_nothing_is_a_504(make_stage, request_of) -> None:
    stage = make_stage(answer_time=10.0)
    client = stage.client()
    client.sends(request_of())
    stage.open()
    stage.passes(9.0)
    assert client.gets() == b""
    stage.passes(2.0)
    assert client.gets().startswith(b"HTTP/1.1 504 ")
    assert stage.models[0].port.ended == "abort"


def test_as_long_as_bytes_come_an_answer_may_take_its_time(make_stage, request_of) -> None:
    stage = make_stage(answer_time=10.0)
    client = stage.client()
    client.sends(request_of())
    stage.open()
    stage.models[0].sends(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n")
    for _ in range(9):
        stage.passes(8.0)
        stage.models[0].sends(b"x")
    assert client.gets().endswith(b"x" * 9)


@pytest.mark.parametrize("head", [b"HTTP/1.1 200 OK\r\nX: ", b"HTTP/1.1 100 Continue\r\n\r\n"])
def test_a_head_without_an_end_is_a_502(stage, asked, head: bytes) -> None:
    client, model = asked
    while not model.port.ended:
        model.sends(head * 100)
    assert client.gets().startswith(b"HTTP/1.1 502 ")


def test_the_latency_of_a_second_try_is_its_own(stage, asked, request_of) -> None:
    stage.mirror()
    client, model = asked
    model.sends(OK)
    client.sends(b"POST /again HTTP/1.1\r\nHost: a\r\nX-Request-Id: i\r\nContent-Length: 4\r\n\r\nab")
    client.sends(b"cd")
    type(model.connection).unread_by_model, kept = lambda connection: True, type(model.connection).unread_by_model
    try:
        stage.now += 3.0
        model.closes(ConnectionResetError())
    finally:
        type(model.connection).unread_by_model = kept
    stage.open()
    stage.now += 0.25
    stage.models[-1].sends(OK)
    assert [captured.baseline.latency for captured in stage.captured] == [0.25]
