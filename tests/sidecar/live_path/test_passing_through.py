"""Connections that are passed through as they are, where one of their sides is slow, gone, or never there."""

import select
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from tests.sidecar.live_path.processes import DEADLINE, Connection, Process, RawModel, until
from tests.sidecar.live_path.test_draining import HOOK, Hook

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"


@contextmanager
def connected(process: Process) -> Iterator[Connection]:
    with process.connect() as opened:
        client = Connection(opened)
        client.send(PREFACE)
        yield client


def reset(connection: Connection) -> None:
    connection.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


def resident(process: int) -> int:
    (line,) = [line for line in Path(f"/proc/{process}/status").read_text().splitlines() if line.startswith("VmRSS")]
    return int(line.split()[1]) << 10


def say_until_held_up(connection: Connection, most: int) -> int:
    """As much as is taken; how much that was."""
    said, piece = 0, bytes(1 << 16)
    while said < most and select.select([], [connection.socket], [], 1.0)[1]:
        said += connection.socket.send(piece)
    return said


@pytest.mark.parametrize("speaker", ["model", "client"])
def test_who_does_not_read_holds_the_other_up(model: RawModel, start: Callable[..., Process], speaker: str) -> None:
    model.script = lambda connection: None  # the test speaks for it
    process = start()
    live = process.children()[0]
    with connected(process) as client:
        other = until(lambda: model.connections and model.connections[0])
        assert other.take(len(PREFACE)) == PREFACE
        before = resident(live)
        says, hears = (other, client) if speaker == "model" else (client, other)
        said = say_until_held_up(says, 64 << 20)
        assert said < 64 << 20  # what the systems on the way take, and little more
        assert resident(live) - before < 4 << 20
        says.socket.shutdown(socket.SHUT_WR)
        assert len(hears.rest()) == said
        other.close()


def test_a_client_that_breaks_off_frees_its_model(model: RawModel, start: Callable[..., Process]) -> None:
    process = start()
    gone = threading.Event()

    def wait_for_the_end(connection: Connection) -> None:
        connection.rest()
        gone.set()

    model.script = wait_for_the_end
    with connected(process) as client:
        until(lambda: model.connections)
        reset(client)
    assert gone.wait(DEADLINE)


def test_a_model_that_breaks_off_frees_its_client(model: RawModel, start: Callable[..., Process]) -> None:
    def say_and_reset(connection: Connection) -> None:
        connection.take(len(PREFACE))
        connection.send(b"so far")
        assert may.wait(DEADLINE)
        reset(connection)

    may = threading.Event()
    model.script = say_and_reset
    with connected(start()) as client:
        assert client.take(6) == b"so far"
        may.set()
        assert client.rest() == b""


def test_a_client_whose_model_is_not_there_is_closed(model: RawModel, start: Callable[..., Process]) -> None:
    process = start()
    model.stop()
    with connected(process) as client:
        assert client.rest() == b""
    until(lambda: process.metric("passed_through_total") == 1)


def test_a_client_that_asks_nothing_is_told_to_go_as_well(model: RawModel, start: Callable[..., Process]) -> None:
    settings, goaway = b"\0\0\0\4\0" + bytes(4), b"\0\0\x08\7\0" + bytes(4) + b"\x7f\xff\xff\xff" + bytes(4)

    def greet(connection: Connection) -> None:
        # The sidecar also tries whether the model is there, and says nothing.
        if connection.socket.recv(len(PREFACE), socket.MSG_WAITALL) == PREFACE:
            connection.send(settings)
            connection.rest()
        connection.close()

    model.script = greet
    process = start("--drain-path", HOOK, "--drain-delay", "300ms")
    with connected(process) as early:
        assert early.take(len(settings)) == settings
        hook = Hook(process)
        assert early.take(len(goaway)) == goaway
        with connected(process) as late:
            assert late.take(len(settings) + len(goaway)) == settings + goaway
            assert hook.held
        assert early.has_nothing()
    assert hook.wait().endswith("drained\n")
