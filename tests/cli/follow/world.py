"""A real ledger whose models list sources, followers of them as processes, and a relay between the two for faults."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import msgspec
import numpy as np
import yaml
from tests.cli.recorded import CLASSES
from tests.listening import listening

from modelcanary_gate.protocol import Answer, Pair, PairBatch
from modelcanary_gate.vocabulary import Outcome

_PATIENCE = 240.0


def until(said: Callable[[], Any], wanted: Callable[[Any], bool] = bool, seconds: float = _PATIENCE) -> Any:
    deadline = time.monotonic() + seconds
    while not wanted(found := said()):
        assert time.monotonic() < deadline, f"still {found}"
        time.sleep(0.1)
    return found


@dataclass
class Canary:
    """One model of the ledger, in the namespace `shop`."""

    client: httpx.Client
    name: str
    sources: list[dict[str, str]]
    max_delay: str = "1h"
    sent: int = 0

    def begin(self) -> "Canary":
        put = {
            "epoch": 1,
            "instructions": {"version": 1, "run": "r1", "share": 1.0, "candidate": "http://c"},
            "spec": {
                "model": {"classes": CLASSES, "paths": ["/v1"]},
                "labels": {"maturity": "0s", "maxDelay": self.max_delay},
            },
            "sources": self.sources,
        }
        self.client.put(f"/v1/runs/shop/{self.name}/instructions", json=put).raise_for_status()
        return self

    def ask(self, *ids: str, age: float = 0.0) -> None:
        """Requests that both models have answered."""
        log_p = np.log(np.full(len(CLASSES), 1 / len(CLASSES))).astype("<f4").tobytes()
        answer = Answer(Outcome.OK, 0.01, log_p)
        moment = time.time() - age
        pairs = []
        for name in ids:
            self.sent += 1
            key = int(moment * 1000).to_bytes(6, "big") + self.sent.to_bytes(10, "big")
            pairs.append(Pair(key, name, 0, moment, answer, answer))
        body = msgspec.msgpack.encode(PairBatch(f"{self.name}-{self.sent}", "sidecar", "r1", pairs))
        headers = {"Content-Type": "application/vnd.msgpack"}
        self.client.post(f"/v1/runs/shop/{self.name}/pairs", content=body, headers=headers).raise_for_status()

    def counts(self) -> dict[str, int]:
        """What became of labels, by all senders."""
        senders = self.client.get(f"/v1/runs/shop/{self.name}/evidence").json()["counts"]["senders"]
        total: dict[str, int] = {}
        for said in senders.values():
            for name, count in said.items():
                if count:
                    total[name] = total.get(name, 0) + count
        return total

    def judged(self) -> int:
        """Pairs whose label counts: one that came too late is kept and does not."""
        return int(self.client.get(f"/v1/runs/shop/{self.name}/evidence").json()["counts"]["labelled"])

    def senders(self) -> list[str]:
        return list(self.client.get(f"/v1/runs/shop/{self.name}/evidence").json()["counts"]["senders"])

    def labels(self) -> dict[str, int]:
        lines = self.client.get(f"/v1/runs/shop/{self.name}/pairs").text.splitlines()
        return {row["id"]: row["label"] for row in map(json.loads, lines) if row["label"] is not None}

    def report(self) -> dict[str, Any]:
        """Of its only source; empty while nobody has said anything."""
        reports = self.client.get(f"/v1/runs/shop/{self.name}/sources").json()["reports"]
        return reports[0] if reports else {}

    def problem(self, part: str) -> str:
        found = until(self.report, lambda report: part in report.get("problem", ""))
        return str(found["problem"])

    def gets(self, counts: dict[str, int]) -> None:
        """In the end; and not another count before it is said that nothing waits."""
        until(self.counts, lambda found: sum(found.values()) >= sum(counts.values()))
        found = self.counts()
        assert found == counts, found


def topic(name: str, **more: str) -> list[dict[str, str]]:
    return [{"kind": "kafka", "endpoint": "main", "place": name, **more}]


def files(path: str) -> list[dict[str, str]]:
    return [{"kind": "files", "endpoint": "lake", "place": path}]


@dataclass
class World:
    url: str
    client: httpx.Client
    folder: Path
    endpoints: dict[str, dict[str, object]] = field(default_factory=dict)
    canaries: list[Canary] = field(default_factory=list)

    def canary(self, name: str, sources: list[dict[str, str]], max_delay: str = "1h") -> Canary:
        self.canaries.append(Canary(self.client, name, sources, max_delay).begin())
        return self.canaries[-1]

    @contextlib.contextmanager
    def follower(self, name: str = "one", *more: str, ledger: str = "", **environment: str) -> Iterator["Process"]:
        file = self.folder / "endpoints.yaml"
        file.write_text(yaml.safe_dump(self.endpoints))
        log = self.folder / f"{name}.log"
        command = [sys.executable, "-m", "modelcanary_cli", "labels", "follow", "--ledger", ledger or self.url]
        options = ["--endpoints", str(file), "--follower", name, "--look", "200ms", *more]
        with (
            log.open("w") as into,
            subprocess.Popen(
                [*command, *options], stdout=into, stderr=into, env={**os.environ, **environment}
            ) as begun,
        ):
            try:
                yield Process(begun, log)
            finally:
                begun.kill()


@dataclass
class Process:
    process: subprocess.Popen[bytes]
    log: Path

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(30)

    def end(self) -> int:
        self.process.terminate()
        return self.process.wait(60)


@contextlib.contextmanager
def relay(url: str, fault: Callable[[bytes, Callable[[], int]], int | None]) -> Iterator[str]:
    """Between a follower and the ledger. `fault` gets each request for labels and how to pass it on: it returns the
    status to answer instead of the ledger's, or None for the ledger's own.
    """

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            answers: list[httpx.Response] = []

            def forward() -> int:
                if not answers:
                    answers.append(httpx.post(f"{url}{self.path}", content=body, timeout=60))
                return answers[0].status_code

            status = fault(body, forward) if self.path.startswith("/v1/feedback") else None
            if status is None:
                forward()
                status, content = answers[0].status_code, answers[0].content
            else:
                content = b"{}"
            with contextlib.suppress(OSError):
                self.send_response(status)
                self.send_header("Content-Length", str(len(content)))
                self.send_header("Retry-After", "1")
                self.end_headers()
                self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    with listening(server) as own:
        yield own
