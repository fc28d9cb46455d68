"""Sidecars and live processes with peers that a test plays, over real sockets."""

import itertools
from collections.abc import Callable, Iterator

import pytest
from tests.sidecar.live_path.playing import Client, Scene
from tests.sidecar.live_path.processes import OK, Connection, Process, RawModel, start_live, start_sidecar
from tests.sidecar.live_path.two_models import Stage, playing

from modelcanary_sidecar.channel import ScorerEnd


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


@pytest.fixture(scope="module")
def shared_scene() -> Iterator[Scene]:
    scene = Scene("--upstream-idle", "60s")  # a test that is starved finds its model's connection all the same
    yield scene
    scene.stop()


@pytest.fixture
def scene(shared_scene: Scene) -> Iterator[Scene]:
    """One live process for all tests of a module; nobody is connected to it when a test begins."""
    yield shared_scene
    shared_scene.clear()


@pytest.fixture
def make_scene() -> Iterator[Callable[..., Scene]]:
    """A live process with limits of its own."""
    scenes: list[Scene] = []

    def make(*options: str, **limits: float) -> Scene:
        scenes.append(Scene(*options, **limits))
        return scenes[-1]

    yield make
    for scene in scenes:
        scene.stop()


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
        processes.append(start_sidecar(model.port, *options))
        return processes[-1]

    yield make
    for process in processes:
        process.stop()


@pytest.fixture
def live(model: RawModel) -> Iterator[Callable[..., tuple[Process, ScorerEnd]]]:
    """A live process alone, and the scorer's end of its channel."""
    started: list[tuple[Process, ScorerEnd]] = []

    def make(*options: str, **limits: float) -> tuple[Process, ScorerEnd]:
        started.append(start_live(model.port, *options, **limits))
        return started[-1]

    yield make
    for process, scorer in started:
        process.stop()
        scorer.close()


@pytest.fixture(scope="module")
def staged() -> Iterator[Stage]:
    """One for all tests of a file."""
    with playing() as stage:
        yield stage


@pytest.fixture
def stage(staged: Stage) -> Iterator[Stage]:
    staged.begin()
    yield staged
    staged.end()


@pytest.fixture
def served(scene: Scene, request_of) -> tuple[Client, Connection]:
    """A client whose model's connection has answered, and is free."""
    client = scene.client()
    client.sends(request_of())
    model = scene.model.accepts()
    model.request()
    model.send(OK)
    client.answer()
    return client, model
