"""The real sidecar, a real nginx, each with a strict model of its own, so that neither sees what the other sent."""

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.sidecar.framing.peers import Kernel, StrictModel, nginx
from tests.sidecar.live_path.processes import Process


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
    """Mirroring nothing, and with one connection to its model: whatever is left on that would be seen."""
    model = StrictModel()
    command = [sys.executable, "-m", "modelcanary_sidecar.main", "--ledger", "http://127.0.0.1:9", "--name", "x"]
    command += ["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--connections", "1"]
    command += ["--upstream", f"http://127.0.0.1:{model.port}", "--drain-delay", "0s"]
    try:
        process = Process(command)
        yield Proxy(process.port, model)
        assert process.stop() == 0
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
