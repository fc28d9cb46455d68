"""A live process between users and two models, and its scorer: the test plays them all, and says who answers what when.

What happened is proved by what arrived (at the models, at the user, at the scorer) and by what was counted. There is
no waiting for time to pass: `settle` says when the process has seen everything that was sent to it.
"""

import queue
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from select import select

from tests.sidecar.live_path.processes import (
    DEADLINE,
    EVERYTHING,
    OK,
    Connection,
    Process,
    RawModel,
    receive_answer,
    start_live,
    until,
)

from modelcanary_gate.protocol import Instructions, MirrorLimits, ModelReading
from modelcanary_sidecar.capture import Captured
from modelcanary_sidecar.channel import News, ScorerEnd


def reply(body: bytes, *headers: str, status: str = "200 OK", kind: str = "application/json") -> bytes:
    """An answer."""
    lines = [f"HTTP/1.1 {status}", f"Content-Type: {kind}", f"Content-Length: {len(body)}", *headers]
    return "\r\n".join([*lines, "", ""]).encode() + body


BASELINE = reply(b'{"from":"base"}')
CANDIDATE = reply(b'{"from":"cand"}')


def post(
    target: str = "/infer", body: bytes | None = b"{}", *headers: str, id: str | None = "q", method: str = "POST"
) -> bytes:
    """A request; without a body, one whose framing is in the headers."""
    lines = [f"{method} {target} HTTP/1.1", "Host: fraud"]
    lines += [f"X-Request-Id: {id}"] if id is not None else []
    lines += [f"Content-Length: {len(body)}"] if body is not None else []
    return "\r\n".join([*lines, *headers, "", ""]).encode() + (body or b"")


class Asked:
    """A request that has arrived at a model. The test answers it, or does not."""

    def __init__(self, connection: Connection, request: bytes, ended: threading.Event) -> None:
        self.connection = connection
        self.request = request
        self.arrived = time.monotonic()
        self._ended = ended

    def send(self, data: bytes) -> None:
        self.connection.send(data)

    def close(self) -> None:
        with suppress(OSError):
            self.connection.socket.shutdown(socket.SHUT_RDWR)

    @property
    def ended(self) -> bool:
        """The sidecar has closed the connection."""
        return self._ended.is_set()

    def await_end(self) -> None:
        assert self._ended.wait(DEADLINE)


class PlayedModel:
    """A model that keeps what it is asked until the test takes it; `always` is what it answers by itself."""

    def __init__(self, always: bytes | None = None) -> None:
        self.always = always
        self._asked: queue.SimpleQueue[Asked] = queue.SimpleQueue()
        self._hung_up = 0
        self.came = 0  # requests
        self._model = RawModel()
        self._model.script = self._read
        self.port = self._model.port
        self.stop = self._model.stop

    def _read(self, connection: Connection) -> None:
        ended = threading.Event()
        with suppress(ConnectionError):
            while request := connection.request():
                if request.startswith(b"GET "):  # of `settle`
                    connection.send(OK)
                    continue
                self.came += 1
                if self.always is not None:
                    connection.send(self.always)
                else:
                    self._asked.put(Asked(connection, request, ended))
        ended.set()  # and not where reading took too long: the connection is still there then

    def play(self, script: Callable[[Connection], None] | None = None) -> None:
        """Connections from now on are played by a script; or by the test again."""
        self._model.script = script or self._read

    @property
    def connections(self) -> int:
        """That were opened, since it hung up."""
        return len(self._model.connections) - self._hung_up

    def hang_up(self) -> None:
        """Whatever was asked."""
        for connection in self._model.connections[self._hung_up :]:
            with suppress(OSError):
                connection.socket.shutdown(socket.SHUT_RDWR)
            self._hung_up += 1
        while self.untaken:
            self.next()

    def next(self) -> Asked:
        return self._asked.get(timeout=DEADLINE)

    @property
    def untaken(self) -> int:
        """Requests that have arrived, and that nobody took."""
        return self._asked.qsize()


class User:
    """A connection of a client."""

    def __init__(self, end: socket.socket) -> None:
        self.socket = end

    def sends(self, data: bytes) -> None:
        self.socket.sendall(data)

    def gets(self) -> bytes:
        """One answer."""
        return receive_answer(self.socket)

    def gets_bytes(self, count: int) -> bytes:
        """So many, or as many as there are."""
        data = b""
        while len(data) < count and (piece := self.socket.recv(count - len(data))):
            data += piece
        return data

    def gets_until(self, end: bytes) -> bytes:
        data = b""
        while not data.endswith(end) and (piece := self.socket.recv(1 << 16)):
            data += piece
        return data

    @property
    def has_something(self) -> bool:
        """To be read. Ask it when all has been settled."""
        return bool(select([self.socket], [], [], 0.0)[0])

    def leaves(self) -> None:
        self.socket.close()


class Stage:
    """One live process before a baseline; each test has a candidate of its own, and counts from nought."""

    def __init__(self, process: Process, scorer: ScorerEnd, baseline: PlayedModel) -> None:
        self.process = process
        self.scorer = scorer
        self.baseline = baseline
        self.candidate = PlayedModel()
        self.run = ""  # each test has one of its own: what is handed over late is not taken for the next test's
        self._runs = 0
        self._users: list[User] = []
        self._came: list[Captured] = []  # at the scorer, of the test's run
        self._before: dict[tuple[str, str], float] = {}

    # -- the beginning and the end of a test

    def begin(self) -> None:
        self.baseline.always = None
        self.candidate.stop()
        self.candidate = PlayedModel()
        self._runs += 1
        self.run = f"r{self._runs}"
        self._before = self._counts()

    def end(self) -> None:
        for user in self._users:
            user.leaves()
        self._users = []
        self.tell(Instructions(0))
        self.candidate.stop()
        self.baseline.hang_up()
        self.settle()
        self.swept()
        until(lambda: self.process.metric("in_flight") == 0.0)
        self._receive()
        self._came = []

    # -- the scorer

    def tell(self, instructions: Instructions, *, heard: float | None = None, shedding: bool = False) -> None:
        """Until it has been heard: what was asked behind it has been answered."""
        at = time.monotonic() if heard is None else heard
        assert self.scorer.tell(News(instructions, at, shedding))
        self.settle()

    def instructions(self, **changes: object) -> Instructions:
        """By default, to mirror everything, which the scorer does."""
        limits = {key: changes.pop(key) for key in list(changes) if key in MirrorLimits.__dataclass_fields__}
        reading: dict[str, object] = {"requestPatch": {}}
        if "paths" in changes:
            reading["paths"] = changes.pop("paths")
        fields: dict[str, object] = {
            "candidate": f"http://127.0.0.1:{self.candidate.port}",
            "mirror": MirrorLimits(**{"maxPairsPerSecond": 1e6, **limits}),  # type: ignore[arg-type]
            "model": ModelReading(**reading),  # type: ignore[arg-type]
        }
        return replace(EVERYTHING, **{"run": self.run, **fields, **changes})  # type: ignore[arg-type]

    def mirror(self, **changes: object) -> None:
        self.tell(self.instructions(**changes))

    def captured(self) -> Captured:
        """The next one of the test's run."""

        def came() -> bool:
            self._receive()
            return bool(self._came)

        until(came)
        return self._came.pop(0)

    def all_captured(self) -> list[Captured]:
        """Of what the process has done by now; pairs may be handed over a sweep later."""
        self.swept()
        self.swept()
        self.settle()
        self._receive()
        found, self._came = self._came, []
        return found

    def _receive(self) -> None:
        while (message := self.scorer.receive()) is not None:
            if isinstance(message, list):
                self._came += [captured for captured in message if captured.run == self.run]

    # -- users

    def user(self) -> User:
        self._users.append(User(self.process.connect()))
        return self._users[-1]

    def asks(self, message: bytes) -> User:
        """A user of its own."""
        user = self.user()
        user.sends(message)
        return user

    def settle(self) -> None:
        """What was sent to the process before has been seen by it: a later request has been answered.

        To the baseline and back takes several turns of the event loop, in each of which all that has arrived is read.
        """
        with self.process.connect() as client:
            client.sendall(b"GET /settle HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
            assert receive_answer(client)

    # -- what is counted

    def swept(self) -> None:
        """Gauges and counts are as of now: they are exported ten times a second."""
        before = self.process.metric("scorer_silence_seconds")
        until(lambda: self.process.metric("scorer_silence_seconds") != before)

    def _counts(self) -> dict[tuple[str, str], float]:
        found = re.findall(
            r'^modelcanary_sidecar_(\w+)_total\{[^}]*(?:outcome|reason)="(\w+)"[^}]*\} (\S+)$',
            self.process.admin_says("/metrics"),
            re.M,
        )
        return {(name, reason): float(count) for name, reason, count in found}

    def counted(self, name: str) -> dict[str, int]:
        """By reason or outcome, since the test began."""
        counts = {
            reason: int(count - self._before.get((family, reason), 0.0))
            for (family, reason), count in self._counts().items()
            if family == name
        }
        return {reason: count for reason, count in counts.items() if count}

    def counts(self, name: str, expected: dict[str, int]) -> None:
        """It comes to count just that."""
        with suppress(AssertionError):
            until(lambda: self.counted(name) == expected)
        self.swept()
        counted = self.counted(name)
        assert counted == expected, f"{name}: {counted}"


@contextmanager
def playing(*options: str, **limits: float) -> Iterator[Stage]:
    """A live process of its own. Behind tests that have ended it is idle: else it would not end in time."""
    baseline = PlayedModel()
    try:
        process, scorer = start_live(baseline.port, *options, **limits)
        stage = Stage(process, scorer, baseline)
        try:
            yield stage
        except BaseException:
            process.popen.kill()
            raise
        finally:
            stage.candidate.stop()
            scorer.close()
            code = process.stop()
        assert code == 0
    finally:
        baseline.stop()
