"""A stage on which the live path is played without sockets: what was said to whom, in order."""

import itertools
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from functools import partial

import httptools
import pytest
from tests.sidecar.live_path.processes import LIVE, Process, RawModel

from modelcanary_gate.protocol import Instructions, MirrorLimits, ModelReading
from modelcanary_sidecar.capture import Captured
from modelcanary_sidecar.channel import News, ScorerEnd, make_ends
from modelcanary_sidecar.conversation import Conversation
from modelcanary_sidecar.exchange import Exchange
from modelcanary_sidecar.live_state import LiveState
from modelcanary_sidecar.model_connection import ModelConnection
from modelcanary_sidecar.pool import Pool
from modelcanary_sidecar.settings import Address, Limits

MIRRORED = Instructions(version=1, run="r1", candidate="http://127.0.0.1:1", share=1.0)


class Port:
    """Records what is done to a connection."""

    def __init__(self) -> None:
        self.written = b""
        self.reading = True
        self.ended = ""  # eof, close or abort

    def write(self, data: bytes) -> None:
        assert not self.ended, f"written after {self.ended}: {data!r}"
        self.written += data

    def writelines(self, list_of_data: Iterable[bytes]) -> None:
        self.write(b"".join(list_of_data))

    def take(self) -> bytes:
        taken, self.written = self.written, b""
        return taken

    def write_eof(self) -> None:
        self.ended = "eof"

    def pause_reading(self) -> None:
        assert self.reading, "paused twice"
        self.reading = False

    def resume_reading(self) -> None:
        assert not self.reading, "resumed twice"
        self.reading = True

    def close(self) -> None:
        self.ended = "close"

    def abort(self) -> None:
        self.ended = "abort"


class Client:
    def __init__(self, stage: "Stage") -> None:
        self.port = Port()
        self.conversation = Conversation(stage.state)
        self.conversation.opened(self.port)

    def sends(self, data: bytes, *, by: int = 0) -> None:
        for start in range(0, len(data), by or len(data)):
            self.conversation.data_received(data[start : start + (by or len(data))])

    def leaves(self) -> None:
        self.conversation.connection_lost(None)

    def gets(self) -> bytes:
        return self.port.take()


class Model:
    def __init__(self, pool: Pool) -> None:
        self.port = Port()
        self.connection = ModelConnection(pool)
        self.connection.port = self.port

    def sends(self, data: bytes, *, by: int = 0) -> None:
        for start in range(0, len(data), by or len(data)):
            self.connection.data_received(data[start : start + (by or len(data))])

    def closes(self, error: Exception | None = None) -> None:
        self.connection.connection_lost(error)

    def gets(self) -> bytes:
        return self.port.take()


class Stage:
    """One live process, with a clock that stands still until it is moved."""

    def __init__(self, limits: Limits) -> None:
        self.now = 1000.0
        self.models: list[Model] = []
        self.asked: list[tuple[Pool, Exchange | None]] = []  # connections that are to be opened
        self.captured: list[Captured] = []
        self.passed_through: list[tuple[object, bytes]] = []
        self.opens = True  # at once; else they wait in `asked`
        self.room = True
        self.timers: list[tuple[float, Callable[[], None]]] = []
        self.state = LiveState(
            connect=lambda address: partial(self._connect, address),
            clock=lambda: self.now,
            wall_clock=lambda: 1.7e9 + self.now,
            offer=self._offer,
            pass_through=lambda port, first: self.passed_through.append((port, first)),
            later=lambda seconds, call: self.timers.append((self.now + seconds, call)),
            model=Address("model", 8081),
            limits=limits,
        )

    def _offer(self, captured: Captured) -> bool:
        self.captured += [captured] if self.room else []
        return self.room

    def _connect(self, address: Address, pool: Pool, exchange: Exchange | None) -> None:
        self.asked.append((pool, exchange))

    def open(self) -> None:
        """Let the model accept what it is asked for."""
        while self.asked:
            pool, exchange = self.asked.pop(0)
            model = Model(pool)
            model.is_candidate = pool is self.state.candidate
            self.models.append(model)
            pool.connected(model.connection, exchange)

    def refuse(self) -> None:
        pool, exchange = self.asked.pop(0)
        pool.connect_failed(exchange)

    def client(self) -> Client:
        return Client(self)

    def mirror(self, **changes: object) -> None:
        """Instructions: by default, mirror everything."""
        limits = {key: changes.pop(key) for key in list(changes) if key in MirrorLimits.__dataclass_fields__}
        instructions = replace(MIRRORED, mirror=MirrorLimits(**{"maxPairsPerSecond": 1e6, **limits}))
        if paths := changes.pop("paths", None):
            instructions = replace(instructions, model=ModelReading(paths=paths))
        self.state.hear(News(replace(instructions, **changes), self.now))

    def passes(self, seconds: float) -> None:
        """Time, with sweeps as often as they come."""
        end = self.now + seconds
        while self.now < end:
            self.now = min(end, self.now + 0.01)
            due = [call for at, call in self.timers if at <= self.now]
            self.timers = [timer for timer in self.timers if timer[0] > self.now]
            for call in due:
                call()
            self.state.sweep()


@pytest.fixture
def make_stage() -> Callable[..., Stage]:
    def make(**limits: object) -> Stage:
        return Stage(replace(Limits(), **limits))

    return make


@pytest.fixture
def stage(make_stage: Callable[..., Stage]) -> Stage:
    return make_stage()


class _Answers:
    """Reads a stream of answers, as a client would."""

    def __init__(self) -> None:
        self.done: list[tuple[int, dict[str, str], bytes]] = []
        self._headers: dict[str, str] = {}
        self._body = b""

    def on_message_begin(self) -> None:
        self._headers, self._body = {}, b""

    def on_header(self, name: bytes, value: bytes) -> None:
        key = name.decode("latin-1").lower()
        assert key not in self._headers, f"{key} twice"
        self._headers[key] = value.decode("latin-1")

    def on_body(self, piece: bytes) -> None:
        self._body += piece

    def on_message_complete(self) -> None:
        self.done.append((self.parser.get_status_code(), self._headers, self._body))


@pytest.fixture
def read_answers() -> Callable[[bytes], list[tuple[int, dict[str, str], bytes]]]:
    """What a client makes of the bytes: (status, headers, body) of each whole answer."""

    def read(data: bytes) -> list[tuple[int, dict[str, str], bytes]]:
        answers = _Answers()
        answers.parser = httptools.HttpResponseParser(answers)
        answers.parser.feed_data(data)
        return answers.done

    return read


@pytest.fixture
def request_of() -> Callable[..., bytes]:
    """A request in bytes."""
    numbers = itertools.count()

    def make(
        target: str = "/infer",
        body: bytes | None = b"{}",
        *headers: str,
        method: str = "POST",
        version: str = "1.1",
        id: bool = True,
    ) -> bytes:
        lines = [f"{method} {target} HTTP/{version}", "Host: fraud"]
        lines += [f"X-Request-Id: q{next(numbers)}"] if id else []
        lines += [f"Content-Length: {len(body)}"] if body is not None else []
        return "\r\n".join([*lines, *headers, "", ""]).encode() + (body or b"")

    return make


@pytest.fixture
def model() -> Iterator[RawModel]:
    model = RawModel()
    yield model
    model.stop()


@pytest.fixture
def start(model: RawModel) -> Iterator[Callable[..., Process]]:
    """The whole sidecar; its ledger is not there."""
    processes: list[Process] = []

    def make(*options: str) -> Process:
        command = [sys.executable, "-m", "modelcanary_sidecar.main", "--ledger", "http://127.0.0.1:9", "--name", "x"]
        command += ["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"]
        command += ["--upstream", f"http://127.0.0.1:{model.port}", "--drain-delay", "0s", *options]
        processes.append(Process(command))
        return processes[-1]

    yield make
    for process in processes:
        process.stop()


@pytest.fixture
def live(model: RawModel) -> Iterator[Callable[..., tuple[Process, ScorerEnd]]]:
    """A live process alone, and the scorer's end of its channel."""
    started: list[tuple[Process, ScorerEnd]] = []

    def make(*options: str) -> tuple[Process, ScorerEnd]:
        end, scorer = make_ends()
        files = (end.messages.fileno(), end.room)
        command = [sys.executable, "-c", LIVE, *map(str, files), "--ledger", "http://x", "--name", "x"]
        command += ["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"]
        command += ["--upstream", f"http://127.0.0.1:{model.port}", "--drain-delay", "0s", *options]
        process = Process(command, pass_fds=files)
        end.close()
        started.append((process, ScorerEnd(scorer)))
        return started[-1]

    yield make
    for process, scorer in started:
        process.stop()
        scorer.close()
