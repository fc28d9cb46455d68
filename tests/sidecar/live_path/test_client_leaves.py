"""Clients that leave before they have their answers: a live process, with clients and model played here."""

import socket
import struct
from contextlib import suppress

import pytest
from tests.sidecar.live_path.playing import Client, Scene
from tests.sidecar.live_path.processes import OK, until

HOW = ["closes", "resets", "closes by half"]


def leave(client: Client, how: str) -> None:
    if how == "closes by half":
        client.socket.shutdown(socket.SHUT_WR)
        assert client.is_closed()  # who has said that he is done is not answered
        return
    if how == "resets":
        client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()


def is_quiet(scene: Scene) -> bool:
    names = ("clients", "in_flight", "waiting")
    until(lambda: all(scene.process.metric(name) == 0 for name in names))
    return True


@pytest.mark.parametrize("how", HOW)
def test_its_request_is_aborted(scene: Scene, request_of, how: str) -> None:
    client = scene.client()
    client.sends(request_of())
    model = scene.model.accepts()
    model.request()
    leave(client, how)
    assert model.rest() == b""
    assert is_quiet(scene)


@pytest.mark.parametrize("how", HOW)
def test_a_request_that_is_not_whole_never_is(scene: Scene, how: str) -> None:
    client = scene.client()
    client.sends(b"POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n")
    model = scene.model.accepts()
    assert model.take_until(b"hello\r\n")
    leave(client, how)
    assert model.rest() == b""
    assert is_quiet(scene)


@pytest.mark.parametrize("how", HOW)
def test_an_answer_that_is_under_way_is_not_awaited(scene: Scene, request_of, how: str) -> None:
    before = scene.count("broken_off_total")
    client = scene.client()
    client.sends(request_of())
    model = scene.model.accepts()
    model.request()
    model.send(OK[:-1])
    assert client.take_until(b"\r\n\r\no")
    leave(client, how)
    assert model.rest() == b""
    assert is_quiet(scene)
    assert scene.count("broken_off_total") == before  # it was not the model


@pytest.mark.parametrize("how", ["closes", "resets"])
def test_what_it_has_sent_behind_ends_with_it(scene: Scene, request_of, how: str) -> None:
    """It need not be read while its next request is known: that it left is noticed with the answers at the latest."""
    client = scene.client()
    client.sends(request_of("/0") + request_of("/1") + request_of("/2"))
    model = scene.model.accepts()
    assert model.request().startswith(b"POST /0 ")
    scene.settle()
    leave(client, how)
    number = 0
    with suppress(ConnectionError):
        model.send(OK)
        while request := model.request():
            number += 1
            assert request.startswith(b"POST /%d " % number)
            model.send(OK)
            if number == 2:
                break
    assert is_quiet(scene)


@pytest.mark.parametrize("how", HOW)
@pytest.mark.parametrize("said", [b"", b"POST /x HT", b"PRI * HTT", b"POST /x HTTP/1.1\r\nHost: a\r\n"])
def test_who_has_not_asked_leaves_nothing_behind(scene: Scene, said: bytes, how: str) -> None:
    client = scene.client()
    client.sends(said)
    scene.settle()
    leave(client, how)
    assert is_quiet(scene)
    assert not scene.model.was_called


def test_others_are_served_on_the_connections_that_are_left(scene: Scene, request_of) -> None:
    stays, leaves = scene.client(), scene.client()
    stays.sends(request_of("/stays"))
    model = scene.model.accepts()
    assert model.request().startswith(b"POST /stays ")
    leaves.sends(request_of("/leaves"))
    other = scene.model.accepts()
    assert other.request().startswith(b"POST /leaves ")
    leaves.close()
    assert other.rest() == b""
    model.send(OK)
    assert stays.answer().body == b"ok"
