"""`export` and `recompute` against a real ledger: the same evidence from what it exported, and from labels in files."""

import json
import time
from pathlib import Path

import httpx
import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from tests.cli import recorded
from tests.cli.recorded import CLASSES, Made, N, ledger, live, resource

from modelcanary_cli.exported import read_exported
from modelcanary_cli.record import read_record
from modelcanary_gate.parse import parse_spec
from modelcanary_gate.protocol import Answer, Pair, PairBatch
from modelcanary_gate.vocabulary import Outcome


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
        assert answer.code == 2
        assert cli("recompute", "pairs.parquet", "--spec", spec, "--exit-zero").code == 0

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

    def test_what_has_matured_is_known_whenever_it_is_asked(self, cli, spec, tmp_path):
        """Pairs that are too young do not count, whatever their labels, and a maturity that has grown is no matter."""
        spec.write_text(yaml.safe_dump(resource("30m")))
        with live(tmp_path / "young", "30m", 900) as made:
            exported(cli, made)
        known = cli("recompute", "pairs.parquet", "--spec", spec, "--against", "live.json", "--json")
        assert json.loads(known.out)["difference"] < 1e-9, known.out
        found = json.loads(cli("recompute", "pairs.parquet", "--spec", spec, "--json").out)
        assert (found["labelled"], found["delta"]) == (900 - 10, None)
        forced = json.loads(cli("recompute", "pairs.parquet", "--spec", spec, "--maturity", "30m", "--json").out)
        assert forced["delta"] is not None  # all that there is, as if its time were over

        spec.write_text(yaml.safe_dump(resource("auto")))
        with live(tmp_path / "old", "5m", 0) as made:
            exported(cli, made)
        evidence = json.loads(Path("live.json").read_text())
        assert sum(evidence["loss"][-1]["coverage"]["baseline"]["missing"]) > 1400
        Path("live.json").write_text(json.dumps({**evidence, "maturity": 1500.0}))
        grown = cli("recompute", "pairs.parquet", "--spec", spec, "--against", "live.json", "--json")
        assert json.loads(grown.out)["difference"] < 1e-9, grown.out

    def test_other_evidence_is_found_to_differ(self, cli, spec, tmp_path):
        with live(tmp_path / "state", "0s", 900) as made:
            exported(cli, made)
        labels = pa.table({"id": ["id-1400"], "label": ["cat"]})
        pq.write_table(labels, "more.parquet")
        answer = cli("recompute", "pairs.parquet", "--spec", spec, "--labels", "more.parquet", "--against", "live.json")
        assert answer.code == 4
        assert "differs by" in answer.out
        files = ("--labels", "more.parquet", "--against", "live.json")
        assert cli("recompute", "pairs.parquet", "--spec", spec, *files, "--exit-zero").code == 4


class TestConflicts:
    """The gate holds a promotion while labels contradict each other, also when it is asked once more."""

    def test_those_of_the_ledger_and_of_files_count_once(self, cli, spec, tmp_path):
        with live(tmp_path / "state", "0s", 1200, lenient=True) as made:
            others = [{"id": f"id-{i}", "label": CLASSES[made.labels[i] - 1]} for i in range(100)]
            for _ in range(2):
                httpx.post(
                    f"{made.url}/v1/feedback?namespace=shop&name=fraud", json=others, timeout=60
                ).raise_for_status()
            exported(cli, made)
        evidence = json.loads(Path("live.json").read_text())
        Path("live.json").write_text(
            json.dumps({**evidence, "startedAt": evidence["startedAt"] - 1200})
        )  # as the pairs
        spec.write_text(yaml.safe_dump(resource("0s", lenient=True)))
        for against in ((), ("--against", "live.json")):
            found = json.loads(cli("recompute", "pairs.parquet", "--spec", spec, *against, "--json").out)
            assert (found["verdict"], found["reason"], found["conflict"]) == ("Continue", "LabelsConflicting", 100)
            assert found["unscored"] == 13
        other = CLASSES[made.labels[500] - 1]  # than the ledger has
        more = {"id": ["id-1", "id-1", "id-400", "id-500"], "label": ["cat", "dog", CLASSES[made.labels[400]], other]}
        pq.write_table(pa.table(more), "few.parquet")
        found = json.loads(cli("recompute", "pairs.parquet", "--spec", spec, "--labels", "few.parquet", "--json").out)
        assert (found["reason"], found["conflict"]) == ("LabelsConflicting", 101)
        plain = pq.read_table("pairs.parquet").drop_columns(["contradicted"])
        pq.write_table(plain, "plain.parquet")
        found = json.loads(cli("recompute", "plain.parquet", "--spec", spec, "--json").out)
        assert (found["verdict"], found["conflict"]) == ("Promote", 0)


def test_a_language_models_export_gives_the_same_evidence(cli, tmp_path):
    """One log-probability per model, of the reference; the label is that reference."""
    rng, now = np.random.default_rng(3), time.time()
    model = {"protocol": "openai", "paths": ["/v1/completions"]}
    written = {"model": model, "labels": {"maturity": "0s", "maxDelay": "1h"}}
    written["analysis"] = {"minDuration": "0s", "margin": "5%"}
    losses = rng.gamma(4.0, 0.5, (400, 2))
    with ledger(tmp_path / "state") as url, httpx.Client(base_url=url) as client:
        instructions = {"version": 1, "run": "r1", "share": 1.0, "candidate": "http://c"}
        put = {"epoch": 1, "instructions": instructions, "spec": written}
        client.put("/v1/runs/shop/fraud/instructions", json=put).raise_for_status()
        pairs = [
            Pair(
                int((now - 300) * 1000 + i).to_bytes(6, "big") + i.to_bytes(10, "big"),
                f"id-{i}",
                0,
                now - 300 + i / 1000,
                *(Answer(Outcome.OK, 0.1, np.array([-loss], "<f4").tobytes()) for loss in row),
            )
            for i, row in enumerate(losses.tolist())
        ]
        body = msgspec.msgpack.encode(PairBatch("b", "sidecar", "r1", pairs))
        headers = {"Content-Type": "application/vnd.msgpack"}
        client.post("/v1/runs/shop/fraud/pairs", content=body, headers=headers).raise_for_status()
        texts = [{"id": f"id-{i}", "label": f"the answer {i}"} for i in range(300)]
        client.post("/v1/feedback?namespace=shop&name=fraud", json=texts).raise_for_status()
        deadline = time.monotonic() + 60
        while (counts := client.get("/v1/runs/shop/fraud/evidence").json()["counts"])["labelled"] < 300:
            assert time.monotonic() < deadline, counts
            time.sleep(0.1)
        files = ("-o", "pairs.parquet", "--evidence", "live.json")
        assert cli("export", "fraud", "--ledger", url, "-n", "shop", *files).code == 0
    spec = tmp_path / "fraud.yaml"
    spec.write_text(yaml.safe_dump({**resource("0s"), "spec": written}))
    answer = cli("recompute", "pairs.parquet", "--spec", spec, "--against", "live.json", "--json")
    assert answer.out, answer.err
    found = json.loads(answer.out)
    assert found["difference"] < 1e-9, found
    assert (found["pairs"], found["labelled"]) == (400, 300)
    assert found["delta"] == pytest.approx(np.diff(losses[:300].clip(0, 9.21034), axis=1).mean(), abs=1e-6)
    assert "nats per token" in cli("recompute", "pairs.parquet", "--spec", spec).out
    Path("labels.csv").write_text("id,label\nid-1,a text\n")
    refused = cli("recompute", "pairs.parquet", "--spec", spec, "--labels", "labels.csv")
    assert (refused.code, "leave --labels out" in refused.err) == (3, True)


@pytest.mark.parametrize(
    ("classes", "model"),
    [
        (["2", "1", "0"], {}),
        (["20", "10", "1"], {}),
        (CLASSES, {"values": "logits", "candidateClasses": CLASSES[::-1]}),
    ],
)
def test_replay_reads_an_export_as_it_was_recorded(cli, spec, tmp_path, classes, model, monkeypatch):
    """Labels are indices, numbers probabilities in the baseline's order, and a failed answer is no error."""
    monkeypatch.setattr(recorded, "CLASSES", classes)
    written = resource("0s", lenient=True)
    written["spec"]["model"] |= {"classes": classes}
    with live(tmp_path / "state", "0s", 1200, lenient=True) as made:
        exported(cli, made)
    written["spec"]["model"] |= model
    spec.write_text(yaml.safe_dump(written))
    known = pq.read_table("pairs.parquet").slice(0, 1200).to_pylist()
    losses = [
        [-np.log(row[role][row["label"]]) for role in ("baseline", "candidate")]
        for row in known
        if row["candidate"] is not None
    ]
    answer = cli("replay", "pairs.parquet", "--spec", spec, "--looks", N, "--record", "r.json")
    assert answer.code == 0, answer.err
    (look,) = read_record(Path("r.json")).looks
    assert (look.pairs, look.labelled) == (N, len(losses))
    assert look.delta == pytest.approx(np.diff(np.clip(losses, 0, 9.21034), axis=1).mean(), abs=1e-6)
    recomputed = json.loads(cli("recompute", "pairs.parquet", "--spec", spec, "--json").out)
    assert recomputed["delta"] == pytest.approx(look.delta, abs=1e-6)


def test_replay_refuses_a_language_models_export(cli, spec):
    pq.write_table(
        pa.table({"baseline": [[0.5]], "candidate": [[0.5]], "label": [0], "baselineOutcome": ["ok"]}), "p.parquet"
    )
    spec.write_text(
        yaml.safe_dump({**resource("0s"), "spec": {"model": {"protocol": "openai", "paths": ["/v1/completions"]}}})
    )
    answer = cli("replay", "p.parquet", "--spec", spec)
    assert (answer.code, "use `modelcanary recompute`" in answer.err) == (3, True)


def test_an_exports_labels_are_indices_also_where_classes_are_called_by_numbers(tmp_path):
    table = {"ts": [1.0, 2.0, 3.0], "baseline": [[0.3, 0.7]] * 3, "candidate": [[0.5, 0.5]] * 3, "label": [0, None, 1]}
    pq.write_table(pa.table(table), tmp_path / "pairs.parquet")
    classes = parse_spec({"model": {"classes": ["1", "0"]}}, require_target=False)
    (batch,) = read_exported(tmp_path / "pairs.parquet", classes)
    assert batch.labels.tolist() == [0, -1, 1]


class TestCounting:
    def test_late_labels_and_labels_that_come_again(self, cli, spec, tmp_path):
        with live(tmp_path / "state", "0s", 0) as made:
            exported(cli, made)
        at = pq.read_table("pairs.parquet").column("ts").to_numpy()
        rows = [
            {"id": "id-1", "label": "cat", "labelledAt": at[1] + 10},
            {"id": "id-1", "label": "dog", "labelledAt": at[1] + 20},  # another: the first counts
            {"id": "id-1", "label": "cat", "labelledAt": at[1] + 30},  # again
            {"id": "id-1", "label": "owl", "labelledAt": at[1] + 40},  # the pair is contradicted already
            {"id": "id-2", "label": "cat", "labelledAt": at[2] + 61},  # too late
            {"id": "id-3", "label": "owl", "labelledAt": at[3] + 59},
            {"id": "nobody", "label": "owl", "labelledAt": at[3]},
            {"id": "nobody", "label": "cat", "labelledAt": at[3]},  # of no pair
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
