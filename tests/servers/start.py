"""Real model servers, each from its package in an environment of its own, on a port of the loopback.

The tests beside it ask them; what they run is in `served/`. KServe's and MLServer's environments are the demo's.
"""

import os
import sysconfig
from collections.abc import Callable, Sequence
from pathlib import Path

from demo.environments import KSERVE, MLSERVER, Environment
from demo.models import Digits, trained
from demo.processes import Process
from demo.serving import Served, mlserver, ready

#: Servers import much before they listen, and tests run beside others.
PATIENCE = 240.0
HERE = Path(__file__).parent
SERVED = HERE / "served"

MLFLOW, BENTOML, LITSERVE, SELDON, TRITON = (
    Environment(name, HERE / "pins" / f"{name}.txt") for name in ("mlflow", "bentoml", "litserve", "seldon", "triton")
)


def digits() -> Digits:
    """The models and the rows kept from them, with the probabilities that each server has to answer."""
    return trained(MLSERVER.installed(print), print)


def kserve_server(model: Path, folder: Path) -> Served:
    return _script(KSERVE, "kserve_model.py", folder, lambda port: ["--model", str(model), "--http_port", str(port)])


def mlserver_of_labels(model: Path, folder: Path) -> Served:
    """As it is without settings: it answers labels unless it is asked for more."""
    return mlserver(MLSERVER.installed(print), model, folder, predict="predict")


def mlflow_server(model: Path, folder: Path) -> Served:
    python = MLFLOW.installed(print)
    with Process(
        [str(python), str(SERVED / "mlflow_model.py"), str(model), "saved"], folder / "save.log", cwd=folder
    ) as saving:
        if saving.wait(120) != 0:
            raise RuntimeError(f"the model was not saved:\n{saving.tail()}")

    # It starts uvicorn by name, and the scripts of an environment that was renamed are not to be used.
    uvicorn = folder / "bin" / "uvicorn"
    uvicorn.parent.mkdir()
    uvicorn.write_text(f'#!/bin/sh\nexec "{python}" -m uvicorn "$@"\n')
    uvicorn.chmod(0o755)

    def start(port: int) -> Process:
        serve = ["-m", "mlflow", "models", "serve", "-m", "saved", "--env-manager", "local", "-h", "127.0.0.1"]
        path = f"PATH={uvicorn.parent}:{os.environ['PATH']}"
        return Process(["env", path, str(python), *serve, "-p", str(port)], folder / "mlflow.log", cwd=folder)

    return _ready("MLflow", start, "/ping")


def bentoml_server(model: Path, folder: Path) -> Served:
    python = BENTOML.installed(print)

    def start(port: int) -> Process:
        settings = [f"DIGITS_MODEL={model}", f"BENTOML_HOME={folder}", "BENTOML_DO_NOT_TRACK=True"]
        serve = ["-m", "bentoml", "serve", "bentoml_service:Digits", "--host", "127.0.0.1", "--port", str(port)]
        command = ["env", *settings, str(python), *serve, "--working-dir", str(SERVED)]
        return Process(command, folder / "bentoml.log", cwd=folder)

    return _ready("BentoML", start, "/readyz")


def litserve_server(model: Path, folder: Path) -> Served:
    return _script(LITSERVE, "litserve_api.py", folder, lambda port: [str(model), str(port)], "/health")


def seldon_server(model: Path, folder: Path) -> Served:
    return _script(SELDON, "seldon_model.py", folder, lambda port: [str(model), str(port)], "/health/ping")


def triton_server(model: Path, folder: Path) -> Served:
    def arguments(port: int) -> list[str]:
        return [str(model), str(port), str(folder / "workspace")]

    # Triton's process loads libpython by name, and must not find that of another Python of the same version.
    libraries = f"LD_LIBRARY_PATH={sysconfig.get_config_var('LIBDIR')}"
    return _script(TRITON, "triton_model.py", folder, arguments, settings=[libraries])


def _script(
    environment: Environment,
    script: str,
    folder: Path,
    arguments: Callable[[int], list[str]],
    path: str = "/v2/models/digits/ready",
    settings: Sequence[str] = (),
) -> Served:
    python = environment.installed(print)

    def start(port: int) -> Process:
        command = ["env", *settings, str(python), str(SERVED / script), *arguments(port)]
        return Process(command, folder / f"{environment.name}.log", cwd=folder)

    return _ready(environment.name, start, path)


def _ready(name: str, start: Callable[[int], Process], path: str) -> Served:
    return ready(name, start, path, patience=PATIENCE)
