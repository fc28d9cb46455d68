"""Connections to the model that are used again, that are closed in between, and when a request is sent once more.

Live processes, with clients and model played here.
"""

import socket
import time
from dataclasses import replace

import pytest
from tests.sidecar.live_path.playing import Client, PlayedModel, Scene, stopped
from tests.sidecar.live_path.processes import (
    EVERYTHING,
    OK,
    POST,
    Connection,
    RawModel,
    captured_by,
    receive_answer,
    tell,
    until,
)

from modelcanary_gate.protocol import ModelReading


def retries(scene: Scene) -> float:
    return scene.count("retries_total")


def is_refused(client: Client) -> bool:
    return client.answer().status == 502 and client.is_closed()


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE"])
def test_a_connection_that_the_model_closed_first_costs_one_more_try(
    scene: Scene, served, request_of, method: str
) -> None:
    client, model = served
    before = retries(scene)
    client.sends(request_of("/again", b"abc", method=method))
    sent = model.request()
    model.close()
    model = scene.model.accepts()
    assert model.request() == sent  # the same bytes, on a fresh connection
    model.close()  # once, not twice
    assert is_refused(client)
    scene.settle()
    assert not scene.model.was_called
    assert retries(scene) == before + 1


def test_what_was_tried_again_is_answered_as_if_nothing_had_been(scene: Scene, served, request_of) -> None:
    client, model = served
    client.sends(request_of("/again", bytes(200_000), method="PUT"))
    sent = model.request()
    model.close()
    model = scene.model.accepts()
    assert model.request() == sent
    model.send(OK)
    assert client.answer().body == b"ok"
    client.sends(request_of("/next"))
    assert model.request().startswith(b"POST /next ")


def test_a_post_that_the_model_has_read_is_not_tried_again(scene: Scene, served, request_of) -> None:
    client, model = served
    client.sends(request_of("/now"))
    assert model.request()
    model.close()
    assert is_refused(client)
    scene.settle()
    assert not scene.model.was_called


@pytest.mark.parametrize("served_before", [1, 4])
def test_a_post_that_the_model_never_got_is_tried_again(scene: Scene, served, request_of, served_before: int) -> None:
    """By what its kernel has acknowledged: a socket that was closed before the request came acknowledges nothing."""
    client, model = served
    for _ in range(served_before - 1):
        client.sends(request_of())
        model.request()
        model.send(OK)
        client.answer()
    before = retries(scene)
    with scene.stopped():
        client.sends(request_of("/now"))
        model.close()
    model = scene.model.accepts()
    assert model.request().startswith(b"POST /now ")
    model.send(OK)
    assert client.answer().body == b"ok"
    assert retries(scene) == before + 1


def test_a_connection_that_was_closed_while_idle_is_not_used(scene: Scene, served, request_of) -> None:
    client, model = served
    before = retries(scene)
    with scene.stopped():
        model.close()
        client.sends(request_of("/now"))
    model = scene.model.accepts()
    assert model.request().startswith(b"POST /now ")
    model.send(OK)
    assert client.answer().body == b"ok"
    model.close()
    until(lambda: scene.process.metric("model_connections") == 0)
    client.sends(request_of("/then"))
    assert scene.model.accepts().request().startswith(b"POST /then ")
    assert retries(scene) <= before + 1


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_what_was_begun_to_be_answered_is_not_tried_again(scene: Scene, served, request_of, method: str) -> None:
    client, model = served
    client.sends(request_of("/now", method=method))
    assert model.request()
    model.send(b"HTTP/1.1 2")
    scene.settle()
    model.close()
    assert is_refused(client)
    scene.settle()
    assert not scene.model.was_called


def test_a_fresh_connection_that_breaks_is_no_idle_one(scene: Scene, request_of) -> None:
    client = scene.client()
    client.sends(request_of(method="GET", body=None))
    model = scene.model.accepts()
    model.request()
    model.close()
    assert is_refused(client)
    scene.settle()
    assert not scene.model.was_called


def test_a_request_too_long_to_be_kept_is_not_tried_again(scene: Scene, served, request_of) -> None:
    client, model = served
    client.sends(request_of("/put", bytes(300_000), method="PUT"))
    assert model.request()
    model.close()
    assert is_refused(client)
    scene.settle()
    assert not scene.model.was_called


def test_the_last_used_is_used_first(scene: Scene, request_of) -> None:
    clients = [scene.client() for _ in range(3)]
    models = []
    for client in clients:
        client.sends(request_of())
        models.append(scene.model.accepts())
        models[-1].request()
    for index in (1, 2, 0):
        models[index].send(OK)
        clients[index].answer()
    clients[1].sends(request_of("/first"))
    assert models[0].request().startswith(b"POST /first ")
    clients[2].sends(request_of("/second"))
    assert models[2].request().startswith(b"POST /second ")


def test_idle_connections_are_closed_before_the_model_does(make_scene, request_of) -> None:
    scene: Scene = make_scene("--upstream-idle", "300ms")
    client = scene.client()
    client.sends(request_of())
    model = scene.model.accepts()
    model.request()
    model.send(OK)
    client.answer()
    idle_since = time.monotonic()
    with scene.stopped():
        until(lambda: time.monotonic() > idle_since + 0.4)
        client.sends(request_of("/late"))  # whether the request or the look at the time is the first to find it
    assert model.rest() == b""
    model = scene.model.accepts()
    assert model.request().startswith(b"POST /late ")
    model.send(OK)
    assert client.answer().body == b"ok"
    assert model.rest() == b""  # without anybody asking


def test_the_latency_of_a_second_try_is_its_own(live, model: RawModel) -> None:
    """The second connection is not accepted at once; the model's time counts from what was sent on it."""
    process, scorer = live("--upstream-idle", "60s")
    tell(process, scorer, EVERYTHING)
    model.stop()
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", model.port))
        listener.listen(0)
        with process.connect() as client:
            client.sendall(POST)
            first = Connection(listener.accept()[0])
            first.request()
            first.send(OK)
            receive_answer(client)
            captured_by(scorer)
            with socket.create_connection(("127.0.0.1", model.port)):  # all the room that there is
                with stopped((process.children() or [process.popen.pid])[0]):
                    client.sendall(POST.replace(b"/infer", b"/again"))
                    first.close()
                until(lambda: process.metric("retries_total") == 1)
                failed = time.monotonic()
                until(lambda: time.monotonic() > failed + 0.3)
                room = time.monotonic()
                listener.accept()[0].close()
            second = Connection(listener.accept()[0])
            assert second.request().startswith(b"POST /again ")
            second.send(OK)
            assert receive_answer(client).endswith(b"ok")
            answered = time.monotonic()
        second.close()
    assert 0.0 < captured_by(scorer).baseline.latency <= answered - room


@pytest.mark.parametrize("host", ["a..b", "x" * 70 + ".test"])
@pytest.mark.parametrize("weight", [0.0, 1.0])
def test_a_name_that_is_none_is_a_candidate_that_does_not_answer(scene: Scene, host: str, weight: float) -> None:
    """It comes with instructions: the error must not end the process that serves users."""
    run = f"{host[:4]}-{weight}"
    asking = replace(EVERYTHING, candidate=f"http://{host}", weight=weight, lease=60.0, grace=0.05, run=run)
    scene.mirror(replace(asking, model=ModelReading()))
    scene.model.answers_by_itself(still=True)

    def told() -> bool:
        assert scene.process.ask().startswith(b"HTTP/1.1 200 ")
        if weight:
            return scene.process.metric("canary_total", "refused") > 0
        return 'reason="candidateUnreached"' in scene.process.admin_says("/metrics")

    until(told)
    scene.model.answers_by_itself(still=False)


def test_what_is_tried_again_with_the_candidate_is_the_same(make_scene, request_of) -> None:
    """Its request is framed for a body that is whole; the user's head has no place in front of it."""
    scene: Scene = make_scene("--upstream-idle", "60s")
    candidate = PlayedModel()
    try:
        candidate.answers_by_itself(still=True)
        url = f"http://127.0.0.1:{candidate.port}"
        scene.mirror(replace(EVERYTHING, candidate=url, weight=1.0, lease=60.0, grace=5.0))
        candidate.answers_by_itself(still=False)
        candidate.clear()
        scene.settle()
        client = scene.client()
        client.sends(request_of("/once"))
        baseline, asked = scene.model.accepts(), candidate.accepts()
        expected = asked.request().replace(b"/once", b"/again").replace(b"q0", b"q1")
        asked.send(OK)
        assert client.answer().body == b"ok"
        assert baseline.request()
        baseline.send(OK)
        captured_by(scene.scorer)
        with scene.stopped():
            client.sends(request_of("/again"))
            asked.close()
        asked = candidate.accepts()
        assert asked.request() == expected
        asked.send(OK)
        assert client.answer().body == b"ok"
        assert asked.has_nothing()
    finally:
        scene.clear()
        candidate.stop()
