"""What a model gets of a request, and what its client is told: a live process, with clients and model played here."""

import time

import pytest
from tests.sidecar.live_path.playing import Scene, take_chunks

OK = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 2\r\n\r\nok"
HOST = b"Host: a\r\n"
ID = b"X-Request-Id: i\r\n"


def test_a_request_and_its_answer_pass(scene: Scene, request_of) -> None:
    client = scene.client()
    client.sends(request_of("/infer?x=1", b"hello", "Content-Type: text/plain"))
    model = scene.model.accepts()
    assert model.request() == (
        b"POST /infer?x=1 HTTP/1.1\r\nHost: fraud\r\nX-Request-Id: q0\r\nContent-Type: text/plain\r\n"
        b"content-length: 5\r\n\r\nhello"
    )
    model.send(OK)
    answer = client.answer()
    assert answer.head + answer.body == b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\ncontent-length: 2\r\n\r\nok"
    client.sends(request_of())
    assert model.request().startswith(b"POST /infer HTTP/1.1")  # on the same connection
    assert not scene.model.was_called


def test_lengths_are_sent_on_without_their_zeros(scene: Scene) -> None:
    client = scene.client()
    client.sends(b"POST /infer HTTP/1.1\r\n" + HOST + ID + b"Content-Length: 0000000000000000000000005\r\n\r\nhello")
    model = scene.model.accepts()
    assert b"\r\ncontent-length: 5\r\n\r\nhello" in model.request()
    model.send(OK.replace(b"Length: 2", b"Length: 000000000000000000000002"))
    assert client.answer().header("content-length") == "2"
    client.sends(b"POST /infer HTTP/1.1\r\n" + HOST + ID + b"Content-Length: 000\r\n\r\n")
    assert b"\r\ncontent-length: 0\r\n\r\n" in model.request()


@pytest.mark.parametrize(
    "message",
    [
        b"POST /a HTTP/1.1\r\n" + HOST + ID + b"Content-Length: 5\r\n\r\nhello",
        b"POST /a HTTP/1.1\r\n" + HOST + ID + b"Transfer-Encoding: chunked\r\n\r\n5;x\r\nhello\r\n0\r\nX-T: 1\r\n\r\n",
        b"GET /a HTTP/1.1\r\n" + HOST + ID + b"\r\n",
        b"\r\nPOST /a HTTP/1.1\r\n" + HOST + ID + b"Content-Length: 5\r\n\r\nhello",
    ],
    ids=["length", "chunked", "no body", "empty line first"],
)
def test_however_it_is_split_the_model_gets_the_same(scene: Scene, message: bytes) -> None:
    client = scene.client()
    model = None
    seen = set()
    for by in [0, *range(1, 10), *range(10, len(message), 7)]:
        client.sends(message, by=by)
        model = model or scene.model.accepts()
        head = model.take_until(b"\r\n\r\n")
        body = take_chunks(model) if b"chunked" in head else model.take(5 if b"content-length" in head else 0)
        seen.add((head, body))
        model.send(OK)
        assert client.answer().body == b"ok"
    (only,) = seen
    assert only[1] == (b"hello" if b"hello" in message else b"")
    assert b"X-T" not in only[0]


def test_a_chunked_body_is_framed_anew_and_its_trailers_dropped(scene: Scene) -> None:
    client = scene.client()
    client.sends(
        b"POST /x HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n"
        b"5;ext=1\r\nhello\r\n0\r\nX-Length: 99\r\nX-T: 1\r\n\r\n"
    )
    model = scene.model.accepts()
    assert model.take_until(b"0\r\n\r\n").endswith(b"transfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n")
    model.send(OK)
    assert client.answer().status == 200
    assert model.has_nothing()


def test_a_long_body_in_large_pieces_is_no_head(scene: Scene) -> None:
    client = scene.client()
    client.sends(b"POST /x HTTP/1.1\r\n" + HOST + b"Content-Length: 2000000\r\n\r\n")
    model = scene.model.accepts()
    for _ in range(10):
        client.sends(b"z" * 200_000)
        assert model.take_until(b"z").endswith(b"z")
        assert model.take(199_999) == b"z" * 199_999
    model.send(OK)
    assert client.answer().status == 200


def test_an_absolute_target_for_the_same_host_becomes_a_path(scene: Scene) -> None:
    scene.client().sends(b"GET http://A/x?y=1 HTTP/1.1\r\n" + HOST + b"\r\n")
    assert scene.model.accepts().request().startswith(b"GET /x?y=1 HTTP/1.1\r\nHost: a\r\n")


def test_what_is_between_two_hops_stays_there(scene: Scene) -> None:
    scene.client().sends(
        b"GET /x HTTP/1.1\r\n" + HOST + b"Connection: keep-alive, X-Secret, host\r\nX-Secret: 1\r\nTE: trailers\r\n"
        b"Keep-Alive: timeout=5\r\nProxy-Authorization: x\r\nX-ModelCanary-Shadow: 1\r\n"
        b"x-modelcanary-anything: 2\r\nX-Kept: 3\r\n" + ID + b"\r\n"
    )
    sent = scene.model.accepts().request()
    assert sent == b"GET /x HTTP/1.1\r\nHost: a\r\nX-Kept: 3\r\nX-Request-Id: i\r\n\r\n"


@pytest.mark.parametrize("by", [0, 1, 13])
def test_an_upgrade_is_answered_in_plain_http_with_its_body_as_a_body(scene: Scene, by: int) -> None:
    client = scene.client()
    client.sends(
        b"POST /x HTTP/1.1\r\n" + HOST + ID + b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n"
        b"HTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA\r\nContent-Length: 38\r\n\r\n"
        b"GET /smuggled HTTP/1.1\r\nHost: evil\r\n\r\n",
        by=by,
    )
    model = scene.model.accepts()
    sent = model.request()
    assert sent.startswith(b"POST /x HTTP/1.1\r\nHost: a\r\nX-Request-Id: i\r\ncontent-length: 38\r\n\r\nGET /smuggled")
    model.send(OK)
    assert client.answer().body == b"ok"
    scene.settle()
    assert model.has_nothing()  # no second request
    assert not scene.model.was_called


def test_many_upgrades_in_a_row_are_no_way_to_keep_us_busy(scene: Scene) -> None:
    scene.model.answers_by_itself(still=True)
    client = scene.client()
    client.sends((b"GET /x HTTP/1.1\r\n" + HOST + b"Connection: Upgrade\r\nUpgrade: x\r\n\r\n") * 500)
    scene.settle()  # others are served
    statuses = [client.answer().status]
    while statuses[-1] == 200 and len(statuses) < 500:
        statuses.append(client.answer().status)
    assert statuses == [200] * 500 or client.is_closed()  # all in plain HTTP/1.1, or a refusal ends it
    assert set(statuses[:-1]) <= {200}
    assert statuses[-1] in (200, 400)
    scene.model.answers_by_itself(still=False)


def test_continue_is_ours_to_say_and_the_models_is_swallowed(scene: Scene) -> None:
    client = scene.client()
    client.sends(b"POST /x HTTP/1.1\r\n" + HOST + ID + b"Expect: 100-continue\r\nContent-Length: 5\r\n\r\n")
    assert client.take_until(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
    client.sends(b"hello")
    model = scene.model.accepts()
    assert b"xpect" not in model.request()
    model.send(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" + OK)
    assert client.answer().head.startswith(b"HTTP/1.1 200 OK\r\nContent-Type")


@pytest.mark.parametrize("by", [0, 1, 5])
def test_http2_with_prior_knowledge_is_passed_through(scene: Scene, by: int) -> None:
    client = scene.client()
    preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
    client.sends(preface, by=by)
    model = scene.model.accepts()
    assert model.take(len(preface)) == preface
    model.send(b"\0\0\0\4\0\0\0\0\0")
    assert client.take(9) == b"\0\0\0\4\0\0\0\0\0"


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "PURGE"])
def test_a_method_that_begins_like_http2_is_not_mistaken(scene: Scene, request_of, method: str) -> None:
    scene.client().sends(request_of(method=method), by=1)
    assert scene.model.accepts().request().startswith(method.encode() + b" ")


def test_an_old_client_gets_what_it_understands(scene: Scene) -> None:
    client = scene.client()
    client.sends(b"GET /x HTTP/1.0\r\n" + ID + b"\r\n")
    model = scene.model.accepts()
    own = b"Host: 127.0.0.1:%d" % scene.model.port
    assert model.request() == b"GET /x HTTP/1.1\r\nX-Request-Id: i\r\n" + own + b"\r\n\r\n"
    model.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n")
    assert client.rest() == b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\nok"


def test_an_old_client_that_asks_for_it_keeps_its_connection(scene: Scene, request_of) -> None:
    client = scene.client()
    client.sends(request_of("/x", b"hi", "Connection: keep-alive", version="1.0"))
    model = scene.model.accepts()
    model.request()
    model.send(OK)
    assert client.answer().header("connection") == "keep-alive"
    client.sends(request_of())
    assert model.request()


def test_connection_close_is_followed(scene: Scene, request_of) -> None:
    client = scene.client()
    client.sends(request_of("/x", b"hi", "Connection: close"))
    model = scene.model.accepts()
    assert b"lose" not in model.request()  # between us and the client
    model.send(OK)
    assert client.answer().header("connection") == "close"
    assert client.is_closed()
    scene.settle()
    assert model.has_nothing()  # nor has it ended


def test_an_answer_before_the_request_is_whole_ends_both(scene: Scene) -> None:
    client = scene.client()
    client.sends(b"POST /x HTTP/1.1\r\n" + HOST + ID + b"Content-Length: 500\r\n\r\nhello")
    model = scene.model.accepts()
    assert model.take_until(b"hello")
    model.send(b"HTTP/1.1 413 Too Large\r\nContent-Length: 2\r\n\r\nno")
    assert client.answer().status == 413
    assert client.is_closed()
    client.socket.sendall(b"x" * 495)  # what it still says is read, and forgotten: no reset
    scene.settle()
    assert model.rest() == b""
    assert not scene.model.was_called


def test_an_id_is_minted_sent_to_the_model_and_returned(scene: Scene, request_of) -> None:
    client = scene.client()
    before = time.time()
    client.sends(request_of(id=False) + request_of(id=False))
    model = scene.model.accepts()
    ids = []
    for _ in range(2):
        sent = model.request()
        model.send(b"HTTP/1.1 200 OK\r\nx-request-id: the-models\r\nContent-Length: 2\r\n\r\nok")
        ids.append(client.answer().header("x-request-id") or "")
        assert f"X-Request-Id: {ids[-1]}\r\n".encode() in sent
        assert int(before * 1000) <= int(ids[-1][:12], 16) <= time.time() * 1000
    assert ids[0] != ids[1]
    assert ids[0][12:20] == ids[1][12:20]  # the process
    assert int(ids[1][20:], 16) == int(ids[0][20:], 16) + 1  # what counts
    assert len(ids[0]) == 32


def test_the_clients_id_is_left_as_it_is_and_not_added_to_the_answer(scene: Scene, request_of) -> None:
    client = scene.client()
    client.sends(request_of("/x", b"", "Ce-Id: 42", id=False))
    model = scene.model.accepts()
    assert b"X-Request-Id" not in model.request()
    model.send(OK)
    assert client.answer().header("x-request-id") is None
