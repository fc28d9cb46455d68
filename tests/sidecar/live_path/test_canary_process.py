"""Half of the users on a candidate that fails, as a real process against real servers: nobody sees an error."""

import socket
import struct
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest
from tests.sidecar.live_path.processes import EVERYTHING, Connection, Process, RawModel, receive_all, tell, until

from modelcanary_gate.sampling import position
from modelcanary_sidecar.channel import ScorerEnd

Live = Callable[..., tuple[Process, ScorerEnd]]
REQUEST = b"POST /infer HTTP/1.1\r\nHost: a\r\nConnection: close\r\nX-Request-Id: %b\r\nContent-Length: 2\r\n\r\n{}"


def saying(body: bytes, status: bytes = b"200 OK", kind: bytes = b"application/json") -> Callable[[Connection], None]:
    def script(connection: Connection) -> None:
        while connection.request():
            head = b"HTTP/1.1 %b\r\nContent-Type: %b\r\nContent-Length: %d\r\n\r\n" % (status, kind, len(body))
            connection.send(head + body)

    return script


def hang(connection: Connection) -> None:
    while connection.request():
        pass


def reset(connection: Connection) -> None:
    connection.request()
    connection.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


def half(connection: Connection) -> None:
    connection.request()
    connection.send(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 50\r\n\r\n{")
    connection.socket.recv(1)


def babble(connection: Connection) -> None:
    connection.request()
    connection.send(b"\x00\x01 not HTTP \r\n\r\n")


FAULTS: dict[str, Callable[[Connection], None]] = {
    "hangs": hang,
    "resets": reset,
    "stops halfway": half,
    "babbles": babble,
    "says 500": saying(b"{}", b"500 No"),
    "says HTML": saying(b"<html>", kind=b"text/html"),
    "says NaN": saying(b'{"outputs":[NaN]}'),
}


@pytest.fixture
def candidate() -> Iterator[RawModel]:
    candidate = RawModel()
    yield candidate
    candidate.stop()


@pytest.mark.parametrize("fault", [*FAULTS, "refuses"])
def test_users_see_no_error_and_are_soon_spared(live: Live, model: RawModel, candidate: RawModel, fault: str) -> None:
    model.script = saying(b'"base"')
    candidate.script = FAULTS.get(fault, hang)
    if fault == "refuses":
        candidate.stop()
    process, scorer = live()
    url = f"http://127.0.0.1:{candidate.port}"
    tell(process, scorer, replace(EVERYTHING, candidate=url, weight=0.5, lease=60.0, grace=0.05))
    ids = [b"u%d" % number for number in range(120)]
    chosen = sum(position(id.decode(), EVERYTHING.run) < 0.5 for id in ids)
    for id in ids:
        with process.connect() as user:
            user.sendall(REQUEST % id)
            answer = receive_all(user)
        assert answer.startswith(b"HTTP/1.1 200 "), id
        assert answer.endswith(b'"base"'), id
    # Of the chosen ones, five until it is noticed, and a probe now and then, the first after a second.
    until(lambda: chosen - 15 <= process.metric("canary_total", "skipped"))
    assert process.metric("canary_total", "candidate") == 0


def test_a_weight_runs_out_when_nobody_renews_it(live: Live, model: RawModel, candidate: RawModel) -> None:
    model.script, candidate.script = saying(b'"base"'), saying(b'"candidate"')
    process, scorer = live()
    url = f"http://127.0.0.1:{candidate.port}"
    tell(process, scorer, replace(EVERYTHING, candidate=url, weight=1.0, lease=2.0, grace=5.0))

    def answer() -> bytes:
        with process.connect() as user:
            user.sendall(REQUEST % b"me")
            return receive_all(user).rpartition(b"\r\n\r\n")[2]

    assert answer() == b'"candidate"'
    until(lambda: answer() == b'"base"')  # neither scorer nor ledger has said anything since
    assert all(answer() == b'"base"' for _ in range(20))


@pytest.mark.parametrize("host", ["a..b", "x" * 70 + ".test"])
def test_a_name_that_is_none_is_a_candidate_that_does_not_answer(live: Live, host: str) -> None:
    """It is in instructions: the error must not end the process that serves users."""
    process, scorer = live()
    tell(process, scorer, replace(EVERYTHING, candidate=f"http://{host}", weight=1.0, lease=60.0))
    assert process.ask().endswith(b"ok")
    until(lambda: process.metric("canary_total", "refused") > 0)
