"""`export` and `recompute` against a real ledger: the same evidence from what it exported, and from labels in files."""

import contextlib
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
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


def specification(maturity: str) -> dict[str, object]:
    return {
        "model": {"classes": CLASSES, "paths": ["/v1"]},
        "labels": {"maturity": maturity, "maxDelay": "1h"},
        "analysis": {"minDuration": "0s", "margin": "5%"},
        "guards": [
            {"name": "errors", "type": "errorRate", "max": "+1%"},
            {"name": "sure", "type": "confidentErrors", "threshold": "0.8", "max": "+5%"},
            {"name": "classes", "type": "perClass", "margin": "20%"},
        ],
    }


def resource(maturity: str) -> dict[str, object]:
    return {
        "apiVersion": "modelcanary.io/v1alpha1",
        "kind": "ModelCanary",
        "metadata": {"name": "fraud", "namespace": "shop"},
        "spec": specification(maturity),
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
def live(folder: Path, maturity: str, labelled: int) -> Iterator[Made]:
    """A run of N pairs that are 10 to 20 minutes old, of which the first `labelled` have their labels."""
    rng = np.random.default_rng(5)
    labels = rng.integers(0, len(CLASSES), N)
    with ledger(folder) as url, httpx.Client(base_url=url) as client:
        put = {
            "epoch": 1,
            "instructions": {"version": 1, "run": "r1", "share": 1.0, "candidate": "http://c"},
            "spec": specification(maturity),
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
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        counts = client.get("/v1/runs/shop/fraud/evidence").json()["counts"]
        if counts["pairs"] == N and counts["labelled"] == wanted:
            return
    raise AssertionError(f"not counted in time: {counts}")


@pytest.fixture
def spec(tmp_path: Path) -> Path:
    path = tmp_path / "fraud.yaml"
    path.write_text(yaml.safe_dump(resource("0s")))
    return path


def exported(cli, made: Made) -> None:
    answer = cli(
        "export", "fraud", "--ledger", made.url, "-n", "shop", "-o", "pairs.parquet", "--evidence", "live.json"
    )
    assert answer.code == 0, answer.err
    assert "1,500 pairs" in answer.out


class TestAgainstTheLedger:
    def test_what_was_exported_gives_the_same_evidence(self, cli, spec, tmp_path):
        with live(tmp_path / "state", "0s", 1200) as made:
            exported(cli, made)
        answer = cli("recompute", "pairs.parquet", "--spec", spec, "--against", "live.json", "--json")
        found = json.loads(answer.out)
        assert found["difference"] < 1e-9, found
        assert found["pairs"] == N
        assert found["labelled"] == 1200 - 13
        assert answer.code in (0, 1, 2)

    def test_labels_in_files_give_what_the_same_labels_gave_over_http(self, cli, spec, tmp_path):
        with live(tmp_path / "with", "0s", N) as made:
            exported(cli, made)
        with_labels = cli("recompute", "pairs.parquet", "--spec", spec, "--against", "live.json", "--json")
        assert json.loads(with_labels.out)["difference"] < 1e-9
        stripped = pq.read_table("pairs.parquet").drop_columns(["label", "labelledAt"])
        pq.write_table(stripped, "bare.parquet")
        order = np.random.default_rng(1).permutation(N)
        table = {"id": [made.ids[i] for i in order], "label": [CLASSES[made.labels[i]] for i in order]}
        pq.write_table(pa.table(table), "labels.parquet")
        answer = cli(
            "recompute",
            "bare.parquet",
            "--spec",
            spec,
            "--labels",
            "labels.parquet",
            "--against",
            "live.json",
            "--json",
        )
        found = json.loads(answer.out)
        assert found["difference"] < 1e-9, found
        assert found["delta"] == pytest.approx(json.loads(with_labels.out)["delta"], abs=1e-12)

    def test_other_evidence_is_found_to_differ(self, cli, spec, tmp_path):
        with live(tmp_path / "state", "0s", 900) as made:
            exported(cli, made)
        labels = pa.table({"id": ["id-1400"], "label": ["cat"]})
        pq.write_table(labels, "more.parquet")
        answer = cli("recompute", "pairs.parquet", "--spec", spec, "--labels", "more.parquet", "--against", "live.json")
        assert answer.code == 4
        assert "differs by" in answer.out


class TestCounting:
    def test_late_labels_and_labels_that_come_again(self, cli, spec, tmp_path):
        with live(tmp_path / "state", "0s", 0) as made:
            exported(cli, made)
        at = pq.read_table("pairs.parquet").column("ts").to_numpy()
        rows = [
            {"id": "id-1", "label": "cat", "labelledAt": at[1] + 10},
            {"id": "id-1", "label": "dog", "labelledAt": at[1] + 20},  # another: the first counts
            {"id": "id-1", "label": "cat", "labelledAt": at[1] + 30},  # again
            {"id": "id-2", "label": "cat", "labelledAt": at[2] + 61},  # too late
            {"id": "id-3", "label": "owl", "labelledAt": at[3] + 59},
            {"id": "nobody", "label": "owl", "labelledAt": at[3]},
        ]
        Path("labels.ndjson").write_text("\n".join(json.dumps(row) for row in rows))
        answer = cli(
            "recompute", "pairs.parquet", "--spec", spec, "--labels", "labels.ndjson", "--maturity", "1m", "--json"
        )
        found = json.loads(answer.out)
        assert (found["labelled"], found["expired"]) == (2, 1)
        assert (found["duplicate"], found["conflict"], found["unmatched"]) == (1, 1, 1)

    def test_a_pair_that_comes_twice_is_refused(self, cli, spec, tmp_path):
        with live(tmp_path / "state", "0s", 0) as made:
            exported(cli, made)
        pq.write_table(pa.table({"id": ["id-7"], "label": ["cat"]}), "labels.parquet")
        answer = cli("recompute", "pairs.parquet", "pairs.parquet", "--spec", spec, "--labels", "labels.parquet")
        assert answer.code == 3
        assert "'id-7' comes twice" in answer.err

    def test_other_classes_than_the_runs_are_refused(self, cli, spec, tmp_path):
        with live(tmp_path / "state", "0s", 0) as made:
            exported(cli, made)
        other = yaml.safe_load(spec.read_text())
        other["spec"]["model"]["classes"] = ["cat", "dog"]
        spec.write_text(yaml.safe_dump(other))
        answer = cli("recompute", "pairs.parquet", "--spec", spec)
        assert answer.code == 3
        assert "3 numbers per row for 2 classes" in answer.err
