"""What is refused, and how: a live process, with clients and model played here.

Every way to frame a request is in `tests/sidecar/framing`; here is what a refusal does to its connection and to the
model's.
"""

import re
import socket

import pytest
from tests.sidecar.live_path.playing import Client, Scene
from tests.sidecar.live_path.processes import OK, until

HOST = b"Host: a\r\n"
CHUNKED = b"POST /x HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n"

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
_LONG = 3000  # bytes; what is longer is not sent byte by byte


def refusal(client: Client) -> int:
    """The status of the one answer that comes, and the connection ends behind it."""
    answer = client.answer()
    assert answer.header("connection") == "close"
    assert client.is_closed()
    return answer.status


@pytest.mark.parametrize("by", [0, 1, 7])
@pytest.mark.parametrize("case", [*REFUSED, *REFUSED_WHOLE])
def test_what_can_be_read_in_two_ways_is_refused_and_the_connection_closed(scene: Scene, case: str, by: int) -> None:
    if case in REFUSED:
        expected, rest = REFUSED[case]
        message = b"POST /x HTTP/1.1\r\n" + HOST + rest
    else:
        expected, message = REFUSED_WHOLE[case]
    client = scene.client()
    client.sends(message, by=by if len(message) < _LONG else by * 499)
    assert refusal(client) in (expected if isinstance(expected, tuple) else (expected,))
    assert not scene.model.was_called


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
def test_malformed_chunks_break_the_request_off(scene: Scene, chunks: bytes, by: int) -> None:
    client = scene.client()
    client.sends(CHUNKED)
    model = scene.model.accepts()
    assert model.take_until(b"\r\n\r\n")
    client.sends(chunks, by=by)
    assert refusal(client) == 400
    assert not model.rest().endswith(b"0\r\n\r\n")  # it never sees the request's end


@pytest.mark.parametrize("begun", [True, False])
def test_what_turns_out_bad_is_not_refused_in_the_midst_of_its_answer(scene: Scene, begun: bool) -> None:
    client = scene.client()
    client.sends(CHUNKED)
    model = scene.model.accepts()
    assert model.take_until(b"\r\n\r\n")
    if begun:
        model.send(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\no")
        assert client.take_until(b"\r\n\r\no")
    else:
        model.send(b"HTTP/1.1 2")
        scene.settle()
    client.sends(b"x\r\n")
    told = client.rest()
    assert told.startswith(b"HTTP/1.1 400 ") if not begun else told == b""
    assert model.rest() == b""


def test_after_a_refusal_what_the_client_still_sends_is_read_and_forgotten(scene: Scene) -> None:
    client = scene.client()
    client.sends(b"POST /x HTTP/1.1\r\n" + HOST + b"X-A: " + b"a" * 70000 + b"\r\nContent-Length: 99\r\n\r\n")
    assert client.answer().status == 431
    assert client.is_closed()  # by half: closing at once would reset what the client has not read
    for _ in range(20):
        client.socket.sendall(b"x" * 99 + b"GET / HTTP/1.1\r\n" + HOST + b"\r\n")
        scene.kernel.await_read(client.socket)
    assert not scene.model.was_called

    def is_reset() -> bool:
        try:
            client.socket.sendall(b"x")
        except ConnectionError:
            return True
        return False

    until(is_reset)  # after two seconds the other half is closed as well


def goes_on(scene: Scene, client: Client) -> None:
    """With what has no end, until it is told something."""
    for _ in range(70):
        client.sends(b"a" * 1024)
        scene.kernel.await_read(client.socket)
        if not client.has_nothing():
            return
    pytest.fail("all was read")


def test_a_head_without_an_end_is_refused(scene: Scene) -> None:
    client = scene.client()
    client.sends(b"POST /x HTTP/1.1\r\nX-A: ")
    goes_on(scene, client)
    assert client.answer().status == 431


def test_trailers_without_an_end_are_refused(scene: Scene) -> None:
    client = scene.client()
    client.sends(CHUNKED + b"5\r\nhello\r\n0\r\nX-T: ")
    goes_on(scene, client)
    assert client.answer().status == 400
    assert not scene.model.accepts().rest().endswith(b"0\r\n\r\n")


def test_a_head_is_as_long_as_it_is_however_it_comes(scene: Scene) -> None:
    long = scene.client()
    long.sends(b"POST /x HTTP/1.1\r\n" + HOST + b"X-A: " + b"a" * 200_000)
    long.sends(b"\r\nContent-Length: 0\r\n\r\n")
    assert long.answer().status == 431
    for by in (0, 4096):
        allowed = scene.client()
        allowed.sends(
            b"POST /x HTTP/1.1\r\n" + HOST + b"X-A: " + b"a" * 60_000 + b"\r\nContent-Length: 0\r\n\r\n", by=by
        )
        model = scene.model.accepts()
        assert len(model.request()) > 60_000
        model.send(OK)
        assert allowed.answer().status == 200
        scene.model.clear()


def test_a_refusal_of_a_head_request_has_no_body(scene: Scene, request_of) -> None:
    client = scene.client()
    client.sends(request_of("/x", None, method="HEAD"))
    scene.model.accepts().close()
    assert client.rest().endswith(b"content-length: 16\r\nconnection: close\r\n\r\n")


def test_beyond_the_limit_of_connections_clients_are_told_at_once(make_scene, request_of) -> None:
    scene: Scene = make_scene("--clients", "2")
    first, second = scene.client(), scene.client()
    until(lambda: scene.process.metric("clients") == 2)
    third = scene.client()
    assert refusal(third) == 503
    assert first.has_nothing()
    assert second.has_nothing()
    first.close()
    third.close()
    until(lambda: scene.process.metric("clients") == 1)
    late = scene.client()
    late.sends(request_of())
    model = scene.model.accepts()
    model.request()
    model.send(OK)
    assert late.answer().body == b"ok"


def test_refusals_are_counted_by_status(make_scene) -> None:
    scene: Scene = make_scene()
    for message, status in ((b"?\r\n\r\n", 400), (b"GET / HTTP/2.0\r\nHost: a\r\n\r\n", 505), (b"GET /\r\n\r\n", 505)):
        client = scene.client()
        client.sends(message)
        assert refusal(client) == status
    client = scene.client()
    client.socket.shutdown(socket.SHUT_WR)  # who asks for nothing is not refused
    assert client.is_closed()

    def counted() -> bool:
        said = scene.process.admin_says("/metrics")
        counts = re.findall(r'refused_total\{.*status="(\d+)"\} (\S+)', said)
        return {status: float(count) for status, count in counts if float(count)} == {"400": 1.0, "505": 2.0}

    until(counted)
