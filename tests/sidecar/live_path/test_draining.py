"""How processes leave: by SIGTERM, by a hook that is held, and how they come back. Real processes, real sockets."""

import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from tests.sidecar.live_path.processes import (
    DEADLINE,
    OK,
    POST,
    Connection,
    Process,
    RawModel,
    receive_all,
    receive_answer,
    until,
)

HOOK = "/drain/0123456789abcdef"


def test_a_sidecar_ends_without_failing_a_request(model: RawModel, start) -> None:
    release = threading.Event()

    def slow(connection: Connection) -> None:
        while request := connection.request():
            if b"/slow" in request:
                release.wait(DEADLINE)
            connection.send(OK)

    model.script = slow
    process = start("--drain-delay", "1s")
    assert "200 OK" in process.admin_says("/readyz")
    with process.connect() as in_flight, process.connect() as idle:
        idle.sendall(POST)
        receive_answer(idle)
        in_flight.sendall(POST.replace(b"/infer", b"/slow"))
        until(lambda: process.metric("in_flight") == 1)
        process.terminate()
        until(lambda: "503" in process.admin_says("/readyz"))
        until(lambda: b"connection: close" in process.ask())  # new connections are served still, and told
        assert receive_all(idle) == b""  # closed, when the delay is over
        until(lambda: refused(process))
        assert process.popen.poll() is None  # one request is still under way
        release.set()
        answer = receive_all(in_flight)
        assert answer.endswith(b"ok")
        assert b"connection: close" in answer
    assert process.popen.wait(DEADLINE) == 0


def refused(process: Process) -> bool:
    try:
        process.connect().close()
    except OSError:
        return True
    return False


def test_a_scorer_that_ends_during_the_drain_is_no_error(model: RawModel, start) -> None:
    """A service manager signals every process of a group at once."""
    process = start("--drain-delay", "1s")
    _, scorer = process.children()
    process.terminate()
    os.kill(scorer, signal.SIGKILL)
    process.popen.wait(DEADLINE)
    process._reader.join(DEADLINE)
    assert not any("Traceback" in line for line in process.lines)


class Hook:
    """A hook under way, on a thread of its own as kubelet would run it."""

    def __init__(self, process: Process) -> None:
        self.answer = ""
        self._thread = threading.Thread(target=self._run, args=(process,))
        self._thread.start()

    def _run(self, process: Process) -> None:
        self.answer = process.admin_says(HOOK)

    @property
    def held(self) -> bool:
        return self._thread.is_alive()

    def held_for(self, seconds: float) -> bool:
        self._thread.join(seconds)
        return self.held

    def wait(self) -> str:
        self._thread.join(DEADLINE)
        assert not self.held
        return self.answer


@contextmanager
def _open(process: Process, *clients: str) -> Iterator[list[socket.socket]]:
    made = [process.connect() for _ in clients]
    yield made
    for client in made:
        client.close()


def test_a_hook_is_held_until_the_last_client_has_left(model: RawModel, start: Callable[..., Process]) -> None:
    release = threading.Event()

    def slow(connection: Connection) -> None:
        while request := connection.request():
            if b"/slow" in request:
                release.wait(DEADLINE)
            connection.send(OK)

    model.script = slow
    process = start("--drain-path", HOOK, "--drain-delay", "500ms")
    with _open(process, "in flight", "idle", "in use") as (in_flight, idle, in_use):
        idle.sendall(POST)
        assert b"connection: close" not in receive_answer(idle)
        in_flight.sendall(POST.replace(b"/infer", b"/slow"))
        until(lambda: process.metric("in_flight") == 1)
        hook = Hook(process)
        until(lambda: "503" in process.admin_says("/readyz"))
        until(lambda: b"connection: close" in process.ask())  # new ones are served, and told
        in_use.sendall(POST)
        assert b"connection: close" in receive_all(in_use)
        assert receive_all(idle) == b""  # closed when the delay is over
        assert process.ask().startswith(b"HTTP/1.1 200 ")  # new ones are served all the same
        assert hook.held
        release.set()
        assert receive_all(in_flight).endswith(b"ok")
    assert hook.wait().endswith("drained\n")
    assert process.stop() == 0


def test_a_hook_is_answered_when_the_time_is_up(model: RawModel, start: Callable[..., Process]) -> None:
    model.script = lambda connection: connection.request() and connection.request()
    process = start("--drain-path", HOOK, "--drain-delay", "100ms", "--drain-time", "300ms")
    with process.connect() as client:
        client.sendall(POST)
        until(lambda: process.metric("in_flight") == 1)
        assert process.admin_says(HOOK).endswith("clients are still connected\n")
        assert process.metric("in_flight") == 1


def test_a_hook_waits_for_every_live_process(model: RawModel, start: Callable[..., Process]) -> None:
    release = threading.Event()

    def slow(connection: Connection) -> None:
        connection.request()
        release.wait(DEADLINE)
        connection.send(OK)

    model.script = slow
    process = start("--drain-path", HOOK, "--workers", "2")
    live = process.children()[:2]
    with _open(process, *("one",) * 20) as clients:  # some are the other process's
        for client in clients:
            client.sendall(POST)
        until(lambda: process.metric("in_flight") == 20)
        os.kill(live[1], signal.SIGSTOP)  # it cannot say that its clients have left
        hook = Hook(process)
        release.set()
        until(lambda: process.metric("in_flight") < 20)
        until(lambda: "503" in process.admin_says("/readyz"))
        assert hook.held_for(1.0)  # by then the first process has said so
        os.kill(live[1], signal.SIGCONT)
        assert all(receive_all(client).endswith(b"ok") for client in clients)
        assert hook.wait().endswith("drained\n")
    assert process.stop() == 0


def test_a_model_that_alone_was_ended_is_served_again(model: RawModel, start: Callable[..., Process]) -> None:
    process = start("--drain-path", HOOK, "--workers", "2")
    assert Hook(process).wait().endswith("drained\n")
    assert "503" in process.admin_says("/readyz")
    model.stop()  # kubelet ends the model, not the sidecar ...
    until(lambda: any("the model has left" in line for line in process.lines))
    assert "draining" in process.admin_says("/readyz")
    again = RawModel(model.port)  # ... and starts it again
    try:
        until(lambda: "200 OK" in process.admin_says("/readyz"))
        until(lambda: not any(b"connection: close" in process.ask() for _ in range(10)))
        hook = Hook(process)  # the end of the pod
        assert hook.wait().endswith("drained\n")
        assert process.stop() == 0
    finally:
        again.stop()


def test_a_connection_that_has_just_come_is_not_taken_for_idle(start: Callable[..., Process]) -> None:
    process = start("--drain-path", HOOK, "--drain-delay", "1s")
    with process.connect() as idle:
        hook = Hook(process)
        for _ in range(8):  # until long after the delay
            with process.connect() as late:
                late.settimeout(0.3)
                with pytest.raises(TimeoutError):
                    late.recv(1)  # some sweeps pass before its request comes
                late.sendall(POST)
                assert receive_all(late).endswith(b"ok")
            assert hook.held  # there may be more who have not heard
        assert receive_all(idle) == b""
    assert hook.wait().endswith("drained\n")


@pytest.mark.parametrize("path", ["/drain", "/drain/", "/drain/0123456789abcdee"])
def test_nobody_else_can_drain(start: Callable[..., Process], path: str) -> None:
    process = start("--drain-path", HOOK)
    assert "404" in process.admin_says(path)
    assert "200 OK" in process.admin_says("/readyz")
