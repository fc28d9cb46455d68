"""A sidecar and a ledger as processes, two models, users and labels: what users do ends as evidence."""

import contextlib
import json
import math
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.listening import free_ports, listening

CLASSES = ["cat", "dog", "fox"]
MODEL_PATH = "/v2/models/pets/infer"


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    model: "Model"

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        model = self.model
        with model.lock:
            model.requests.append((dict(self.headers.items()), body))
            number = len(model.requests)
        status, answer = model.answer(json.loads(body), number)
        data = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: object) -> None:
        pass


@dataclass
class Model:
    answer: Callable[[Any, int], tuple[int, Any]]
    requests: list[tuple[dict[str, str], bytes]] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)
    url: str = ""


@contextlib.contextmanager
def serving(model: Model) -> Iterator[Model]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Bound", (Handler,), {"model": model}))
    server.daemon_threads = True
    with listening(server) as model.url:
        yield model


@contextlib.contextmanager
def process(package: str, *arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    started = subprocess.Popen(
        [sys.executable, "-c", f"from {package}.main import main; main()", *arguments], stdout=subprocess.DEVNULL
    )
    try:
        yield started
    finally:
        if started.poll() is None:
            started.send_signal(signal.SIGTERM)
        try:
            started.wait(30)
        except subprocess.TimeoutExpired:
            started.kill()
            started.wait()


def until(condition: Callable[[], object], seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.05)


def answers(url: str) -> bool:
    try:
        return httpx.get(url, timeout=1.0, trust_env=False).status_code == 200
    except httpx.HTTPError:
        return False


def rows(instances: int, favoured: int, confidence: float) -> list[list[float]]:
    rest = (1.0 - confidence) / 2.0
    return [[confidence if index == favoured else rest for index in range(3)] for _ in range(instances)]


def baseline_answer(request: Any, number: int) -> tuple[int, Any]:
    """Open Inference V2, in the declared order, a little unsure that everything is a dog."""
    table = rows(len(request["inputs"][0]["data"]), 1, 0.5)
    output = {"name": "p", "shape": [len(table), 3], "datatype": "FP64", "data": [x for row in table for x in row]}
    return 200, {"model_name": "pets", "outputs": [output]}


def candidate_answer(request: Any, number: int) -> tuple[int, Any]:
    """V1, in another order of the classes; every tenth request fails."""
    if number % 10 == 0:
        return 500, {"error": "no"}
    return 200, {"predictions": [row[::-1] for row in rows(len(request["inputs"][0]["data"]), 1, 0.8)]}


SPEC: dict[str, dict[str, Any]] = {
    "model": {"classes": CLASSES, "candidateClasses": CLASSES[::-1], "paths": [MODEL_PATH]},
    "labels": {"maturity": "0s"},
}


@dataclass
class Stand:
    sidecar: str
    admin: str
    ledger: str
    process: subprocess.Popen[bytes]

    def evidence(self) -> Any:
        answer = httpx.get(
            f"{self.ledger}/v1/runs/default/pets/evidence", params={"run": "run-1", "since": "0.0"}, trust_env=False
        )
        assert answer.status_code == 200, answer.text
        return answer.json()

    def put(self, candidate: str) -> None:
        reading = {"protocol": "auto", **SPEC["model"]}
        instructions = {
            "version": 1,
            "run": "run-1",
            "candidate": candidate,
            "share": 1.0,
            "model": reading,
            "mirror": {"maxPairsPerSecond": 100_000.0},
        }
        body = {"epoch": 1, "instructions": instructions, "spec": SPEC}
        answer = httpx.put(f"{self.ledger}/v1/runs/default/pets/instructions", json=body, trust_env=False)
        assert answer.status_code == 200, answer.text

    def metric(self, name: str) -> float:
        metrics = httpx.get(f"{self.admin}/metrics", trust_env=False).text
        (line,) = (line for line in metrics.splitlines() if line.startswith(f"modelcanary_sidecar_{name}_total{{"))
        return float(line.rpartition(" ")[2])

    def figure(self, figure: str, outcome: str = "") -> float:
        labels = f'figure="{figure}",name="pets",namespace="default",outcome="{outcome}"'
        for line in httpx.get(f"{self.admin}/metrics", trust_env=False).text.splitlines():
            if line.startswith("modelcanary_sidecar_scorer{") and all(part in line for part in labels.split(",")):
                return float(line.rpartition(" ")[2])
        return 0.0


@pytest.fixture
def stand(tmp_path: Path) -> Iterator[tuple[Stand, Model, Model]]:
    live, admin, ledger = free_ports(3)
    with serving(Model(baseline_answer)) as baseline, serving(Model(candidate_answer)) as candidate:
        recording = process("modelcanary_ledger", "--listen", f"127.0.0.1:{ledger}", "--state", str(tmp_path / "state"))
        with recording:
            until(lambda: answers(f"http://127.0.0.1:{ledger}/readyz"))
            mirroring = process(
                "modelcanary_sidecar",
                *("--listen", f"127.0.0.1:{live}", "--upstream", baseline.url, "--admin", f"127.0.0.1:{admin}"),
                *("--ledger", f"http://127.0.0.1:{ledger}", "--namespace", "default", "--name", "pets"),
                *("--drain-delay", "100ms"),
            )
            with mirroring as sidecar:
                until(lambda: answers(f"http://127.0.0.1:{admin}/readyz"))
                at = Stand(
                    f"http://127.0.0.1:{live}", f"http://127.0.0.1:{admin}", f"http://127.0.0.1:{ledger}", sidecar
                )
                at.put(candidate.url)
                # Capturing has begun when a request of a user shows at the candidate.
                users_asked = 0
                with httpx.Client(base_url=at.sidecar, trust_env=False) as users:
                    while not candidate.requests:
                        assert infer(users, 1, "warm-up").is_success
                        users_asked += 1
                # There may have been several before that, which are counted a sweep later.
                until(lambda: at.metric("requests") == users_asked)
                until(lambda: at.evidence()["counts"]["pairs"] == at.metric("captured"))
                yield at, baseline, candidate


def infer(
    users: httpx.Client, instances: int, header: str | None = None, *, in_body: str | None = None
) -> httpx.Response:
    """A request of so many instances, with an id in the header, in the body, or with none."""
    tensor = {"name": "x", "shape": [instances, 1], "datatype": "FP32", "data": [[0.0]] * instances}
    content = {"inputs": [tensor]} | ({"id": in_body} if in_body else {})
    return users.post(MODEL_PATH, json=content, headers={"X-Request-Id": header} if header else {})


def test_what_users_do_ends_as_evidence(stand: tuple[Stand, Model, Model]) -> None:
    at, baseline, candidate = stand
    before = at.evidence()["counts"]
    asked_before = len(candidate.requests)
    labels: list[dict[str, object]] = []
    instances = 0
    choose = random.Random(1)
    with httpx.Client(base_url=at.sidecar, trust_env=False) as users:
        for number in range(200):
            size = choose.randint(1, 4)
            if number % 3 == 0:
                id = f"req-{number}"
                answer = infer(users, size, id)
                assert "X-Request-Id" not in answer.headers
            elif number % 3 == 1:
                answer = infer(users, size)
                id = answer.headers["X-Request-Id"]
            else:
                id = f"body-{number}"
                answer = infer(users, size, in_body=id)
            assert answer.status_code == 200
            assert answer.json() == baseline_answer({"inputs": [{"data": [0] * size}]}, 0)[1]
            labels += [{"id": id, "index": index, "label": "dog"} for index in range(size)]
            instances += size
        assert users.get("/v2/models/pets").status_code in (404, 501)  # not mirrored, and not ours to answer

    until(lambda: at.evidence()["counts"]["pairs"] == before["pairs"] + instances)
    assert len(candidate.requests) == asked_before + 200
    mirrored, _ = candidate.requests[-1]
    assert mirrored["X-ModelCanary-Shadow"] == "1"
    assert all("X-ModelCanary-Shadow" not in headers for headers, _ in baseline.requests)

    choose.shuffle(labels)
    joined = 0
    for start in range(0, len(labels), 50):
        sent = httpx.post(f"{at.ledger}/v1/feedback", json=labels[start : start + 50], trust_env=False)
        assert sent.status_code == 202, sent.text
        counts = sent.json()
        joined += counts["joined"]
        assert counts["unmatched"] == counts["ambiguous"] == 0
    counts = at.evidence()["counts"]
    failed = counts["outcomes"]["candidate"]["errorStatus"]
    assert counts["outcomes"]["baseline"] == {"ok": counts["pairs"]}
    assert counts["outcomes"]["candidate"] == {"ok": counts["pairs"] - failed, "errorStatus": failed}
    assert failed >= 20
    assert joined == counts["labelled"]
    assert joined == instances - failed
    assert counts["dropped"] == {}

    until(lambda: at.figure("candidate_pairs_total", "errorStatus") == failed)
    assert at.figure("breaker", "closed") == 1.0

    # A block is cut when it is old enough and something comes: a few more users with their labels.
    with httpx.Client(base_url=at.sidecar, trust_env=False) as users:

        def one_more() -> bool:
            id = infer(users, 1).headers["X-Request-Id"]
            httpx.post(f"{at.ledger}/v1/feedback", json={"id": id, "label": "dog"}, trust_env=False)
            return bool(at.evidence()["loss"])

        until(one_more)
    block = at.evidence()["loss"][0]
    assert block["n"] >= joined
    assert block["moments"]["b"] / block["n"] == pytest.approx(-math.log(0.5), abs=1e-3)
    assert block["moments"]["c"] / block["n"] == pytest.approx(-math.log(0.8), abs=1e-3)


def test_a_drained_sidecar_has_sent_every_pair(stand: tuple[Stand, Model, Model]) -> None:
    at, _, _ = stand
    before = at.evidence()["counts"]["pairs"]
    with httpx.Client(base_url=at.sidecar, trust_env=False) as users:
        for number in range(60):
            assert infer(users, 1, f"last-{number}").status_code == 200
    at.process.send_signal(signal.SIGTERM)
    assert at.process.wait(30) == 0
    assert at.evidence()["counts"]["pairs"] == before + 60
