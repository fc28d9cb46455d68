"""How many connections to the model there are, who waits for one, and what is said to those for whom there is no room.

Live processes with limits of their own, and with clients and model played here.
"""

import socket
import struct
from collections.abc import Callable, Iterator
from contextlib import suppress

import pytest
from tests.sidecar.live_path.playing import Client, Scene
from tests.sidecar.live_path.processes import OK, Connection, start_live, until


def waiting(scene: Scene) -> float:
    return scene.process.metric("waiting")


@pytest.fixture(scope="module")
def shared_scene() -> Iterator[Scene]:
    """A connection to the model, and room for two who wait for it."""
    scene = Scene("--connections", "1", "--waiting", "2", "--upstream-idle", "60s")
    yield scene
    scene.stop()


def in_turn(scene: Scene, request_of: Callable[..., bytes], targets: list[str]) -> list[Client]:
    """Clients who ask one behind the other: the first has the connection, the others wait for it."""
    clients = []
    for number, target in enumerate(targets):
        clients.append(scene.client())
        clients[-1].sends(request_of(target))
        scene.settle()
        if number:
            until(lambda number=number: waiting(scene) == number)
    return clients


def test_no_more_connections_than_the_limit_and_those_behind_wait(scene: Scene, request_of) -> None:
    served, *wait = in_turn(scene, request_of, ["/0", "/1", "/2"])
    for _ in range(3):
        late = scene.client()
        late.sends(request_of())
        assert late.answer().status == 503
        assert late.is_closed()
    model = scene.model.accepts()
    assert not scene.model.was_called
    for number, client in enumerate([served, *wait]):  # who waits is served in order
        assert all(other.has_nothing() for other in wait[number:])
        assert model.request().startswith(b"POST /%d " % number)
        model.send(OK)
        assert client.answer().body == b"ok"
    assert not scene.model.was_called
    until(lambda: waiting(scene) == 0)


def test_as_many_connections_as_are_needed_up_to_the_limit(make_scene, request_of) -> None:
    scene: Scene = make_scene("--connections", "3", "--upstream-idle", "60s")
    clients = [scene.client() for _ in range(5)]
    for number, client in enumerate(clients):
        client.sends(request_of(f"/{number}"))
    models = [scene.model.accepts() for _ in range(3)]
    scene.settle()
    assert not scene.model.was_called
    until(lambda: scene.process.metric("in_flight") == 3)
    until(lambda: waiting(scene) == 2)
    for model in [*models, *models[:2]]:
        assert model.request()
        model.send(OK)
    assert [client.answer().status for client in clients] == [200] * 5
    until(lambda: scene.process.metric("in_flight") == 0)
    assert scene.process.metric("model_connections") == 3


def test_who_has_left_takes_no_place_in_the_queue(scene: Scene, request_of) -> None:
    served = in_turn(scene, request_of, ["/0"])[0]
    for _ in range(4):  # more than may wait
        leaves = scene.client()
        leaves.sends(request_of("/left"))
        scene.settle()
        leaves.close()
        scene.settle()
    waits = scene.client()
    waits.sends(request_of("/1"))
    scene.settle()
    assert waits.has_nothing()
    model = scene.model.accepts()
    for client, expected in ((served, b"POST /0 "), (waits, b"POST /1 ")):  # nobody asks for those who left
        assert model.request().startswith(expected)
        model.send(OK)
        assert client.answer().body == b"ok"


def test_as_long_as_somebody_waits_a_connection_is_opened(scene: Scene, request_of) -> None:
    clients = in_turn(scene, request_of, ["/0", "/1", "/2"])
    for number, client in enumerate(clients):
        model = scene.model.accepts()
        assert model.request().startswith(b"POST /%d " % number)
        if number == 1:
            model.close()  # that one's request fails, and the next is served all the same
            assert client.answer().status == 502
            continue
        model.send(b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok")  # and closes
        assert model.rest() == b""
        assert client.answer().body == b"ok"


def test_a_body_that_waits_for_a_connection_is_not_read_on(scene: Scene, request_of) -> None:
    in_turn(scene, request_of, ["/0"])
    client = scene.client()
    client.sends(b"POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000000\r\n\r\nhello")
    until(lambda: waiting(scene) == 1)
    client.socket.settimeout(0.5)
    pushed = 0
    with suppress(TimeoutError):
        while pushed < 100 << 20:
            pushed += client.socket.send(b"x" * (1 << 16))
    assert pushed < 100 << 20
    first = scene.model.accepts()
    first.request()
    first.send(OK)
    head = first.take_until(b"\r\n\r\nhello")
    assert head.startswith(b"POST /x ")
    assert first.take(pushed) == b"x" * pushed  # not a byte is lost
    client.sends(b"y")
    assert first.take(1) == b"y"


def test_who_waits_too_long_is_told_so(make_scene, request_of) -> None:
    scene: Scene = make_scene("--connections", "1", "--waiting-time", "500ms", "--upstream-idle", "60s")
    served, waits = scene.client(), scene.client()
    served.sends(request_of())
    model = scene.model.accepts()
    waits.sends(request_of())
    assert waits.answer().status == 503
    assert waits.is_closed()
    assert served.has_nothing()
    model.request()
    model.send(OK)
    assert served.answer().body == b"ok"
    scene.settle()
    assert model.has_nothing()


def test_an_unreachable_model_is_a_502_at_once(make_scene, request_of) -> None:
    gone: Scene = make_scene("--connections", "2")
    gone.model.stop()
    for _ in range(5):  # more than there are connections: none is kept by who failed
        client = gone.client()
        client.sends(request_of())
        assert client.answer().status == 502
        assert client.is_closed()
    assert gone.process.metric("in_flight") == 0


def test_a_model_that_does_not_accept_in_time_is_a_502(scene: Scene, request_of) -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        with socket.create_connection(listener.getsockname()):  # all the room that there is
            process, scorer = start_live(listener.getsockname()[1], connect_time=0.3)
            try:
                assert process.ask().startswith(b"HTTP/1.1 502 ")
                until(lambda: process.metric("in_flight") == process.metric("waiting") == 0)
            finally:
                process.stop()
                scorer.close()


def test_a_model_that_accepts_and_hangs_up_at_once_takes_no_place(make_scene, request_of) -> None:
    """For each time, a place of the pool would be gone for ever."""
    scene: Scene = make_scene("--connections", "1")

    def hang_up(connection: Connection) -> None:
        connection.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.close()

    scene.model.script = hang_up
    for _ in range(10):
        client = scene.client()
        client.sends(request_of())
        assert client.answer().status == 502
    scene.model.answers_by_itself(still=True)
    client = scene.client()
    client.sends(request_of())
    assert client.answer().body == b"ok"
