"""`modelcanary run` as a user starts it: real processes, real model servers, real requests and labels."""

import json
import math
import os
import queue
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.cli.metric_server import answering

from modelcanary_cli.addresses import Ports

SERVER = Path(__file__).with_name("model_server.py")
#: What is true: the label is 1 with this slope. So 2 is the best model, 1 a fair one, -1 a broken one.
TRUE_SLOPE = 2.0
BATCH = 8
SPEC = """
apiVersion: modelcanary.io/v1alpha1
kind: ModelCanary
metadata: {name: toy}
spec:
  model: {protocol: oip-v2, classes: ["no", "yes"], paths: [/v2/models/toy/infer]}
  mirror: {maxPairsPerSecond: 5000}
  labels: {maturity: 0s}
  analysis: {interval: 1s, minDuration: 1s, minSamples: {rollback: 300, promote: MIN_PROMOTE}}
"""


@contextmanager
def model(kind: str) -> Iterator[str]:
    """A model server; its URL."""
    process = subprocess.Popen([sys.executable, str(SERVER), kind], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        url = f"http://127.0.0.1:{int(process.stdout.readline())}"
        deadline = time.monotonic() + 20
        while True:
            try:
                httpx.get(url + "/")
                break
            except httpx.ConnectError:
                assert time.monotonic() < deadline
                time.sleep(0.02)
        yield url
    finally:
        process.terminate()
        process.wait(20)
        process.stdout.close()


class Run:
    """A `modelcanary run --json` and its events."""

    def __init__(
        self, folder: Path, baseline: str, candidate: str, *more: str, min_promote: int = 1000, text: str = SPEC
    ) -> None:
        spec = folder / "canary.yaml"
        spec.write_text(text.replace("MIN_PROMOTE", str(min_promote)))
        self.process = subprocess.Popen(
            [
                *(sys.executable, "-m", "modelcanary_cli", "run", "--json", "--spec", str(spec)),
                *("--baseline", baseline, "--candidate", candidate, "--state", str(folder / "state")),
                *("--listen", "127.0.0.1:0", "--feedback", "127.0.0.1:0", *more),
            ],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.events: list[dict[str, Any]] = []
        self._lines: queue.Queue[str | None] = queue.Queue()
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._lines.put(line)
        self._lines.put(None)

    def until(self, wanted: Callable[[dict[str, Any]], bool], seconds: float = 60.0) -> dict[str, Any]:
        """The next event that is wanted; those before it are in `events`."""
        deadline = time.monotonic() + seconds
        while True:
            try:
                line = self._lines.get(timeout=max(0.0, deadline - time.monotonic()))
            except queue.Empty:
                pytest.fail(f"not within {seconds} s; the last events: {self.events[-3:]}")
            if line is None:
                error = self.process.stderr.read() if self.process.stderr else ""
                pytest.fail(f"ended with {self.process.wait(20)}: {error}; the last events: {self.events[-3:]}")
            self.events.append(json.loads(line))
            if wanted(self.events[-1]):
                return self.events[-1]

    def kind(self, event: str, seconds: float = 60.0) -> dict[str, Any]:
        return self.until(lambda found: found["event"] == event, seconds)

    def end(self, number: signal.Signals | None = None) -> int:
        """The exit code, after the signal if there is one."""
        if number is not None:
            self.process.send_signal(number)
        code = self.process.wait(30)
        self._reader.join(10)
        return code

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(20)
        self._reader.join(10)
        for stream in (self.process.stdout, self.process.stderr):
            if stream is not None:
                stream.close()


@contextmanager
def running(
    folder: Path, baseline: str, candidate: str, *more: str, min_promote: int = 1000, spec: str = SPEC
) -> Iterator[Run]:
    run = Run(folder, baseline, candidate, *more, min_promote=min_promote, text=spec)
    try:
        yield run
    finally:
        run.close()


class Users(threading.Thread):
    """Sends requests, checks every answer, and sends the labels a moment later."""

    def __init__(self, started: dict[str, Any], seed: int = 1) -> None:
        super().__init__()
        self.sent = 0
        self.failures: list[str] = []
        self._listen, self._feedback, self._seed = started["listen"], started["feedback"], seed
        self._stopping = threading.Event()

    def run(self) -> None:
        rng = random.Random(self._seed)
        with httpx.Client(base_url=self._listen) as users, httpx.Client() as senders:
            while not self._stopping.is_set():
                values = [rng.gauss(0, 1.5) for _ in range(BATCH)]
                name = f"q{self._seed}-{self.sent}"
                self.sent += 1
                body = {"inputs": [{"name": "x", "shape": [BATCH, 1], "datatype": "FP64", "data": values}]}
                labels = [
                    {"id": name, "index": i, "label": "yes" if rng.random() < _share(value) else "no"}
                    for i, value in enumerate(values)
                ]
                try:
                    answer = users.post("/v2/models/toy/infer", json=body, headers={"X-Request-Id": name})
                    if answer.status_code != 200 or answer.json()["outputs"][0]["shape"] != [BATCH, 2]:
                        self.failures.append(f"{answer.status_code} {answer.text}")
                    answer = senders.post(self._feedback, json=labels)
                    if answer.status_code != 202:
                        self.failures.append(f"labels: {answer.status_code} {answer.text}")
                except httpx.HTTPError as error:
                    self.failures.append(repr(error))
                self._stopping.wait(0.02)

    def __enter__(self) -> "Users":
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self.join()


def _share(value: float) -> float:
    return 1 / (1 + math.exp(-TRUE_SLOPE * value))


def children(process: int) -> dict[str, int]:
    """Its children's package -> pid."""
    found = {}
    for place in Path("/proc").glob("[0-9]*"):
        try:
            stat, command = (place / "stat").read_text(), (place / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if int(stat.rpartition(")")[2].split()[1]) == process and b"modelcanary_cli.child" in command:
            found[command[5].decode()] = int(place.name)
    return found


def alive(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.parametrize(
    ("slope", "verdict", "reason", "code"),
    [("-1", "RollBack", "LossRegression", 1), ("2", "Promote", "CandidateNoWorse", 0)],
)
def test_a_verdict_ends_the_run(tmp_path: Path, slope: str, verdict: str, reason: str, code: int) -> None:
    report = tmp_path / "report.html"
    with model("1") as baseline, model(slope) as candidate:
        with running(tmp_path, baseline, candidate, "--report", str(report), "--keep-serving") as run:
            started = run.kind("started")
            parts = children(run.process.pid)
            assert set(parts) == {"modelcanary_ledger", "modelcanary_sidecar"}
            with Users(started) as users:
                said = run.kind("verdict")
                # the proxy goes on serving after the verdict
                served = users.sent
                deadline = time.monotonic() + 10
                while users.sent < served + 20:
                    assert time.monotonic() < deadline
                    time.sleep(0.02)
            assert run.end(signal.SIGINT) == code
        assert (said["verdict"], said["reason"]) == (verdict, reason)
        assert users.failures == []
        assert said["judged"] <= said["labelled"] <= said["pairs"] <= users.sent * BATCH
        assert (said["delta"] > 0) == (verdict == "RollBack")
        assert said["userRequests"] > 0
        record = json.loads((tmp_path / "state" / "record.json").read_text())
        assert (record["verdict"], record["run"]) == (verdict, started["run"])
        assert "<html" in report.read_text()
        assert not any(alive(process) for process in parts.values())

        # the same command again tells the verdict that there was
        with running(tmp_path, baseline, candidate) as again:
            assert "decided before" in again.kind("message")["message"]
            assert again.end() == code


def test_a_metric_holds_a_promotion_until_it_is_within_its_limit(tmp_path: Path) -> None:
    values = {"baseline": 200.0, "candidate": 150.0}
    guard = '  guards: [{name: sales, type: prometheus, endpoint: main, query: "$role", min: x0.95}]\n'
    with model("1") as baseline, model("2") as candidate, answering(values) as prometheus:
        spec = SPEC.replace("MIN_PROMOTE", "1000") + guard
        missing = refused(tmp_path, "--baseline", baseline, "--candidate", candidate, spec=spec)
        assert "spec.guards[0].endpoint: nothing says where main is" in missing
        assert "--endpoint main=http://" in missing
        with running(tmp_path, baseline, candidate, "--endpoint", f"main={prometheus}", spec=spec) as run:
            with Users(run.kind("started")):
                run.until(lambda found: found["event"] == "look" and found["reason"] == "GuardVeto")
                values["candidate"] = 195.0
                assert run.kind("verdict")["verdict"] == "Promote"
            assert run.end() == 0


def test_killed_and_resumed_and_interrupted(tmp_path: Path) -> None:
    with model("1") as baseline, model("2") as candidate:
        with running(tmp_path, baseline, candidate, min_promote=10**9) as first:
            started = first.kind("started")
            assert not started["resumed"]
            with Users(started, seed=1):
                before = first.until(lambda event: event["event"] == "look" and event["judged"] > 100)
            parts = children(first.process.pid)
            first.end(signal.SIGKILL)

        with running(tmp_path, baseline, candidate, min_promote=10**9) as second:
            started = second.kind("started")
            assert started["resumed"]
            assert started["run"] == before["run"]
            assert not any(alive(process) for process in parts.values())
            look = second.kind("look")
            assert look["judged"] >= before["judged"]
            assert look["pairs"] >= before["pairs"]
            assert look["elapsed"] > before["elapsed"]

            with running(tmp_path, baseline, candidate, min_promote=10**9) as third:
                assert third.end() == 3
                assert third.process.stderr is not None
                assert "in use by another `modelcanary run`" in third.process.stderr.read()

            os.kill(children(second.process.pid)["modelcanary_sidecar"], signal.SIGKILL)
            assert "restarted, once" in second.kind("message")["message"]
            with Users(started, seed=2) as users:
                pairs = look["pairs"]
                second.until(lambda event: event["event"] == "look" and event["pairs"] > pairs)
            assert users.failures == []
            parts = children(second.process.pid)
            assert second.end(signal.SIGINT) == 2
            assert not any(alive(process) for process in parts.values())
        record = json.loads((tmp_path / "state" / "record.json").read_text())
        assert record["verdict"] == "Continue"

        with model("0.5") as other, running(tmp_path, baseline, other, min_promote=10**9) as fourth:
            started = fourth.kind("started")
            assert (started["resumed"], started["why"]) == (False, "the candidate changed")
            assert fourth.kind("look")["pairs"] == 0
            assert fourth.end(signal.SIGTERM) == 2


def test_a_candidate_that_answers_html_is_told(tmp_path: Path) -> None:
    with model("1") as baseline, model("html") as candidate, running(tmp_path, baseline, candidate) as run:
        with Users(run.kind("started")) as users:
            warning = run.kind("warning")["message"]
        assert users.failures == []
        assert "no answer of the candidate could be scored" in warning
        assert "undecodable" in warning
        assert "HTML" in warning
        assert run.end(signal.SIGINT) == 2


def free_port() -> int:
    with Ports() as ports:
        return ports.hold("--port", "127.0.0.1:0").port


def refused(folder: Path, *arguments: str, spec: str | None = None) -> str:
    """The one line of a command that is refused."""
    path = folder / "canary.yaml"
    path.write_text(SPEC.replace("MIN_PROMOTE", "1000") if spec is None else spec)
    done = subprocess.run(
        [
            *(sys.executable, "-m", "modelcanary_cli", "run", "--spec", str(path)),
            *("--state", str(folder / "state"), *arguments),
        ],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 3, done.stderr
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1, done.stderr
    assert not (folder / "state").exists()
    return done.stderr


def test_bad_input_is_one_line_and_leaves_nothing(tmp_path: Path) -> None:
    with model("1") as baseline, socket.socket() as busy:
        busy.bind(("127.0.0.1", 0))
        busy.listen()
        port = busy.getsockname()[1]
        unused = f"http://127.0.0.1:{free_port()}"
        good = ["--baseline", baseline, "--candidate", baseline]
        assert f"--listen: cannot listen on 127.0.0.1:{port}" in refused(
            tmp_path, *good, "--listen", f"127.0.0.1:{port}"
        )
        nobody = refused(
            tmp_path,
            *("--baseline", unused, "--candidate", baseline),
            *("--listen", "127.0.0.1:0", "--feedback", "127.0.0.1:0"),
        )
        assert f"--baseline: {unused} cannot be reached (connection refused)" in nobody
        assert "http://HOST:PORT" in refused(tmp_path, "--baseline", "model", "--candidate", baseline)
        assert "--feedback: 0.0.0.0:" in refused(tmp_path, *good, "--listen", "127.0.0.1:0", "--feedback", "0.0.0.0:0")
        unknown = SPEC.replace("interval:", "intervall:").replace("MIN_PROMOTE", "1000")
        assert "intervall" in refused(tmp_path, *good, spec=unknown)
        assert "--report" in refused(
            tmp_path,
            *(*good, "--listen", "127.0.0.1:0", "--feedback", "127.0.0.1:0"),
            *("--report", str(tmp_path / "missing" / "x.html")),
        )
