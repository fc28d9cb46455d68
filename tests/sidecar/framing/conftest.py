"""The real sidecar, a real nginx, each with a strict model of its own, so that neither sees what the other sent."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.sidecar.framing import peers
from tests.sidecar.framing.peers import Kernel, StrictModel, nginx


@dataclass
class Proxy:
    port: int
    model: StrictModel


@pytest.fixture(scope="module")
def kernel() -> Iterator[Kernel]:
    kernel = Kernel()
    yield kernel
    kernel.close()


@pytest.fixture(scope="module")
def sidecar() -> Iterator[Proxy]:
    model = StrictModel()
    try:
        with peers.sidecar(model.port) as port:
            yield Proxy(port, model)
    finally:
        model.stop()


@pytest.fixture(scope="module")
def rival(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    model = StrictModel()
    folder: Path = tmp_path_factory.mktemp("nginx")
    try:
        with nginx(model.port, folder) as port:
            yield Proxy(port, model)
    finally:
        model.stop()
