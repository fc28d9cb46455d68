"""Time limits of clients and models: live processes with short ones, and with clients and model played here."""

import threading
import time
from contextlib import suppress

import pytest
from tests.sidecar.live_path.playing import Scene, small_window
from tests.sidecar.live_path.processes import OK, until

HOST = b"Host: a\r\n"


def pass_by(seconds: float) -> None:
    end = time.monotonic() + seconds
    until(lambda: time.monotonic() >= end)


def test_a_slow_head_times_out_and_an_idle_connection_is_closed(make_scene, request_of) -> None:
    scene: Scene = make_scene("--client-idle", "1s", head_time=0.3)
    slow, idle, served, busy = (scene.client() for _ in range(4))
    served.sends(request_of("/served"))
    model = scene.model.accepts()
    model.request()
    model.send(OK)
    assert served.answer().body == b"ok"
    busy.sends(request_of())
    model.request()
    slow.sends(b"POST /x HT")
    assert slow.answer().status == 408
    assert slow.is_closed()
    model.send(OK[:-1])
    assert idle.is_closed()  # without a word
    assert served.is_closed()
    assert busy.take_until(b"\r\n\r\no")  # whose request is under way
    pass_by(1.5)
    assert busy.has_nothing()
    model.send(b"k")
    assert busy.take(1) == b"k"
    assert busy.is_closed()


def test_a_head_that_comes_slowly_but_in_time_is_read(make_scene, request_of) -> None:
    scene: Scene = make_scene("--client-idle", "300ms", head_time=60.0)
    client = scene.client()
    request = request_of()
    client.sends(request[:20])
    pass_by(0.8)  # it is not idle
    client.sends(request[20:])
    model = scene.model.accepts()
    model.request()
    model.send(OK)
    assert client.answer().body == b"ok"


def test_a_connection_on_which_something_has_come_is_not_closed_as_idle(make_scene, request_of) -> None:
    scene: Scene = make_scene("--client-idle", "1s", "--upstream-idle", "60s")
    client = scene.client()
    client.sends(request_of())
    model = scene.model.accepts()
    model.request()
    model.send(OK)
    assert client.answer().body == b"ok"
    with scene.stopped():
        pass_by(1.3)
        client.sends(request_of("/late"))
    assert model.request().startswith(b"POST /late ")
    model.send(OK)
    assert client.answer().body == b"ok"


@pytest.mark.parametrize("by", [1, 4000])
def test_a_body_that_drips_does_not_keep_a_models_connection_from_others(make_scene, by: int) -> None:
    scene: Scene = make_scene(head_time=0.5)
    client = scene.client()
    size = 4_000_000
    client.sends(b"POST /x HTTP/1.1\r\n" + HOST + b"Content-Length: %d\r\n\r\n" % size + b"x" * by)
    began = time.monotonic()
    sent = by
    model = scene.model.accepts()

    def is_enough() -> bool:
        nonlocal sent
        client.sends(b"x" * by)
        sent += by
        return not client.has_nothing() or time.monotonic() > began + (1.5 if by > 1 else 20.0)

    until(is_enough)
    if by == 1:
        assert client.answer().status == 408
        assert client.is_closed()
        assert len(model.rest()) < 10_000  # it never sees the request's end
        return
    assert client.has_nothing()
    client.sends(b"x" * (size - sent))
    assert len(model.request()) > size
    model.send(OK)
    assert client.answer().body == b"ok"


@pytest.fixture(scope="module")
def shared_scene():
    scene = Scene("--answer-time", "600ms")
    yield scene
    scene.stop()


@pytest.mark.parametrize("said", [b"", b"HTTP/1.1 2", b"HTTP/1.1 100 Continue\r\n\r\n"])
def test_a_model_that_says_nothing_is_a_504(scene: Scene, request_of, said: bytes) -> None:
    client = scene.client()
    client.sends(request_of())
    model = scene.model.accepts()
    model.request()
    model.send(said)
    assert client.answer().status == 504
    assert client.is_closed()
    assert model.rest() == b""


def test_a_model_that_says_no_more_is_broken_off(scene: Scene, request_of) -> None:
    client = scene.client()
    client.sends(request_of())
    model = scene.model.accepts()
    model.request()
    model.send(OK[:-1])
    assert client.take_until(b"\r\n\r\no")
    assert client.is_closed()
    assert model.rest() == b""


def test_a_client_that_sends_its_body_slowly_is_no_late_model(scene: Scene) -> None:
    """The model's time begins anew with each byte of the request."""
    client = scene.client()
    client.sends(b"POST /x HTTP/1.1\r\n" + HOST + b"Content-Length: 100000\r\n\r\n")
    model = scene.model.accepts()
    for _ in range(100):
        client.sends(b"x" * 1000)
        pass_by(0.015)
    assert len(model.request()) > 100_000
    model.send(OK)
    assert client.answer().body == b"ok"


def test_as_long_as_bytes_come_an_answer_may_take_its_time(make_scene, request_of) -> None:
    scene: Scene = make_scene("--answer-time", "2s")
    client = scene.client()
    client.sends(request_of())
    model = scene.model.accepts()
    model.request()
    model.send(b"HTTP/1.1 200 OK\r\nContent-Length: 24\r\n\r\n")
    for _ in range(24):
        pass_by(0.1)
        model.send(b"x")
    assert client.answer().body == b"x" * 24


@pytest.mark.parametrize("header", [b"", b"Connection: close\r\n"])
def test_a_client_that_takes_nothing_is_cut_off(make_scene, header: bytes) -> None:
    scene: Scene = make_scene("--client-idle", "700ms")
    client = scene.client(connect=lambda: small_window(scene.process))
    client.sends(b"GET /x HTTP/1.1\r\n" + HOST + header + b"\r\n")
    model = scene.model.accepts()
    model.request()
    broken = threading.Event()

    def flood() -> None:
        try:
            model.send(b"HTTP/1.1 200 OK\r\nContent-Length: 100000000\r\n\r\n" + bytes(100_000_000))
        except OSError:
            broken.set()

    flooding = threading.Thread(target=flood)
    flooding.start()
    assert client.take_until(b"\r\n\r\n").startswith(b"HTTP/1.1 200 ")
    until(broken.is_set)
    flooding.join()
    until(lambda: scene.process.metric("clients") == scene.process.metric("in_flight") == 0)
    assert len(client.rest()) < 100_000_000


def test_a_client_that_takes_no_whole_answer_is_cut_off(make_scene, request_of) -> None:
    """And what it has asked for behind it is not asked."""
    scene: Scene = make_scene("--client-idle", "700ms", "--upstream-idle", "60s")
    body = bytes(200_000)
    client = scene.client(connect=lambda: small_window(scene.process))
    client.sends(b"".join(request_of(f"/{n}") for n in range(200)))
    model = scene.model.accepts()
    until(lambda: scene.process.metric("clients") == 1)
    asked = 0
    with suppress(ConnectionError):  # which ends where the client is cut off in the midst of an answer
        while True:
            until(lambda: not model.has_nothing() or scene.process.metric("clients") == 0)
            if model.has_nothing() or not model.request():
                break
            asked += 1
            model.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
    assert 0 < asked < 100
    until(lambda: scene.process.metric("clients") == scene.process.metric("in_flight") == 0)
