"""Peers that mean harm, or are broken: what they cost is bounded, and others are served. Real processes and sockets."""

import resource
import socket
from collections.abc import Callable, Iterator
from contextlib import suppress

import pytest
from tests.sidecar.live_path.processes import POST, Connection, Process, RawModel, until

_IDLE = 9_900  # beside those who want to be served; the default limit is 10,000
_MEBIBYTE = 1 << 20


@pytest.fixture(autouse=True)
def open_files() -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < 11_000:
        with suppress(ValueError, PermissionError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (11_000, 11_000))
            hard = 11_000
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.fixture
def crowd() -> Iterator[Callable[[Process, int], list[socket.socket]]]:
    """Many clients, from several addresses, as one address has not ports enough for those of several tests."""
    made: list[socket.socket] = []

    def connect(process: Process, count: int) -> list[socket.socket]:
        for number in range(count):
            source = (f"127.0.1.{1 + number % 200}", 0)
            made.append(socket.create_connection(("127.0.0.1", process.port), 60, source_address=source))
        return made[-count:]

    yield connect
    for client in made:
        client.close()


def memory(process: Process) -> int:
    """The most that the live process has had, in bytes."""
    with open(f"/proc/{process.children()[0]}/status") as status:
        line = next(line for line in status if line.startswith("VmHWM"))
    return int(line.split()[1]) << 10


def served(process: Process) -> bool:
    return process.ask().startswith(b"HTTP/1.1 200 ")


def test_ten_thousand_idle_connections_cost_little_and_others_are_served(start, crowd) -> None:
    process = start("--client-idle", "10m")
    assert served(process)
    before = memory(process)
    idle = crowd(process, _IDLE)
    until(lambda: process.metric("clients") >= _IDLE)
    assert served(process)
    idle[0].sendall(POST)
    idle[-1].sendall(POST)
    assert idle[0].recv(12) == idle[-1].recv(12) == b"HTTP/1.1 200"
    assert memory(process) - before < 160 * _MEBIBYTE


def test_heads_without_an_end_cost_little_and_others_are_served(start, crowd) -> None:
    process = start()
    assert served(process)
    before = memory(process)
    beginning = b"POST /infer HTTP/1.1\r\nHost: a\r\n"
    tiny = crowd(process, 300)
    for client in tiny:
        client.sendall(beginning + b"a:\r\n" * 15_000)
    long = crowd(process, 300)
    for client in long:
        client.sendall(beginning + b"X-A: " + b"a" * 60_000)
    assert served(process)
    assert all(client.recv(12) == b"HTTP/1.1 431" for client in tiny)  # at once, and not when it is 64 KiB
    assert memory(process) - before < 120 * _MEBIBYTE


def test_clients_that_never_read_cost_little_and_others_are_served(model: RawModel, start, crowd) -> None:
    def endless(connection: Connection) -> None:
        while request := connection.request():
            if b"/huge" not in request:
                connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
                continue
            connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n")
            while True:
                connection.send(bytes(1 << 16))

    model.script = endless
    process = start("--drain-time", "1s")
    assert served(process)
    before = memory(process)
    readers = crowd(process, 40)
    for client in readers:
        client.sendall(POST.replace(b"/infer", b"/huge"))
        assert client.recv(8) == b"HTTP/1.1"  # and nothing more
    assert all(served(process) for _ in range(20))
    assert memory(process) - before < 64 * _MEBIBYTE


def test_clients_that_are_half_closed_are_let_go(model: RawModel, start, crowd) -> None:
    process = start()
    for client in crowd(process, 200):
        client.sendall(POST[:-1])  # a byte is missing, and will not come
        client.shutdown(socket.SHUT_WR)
    until(lambda: process.metric("in_flight") == 0 and process.metric("clients") == 0)
    assert served(process)


def test_a_model_that_floods_with_headers_is_refused(model: RawModel, start) -> None:
    def flood(connection: Connection) -> None:
        while request := connection.request():
            if b"/flood" not in request:
                connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
                continue
            connection.send(b"HTTP/1.1 200 OK\r\n")
            while True:
                connection.send(b"a:\r\n" * 1000)

    model.script = flood
    process = start()
    assert served(process)
    before = memory(process)
    for _ in range(50):
        assert process.ask(POST.replace(b"/infer", b"/flood")).startswith(b"HTTP/1.1 502 ")
    assert served(process)
    assert memory(process) - before < 32 * _MEBIBYTE
