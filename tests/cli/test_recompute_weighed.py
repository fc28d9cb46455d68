"""Weights and a learned maturity through kill -9: what is recomputed is what the ledger had counted, to 1e-9.

Labels of one class come at once, those of the others within seconds, and some never. The ledger is killed right after
an answer, when what it acknowledged is on the disk and mostly not counted yet; what it learned grows from life to life.
"""

import contextlib
import heapq
import json
import math
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import msgspec
import numpy as np
import pyarrow.parquet as pq
import pytest
import yaml
from tests.cli.recorded import CLASSES, pairs_of, resource, specification
from tests.ledger.postgres_server import server
from tests.ledger.serving import ledger

from modelcanary_gate.protocol import Pair, PairBatch

pytestmark = pytest.mark.timeout(600)
STEPS, EACH = 8, 40
#: Mean delay of each class's labels, seconds.
DELAYS = np.array([0.1, 2.0, 4.0])
EPSILON = 1e-4


SPEC = {
    **specification("auto"),
    "labels": {"maturity": "auto", "minCoverage": "60%", "maxDelay": "1h"},
}


class Traffic:
    """Pairs as they are asked for, and their labels when each is due."""

    def __init__(self) -> None:
        self._rng = np.random.default_rng(11)
        self._due: list[tuple[float, str, int]] = []
        self._late: list[Pair] = []  # recorded after the first of their labels
        self.sent = 0

    def pairs(self, count: int) -> list[Pair]:
        labels = self._rng.integers(0, len(CLASSES), count)
        delays = self._rng.exponential(DELAYS[labels])
        come = self._rng.random(count) < 0.9
        made, moment = [], time.time()
        for row, pair in enumerate(pairs_of(self._rng, labels, moment)):
            key = int(moment * 1000).to_bytes(6, "big") + self.sent.to_bytes(10, "big")
            made.append(replace(pair, key=key, id=f"id-{self.sent}", time=moment))
            if come[row]:
                heapq.heappush(self._due, (moment + delays[row], made[-1].id, int(labels[row])))
            self.sent += 1
        return made

    def step(self, client: httpx.Client, count: int) -> None:
        pairs, self._late = self._late, []
        if count:
            made = self.pairs(count)
            if self._rng.random() < 0.3:
                self._late = made
            else:
                pairs += made
        if pairs:
            record(client, pairs)
        labels = []
        while self._due and self._due[0][0] <= time.time():
            _, identifier, label = heapq.heappop(self._due)
            labels.append({"id": identifier, "label": CLASSES[label]})
            if self._rng.random() < 0.05:
                labels.append({"id": identifier, "label": CLASSES[label - 1]})
        if labels:
            post(client, labels)

    def rest(self, client: httpx.Client) -> None:
        while self._due or self._late:
            self.step(client, 0)
            time.sleep(0.05)  # as the labels come


def record(client: httpx.Client, pairs: list[Pair]) -> None:
    body = msgspec.msgpack.encode(PairBatch(f"b-{pairs[0].id}", "sidecar", "r1", pairs))
    headers = {"Content-Type": "application/vnd.msgpack"}
    client.post("/v1/runs/shop/fraud/pairs", content=body, headers=headers).raise_for_status()


def post(client: httpx.Client, labels: list[dict[str, str]]) -> None:
    client.post("/v1/feedback?namespace=shop&name=fraud", json=labels).raise_for_status()


@pytest.fixture
def options(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[str, ...]]:
    """Where the ledger keeps everything, beyond its folder."""
    if request.param == "files":
        yield ()
        return
    with server() as postgres:
        file = tmp_path / "url"
        file.write_text(postgres.schema())
        yield ("--state=", f"--store-url-file={file}")


@contextlib.contextmanager
def killed_in_the_end(folder: Path, options: tuple[str, ...]) -> Iterator[httpx.Client]:
    with (
        ledger(folder / "state", *options, log=folder / "ledger.log") as (url, _),  # ends it by SIGKILL
        httpx.Client(base_url=url, timeout=60) as client,
    ):
        yield client


def evidence(client: httpx.Client) -> dict[str, Any]:
    found: dict[str, Any] = client.get("/v1/runs/shop/fraud/evidence").json()
    return found


def shown(client: httpx.Client) -> bool:
    """Whether there is enough of all that might be recomputed wrongly; more lives take none of it away."""
    counts = evidence(client)["counts"]
    least = {"labelled": 100, "missing": 100, "expired": 10, "conflict": 30}
    if any(counts[name] <= least[name] for name in least):
        return False
    lines = client.get("/v1/runs/shop/fraud/pairs").text.splitlines()
    weights = [weight for row in map(json.loads, lines) if row["matured"] for weight in weight_of(row)]
    return min(weights, default=1.0) < 0.97 < max(weights, default=0.0) == 1.0


def weight_of(row: dict[str, Any]) -> list[float]:
    """What the pair counts with its label; nothing where it does not count."""
    if row["label"] is None or row["late"] or row["candidate"] is None:
        return []
    return [1.0 if row["weight"] is None else row["weight"]]


def settled(client: httpx.Client, pairs: int) -> dict[str, Any]:
    """Evidence in which no label is waited for."""
    deadline = time.monotonic() + 120
    while (found := evidence(client))["counts"]["pairs"] < pairs or found["counts"]["unlabelled"]:
        assert time.monotonic() < deadline, found["counts"]
        time.sleep(0.1)
    return found


@pytest.mark.parametrize("options", ["files", "postgres"], indirect=True)
def test_live_and_recomputed_agree_with_weights_on(cli, tmp_path, options):  # type: ignore[no-untyped-def]
    traffic, deadline = Traffic(), time.monotonic() + 240
    put = {"epoch": 1, "instructions": {"version": 1, "run": "r1", "share": 1.0}, "spec": SPEC}
    with killed_in_the_end(tmp_path, options) as client:
        client.put("/v1/runs/shop/fraud/instructions", json=put).raise_for_status()
    more = 3  # lives after there is a maturity, in which it and the weights may still change
    enough = False
    while more > 0 or not enough:
        assert time.monotonic() < deadline
        with killed_in_the_end(tmp_path, options) as client:
            more -= evidence(client)["maturity"] is not None
            enough = enough or (more <= 0 and shown(client))
            for _ in range(STEPS):
                traffic.step(client, EACH)
                time.sleep(0.1)  # as requests come
    with killed_in_the_end(tmp_path, options) as client:
        traffic.rest(client)
        before = settled(client, traffic.sent)
    with killed_in_the_end(tmp_path, options) as client:
        after = settled(client, traffic.sent)
        assert after["counts"] == before["counts"]
        assert [*after["loss"], *after["traffic"]] == [*before["loss"], *before["traffic"]]
        files = ("-o", "pairs.parquet", "--evidence", "live.json")
        answer = cli("export", "fraud", "--ledger", str(client.base_url), "-n", "shop", *files)
        assert answer.code == 0, answer.err

    path = tmp_path / "fraud.yaml"
    path.write_text(yaml.safe_dump({**resource("auto"), "spec": SPEC}))
    answer = cli("recompute", "pairs.parquet", "--spec", path, "--against", "live.json", "--json")
    assert answer.out, answer.err
    found, counts = json.loads(answer.out), before["counts"]
    assert found["difference"] < 1e-9, found
    assert (found["pairs"], found["labelled"]) == (counts["pairs"], counts["labelled"])
    assert found["conflict"] == counts["conflict"]

    counted = [(row, weight) for row in pq.read_table("pairs.parquet").to_pylist() for weight in weight_of(row)]
    assert len(counted) == counts["labelled"]
    live = json.loads(Path("live.json").read_text())
    for role, moment in (("baseline", "b"), ("candidate", "c")):
        losses = [weight * min(-math.log(row[role][row["label"]]), -math.log(EPSILON)) for row, weight in counted]
        total = math.fsum(block["moments"][moment] for block in live["loss"])
        assert total == pytest.approx(math.fsum(losses), rel=1e-9)
