"""Who does not read stops who sends, and nothing is lost: a live process, with clients and model played here."""

import hashlib
import random
import threading
import time
from contextlib import suppress
from dataclasses import replace

from tests.sidecar.live_path.playing import Scene, small_window
from tests.sidecar.live_path.processes import EVERYTHING, OK, Connection, captured_by, until

from modelcanary_gate.protocol import MirrorLimits

MANY = 120 << 20  # bytes, more than all buffers between two sides have room for
MOST = 60 << 20


def push(connection: Connection, seed: int, limit: int) -> tuple[int, str]:
    """Send until the other side takes no more for a while, or `limit`: how much, and its digest."""
    connection.socket.settimeout(0.5)
    digest = hashlib.sha256()
    pushed = 0
    numbers = random.Random(seed)
    with suppress(TimeoutError):
        while pushed < limit:
            piece = numbers.randbytes(min(1 << 16, limit - pushed))
            count = connection.socket.send(piece)
            digest.update(piece[:count])
            pushed += count
    connection.socket.settimeout(20.0)
    return pushed, digest.hexdigest()


def digest_of(connection: Connection, count: int) -> str:
    digest = hashlib.sha256()
    while count:
        piece = connection.take(min(count, 1 << 18))
        digest.update(piece)
        count -= len(piece)
    return digest.hexdigest()


def test_a_client_that_does_not_read_stops_the_model(scene: Scene, request_of) -> None:
    client = scene.client()
    client.sends(request_of())
    model = scene.model.accepts()
    model.request()
    model.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % MANY)
    pushed, digest = push(model, 1, MANY)
    assert pushed < MOST
    scene.settle()  # others are served
    assert client.take_until(b"\r\n\r\n").startswith(b"HTTP/1.1 200 ")
    assert digest_of(client, pushed) == digest
    rest = MANY - pushed
    sender = threading.Thread(target=model.send, args=(b"z" * rest,))
    sender.start()
    for _ in range(rest >> 16):
        assert client.take(1 << 16) == b"z" * (1 << 16)
    assert client.take(rest & 0xFFFF) == b"z" * (rest & 0xFFFF)
    sender.join()
    client.sends(request_of("/next"))
    assert model.request().startswith(b"POST /next ")


def test_a_model_that_does_not_read_stops_the_client(scene: Scene) -> None:
    client = scene.client()
    client.sends(b"POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % MANY)
    model = scene.model.accepts()
    pushed, digest = push(client, 2, MANY)
    assert pushed < MOST
    scene.settle()
    assert model.take_until(b"\r\n\r\n").startswith(b"POST /x ")
    assert digest_of(model, pushed) == digest
    rest = MANY - pushed
    sender = threading.Thread(target=client.sends, args=(b"z" * rest,))
    sender.start()
    assert digest_of(model, rest) == hashlib.sha256(b"z" * rest).hexdigest()
    sender.join()
    model.send(OK)
    assert client.answer().body == b"ok"


def test_the_next_answer_is_not_asked_for_before_the_last_is_read(scene: Scene, request_of) -> None:
    """Answers of which each is whole, to a client who reads none."""
    body = bytes(1_000_000)
    count = 120
    client = scene.client()
    sender = threading.Thread(target=client.sends, args=(b"".join(request_of(f"/{n}") for n in range(count)),))
    sender.start()
    answered = 0
    model = scene.model.accepts()

    def answer(connection: Connection) -> None:
        nonlocal answered
        with suppress(OSError):
            while request := connection.request():
                if request.startswith(b"POST /other "):
                    connection.send(OK)
                    continue
                assert request.startswith(b"POST /%d " % answered)
                answered += 1
                connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)

    answering = threading.Thread(target=answer, args=(model,))
    answering.start()
    scene.model.script = answer
    before = -1
    while answered != before:  # until it stands still
        before = answered
        end = time.monotonic() + 0.5
        until(lambda end=end: time.monotonic() > end)
    assert 0 < answered < 40
    other = scene.client()  # whom the same connection serves, unless it is in the middle of an answer
    other.sends(request_of("/other"))
    assert other.answer().body == b"ok"
    statuses = []
    for _ in range(count):
        read = client.answer()
        statuses.append(read.status)
        if read.status == 503:  # beyond what may wait
            break
        assert read.body == body
    assert set(statuses[:-1]) == {200}
    assert len(statuses) > 60
    sender.join()
    scene.model.answers_by_itself(still=False)
    scene.clear()
    answering.join()


def test_a_client_that_takes_its_time_is_no_late_model(make_scene, request_of) -> None:
    scene: Scene = make_scene("--answer-time", "1s", "--client-idle", "60s")
    scene.mirror(replace(EVERYTHING, mirror=MirrorLimits(maxBodyBytes=32 << 20, maxPairsPerSecond=1e6)))
    body = random.Random(3).randbytes(7 << 20)
    client = scene.client(connect=lambda: small_window(scene.process))
    client.sends(request_of("/slow"))
    model = scene.model.accepts()
    model.request()
    head = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body)
    sender = threading.Thread(target=model.send, args=(head + body[:-1],))
    sender.start()
    assert client.take_until(b"\r\n\r\n").startswith(b"HTTP/1.1 200 ")
    end = time.monotonic() + 1.8
    until(lambda: time.monotonic() > end)
    receiver = threading.Thread(target=lambda: got.append(client.take(len(body))))
    got: list[bytes] = []
    receiver.start()
    sender.join()
    model.send(body[-1:])
    receiver.join()
    assert got == [body]
    captured = captured_by(scene.scorer)
    assert (captured.baseline.failure, captured.baseline.status, captured.baseline.body) == (None, 200, body)


def test_a_model_that_answers_and_closes_without_reading_has_answered(scene: Scene) -> None:
    """It takes no such body, says so and resets the connection: what it said waits in the kernel behind the failure."""
    client = scene.client()
    client.sends(b"POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % MANY)
    model = scene.model.accepts()
    assert model.take_until(b"\r\n\r\n").startswith(b"POST /x ")
    push(client, 2, MANY)
    with scene.stopped():
        model.send(b"HTTP/1.1 413 Too Large\r\nContent-Length: 20000\r\n\r\n" + bytes(20_000))
        model.close()
    answer = client.answer()
    assert (answer.status, len(answer.body)) == (413, 20_000)
