"""What a model answers, and what it must not be believed: a live process, with clients and model played here.

Every way to frame an answer is in `tests/sidecar/framing`; here are the bytes that the client gets, what becomes of the
model's connection, and answers that end before their end.
"""

import socket
import struct

import pytest
from tests.sidecar.live_path.playing import Client, Scene
from tests.sidecar.live_path.processes import OK, Connection

PASSED_OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"


@pytest.fixture
def asked(served: tuple[Client, Connection], request_of) -> tuple[Client, Connection]:
    """A client whose request is at a model, on a connection that has answered before."""
    client, model = served
    client.sends(request_of("/now"))
    assert model.request().startswith(b"POST /now ")
    return client, model


def says(scene: Scene, model: Connection, wire: bytes, by: int) -> None:
    """What the model says, whole or each piece read by itself."""
    if by:
        scene.kernel.send_slowly(model.socket, wire, by)
    else:
        model.send(wire)


def reset(connection: Connection) -> None:
    connection.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


PASSED = {
    "plain": (OK, PASSED_OK, True),
    "100 first": (b"HTTP/1.1 100 Continue\r\n\r\n" + OK, PASSED_OK, True),
    "103 first": (b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" + OK, PASSED_OK, True),
    "204": (b"HTTP/1.1 204 No Content\r\n\r\n", b"HTTP/1.1 204 No Content\r\n\r\n", True),
    "304": (
        b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n",
        b"HTTP/1.1 304 Not Modified\r\ncontent-length: 5\r\n\r\n",
        True,
    ),
    "chunked": (
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2;x\r\nok\r\n0\r\nX-T: 1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nok",
        True,
    ),
    "no reason": (b"HTTP/1.1 200\r\nContent-Length: 2\r\n\r\nok", PASSED_OK, True),
    "unknown status": (
        b"HTTP/1.1 299 Quite Good\r\nContent-Length: 2\r\n\r\nok",
        b"HTTP/1.1 299 \r\ncontent-length: 2\r\n\r\nok",
        True,
    ),
    "no body": (b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n", True),
    "Connection: close": (b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok", PASSED_OK, False),
    "HTTP/1.0": (b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok", PASSED_OK, False),
    "hop-by-hop": (
        b"HTTP/1.1 200 OK\r\nConnection: x-a\r\nX-A: 1\r\nKeep-Alive: 5\r\nX-B: 2\r\nContent-Length: 2\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\nX-B: 2\r\ncontent-length: 2\r\n\r\nok",
        True,
    ),
}


@pytest.mark.parametrize("by", [0, 1, 3])
@pytest.mark.parametrize("case", PASSED)
def test_answers_pass_framed_in_our_own_words(scene: Scene, asked, request_of, case: str, by: int) -> None:
    client, model = asked
    wire, expected, reusable = PASSED[case]
    says(scene, model, wire, by)
    answer = client.answer()
    assert answer.head + answer.body == expected
    client.sends(request_of("/next"))
    if reusable:
        assert model.request().startswith(b"POST /next ")
    else:
        assert scene.model.accepts().request().startswith(b"POST /next ")
        assert model.rest() == b""


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


def is_refused(client: Client, status: int) -> bool:
    answer = client.answer()
    return answer.status == status and client.is_closed()


@pytest.mark.parametrize("by", [0, 1])
@pytest.mark.parametrize("case", BAD)
def test_an_answer_that_is_not_one_is_a_502_and_its_connection_is_gone(scene: Scene, asked, case: str, by: int) -> None:
    client, model = asked
    says(scene, model, BAD[case], by)
    assert is_refused(client, 502)
    assert model.rest() == b""


def test_a_204_with_a_body_does_not_become_the_next_answer(asked) -> None:
    client, model = asked
    model.send(b"HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\nhello")
    assert client.answer().head == b"HTTP/1.1 204 No Content\r\n\r\n"
    assert model.rest() == b""


@pytest.mark.parametrize(
    "extra", [b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nEVIL", b"EVIL", b"\r\nEVIL", b"HTTP/1.1 200"]
)
def test_bytes_behind_an_answer_close_its_connection(scene: Scene, asked, request_of, extra: bytes) -> None:
    client, model = asked
    model.send(OK + extra)
    assert client.answer().body == b"ok"
    assert model.rest() == b""
    client.sends(request_of("/next"))
    assert scene.model.accepts().request().startswith(b"POST /next ")
    assert client.has_nothing()


def test_bytes_that_were_not_asked_for_close_an_idle_connection(scene: Scene, asked, request_of) -> None:
    client, model = asked
    model.send(OK)
    client.answer()
    model.send(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nEVIL")
    assert model.rest() == b""
    client.sends(request_of("/next"))
    assert scene.model.accepts().request().startswith(b"POST /next ")  # a fresh connection
    assert client.has_nothing()


def test_a_head_answer_ends_with_its_head(scene: Scene, request_of) -> None:
    client = scene.client()
    client.sends(request_of("/x", None, method="HEAD"))
    model = scene.model.accepts()
    model.request()
    model.send(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello")
    assert client.answer("HEAD").head == b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n"
    assert model.rest() == b""
    client.sends(request_of("/next"))
    assert scene.model.accepts().request().startswith(b"POST /next ")
    assert client.has_nothing()


@pytest.mark.parametrize("by", [0, 1])
def test_an_answer_that_ends_with_its_connection_becomes_chunked(scene: Scene, asked, request_of, by: int) -> None:
    client, model = asked
    says(scene, model, b"HTTP/1.1 200 OK\r\nContent-Type: a/b\r\n\r\nuntil-eof", by)
    model.close()
    answer = client.answer()
    assert answer.head == b"HTTP/1.1 200 OK\r\nContent-Type: a/b\r\ntransfer-encoding: chunked\r\n\r\n"
    assert answer.body == b"until-eof"
    client.sends(request_of("/next"))
    assert scene.model.accepts().request().startswith(b"POST /next ")


def test_an_answer_that_ends_with_its_connection_ends_an_old_clients(scene: Scene, request_of) -> None:
    client = scene.client()
    client.sends(request_of("/x", b"hi", "Connection: keep-alive", version="1.0"))
    model = scene.model.accepts()
    model.request()
    model.send(b"HTTP/1.1 200 OK\r\n\r\nuntil-eof")
    model.close()
    assert client.rest() == b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\nuntil-eof"


def test_an_answer_without_length_that_was_reset_is_not_whole(asked) -> None:
    client, model = asked
    model.send(b"HTTP/1.1 200 OK\r\n\r\nuntil")
    assert client.take_until(b"until")  # or the reset could overtake it
    reset(model)
    assert not client.rest().endswith(b"0\r\n\r\n")


@pytest.mark.parametrize("how", ["closed", "reset"])
def test_an_answer_that_breaks_off_breaks_the_clients_off(scene: Scene, asked, how: str) -> None:
    client, model = asked
    before = scene.count("broken_off_total")
    model.send(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nok")
    assert client.take_until(b"\r\n\r\nok")
    if how == "closed":
        model.close()
    else:
        reset(model)
    assert client.is_closed()
    assert scene.count("broken_off_total") == before + 1


def test_a_chunked_answer_that_breaks_off_breaks_the_clients_off(scene: Scene, asked) -> None:
    client, model = asked
    model.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n")
    assert client.take_until(b"hello\r\n")
    model.close()
    assert client.is_closed()


def test_an_answer_whose_body_turns_out_bad_is_broken_off(scene: Scene, asked) -> None:
    client, model = asked
    model.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n")
    assert client.take_until(b"hello\r\n")
    model.send(b"x\r\n")
    assert client.is_closed()
    assert model.rest() == b""


@pytest.mark.parametrize("head", [b"HTTP/1.1 200 OK\r\nX: ", b"HTTP/1.1 100 Continue\r\n\r\n"])
def test_a_head_without_an_end_is_a_502(scene: Scene, asked, head: bytes) -> None:
    client, model = asked
    for _ in range(100):
        try:
            model.send(head * 100)
        except ConnectionError:
            break
        scene.kernel.await_read(model.socket)
    else:
        pytest.fail("all was read")
    assert is_refused(client, 502)
