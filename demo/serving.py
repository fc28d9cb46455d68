"""The two model servers: MLServer for the baseline, KServe's for the candidate. Called by `__main__`."""

import json
import time
from collections.abc import Callable
from pathlib import Path

import httpx

from demo.environments import SERVERS
from demo.errors import DemoError
from demo.processes import Process, free_port

MODEL = "digits"
INFER = f"/v2/models/{MODEL}/infer"
READY = f"/v2/models/{MODEL}/ready"
PATIENCE = 90.0
TRIES = 3


class Served:
    """A model server that answers at `url`."""

    def __init__(self, process: Process, url: str) -> None:
        self.process = process
        self.url = url


def mlserver(python: Path, model: Path, folder: Path, *, predict: str = "predict_proba") -> Served:
    """MLServer with one scikit-learn model; unless told otherwise, it answers probabilities without being asked."""

    def start(port: int) -> Process:
        place = folder / MODEL
        place.mkdir(parents=True, exist_ok=True)
        (folder / "settings.json").write_text(
            json.dumps(
                {
                    "host": "127.0.0.1",
                    "http_port": port,
                    "grpc_port": 0,
                    "parallel_workers": 0,
                    "metrics_endpoint": None,
                }
            )
        )
        (place / "model-settings.json").write_text(
            json.dumps(
                {
                    "name": MODEL,
                    "implementation": "mlserver_sklearn.SKLearnModel",
                    "parameters": {"uri": str(model), "extra": {"predict_fn": predict}},
                }
            )
        )
        entry = "from mlserver.cli import main; main()"
        return Process([str(python), "-c", entry, "start", str(folder)], folder / "mlserver.log", cwd=folder)

    return ready("MLServer", start)


def kserve(python: Path, model: Path, folder: Path) -> Served:
    """KServe's server with the model class of `servers/kserve_digits.py`."""
    folder.mkdir(parents=True, exist_ok=True)
    script = str(SERVERS / "kserve_digits.py")

    def start(port: int) -> Process:
        return Process(
            [str(python), script, "--model", str(model), "--name", MODEL, "--http_port", str(port)],
            folder / "kserve.log",
            cwd=folder,
        )

    return ready("KServe", start)


def ready(name: str, start: Callable[[int], Process], path: str = READY, patience: float = PATIENCE) -> Served:
    """Started, and answering `path` with 200. Tried again when it exits at once: its port may have been taken."""
    for _ in range(TRIES):
        port = free_port()
        process = start(port)
        url = f"http://127.0.0.1:{port}"
        try:
            if _answers(process, url + path, patience):
                return Served(process, url)
        except BaseException:
            process.end()
            raise
        process.end()
    raise DemoError(f"{name} did not become ready; the end of {process.log}:\n{process.tail()}")


def _answers(process: Process, url: str, patience: float) -> bool:
    deadline = time.monotonic() + patience
    while time.monotonic() < deadline and process.returncode is None:
        try:
            if httpx.get(url, timeout=2.0).status_code == httpx.codes.OK:
                return True
        except httpx.HTTPError:
            pass  # not listening yet
        time.sleep(0.2)
    return False
