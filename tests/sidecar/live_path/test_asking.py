"""The live process asks the candidate, over real sockets: whatever a candidate does, an outcome comes, in bounded
memory. The test is the users, both models and the scorer."""

import itertools
import random
import re
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator

import pytest
from tests.sidecar.live_path.processes import (
    DEADLINE,
    OK,
    Connection,
    Process,
    RawModel,
    receive_answer,
    start_live,
    until,
)

from modelcanary_gate.protocol import Instructions, MirrorLimits, ModelReading
from modelcanary_gate.vocabulary import Outcome
from modelcanary_sidecar.capture import LiveAnswer, header
from modelcanary_sidecar.channel import Dropped, News, ScorerEnd

Script = Callable[[Connection], None]
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
CLOSING = OK.replace(b"200 OK\r\n", b"200 OK\r\nConnection: close\r\n")
_runs = itertools.count()


class Asking:
    """A candidate, and what the scorer hears of it."""

    def __init__(self, process: Process, scorer: ScorerEnd, candidate: RawModel) -> None:
        self.candidate = candidate
        self._process, self._scorer = process, scorer
        self._run = f"run-{next(_runs)}"
        self._sent = 0
        self._answers: dict[str, LiveAnswer] = {}
        self.spared: Counter[str] = Counter()
        self._told, self._told_at = Instructions(1), time.monotonic()

    def follow(self, script: Script | None = None, *, host: str = "127.0.0.1", port: int = 0, **limits: float) -> None:
        """What is told is heard before a user's request that is sent behind it."""
        if script is not None:
            self.candidate.script = script
        url = f"http://{host}:{port or self.candidate.port}/next"
        mirror = MirrorLimits(**{"timeout": 5.0, "maxPairsPerSecond": 1e6, **limits})  # type: ignore[arg-type]
        self._tell(Instructions(1, self._run, url, 1.0, model=ModelReading(), mirror=mirror))

    def stop(self) -> None:
        """Nothing is asked any more, and that the queue was full is forgotten."""
        self._tell(Instructions(1))
        until(lambda: not any(self.figure("breaker", state) for state in ("closed", "open", "halfOpen")))

    def _tell(self, instructions: Instructions) -> None:
        self._told, self._told_at = instructions, time.monotonic()
        assert self._scorer.tell(News(instructions, self._told_at))

    def send(self, count: int = 1, body: bytes = b"{}") -> list[str]:
        """Users' requests, one behind the other on a connection; their ids, once all have been answered."""
        ids = [f"{self._run}-{self._sent + number}" for number in range(count)]
        self._sent += count
        with self._process.connect() as client:
            for id in ids:
                line = f"POST /infer HTTP/1.1\r\nHost: a\r\nX-Request-Id: {id}\r\nContent-Length: {len(body)}\r\n\r\n"
                client.sendall(line.encode() + body)
                assert receive_answer(client).endswith(b"ok")
        return ids

    def ask(self, body: bytes = b"{}") -> LiveAnswer:
        (id,) = self.send(body=body)
        return self.answers([id])[0]

    def outcome(self) -> Outcome | None:
        return self.ask().failure

    def answers(self, ids: list[str]) -> list[LiveAnswer]:
        self.wait(lambda: all(id in self._answers for id in ids))
        return [self._answers[id] for id in ids]

    def answers_among(self, ids: list[str], count: int) -> list[LiveAnswer]:
        self.wait(lambda: len(self._answers.keys() & {*ids}) == count)
        return [self._answers[id] for id in ids if id in self._answers]

    def dropped(self, reason: str, count: int = 1) -> Counter[str]:
        """Once so many were."""
        self.wait(lambda: self.spared[reason] >= count)
        return self.spared

    def is_asked_again(self) -> LiveAnswer:
        """Requests are spared while the breaker is open: the first answer of one that is not."""
        deadline = time.monotonic() + DEADLINE
        while time.monotonic() < deadline:
            (id,) = self.send()
            self.wait(lambda: len(self._answers) + self.spared.total() == self._sent)
            if id in self._answers:
                return self._answers[id]
        raise AssertionError(f"nothing is asked: {self.spared}")

    def wait(self, found: Callable[[], bool]) -> None:
        """Until something is so, and hear meanwhile."""

        def heard() -> bool:
            self._hear()
            return found()

        until(heard)

    def _hear(self) -> None:
        if time.monotonic() > self._told_at + 1.0:  # without news for five nothing is captured
            self._tell(self._told)
        while message := self._scorer.receive():
            if isinstance(message, Dropped):
                if message.run == self._run:
                    self.spared.update(message.counts)
                continue
            for captured in message:
                assert captured.id not in self._answers, "it was told twice"
                assert captured.candidate is not None
                self._answers[captured.id] = captured.candidate

    def figure(self, name: str, outcome: str = "") -> float:
        said = self._process.admin_says("/metrics")
        labels = rf'figure="{name}"[^}}]*outcome="{outcome}"'
        found = re.search(rf"^modelcanary_sidecar_scorer{{[^}}]*{labels}[^}}]*}} (\S+)$", said, re.M)
        return float(found[1]) if found else 0.0


@pytest.fixture(scope="module")
def process() -> Iterator[tuple[Process, ScorerEnd]]:
    """One live process for all tests: each has a run of its own."""
    model = RawModel()
    process, scorer = start_live(model.port)
    yield process, scorer
    assert process.stop() == 0
    scorer.close()
    model.stop()


@pytest.fixture
def asking(process: tuple[Process, ScorerEnd]) -> Iterator[Asking]:
    candidate = RawModel()
    asking = Asking(*process, candidate)
    yield asking
    asking.stop()
    candidate.stop()


def answering(*answers: bytes, then_close: bool = False) -> Script:
    """Each request on a connection gets the next of `answers`, the last one again and again."""

    def script(connection: Connection) -> None:
        left = list(answers)
        while connection.request():
            connection.send(left.pop(0) if len(left) > 1 else left[0])
            if then_close:
                connection.socket.shutdown(socket.SHUT_RDWR)
                return

    return script


def hang(connection: Connection) -> None:
    connection.rest()


def reset(connection: Connection) -> None:
    connection.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


# -- answers


def test_answers_come_with_status_headers_body_and_latency(asking: Asking) -> None:
    bad = b"HTTP/1.1 500 No\r\nContent-Type: text/x\r\nContent-Encoding: gzip\r\nContent-Length: 3\r\n\r\nbad"
    asking.follow(answering(OK, bad))
    first = asking.ask()
    assert (first.failure, first.status, first.body) == (None, 200, b"ok")
    assert 0.0 < first.latency < 5.0
    second = asking.ask()
    assert (second.failure, second.status, second.body) == (None, 500, b"bad")
    assert header(second.headers, b"content-encoding") == b"gzip"
    assert len(asking.candidate.connections) == 1, "it is kept alive"


def test_the_copy_is_framed_and_has_the_candidates_path(asking: Asking) -> None:
    seen: list[bytes] = []

    def script(connection: Connection) -> None:
        while request := connection.request():
            seen.append(request)
            connection.send(OK)

    asking.follow(script)
    for body in (b"", b"{}", b"x" * 300_000):
        asking.ask(body)
        head, _, rest = seen[-1].partition(b"\r\n\r\n")
        lines = head.split(b"\r\n")
        assert lines[0] == b"POST /next/infer HTTP/1.1"
        assert b"X-ModelCanary-Shadow: 1" in lines
        assert [line for line in lines if line.lower().startswith(b"content-length:")] == [
            b"Content-Length: %d" % len(body)
        ]
        assert rest == body


@pytest.mark.parametrize(
    ("answer", "body", "kept"),
    [
        (CHUNKED + b"3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n", b"abcde", True),
        (CHUNKED + b"2\r\nab\r\n0\r\nX-Trailer: 1\r\n\r\n", b"ab", True),
        (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early\r\nLink: x\r\n\r\n" + OK, b"ok", True),
        (b"HTTP/1.1 204 No Content\r\n\r\n", b"", False),
        (CLOSING, b"ok", False),
        (b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok", b"ok", False),
        (OK + b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nextra", b"ok", False),
        (OK + b"garbage", b"ok", False),
    ],
    ids=["chunked", "trailers", "interim", "no content", "close", "HTTP/1.0", "a second answer", "extra bytes"],
)
def test_framings(asking: Asking, answer: bytes, body: bytes, kept: bool) -> None:
    asking.follow(answering(answer))
    for _ in range(3):  # what is left of one answer never becomes the next one's
        found = asking.ask()
        assert (found.failure, found.body) == (None, body)
        assert b"Trailer" not in found.headers
        assert b"Link" not in found.headers
    assert len(asking.candidate.connections) == (1 if kept else 3)


def test_an_answer_may_come_byte_by_byte(asking: Asking) -> None:
    def script(connection: Connection) -> None:
        connection.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.request()
        for byte in OK:
            connection.send(bytes([byte]))
            time.sleep(0.001)
        hang(connection)

    asking.follow(script)
    assert asking.ask().body == b"ok"


@pytest.mark.parametrize("chunked", [False, True], ids=["by length", "in chunks"])
def test_an_answer_may_be_large(asking: Asking, chunked: bool) -> None:
    body = random.Random(1).randbytes(900_000)
    if chunked:
        pieces = [body[at : at + 999] for at in range(0, len(body), 999)]
        answer = CHUNKED + b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"
    else:
        answer = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)
    asking.follow(answering(answer, OK))
    assert asking.ask().body == body
    assert asking.ask().body == b"ok"
    assert len(asking.candidate.connections) == 1


def test_an_answer_may_end_with_its_connection(asking: Asking) -> None:
    asking.follow(answering(b"HTTP/1.1 200 OK\r\n\r\nall of it", then_close=True))
    for _ in range(2):
        found = asking.ask()
        assert (found.failure, found.body) == (None, b"all of it")


def test_an_answer_may_come_before_all_of_the_request_was_taken(asking: Asking) -> None:
    let_go = threading.Event()

    def script(connection: Connection) -> None:
        connection.take_until(b"\r\n\r\n")
        connection.send(b"HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        let_go.wait(20.0)

    asking.candidate._listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)  # as its connections then have
    asking.follow(script)
    try:
        found = asking.ask(b"x" * 1_000_000)
    finally:
        let_go.set()
    assert (found.failure, found.status) == (None, 413)


# -- failures


def test_hung_is_a_timeout(asking: Asking) -> None:
    asking.follow(hang, timeout=0.2)
    found = asking.ask()
    assert found.failure is Outcome.TIMEOUT
    assert 0.2 <= found.latency < 2.0
    until(lambda: asking.figure("connections") == 0.0)


def test_a_trickle_is_a_timeout(asking: Asking) -> None:
    """The limit is for the whole answer: bytes now and then do not prolong it."""

    def script(connection: Connection) -> None:
        connection.request()
        connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
        while True:
            connection.send(b"x")
            time.sleep(0.02)

    asking.follow(script, timeout=0.2)
    assert asking.outcome() is Outcome.TIMEOUT


@pytest.mark.parametrize(
    "sent", [b"", b"HTTP/1.1 200 OK\r\nContent-Le", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{"]
)
def test_a_reset_is_refused(asking: Asking, sent: bytes) -> None:
    def script(connection: Connection) -> None:
        connection.request()
        connection.send(sent)
        reset(connection)

    asking.follow(script)
    assert asking.outcome() is Outcome.REFUSED


@pytest.mark.parametrize("start", [b"HTTP/1.1 200 OK\r\n\r\nall of", OK[:-1], CHUNKED + b"5\r\nab"])
def test_an_answer_that_is_cut_short_is_refused(asking: Asking, start: bytes) -> None:
    def script(connection: Connection) -> None:
        connection.request()
        connection.send(start)
        if b"\r\n\r\nall" in start:  # else what ends the connection ends the answer
            time.sleep(0.05)  # a reset at once would take the bytes with it
            reset(connection)
        else:
            connection.close()

    asking.follow(script)
    assert asking.outcome() is Outcome.REFUSED


@pytest.mark.parametrize(
    "garbage",
    [
        b"\x16\x03\x01 this is TLS or nothing",
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: two\r\n\r\n{}",
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\nx",
        CHUNKED + b"zz\r\n",
    ],
)
def test_what_is_not_http_is_undecodable(asking: Asking, garbage: bytes) -> None:
    asking.follow(answering(garbage))
    assert asking.outcome() is Outcome.UNDECODABLE


ENDLESS = {
    "body": (b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n", b"x" * 65536),
    "chunks": (CHUNKED, b"1000\r\n" + b"x" * 4096 + b"\r\n"),
    "until closed": (b"HTTP/1.1 200 OK\r\n\r\n", b"x" * 65536),
    "headers": (b"HTTP/1.1 200 OK\r\n", b"X-A: b\r\n" * 1000),
    "one header": (b"HTTP/1.1 200 OK\r\nX-A: ", b"x" * 65536),
    "reason": (b"HTTP/1.1 200 ", b"x" * 65536),
    "trailer": (CHUNKED + b"0\r\nX-T: ", b"x" * 65536),
    "interim": (b"", b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" * 100),
}


@pytest.mark.parametrize("shape", ENDLESS)
def test_an_endless_answer_is_ended_at_the_cap(asking: Asking, shape: str) -> None:
    start, more = ENDLESS[shape]
    sent = 0
    ended = threading.Event()

    def script(connection: Connection) -> None:
        nonlocal sent
        connection.request()
        try:
            connection.send(start)
            while True:
                connection.send(more)
                sent += len(more)
        finally:
            ended.set()

    asking.follow(script, maxBodyBytes=100_000)
    found = asking.ask()
    # Too many lines are no answer's: either way it was cut.
    assert found.failure in (Outcome.TOO_LARGE, Outcome.UNDECODABLE)
    assert found.failure is Outcome.TOO_LARGE or shape in ("headers", "one header", "reason")
    assert found.body == b""
    assert ended.wait(20.0), "the candidate was not cut off"
    assert sent < 20_000_000  # what the sockets' buffers take, and not what five seconds do


# -- connections


def test_an_idle_connection_that_the_candidate_closed_is_no_failure(asking: Asking) -> None:
    """The race of every kept-alive connection: our request crosses its close."""
    answered = 0

    def script(connection: Connection) -> None:
        nonlocal answered
        connection.request()
        answered += 1
        connection.send(OK)
        connection.request()
        connection.close()  # the second request on a connection is closed in its face

    asking.follow(script)
    for _ in range(4):
        assert asking.outcome() is None
    assert answered == 4


def test_a_candidate_that_dies_of_a_request_is_asked_twice_at_most(asking: Asking) -> None:
    requests = 0

    def script(connection: Connection) -> None:
        nonlocal requests
        while connection.request():
            requests += 1
            if requests > 1:
                connection.close()
                return
            connection.send(OK)

    asking.follow(script)
    assert asking.outcome() is None
    assert asking.outcome() is Outcome.REFUSED
    assert requests == 3


def test_idle_connections_are_closed_before_the_candidate_does(asking: Asking) -> None:
    closed = threading.Event()

    def script(connection: Connection) -> None:
        answering(OK)(connection)
        closed.set()

    asking.follow(script)
    asking.ask()
    assert closed.wait(20.0)
    until(lambda: asking.figure("connections") == 0.0)
    assert asking.outcome() is None


def test_unsolicited_bytes_close_the_connection(asking: Asking) -> None:
    answered, poisoned = threading.Event(), threading.Event()

    def script(connection: Connection) -> None:
        connection.request()
        connection.send(OK)
        if not poisoned.is_set():
            answered.wait(20.0)
            connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison")
            poisoned.set()
        answering(OK)(connection)

    asking.follow(script)
    asking.ask()
    answered.set()
    assert poisoned.wait(20.0)
    assert asking.ask().body == b"ok"
    assert len(asking.candidate.connections) == 2


def test_many_at_once_are_all_answered(asking: Asking) -> None:
    def script(connection: Connection) -> None:
        while connection.request():
            time.sleep(0.001)
            connection.send(OK)

    asking.follow(script, maxInFlight=8)
    answers = asking.answers(asking.send(200))
    assert all(answer.failure is None for answer in answers)
    assert len(asking.candidate.connections) <= 8
    until(lambda: asking.figure("in_flight") == asking.figure("queue") == asking.figure("held_bytes") == 0.0)


def test_connections_and_queue_are_bounded(asking: Asking) -> None:
    asking.follow(hang, timeout=60.0, maxInFlight=3)
    asking.send(8)
    until(lambda: asking.figure("queue") == 5.0)
    assert asking.figure("in_flight") == 3.0
    assert 8 * 100 < asking.figure("held_bytes") < 8 * 600
    asking.send(400)
    asking.wait(lambda: asking.figure("queue") + 3.0 + asking.spared.total() == 408.0)
    assert 192.0 < asking.figure("queue") <= 256.0  # from three quarters on nothing is captured, once that is noticed
    assert set(asking.spared) <= {"shed", "candidateQueue"}
    assert len(asking.candidate.connections) == 3


def test_bytes_that_wait_and_in_flight_are_bounded(asking: Asking) -> None:
    asking.follow(hang, timeout=60.0, maxInFlight=1)
    asking.send(8, b"x" * 1_000_000)  # 8 MiB hold eight of these
    asking.send(2, b"x" * 1_000_000)
    assert asking.dropped("candidateBytes", 2) == {"candidateBytes": 2}
    asking.send()  # a small one still fits
    until(lambda: asking.figure("queue") == 8.0)
    assert asking.figure("in_flight") == 1.0
    assert 8_000_000 < asking.figure("held_bytes") <= 8 << 20


def test_one_answer_alone_may_be_larger_than_the_bound(asking: Asking) -> None:
    asking.follow(
        answering(b"HTTP/1.1 200 OK\r\nContent-Length: 9000000\r\n\r\n" + b"x" * 9_000_000), maxBodyBytes=10_000_000
    )
    assert len(asking.ask().body) == 9_000_000


def test_one_request_alone_may_be_larger_than_the_bound(asking: Asking) -> None:
    asking.follow(hang, timeout=60.0, maxBodyBytes=10_000_000)
    asking.send(2, b"x" * 9_000_000)
    assert asking.dropped("candidateBytes") == {"candidateBytes": 1}
    until(lambda: asking.figure("held_bytes") > 9_000_000)


def test_what_the_candidate_answers_counts_until_it_is_whole(asking: Asking) -> None:
    """Each answer is below its own bound, and they are not all kept: the rest of the requests are withdrawn."""
    may_end = threading.Event()

    def script(connection: Connection) -> None:
        connection.request()
        connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: 4000000\r\n\r\n" + b"x" * 3_500_000)
        may_end.wait(20.0)
        connection.send(b"x" * 500_000)
        connection.rest()

    asking.follow(script, timeout=60.0, maxInFlight=5, maxBodyBytes=5_000_000)
    ids = asking.send(5)
    assert asking.dropped("candidateBytes", 3) == {"candidateBytes": 3}
    until(lambda: 7_000_000 < asking.figure("held_bytes") <= 8 << 20)
    may_end.set()
    answers = asking.answers_among(ids, 2)
    assert all(answer.failure is None and len(answer.body) == 4_000_000 for answer in answers)
    until(lambda: asking.figure("held_bytes") == 0.0)


# -- a candidate that is not there, or fails


def closed_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def test_before_its_address_answers_it_has_not_failed(asking: Asking) -> None:
    """The candidate is ready, and this node's proxy does not know it yet: nobody is asked, and nothing is counted."""
    port = closed_port()
    asking.follow(port=port)
    asking.send(20)
    assert asking.dropped("candidateUnreached", 20) == {"candidateUnreached": 20}
    assert asking.figure("breaker", "closed") == 1.0
    candidate = RawModel(port)
    try:
        candidate.script = answering(CLOSING)
        assert asking.is_asked_again().failure is None
    finally:
        candidate.stop()
    assert asking.outcome() is Outcome.REFUSED, "it was there, and is gone: that is its failure"


def test_nobody_there_for_long_is_refused(asking: Asking) -> None:
    asking.follow(port=closed_port())
    asking.send()
    asking.dropped("candidateUnreached")
    assert asking.is_asked_again().failure is Outcome.REFUSED


@pytest.mark.parametrize("host", ["candidate.invalid", "candidate..svc", "x" * 300])
def test_a_name_that_does_not_resolve_holds_nobody_up(asking: Asking, host: str) -> None:
    asking.follow(host=host, port=80)
    asking.send(3)
    assert set(asking.dropped("candidateUnreached", 3)) == {"candidateUnreached"}


def test_a_name_may_have_addresses_where_nobody_is(asking: Asking) -> None:
    """`localhost` is ::1 first on many machines."""
    asking.follow(answering(OK), host="localhost")
    assert asking.outcome() is None


def test_the_breaker_opens_sheds_probes_and_closes(asking: Asking) -> None:
    healthy = False
    requests = 0
    all_sent = threading.Event()

    def script(connection: Connection) -> None:
        nonlocal requests
        while connection.request():
            requests += 1
            if not healthy:
                all_sent.wait(20.0)
                connection.close()
                return
            connection.send(OK)

    asking.follow(script, timeout=20.0, maxInFlight=1)
    ids = asking.send(20)
    all_sent.set()
    answers = asking.answers(ids[:5])
    assert all(answer.failure is Outcome.REFUSED for answer in answers)
    assert asking.dropped("breaker", 15)["breaker"] == 15
    assert requests == 5

    assert asking.is_asked_again().failure is Outcome.REFUSED
    assert requests == 6
    healthy = True
    assert asking.is_asked_again().failure is None
    until(lambda: asking.figure("breaker", "closed") == 1.0)
    assert asking.outcome() is None


def test_error_statuses_do_not_open_the_breaker(asking: Asking) -> None:
    """They are answers, and evidence: the more of them the better."""
    asking.follow(answering(b"HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n"))
    for _ in range(20):
        assert asking.ask().status == 500
    assert asking.figure("breaker", "closed") == 1.0


def test_the_end_of_a_run_sheds_what_waits_and_what_is_in_flight(asking: Asking) -> None:
    asking.follow(hang, timeout=60.0, maxInFlight=2)
    asking.send(6)
    until(lambda: asking.figure("in_flight") == 2.0)
    asking.stop()
    assert asking.dropped("stopped", 6) == {"stopped": 6}
    until(lambda: all(connection.rest() == b"" for connection in asking.candidate.connections))


def test_another_run_has_connections_and_a_breaker_of_its_own(
    asking: Asking, process: tuple[Process, ScorerEnd]
) -> None:
    asking.follow(hang, timeout=60.0)
    asking.send(3)
    until(lambda: len(asking.candidate.connections) == 3)
    other = RawModel()
    try:
        following = Asking(*process, other)
        following.follow()
        assert following.outcome() is None
    finally:
        other.stop()
    until(lambda: all(connection.rest() == b"" for connection in asking.candidate.connections))
