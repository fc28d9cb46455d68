"""Real processes against a real model of raw sockets: connections, signals, backpressure, what is passed through."""

import os
import re
import signal
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import suppress

import pytest
from tests.sidecar.live_path.processes import (
    DEADLINE,
    EVERYTHING,
    OK,
    POST,
    Connection,
    RawModel,
    answer_all,
    captured_by,
    receive_all,
    receive_answer,
    tell,
    until,
)


@pytest.mark.parametrize("size", [2, 100_000, 1 << 20])
def test_a_user_is_answered_and_the_pair_arrives_at_the_scorer(live, size: int) -> None:
    process, scorer = live()
    tell(process, scorer, EVERYTHING)
    body = os.urandom(size)
    head = b"POST /infer HTTP/1.1\r\nHost: a\r\nX-Request-Id: me\r\nContent-Length: %d\r\n\r\n" % size
    assert process.ask(head + body) == b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"
    captured = captured_by(scorer)
    assert (captured.id, captured.run, captured.body) == ("me", "r", body)
    assert (captured.baseline.status, captured.baseline.body) == (200, b"ok")
    assert 0.0 < captured.baseline.latency < DEADLINE


def test_a_scorer_that_does_not_read_delays_nobody(live) -> None:
    process, scorer = live()
    tell(process, scorer, EVERYTHING)
    head = b"POST /infer HTTP/1.1\r\nHost: a\r\nX-Request-Id: me\r\nContent-Length: 40000\r\n\r\n"
    with process.connect() as client:
        for _ in range(400):  # 16 MB, much more than the channel holds
            client.sendall(head + bytes(40_000))
            assert receive_answer(client).startswith(b"HTTP/1.1 200 ")
    until(lambda: 'reason="queue"' in process.admin_says("/metrics"))
    assert process.metric("captured_total") > 10


def test_a_connection_that_the_model_closed_first_costs_nobody_an_answer(model: RawModel, start) -> None:
    got: list[bytes] = []

    def one_answer(connection: Connection) -> None:
        got.append(connection.request())
        connection.send(OK)  # keep-alive, as far as it says

    model.script = one_answer
    process = start()
    live = process.children()[0]
    with process.connect() as client:
        for n in range(5):
            os.kill(live, signal.SIGSTOP)  # so that the close and the next request meet it together
            if n:
                model.connections[-1].close()
            client.sendall(POST.replace(b"/infer", b"/%d" % n))
            os.kill(live, signal.SIGCONT)
            assert receive_answer(client).startswith(b"HTTP/1.1 200 "), n
    assert [request.split(b" ")[1] for request in got] == [b"/%d" % n for n in range(5)]


def test_beyond_the_connections_and_the_queue_users_are_told_at_once(model: RawModel, start) -> None:
    release = threading.Event()

    def slow(connection: Connection) -> None:
        while connection.request():
            release.wait(DEADLINE)
            connection.send(OK)

    model.script = slow
    process = start("--connections", "1", "--waiting", "1")
    with process.connect() as first, process.connect() as second:
        first.sendall(POST)
        until(lambda: process.metric("in_flight") == 1)
        second.sendall(POST)
        until(lambda: process.metric("waiting") == 1)
        assert process.ask().startswith(b"HTTP/1.1 503 ")
        release.set()
        assert receive_answer(first).endswith(b"ok")
        assert receive_answer(second).endswith(b"ok")
    assert len(model.connections) == 1


def test_not_ready_while_the_model_is_not(model: RawModel, start) -> None:
    process = start()
    model._listener.shutdown(socket.SHUT_RDWR)
    model._listener.close()
    assert "does not accept" in process.admin_says("/readyz")
    assert "200 OK" in process.admin_says("/healthz")
    assert process.ask().startswith(b"HTTP/1.1 502 ")


def _pushed(send: Callable[[bytes], object], most: int) -> int:
    """How much can be sent before it blocks."""
    piece = bytes(1 << 16)
    pushed = 0
    with suppress(TimeoutError):
        while pushed < most:
            send(piece)
            pushed += len(piece)
    return pushed


def test_a_user_who_does_not_read_stops_the_model(model: RawModel, start) -> None:
    pushed: list[int] = []

    def endless(connection: Connection) -> None:
        connection.request()
        connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n")
        connection.socket.settimeout(1.0)
        pushed.append(_pushed(connection.socket.sendall, 300 << 20))

    model.script = endless
    process = start()
    with process.connect() as client:
        client.sendall(POST)
        until(lambda: pushed)
    assert pushed[0] < 100 << 20


def test_a_model_that_does_not_read_stops_the_user(model: RawModel, start) -> None:
    held = threading.Event()
    model.script = lambda connection: bool(held.wait(DEADLINE)) and None
    process = start("--drain-time", "1s")
    with process.connect() as client:
        client.sendall(b"POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000000\r\n\r\n")
        client.settimeout(1.0)
        pushed = _pushed(client.sendall, 300 << 20)
    held.set()
    assert pushed < 100 << 20


def test_a_user_who_leaves_frees_the_models_connection(model: RawModel, start) -> None:
    left = threading.Event()

    def wait_for_the_end(connection: Connection) -> None:
        connection.request()
        with suppress(ConnectionError):
            connection.socket.recv(1)
        left.set()

    model.script = wait_for_the_end
    process = start()
    with process.connect() as client:
        client.sendall(POST)
        until(lambda: process.metric("in_flight") == 1)
    assert left.wait(DEADLINE)
    until(lambda: process.metric("in_flight") == 0)


def test_a_refusal_is_not_lost_to_a_reset(start) -> None:
    process = start()
    for _ in range(20):
        with process.connect() as client:
            # Much more than what is read before it is refused: closing at once would reset the connection.
            client.sendall(b"POST /x HTTP/1.1\r\nHost: a\r\nX: " + b"a" * 2_000_000 + b"\r\n\r\n")
            assert receive_all(client).startswith(b"HTTP/1.1 431 ")


def test_http2_passes_through_both_ways_and_ends_both_ways(model: RawModel, start) -> None:
    def echo(connection: Connection) -> None:
        while data := connection.socket.recv(1 << 16):
            connection.send(data)
        connection.send(b"bye")
        connection.close()

    model.script = echo
    process = start()
    preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
    payload = os.urandom(3 << 20)
    with process.connect() as client:
        sender = threading.Thread(target=lambda: (client.sendall(preface + payload), client.shutdown(socket.SHUT_WR)))
        sender.start()
        assert receive_all(client) == preface + payload + b"bye"
        sender.join()
    until(lambda: process.metric("passed_through_total") == 1)


def test_several_processes_serve_on_one_port_and_export_one_sum(start) -> None:
    process = start("--workers", "2")
    assert len(process.children()) == 3
    for _ in range(60):
        assert process.ask().startswith(b"HTTP/1.1 200 ")
    until(lambda: process.metric("requests_total") == 60)
    assert process.stop() == 0


def test_users_are_served_while_the_scorer_is_started_again(start) -> None:
    process = start()
    live, scorer = process.children()
    os.kill(scorer, signal.SIGKILL)
    until(lambda: any("the scorer ended (SIGKILL)" in line for line in process.lines))
    assert process.ask().startswith(b"HTTP/1.1 200 ")
    until(lambda: len(process.children()) == 2 and process.children()[0] == live)
    assert process.children()[1] != scorer
    assert process.stop() == 0


def test_a_sidecar_whose_live_process_dies_says_so_by_its_end(start) -> None:
    process = start()
    os.kill(process.children()[0], signal.SIGKILL)
    assert process.popen.wait(DEADLINE) != 0
    process._reader.join(DEADLINE)
    assert any("a live process ended (SIGKILL)" in line for line in process.lines)


def test_nothing_is_left_when_the_sidecar_is_killed(start) -> None:
    process = start()
    children = process.children()
    process.popen.kill()
    process.popen.wait(DEADLINE)
    until(lambda: not any(_running(child) for child in children))


def _running(process: int) -> bool:
    try:
        with open(f"/proc/{process}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_a_port_in_use_is_one_line_and_exit_code_3(model: RawModel) -> None:
    command = [sys.executable, "-m", "modelcanary_sidecar.main", "--ledger", "http://x", "--name", "x"]
    command += ["--upstream", "http://127.0.0.1:1", "--admin", "127.0.0.1:0", "--listen", f"127.0.0.1:{model.port}"]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE, check=False)
    assert ended.returncode == 3
    assert re.fullmatch(
        rf"modelcanary-sidecar: --listen: cannot listen on 127\.0\.0\.1:{model.port}: .*; choose .*\n", ended.stderr
    )


def test_a_model_that_hangs_up_at_once_leaves_nothing_behind(model: RawModel, start) -> None:
    def hang_up(connection: Connection) -> None:
        connection.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.close()

    model.script = hang_up
    process = start("--connections", "2")
    for _ in range(40):
        assert process.ask().startswith(b"HTTP/1.1 502 ")
    model.script = answer_all
    until(lambda: process.ask().startswith(b"HTTP/1.1 200 "))
    until(lambda: process.metric("model_connections") <= 1)
