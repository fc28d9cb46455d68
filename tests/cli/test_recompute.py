"""`export` and `recompute` against a real ledger: the same evidence from what it exported, and from labels in files."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from tests.cli.recorded import CLASSES, Made, N, live, resource


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
