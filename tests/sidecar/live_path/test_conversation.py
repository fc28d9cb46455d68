"""Transcripts of one client with the live path."""

import gc
import socket

import pytest
from tests.sidecar.live_path.conftest import Port

from modelcanary_sidecar.client import Client as Connected
from modelcanary_sidecar.conversation import Conversation
from modelcanary_sidecar.model_connection import ModelConnection

OK = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 2\r\n\r\nok"
SENT_ON = b"POST /infer HTTP/1.1\r\nHost: a\r\ncontent-length: 5\r\n\r\nhello"
HOST = b"Host: a\r\n"
ID = b"X-Request-Id: i\r\n"


def test_a_request_and_its_answer_pass(stage, request_of, read_answers) -> None:
    client = stage.client()
    client.sends(request_of("/infer?x=1", b"hello", "Content-Type: text/plain"))
    stage.open()
    (model,) = stage.models
    assert model.gets() == (
        b"POST /infer?x=1 HTTP/1.1\r\nHost: fraud\r\nX-Request-Id: q0\r\nContent-Type: text/plain\r\n"
        b"content-length: 5\r\n\r\nhello"
    )
    model.sends(OK)
    assert client.gets() == b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\ncontent-length: 2\r\n\r\nok"
    assert not client.port.ended
    client.sends(request_of())
    assert model.gets().startswith(b"POST /infer HTTP/1.1")  # on the same connection
    assert len(stage.models) == 1


def test_lengths_are_sent_on_without_their_zeros(stage) -> None:
    client = stage.client()
    client.sends(b"POST /infer HTTP/1.1\r\n" + HOST + ID + b"Content-Length: 0000000000000000000000005\r\n\r\nhello")
    stage.open()
    (model,) = stage.models
    assert b"\r\ncontent-length: 5\r\n\r\nhello" in model.gets()
    model.sends(OK.replace(b"Length: 2", b"Length: 000000000000000000000002"))
    assert client.gets().endswith(b"\r\ncontent-length: 2\r\n\r\nok")
    client.sends(b"POST /infer HTTP/1.1\r\n" + HOST + ID + b"Content-Length: 000\r\n\r\n")
    assert b"\r\ncontent-length: 0\r\n\r\n" in model.gets()


@pytest.mark.parametrize(
    "message",
    [
        b"POST /a HTTP/1.1\r\n" + HOST + ID + b"Content-Length: 5\r\n\r\nhello",
        b"POST /a HTTP/1.1\r\n" + HOST + ID + b"Transfer-Encoding: chunked\r\n\r\n5;x\r\nhello\r\n0\r\nX-T: 1\r\n\r\n",
        b"GET /a HTTP/1.1\r\n" + HOST + ID + b"\r\n",
        b"\r\nPOST /a HTTP/1.1\r\n" + HOST + ID + b"Content-Length: 5\r\n\r\nhello",
    ],
)
def test_however_it_is_split_the_model_gets_the_same(make_stage, message: bytes) -> None:
    def without_chunks(sent: bytes) -> bytes:
        head, _, body = sent.partition(b"\r\n\r\n")
        return head + b"|" + (b"hello" if b"h" in body and b"o" in body else body)

    seen = set()
    for by in range(1, len(message) + 1):
        stage = make_stage()
        client = stage.client()
        client.sends(message, by=by)
        stage.open()
        seen.add(without_chunks(stage.models[0].gets()))
        stage.models[0].sends(OK, by=by)
        assert client.gets().endswith(b"\r\n\r\nok")
    assert len(seen) == 1
    assert b"X-T" not in seen.pop()


REFUSED = {
    "CL twice, different": (400, b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello"),
    "CL twice, the same": (400, b"Content-Length: 5\r\nContent-Length: 5\r\n\r\nhello"),
    "CL list": (400, b"Content-Length: 5, 5\r\n\r\nhello"),
    "CL and TE": (400, b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
    "TE and CL": (400, b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n"),
    "TE xchunked": ((400, 501), b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n"),
    "TE chunked, identity": ((400, 501), b"Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n"),
    "TE gzip, chunked": (501, b"Transfer-Encoding: gzip, chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"),
    "TE twice": ((400, 501), b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
    "TE space before colon": (400, b"Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n"),
    "TE vertical tab": (400, b"Transfer-Encoding:\x0bchunked\r\n\r\n0\r\n\r\n"),
    "TE folded": (400, b"Transfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n"),
    "folded": (400, b"X-A: 1\r\n 2\r\nContent-Length: 5\r\n\r\nhello"),
    "CL +5": (400, b"Content-Length: +5\r\n\r\nhello"),
    "CL 0x5": (400, b"Content-Length: 0x5\r\n\r\nhello"),
    "CL 5 6": (400, b"Content-Length: 5 6\r\n\r\nhello"),
    "CL empty": (400, b"Content-Length:\r\n\r\nhello"),
    "CL -1": (400, b"Content-Length: -1\r\n\r\nhello"),
    "CL 2^64+5": (400, b"Content-Length: 18446744073709551621\r\n\r\nhello"),
    "bare LF": (400, b"X-A: 1\nX-B: 2\r\nContent-Length: 5\r\n\r\nhello"),
    "bare CR": (400, b"X-A: 1\rX-B: 2\r\nContent-Length: 5\r\n\r\nhello"),
    "NUL": (400, b"X-A: 1\x002\r\nContent-Length: 5\r\n\r\nhello"),
    "control character": (400, b"X-A: 1\x012\r\nContent-Length: 5\r\n\r\nhello"),
    "empty name": (400, b": v\r\nContent-Length: 5\r\n\r\nhello"),
    "no colon": (400, b"garbage\r\nContent-Length: 5\r\n\r\nhello"),
    "second Host": (400, b"Host: b\r\nContent-Length: 5\r\n\r\nhello"),
    "unknown expectation": (400, b"Expect: 200-ok\r\nContent-Length: 5\r\n\r\nhello"),
    "70 KB of header": (431, b"X-A: " + b"a" * 70000 + b"\r\nContent-Length: 5\r\n\r\nhello"),
    "300 headers": (431, b"".join(b"X-%d: 1\r\n" % n for n in range(300)) + b"\r\n"),
}
REFUSED_WHOLE = {
    "bare LF lines": (400, b"POST /x HTTP/1.1\nHost: a\nContent-Length: 5\n\nhello"),
    "first header begins with a space": (400, b"POST /x HTTP/1.1\r\n Host: a\r\n\r\n"),
    "no Host": (400, b"POST /x HTTP/1.1\r\nContent-Length: 5\r\n\r\nhello"),
    "absolute-form for another host": (400, b"POST http://b/x HTTP/1.1\r\nHost: a\r\n\r\n"),
    "CONNECT": (400, b"CONNECT a:443 HTTP/1.1\r\nHost: a\r\n\r\n"),
    "space in target": (400, b"POST /x y HTTP/1.1\r\nHost: a\r\n\r\n"),
    "fragment in target": (400, b"POST /x#y HTTP/1.1\r\nHost: a\r\n\r\n"),
    "1.0 with TE": (400, b"POST /x HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
    "HTTP/2.0": ((400, 505), b"POST /x HTTP/2.0\r\nHost: a\r\n\r\n"),
    "HTTP/1.10": (400, b"POST /x HTTP/1.10\r\nHost: a\r\n\r\n"),
    "lower-case method": (400, b"post /x HTTP/1.1\r\nHost: a\r\n\r\n"),
    "TLS": (400, b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\0" * 40),
}


@pytest.mark.parametrize("by", [0, 1, 7])
@pytest.mark.parametrize("case", [*REFUSED, *REFUSED_WHOLE])
def test_what_can_be_read_in_two_ways_is_refused_and_the_connection_closed(stage, case: str, by: int) -> None:
    if case in REFUSED:
        expected, rest = REFUSED[case]
        message = b"POST /x HTTP/1.1\r\n" + HOST + rest
    else:
        expected, message = REFUSED_WHOLE[case]
    client = stage.client()
    client.sends(message, by=by)
    answer = client.gets()
    assert int(answer[9:12]) in (expected if isinstance(expected, tuple) else (expected,))
    assert answer.count(b"HTTP/1.1 ") == 1
    assert b"connection: close" in answer
    assert client.port.ended == "eof"
    stage.open()
    for model in stage.models:
        assert b"hello" not in model.gets()


@pytest.mark.parametrize(
    "chunks",
    [
        b"5;a\nhello\r\n0\r\n\r\n",
        b"0x5\r\nhello\r\n0\r\n\r\n",
        b"5 \r\nhello\r\n0\r\n\r\n",
        b"+5\r\nhello\r\n0\r\n\r\n",
        b"fffffffffffffffff\r\nhello\r\n0\r\n\r\n",
        b"5\nhello\n0\n\n",
        b"5\r\nhelloXX0\r\n\r\n",
    ],
)
@pytest.mark.parametrize("by", [0, 1])
def test_malformed_chunks_break_the_request_off(stage, chunks: bytes, by: int) -> None:
    client = stage.client()
    client.sends(b"POST /x HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n")
    stage.open()
    (model,) = stage.models
    client.sends(chunks, by=by)
    assert client.gets().startswith(b"HTTP/1.1 400 ")
    assert model.port.ended == "abort"  # it never sees the request's end
    assert not model.gets().endswith(b"0\r\n\r\n")


def test_a_chunked_body_is_framed_anew_and_its_trailers_dropped(stage) -> None:
    client = stage.client()
    client.sends(
        b"POST /x HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n"
        b"5;ext=1\r\nhello\r\n0\r\nX-Length: 99\r\nX-T: 1\r\n\r\n"
    )
    stage.open()
    sent = stage.models[0].gets()
    assert sent.endswith(b"transfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n")
    assert b"X-Length" not in sent


def test_an_absolute_target_for_the_same_host_becomes_a_path(stage) -> None:
    client = stage.client()
    client.sends(b"GET http://A/x?y=1 HTTP/1.1\r\n" + HOST + b"\r\n")
    stage.open()
    assert stage.models[0].gets().startswith(b"GET /x?y=1 HTTP/1.1\r\n")


def test_what_is_between_two_hops_stays_there(stage) -> None:
    client = stage.client()
    client.sends(
        b"GET /x HTTP/1.1\r\n" + HOST + b"Connection: keep-alive, X-Secret, host\r\nX-Secret: 1\r\nTE: trailers\r\n"
        b"Keep-Alive: timeout=5\r\nProxy-Authorization: x\r\nX-ModelCanary-Shadow: 1\r\n"
        b"x-modelcanary-anything: 2\r\nX-Kept: 3\r\n" + ID + b"\r\n"
    )
    stage.open()
    assert stage.models[0].gets() == (b"GET /x HTTP/1.1\r\nHost: a\r\nX-Kept: 3\r\nX-Request-Id: i\r\n\r\n")


@pytest.mark.parametrize("by", [0, 1, 13])
def test_an_upgrade_is_answered_in_plain_http_with_its_body_as_a_body(stage, by: int) -> None:
    client = stage.client()
    client.sends(
        b"POST /x HTTP/1.1\r\n" + HOST + ID + b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n"
        b"HTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA\r\nContent-Length: 38\r\n\r\n"
        b"GET /smuggled HTTP/1.1\r\nHost: evil\r\n\r\n",
        by=by,
    )
    stage.open()
    assert len(stage.models) == 1
    sent = stage.models[0].gets()
    assert sent.startswith(b"POST /x HTTP/1.1\r\nHost: a\r\nX-Request-Id: i\r\ncontent-length: 38\r\n\r\nGET /smuggled")
    stage.models[0].sends(OK)
    assert client.gets().endswith(b"ok")
    assert stage.models[0].gets() == b""  # no second request


def test_many_upgrades_in_a_row_are_no_way_to_keep_us_busy(stage) -> None:
    client = stage.client()
    client.sends((b"GET /x HTTP/1.1\r\n" + HOST + b"Connection: Upgrade\r\nUpgrade: x\r\n\r\n") * 500)
    stage.open()
    for _ in range(10):
        stage.models[0].sends(OK)
    assert b"HTTP/1.1 400 " in client.gets()


def test_continue_is_ours_to_say_and_the_models_is_swallowed(stage) -> None:
    client = stage.client()
    client.sends(b"POST /x HTTP/1.1\r\n" + HOST + ID + b"Expect: 100-continue\r\nContent-Length: 5\r\n\r\n")
    assert client.gets() == b"HTTP/1.1 100 Continue\r\n\r\n"
    client.sends(b"hello")
    stage.open()
    assert b"xpect" not in stage.models[0].gets()
    stage.models[0].sends(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" + OK)
    assert client.gets().startswith(b"HTTP/1.1 200 OK\r\n")


def test_pipelined_requests_are_answered_in_order_and_one_at_a_time(stage, request_of) -> None:
    client = stage.client()
    client.sends(b"".join(request_of(f"/{n}", b"abc") for n in range(4)))
    stage.open()
    (model,) = stage.models
    assert not client.port.reading  # enough for now
    for n in range(4):
        assert model.gets().startswith(b"POST /%d HTTP/1.1\r\n" % n)
        model.sends(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n%d" % n)
        assert client.gets().endswith(b"\r\n\r\n%d" % n)
    assert client.port.reading
    assert len(stage.models) == 1


def test_a_pipelined_continue_waits_for_its_turn(stage, request_of) -> None:
    client = stage.client()
    client.sends(request_of() + b"POST /2 HTTP/1.1\r\n" + HOST + b"Expect: 100-continue\r\nContent-Length: 5\r\n\r\n")
    assert client.gets() == b""
    stage.open()
    stage.models[0].sends(OK)
    assert client.gets().endswith(b"\r\n\r\nokHTTP/1.1 100 Continue\r\n\r\n")


def test_a_bad_request_behind_a_good_one_is_refused_after_the_good_one_is_answered(stage, request_of) -> None:
    client = stage.client()
    client.sends(request_of() + b"GARBAGE\r\n\r\n")
    stage.open()
    assert client.gets() == b""
    stage.models[0].sends(OK)
    first, _, second = client.gets().partition(b"\r\n\r\nok")
    assert first.startswith(b"HTTP/1.1 200 ")
    assert second.startswith(b"HTTP/1.1 400 ")
    assert client.port.ended == "eof"


def test_a_client_that_leaves_aborts_its_request(stage, request_of) -> None:
    client = stage.client()
    client.sends(request_of())
    stage.open()
    client.leaves()
    assert stage.models[0].port.ended == "abort"
    stage.models[0].closes()
    assert stage.state.idle
    assert not stage.state.conversations


def test_a_client_that_leaves_while_it_waits_is_not_asked_for(stage, request_of) -> None:
    client = stage.client()
    client.sends(request_of())
    client.leaves()
    stage.open()
    assert stage.models[0].gets() == b""


def test_after_a_refusal_what_the_client_still_sends_is_read_and_forgotten(stage) -> None:
    client = stage.client()
    client.sends(b"POST /x HTTP/1.1\r\n" + HOST + b"X-A: " + b"a" * 70000 + b"\r\nContent-Length: 99\r\n\r\n")
    assert client.gets().startswith(b"HTTP/1.1 431 ")
    client.sends(b"x" * 99)
    client.sends(b"GET / HTTP/1.1\r\n" + HOST + b"\r\n")
    assert stage.asked == []
    assert client.port.ended == "eof"  # not yet closed: that would reset what the client has not read
    stage.passes(2.5)
    assert client.port.ended == "abort"


def test_a_head_without_an_end_is_refused(stage) -> None:
    client = stage.client()
    client.sends(b"POST /x HTTP/1.1\r\nX-A: ")
    for _ in range(70):
        if client.port.ended:
            break
        client.sends(b"a" * 1024)
    assert client.gets().startswith(b"HTTP/1.1 431 ")


def test_trailers_without_an_end_are_refused(stage) -> None:
    client = stage.client()
    client.sends(b"POST /x HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nX-T: ")
    for _ in range(70):
        if client.port.ended:
            break
        client.sends(b"a" * 1024)
    assert client.gets().startswith(b"HTTP/1.1 400 ")


def test_a_long_body_in_large_pieces_is_no_head(stage) -> None:
    client = stage.client()
    client.sends(b"POST /x HTTP/1.1\r\n" + HOST + b"Content-Length: 2000000\r\n\r\n")
    stage.open()
    for _ in range(10):
        client.sends(b"z" * 200000)
    assert client.gets() == b""
    assert len(stage.models[0].gets()) > 2000000


def test_a_slow_head_times_out_and_an_idle_connection_is_closed(stage, request_of) -> None:
    slow, idle, busy = stage.client(), stage.client(), stage.client()
    busy.sends(request_of())
    stage.open()
    slow.sends(b"POST /x HT")
    stage.passes(31)
    assert slow.gets().startswith(b"HTTP/1.1 408 ")
    assert idle.port.ended == ""
    stage.models[0].sends(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\no")
    stage.passes(45)
    assert idle.port.ended == "close"
    assert idle.gets() == b""
    assert busy.port.ended == ""


@pytest.mark.parametrize("by", [0, 1, 5])
def test_http2_with_prior_knowledge_is_passed_through(stage, by: int) -> None:
    client = stage.client()
    preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
    client.sends(preface, by=by)
    assert stage.passed_through == [(client.port, preface)]
    assert client.conversation not in stage.state.conversations


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "PURGE"])
def test_a_method_that_begins_like_http2_is_not_mistaken(stage, request_of, method: str) -> None:
    client = stage.client()
    client.sends(request_of(method=method), by=1)
    stage.open()
    assert stage.models[0].gets().startswith(method.encode())


def test_an_old_client_gets_what_it_understands(stage, request_of) -> None:
    client = stage.client()
    client.sends(b"GET /x HTTP/1.0\r\n" + ID + b"\r\n")
    stage.open()
    assert stage.models[0].gets() == b"GET /x HTTP/1.1\r\nX-Request-Id: i\r\nHost: model:8081\r\n\r\n"
    stage.models[0].sends(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n")
    assert client.gets() == b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\nok"
    assert client.port.ended == "close"


def test_an_old_client_that_asks_for_it_keeps_its_connection(stage, request_of) -> None:
    client = stage.client()
    client.sends(request_of("/x", b"hi", "Connection: keep-alive", version="1.0"))
    stage.open()
    stage.models[0].sends(OK)
    assert b"connection: keep-alive\r\n" in client.gets()
    assert not client.port.ended


def test_connection_close_is_followed(stage, request_of) -> None:
    client = stage.client()
    client.sends(request_of("/x", b"hi", "Connection: close"))
    stage.open()
    assert b"lose" not in stage.models[0].gets()  # between us and the client
    stage.models[0].sends(OK)
    assert b"connection: close\r\n" in client.gets()
    assert client.port.ended == "close"
    assert not stage.models[0].port.ended


def test_an_answer_before_the_request_is_whole_ends_both(stage) -> None:
    client = stage.client()
    client.sends(b"POST /x HTTP/1.1\r\n" + HOST + ID + b"Content-Length: 500\r\n\r\nhello")
    stage.open()
    stage.models[0].sends(b"HTTP/1.1 413 Too Large\r\nContent-Length: 2\r\n\r\nno")
    assert client.gets().startswith(b"HTTP/1.1 413 ")
    assert client.port.ended == "eof"  # lingering: the client is still sending
    assert stage.models[0].port.ended == "close"


def test_a_stalled_client_stops_the_model_and_the_next_answer(stage, request_of) -> None:
    client = stage.client()
    client.sends(request_of())
    stage.open()
    (model,) = stage.models
    model.sends(b"HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\n" + b"x" * 10)
    client.conversation.pause_writing()
    assert not model.port.reading
    client.conversation.resume_writing()
    assert model.port.reading
    client.conversation.pause_writing()
    model.sends(b"x" * 10)  # was under way already
    assert model.port.reading  # free for others
    assert not client.port.reading
    client.conversation.resume_writing()
    assert client.port.reading
    client.sends(request_of())
    assert model.gets().count(b"POST") == 2


def test_a_stalled_model_stops_the_client(stage) -> None:
    client = stage.client()
    client.sends(b"POST /x HTTP/1.1\r\n" + HOST + b"Content-Length: 500\r\n\r\nhello")
    stage.open()
    stage.models[0].connection.pause_writing()
    assert not client.port.reading
    stage.models[0].connection.resume_writing()
    assert client.port.reading


def test_a_body_that_waits_for_a_connection_is_not_read_on(stage) -> None:
    client = stage.client()
    client.sends(b"POST /x HTTP/1.1\r\n" + HOST + b"Content-Length: 500\r\n\r\nhello")
    client.sends(b"more")
    assert not client.port.reading
    stage.open()
    assert client.port.reading
    assert stage.models[0].gets().endswith(b"\r\n\r\nhellomore")


def test_an_id_is_minted_sent_to_the_model_and_returned(stage, request_of, read_answers) -> None:
    client = stage.client()
    client.sends(request_of(id=False) + request_of(id=False))
    stage.open()
    ids = []
    for _ in range(2):
        sent = stage.models[0].gets()
        stage.models[0].sends(b"HTTP/1.1 200 OK\r\nx-request-id: the-models\r\nContent-Length: 2\r\n\r\nok")
        ((_, headers, _),) = read_answers(client.gets())
        ids.append(headers["x-request-id"])
        assert f"X-Request-Id: {ids[-1]}\r\n".encode() in sent
    assert ids[0] != ids[1]
    assert int(ids[0][:12], 16) == int((1.7e9 + stage.now) * 1000)


def test_the_clients_id_is_left_as_it_is_and_not_added_to_the_answer(stage, request_of) -> None:
    client = stage.client()
    client.sends(request_of("/x", b"", "Ce-Id: 42", id=False))
    stage.open()
    assert b"X-Request-Id" not in stage.models[0].gets()
    stage.models[0].sends(OK)
    assert b"X-Request-Id" not in client.gets()


def test_beyond_the_limit_of_connections_clients_are_told_at_once(make_stage, request_of) -> None:
    stage = make_stage(clients=2)
    clients = [stage.client() for _ in range(3)]
    assert [client.gets()[9:12] for client in clients] == [b"", b"", b"503"]
    clients[0].leaves()
    clients[2].leaves()
    late = stage.client()
    late.sends(request_of())
    stage.open()
    stage.models[0].sends(OK)
    assert late.gets().endswith(b"ok")


def test_a_head_is_as_long_as_it_is_however_it_comes(stage) -> None:
    long = stage.client()
    long.sends(b"POST /x HTTP/1.1\r\n" + HOST + b"X-A: " + b"a" * 200_000)
    long.sends(b"\r\nContent-Length: 0\r\n\r\n")
    assert long.gets().startswith(b"HTTP/1.1 431 ")
    allowed = stage.client()
    allowed.sends(b"POST /x HTTP/1.1\r\n" + HOST + b"X-A: " + b"a" * 60_000 + b"\r\nContent-Length: 0\r\n\r\n", by=4096)
    assert allowed.gets() == b""
    assert len(stage.asked) == 1


def test_thousands_of_requests_at_once_are_not_all_kept(stage) -> None:
    client = stage.client()
    client.sends(b"GET /x HTTP/1.1\r\nHost: a\r\n\r\n" * 5000)
    stage.open()
    answered = 0
    while stage.models[0].gets():
        stage.models[0].sends(OK)
        answered += 1
        assert answered < 100
    assert client.gets().endswith(b"503 Service Unavailable\n")
    assert answered == 65


@pytest.mark.parametrize(("size", "refused"), [(1, True), (4000, False)])
def test_a_body_that_drips_does_not_keep_a_models_connection_from_others(stage, size: int, refused: bool) -> None:
    client = stage.client()
    client.sends(b"POST /x HTTP/1.1\r\n" + HOST + b"Content-Length: 1000000\r\n\r\n")
    stage.open()
    for _ in range(5):
        stage.passes(7.0)
        if not client.port.ended:
            client.sends(b"x" * size)
    assert client.gets()[9:12] == (b"408" if refused else b"")
    assert stage.models[0].port.ended == ("abort" if refused else "")


@pytest.mark.parametrize("header", [b"", b"Connection: close\r\n"])
def test_a_client_that_takes_nothing_is_cut_off(stage, header: bytes) -> None:
    client = stage.client()
    client.sends(b"GET /x HTTP/1.1\r\n" + HOST + header + b"\r\n")
    stage.open()
    client.conversation.pause_writing()
    stage.models[0].sends(OK)
    assert not stage.state.idle  # the process must not end before the client has its answer
    stage.passes(70)
    assert client.port.ended != "abort"
    stage.passes(10)
    assert client.port.ended == "abort"
    client.leaves()
    assert stage.state.idle


def test_a_client_that_takes_its_time_is_no_late_model(stage, request_of) -> None:
    stage.mirror()
    client = stage.client()
    client.sends(request_of())
    stage.open()
    stage.models[0].sends(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nok")
    client.conversation.pause_writing()
    stage.passes(65)
    assert not client.port.ended
    client.conversation.resume_writing()
    stage.models[0].sends(b"ok")
    assert client.gets().endswith(b"okok")
    assert [captured.baseline.failure for captured in stage.captured] == [None]


def test_a_connection_that_ended_is_gone_at_once(stage, request_of) -> None:
    def alive() -> int:
        return sum(isinstance(found, Conversation | ModelConnection) for found in gc.get_objects())

    gc.collect()
    gc.disable()
    try:
        before = alive()
        for _ in range(20):
            client = stage.client()
            client.sends(request_of("/x", b"", "Connection: close"))
            stage.open()
            stage.models[0].sends(OK.replace(b"OK\r\n", b"OK\r\nConnection: close\r\n"))
            client.leaves()
            stage.models.pop().closes()
        del client
        assert alive() == before
    finally:
        gc.enable()


class _Transport(Port):
    """Of a real connection, of which nothing is read."""

    def __init__(self, end: socket.socket) -> None:
        super().__init__()
        self._end = end

    def set_write_buffer_limits(self, high: int) -> None:
        pass

    def get_extra_info(self, name: str) -> socket.socket:
        return self._end


def test_a_connection_on_which_something_has_come_is_not_closed_as_idle(stage) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        client = Connected(stage.state)
        client.connection_made(_Transport(ours))
        theirs.sendall(b"POST")
        client.close_idle(stage.now)
        assert not client.port.ended
        ours.recv(4)
        client.close_idle(stage.now - 0.1)  # it came later than that
        assert not client.port.ended
        client.close_idle(stage.now)
        assert client.port.ended == "close"
