"""A baseline on a real server that answers its users labels: they get labels, and the pairs have probabilities."""

import contextlib
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from demo.models import Digits
from demo.processes import Process, free_port
from demo.serving import Served
from tests.servers import start
from tests.servers.asking import CLASSES, v2

PATH = "/v2/models/digits/infer"
SPEC: dict[str, dict[str, Any]] = {
    "model": {"classes": CLASSES, "paths": [PATH], "requestPatch": {"outputs": [{"name": "predict_proba"}]}},
    "mirror": {"scoringCopy": True},
    "labels": {"maturity": "0s"},
}

pytestmark = [pytest.mark.servers, pytest.mark.timeout(900)]


def until(condition: Callable[[], object], seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.05)


def ready(url: str) -> bool:
    with contextlib.suppress(httpx.HTTPError):
        return httpx.get(url, timeout=2.0, trust_env=False).status_code == httpx.codes.OK
    return False


@contextlib.contextmanager
def part(package: str, folder: Path, *options: str) -> Iterator[None]:
    command = [sys.executable, "-c", f"from {package}.main import main; main()", *options]
    with Process(command, folder / f"{package}.log", cwd=folder):
        yield


@pytest.fixture(scope="module")
def digits() -> Digits:
    return start.digits()


@pytest.fixture(scope="module")
def served(digits: Digits, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    found = start.mlserver_of_labels(digits.model("baseline"), tmp_path_factory.mktemp("model"))
    with found.process:
        yield found


@pytest.mark.parametrize("scoring_copy", [True, False])
def test_pairs_have_probabilities_where_users_get_labels(
    digits: Digits, served: Served, tmp_path: Path, scoring_copy: bool
) -> None:
    ledger, live, admin = (f"127.0.0.1:{free_port()}" for _ in range(3))
    model = "/v1/runs/default/digits"
    with httpx.Client(timeout=60.0, trust_env=False) as client:
        recording = part("modelcanary_ledger", tmp_path, "--listen", ledger, "--state", str(tmp_path / "state"))
        sidecar = [
            *("--listen", live, "--upstream", served.url, "--admin", admin, "--drain-delay", "100ms"),
            *("--ledger", f"http://{ledger}", "--namespace", "default", "--name", "digits"),
        ]
        with recording, part("modelcanary_sidecar", tmp_path, *sidecar):
            until(lambda: ready(f"http://{ledger}/readyz") and ready(f"http://{admin}/readyz"))
            instructions = {
                "version": 1,
                "run": "run-1",
                "candidate": served.url,  # the same model: what it is asked for is what is tried here
                "share": 1.0,
                "model": {"protocol": "auto", **SPEC["model"]},
                "mirror": {"timeout": 30.0, "scoringCopy": scoring_copy},
            }
            put = {"epoch": 1, "instructions": instructions, "spec": SPEC}
            assert client.put(f"http://{ledger}{model}/instructions", json=put).is_success

            def outcomes() -> Any:
                counts = client.get(f"http://{ledger}{model}/evidence").json()["counts"]
                assert counts["dropped"] == {}
                return counts["outcomes"]

            def asked() -> Any:
                answer = client.post(f"http://{live}{PATH}", json=v2(digits.rows[:3]))
                assert answer.status_code == httpx.codes.OK
                (output,) = answer.json()["outputs"]
                assert output["name"] == "predict"
                return outcomes()["baseline"]

            until(asked)
            found = outcomes()
            assert set(found["baseline"]) == {"ok" if scoring_copy else "labelsOnly"}
            assert set(found["candidate"]) == {"ok"}
            assert found["baseline"].get("ok", 3) % 3 == 0
