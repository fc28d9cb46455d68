"""Requests that a client sends before it has its answers: a live process, with clients and model played here."""

import threading

import pytest
from tests.sidecar.live_path.playing import Scene
from tests.sidecar.live_path.processes import OK, Connection

HOST = b"Host: a\r\n"


@pytest.mark.parametrize("by", [0, 50])
def test_requests_are_answered_in_order_and_one_at_a_time(scene: Scene, request_of, by: int) -> None:
    client = scene.client()
    # Cut anywhere but in what is not read before its turn.
    sender = threading.Thread(
        target=client.sends, args=(b"".join(request_of(f"/{n}", b"abc") for n in range(4)),), kwargs={"by": by}
    )
    sender.start()
    model = scene.model.accepts()
    for n in range(4):
        request = model.request()
        assert request.startswith(b"POST /%d HTTP/1.1\r\n" % n)
        assert request.endswith(b"\r\n\r\nabc")
        scene.settle()
        assert model.has_nothing()  # not the next, before this one is answered
        assert client.has_nothing()
        model.send(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n%d" % n)
        assert client.answer().body == b"%d" % n
    sender.join()
    assert not scene.model.was_called
    client.sends(request_of("/on"))  # and it is read again
    assert model.request().startswith(b"POST /on ")


def test_the_next_waits_until_the_answer_is_whole(scene: Scene, request_of) -> None:
    client = scene.client()
    client.sends(request_of("/0") + request_of("/1"))
    model = scene.model.accepts()
    model.request()
    model.send(OK[:-1])
    assert client.take_until(b"\r\n\r\no")
    scene.settle()
    assert model.has_nothing()
    model.send(OK[-1:])
    assert client.take(1) == b"k"
    assert model.request().startswith(b"POST /1 ")


def test_a_continue_waits_for_its_turn(scene: Scene, request_of) -> None:
    client = scene.client()
    client.sends(request_of() + b"POST /2 HTTP/1.1\r\n" + HOST + b"Expect: 100-continue\r\nContent-Length: 5\r\n\r\n")
    model = scene.model.accepts()
    model.request()
    scene.settle()
    assert client.has_nothing()
    model.send(OK)
    assert client.answer().body == b"ok"
    assert client.take_until(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
    client.sends(b"hello")
    assert model.request().endswith(b"hello")


@pytest.mark.parametrize(
    "bad",
    [
        b"GARBAGE\r\n\r\n",
        b"POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\nx",
        b"POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nz\r\n",
    ],
)
def test_a_bad_request_behind_a_good_one_is_refused_after_the_good_one_is_answered(
    scene: Scene, request_of, bad: bytes
) -> None:
    client = scene.client()
    client.sends(request_of("/good") + bad)
    model = scene.model.accepts()
    assert model.request().startswith(b"POST /good ")
    scene.settle()
    assert client.has_nothing()
    model.send(OK)
    assert client.answer().body == b"ok"
    assert client.answer().status == 400
    assert client.is_closed()
    scene.settle()
    if not model.has_nothing():  # a head whose body turned out bad may have been sent on; never its end
        assert not model.rest().endswith(b"0\r\n\r\n")


def test_what_is_behind_the_last_request_is_not_answered(scene: Scene, request_of) -> None:
    client = scene.client()
    client.sends(request_of("/last", b"", "Connection: close") + request_of("/behind"))
    model = scene.model.accepts()
    assert model.request().startswith(b"POST /last ")
    model.send(OK)
    assert client.answer().header("connection") == "close"
    assert client.is_closed()
    scene.settle()
    assert model.has_nothing()


def test_a_body_behind_a_request_waits_for_its_turn_however_long_it_is(scene: Scene, request_of) -> None:
    client = scene.client()
    body = bytes(range(256)) * 8000
    sender = threading.Thread(target=client.sends, args=(request_of("/0") + request_of("/1", body),))
    sender.start()
    model = scene.model.accepts()
    assert model.request().startswith(b"POST /0 ")
    scene.settle()
    assert model.has_nothing()
    model.send(OK)
    assert client.answer().body == b"ok"
    assert model.request().endswith(body)
    sender.join()
    model.send(OK)
    assert client.answer().body == b"ok"


def test_thousands_of_requests_at_once_are_not_all_kept(scene: Scene) -> None:
    """What a client may have waiting is bounded: it is read no further, or refused."""
    came: list[bytes] = []

    def echo(connection: Connection) -> None:
        while request := connection.request():
            came.append(request.split(b" ")[1])
            connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(came[-1]), came[-1]))

    scene.model.script = echo
    count = 5000
    client = scene.client()
    requests = b"".join(b"GET /%d HTTP/1.1\r\nHost: a\r\n\r\n" % n for n in range(count))
    sender = threading.Thread(target=client.sends, args=(requests,))
    sender.start()
    scene.settle()  # others are served
    answered = 0
    while answered < count:
        answer = client.answer()
        if answer.status != 200:
            assert answer.status == 503
            assert client.is_closed()
            break
        assert answer.body == b"/%d" % answered
        answered += 1
    sender.join()
    scene.model.answers_by_itself(still=False)
    assert answered > 60
    assert came == [b"/%d" % n for n in range(answered)]
