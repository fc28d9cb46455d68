"""A real ledger with a run in it, for tests of what leaves it (`export`) and of labels from files."""

import contextlib
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import msgspec
import numpy as np
from numpy.typing import NDArray

from modelcanary_gate.protocol import Answer, Pair, PairBatch
from modelcanary_gate.vocabulary import Outcome

CLASSES = ["cat", "dog", "owl"]
N = 1500


@dataclass(frozen=True)
class Made:
    """A live run: its pairs as sent, and its labels."""

    url: str
    ids: list[str]
    labels: NDArray[np.int64]


def specification(maturity: str, lenient: bool = False) -> dict[str, object]:
    """`lenient`: for pairs whose candidate may be promoted."""
    return {
        "model": {"classes": CLASSES, "paths": ["/v1"]},
        "labels": {"maturity": maturity, "maxDelay": "1h"},
        "analysis": {"minDuration": "0s", "margin": "100%" if lenient else "5%"},
        "guards": []
        if lenient
        else [
            {"name": "errors", "type": "errorRate", "max": "+1%"},
            {"name": "sure", "type": "confidentErrors", "threshold": "0.8", "max": "+5%"},
            {"name": "classes", "type": "perClass", "margin": "20%"},
        ],
    }


def resource(maturity: str, lenient: bool = False) -> dict[str, object]:
    return {
        "apiVersion": "modelcanary.io/v1alpha1",
        "kind": "ModelCanary",
        "metadata": {"name": "fraud", "namespace": "shop"},
        "spec": specification(maturity, lenient),
    }


@contextlib.contextmanager
def ledger(folder: Path) -> Iterator[str]:
    arguments = [sys.executable, "-m", "modelcanary_ledger", "--listen", "127.0.0.1:0", "--state", str(folder)]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as started:
        try:
            assert started.stdout is not None
            yield started.stdout.readline().split()[-1]
        finally:
            started.kill()


def pairs_of(rng: np.random.Generator, labels: NDArray[np.int64], now: float) -> list[Pair]:
    logits = rng.normal(size=(2, len(labels), len(CLASSES)))
    logits[:, np.arange(len(labels)), labels] += 1.5
    logits[1] += 0.5 * rng.normal(size=logits[1].shape)
    log_p = logits - np.log(np.exp(logits).sum(axis=2, keepdims=True))
    made = []
    for i in range(len(labels)):
        answers = [
            Answer(Outcome.OK, float(rng.gamma(2.0, 0.01)), log_p[role, i].astype("<f4").tobytes()) for role in (0, 1)
        ]
        if i % 97 == 0:
            answers[1] = Answer(Outcome.TIMEOUT, 2.0)
        moment = now - 1200 + i * 0.5
        key = int(moment * 1000).to_bytes(6, "big") + i.to_bytes(10, "big")
        made.append(Pair(key, f"id-{i}", 0, moment, answers[0], answers[1]))
    return made


@contextlib.contextmanager
def live(folder: Path, maturity: str, labelled: int, lenient: bool = False) -> Iterator[Made]:
    """A run of N pairs that are 10 to 20 minutes old, of which the first `labelled` have their labels."""
    rng = np.random.default_rng(5)
    labels = rng.integers(0, len(CLASSES), N)
    with ledger(folder) as url, httpx.Client(base_url=url, timeout=60) as client:
        put = {
            "epoch": 1,
            "instructions": {"version": 1, "run": "r1", "share": 1.0, "candidate": "http://c"},
            "spec": specification(maturity, lenient),
        }
        client.put("/v1/runs/shop/fraud/instructions", json=put).raise_for_status()
        pairs = pairs_of(rng, labels, time.time())
        for start in range(0, N, 250):
            batch = PairBatch(f"b{start}", "sidecar", "r1", pairs[start : start + 250])
            body = msgspec.msgpack.encode(batch)
            headers = {"Content-Type": "application/vnd.msgpack"}
            client.post("/v1/runs/shop/fraud/pairs", content=body, headers=headers).raise_for_status()
        posted = [{"id": f"id-{i}", "label": CLASSES[labels[i]]} for i in range(labelled)]
        if posted:
            client.post("/v1/feedback?namespace=shop&name=fraud", json=posted).raise_for_status()
        wait_until_counted(client, labelled)
        yield Made(url, [f"id-{i}" for i in range(N)], labels)


def wait_until_counted(client: httpx.Client, labelled: int) -> None:
    wanted = labelled - len([i for i in range(labelled) if i % 97 == 0])
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        counts = client.get("/v1/runs/shop/fraud/evidence").json()["counts"]
        if counts["pairs"] == N and counts["labelled"] == wanted:
            return
    raise AssertionError(f"not counted in time: {counts}")
