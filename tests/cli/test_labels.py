"""`labels import` into a real ledger, from files and from an S3 server; faults are injected by a fake ledger."""

import contextlib
import gzip
import json
import subprocess
import sys
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tests.cli.object_store import object_store
from tests.cli.recorded import CLASSES, Made, live
from tests.listening import listening


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Made]:
    """One run for all tests, each of which labels pairs of its own."""
    with live(tmp_path_factory.mktemp("state"), "0s", 0) as run:
        yield run


def sent(cli, made, *files, **options):
    more = [word for name, value in options.items() for word in (f"--{name}", value)]
    return cli("labels", "import", *files, "--ledger", made.url, "-n", "shop", "--name", "fraud", *more, "--json")


def counts(answer) -> dict[str, int]:
    assert answer.code == 0, answer.err
    return {name: count for name, count in json.loads(answer.out).items() if count}


def labels_in(made: Made, ids: list[str]) -> list[int | None]:
    """What the ledger has, as indices of classes."""
    lines = httpx.get(f"{made.url}/v1/runs/shop/fraud/pairs").text.splitlines()
    by_id = {row["id"]: row["label"] for row in map(json.loads, lines)}
    return [by_id[name] for name in ids]


class TestColumns:
    @pytest.mark.parametrize("form", ["parquet", "csv", "ndjson"])
    def test_each_format_is_joined_and_twice_changes_nothing(self, cli, made, form):
        start = {"parquet": 0, "csv": 10, "ndjson": 20}[form]
        ids = [f"id-{start + i}" for i in range(1, 6)]
        rows = [{"id": name, "label": CLASSES[i % 3]} for i, name in enumerate(ids)]
        path = Path(f"labels.{form}")
        if form == "parquet":
            pq.write_table(pa.Table.from_pylist(rows), path)
        elif form == "csv":
            path.write_text("id,label\n" + "".join(f"{row['id']},{row['label']}\n" for row in rows))
        else:
            path.write_text("\n".join(map(json.dumps, rows)))
        assert counts(sent(cli, made, path)) == {"files": 1, "labels": 5, "joined": 5}
        assert labels_in(made, ids) == [0, 1, 2, 0, 1]
        assert counts(sent(cli, made, path)) == {"files": 1, "labels": 5, "duplicate": 5}

    @pytest.mark.parametrize(
        ("start", "column"), [(30, ["1", "2.0", "owl"]), (40, [1, 2, 2]), (50, [1.0, 2.0, 2.0])], ids=str
    )
    def test_whole_numbers_are_indices_however_they_are_written(self, cli, made, start, column):
        ids = [f"id-{start + i}" for i in range(3)]
        pq.write_table(pa.table({"id": ids, "label": column}), "labels.parquet")
        assert counts(sent(cli, made, "labels.parquet"))["joined"] == 3
        assert labels_in(made, ids) == [1, 2, 2]

    def test_index_time_source_and_soft_labels(self, cli, made):
        rows = pa.table(
            {
                "id": ["id-60", "id-60", "id-61"],
                "label": [[0.5, 0.25, 0.25], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]],
                "index": [0, 1, 0],
                "ts": [None, None, 5.0],  # at which there was no such request
                "source": ["desk", None, "desk"],
            }
        )
        pq.write_table(rows, "labels.parquet")
        found = counts(sent(cli, made, "labels.parquet"))
        assert found == {"files": 1, "labels": 3, "joined": 1, "unmatched": 1, "expired": 1}
        assert labels_in(made, ["id-60"]) == [[0.5, 0.25, 0.25]]

    def test_more_than_one_request_holds(self, cli, made):
        rows = pa.table({"id": [f"nobody-{i}" for i in range(45_000)], "label": ["cat"] * 45_000})
        pq.write_table(rows, "labels.parquet")
        assert counts(sent(cli, made, "labels.parquet")) == {"files": 1, "labels": 45_000, "unmatched": 45_000}


class TestSageMaker:
    def test_a_folder_of_ground_truth(self, cli, made):
        folder = Path("truth/2026/11/22/10")
        folder.mkdir(parents=True)
        records = [
            {
                "groundTruthData": {"data": data, "encoding": "CSV"},
                "eventMetadata": {"eventId": name},
                "eventVersion": "0",
            }
            for name, data in (("id-70", "2"), ("id-71", "dog"), ("id-72", "1\n0"))
        ]
        Path(folder, "one.jsonl").write_text("\n".join(map(json.dumps, records[:2])))
        Path(folder, "two.jsonl.gz").write_bytes(gzip.compress(json.dumps(records[2]).encode()))
        Path(folder, "_SUCCESS").touch()
        assert counts(sent(cli, made, "truth")) == {"files": 2, "labels": 4, "joined": 3, "unmatched": 1}
        assert labels_in(made, ["id-70", "id-71", "id-72"]) == [2, 1, 1]

    def test_a_bad_record_is_named_by_its_row(self, cli, made):
        good = {"groundTruthData": {"data": "cat", "encoding": "CSV"}, "eventMetadata": {"eventId": "id-75"}}
        Path("truth.jsonl").write_text(json.dumps(good) + "\n" + json.dumps({**good, "eventMetadata": {}}))
        assert "truth.jsonl: row 2: no eventMetadata.eventId;" in sent(cli, made, "truth.jsonl").complaint()
        assert labels_in(made, ["id-75"]) == [None]

    def test_what_the_ledger_refuses_is_named_by_the_files_row(self, cli, made):
        records = [
            {"groundTruthData": {"data": data, "encoding": "CSV"}, "eventMetadata": {"eventId": "id-76"}}
            for data in ("cat\ncat", "cat\nowl", "emu")
        ]
        Path("truth.jsonl").write_text("\n".join(map(json.dumps, records)))
        assert (
            "truth.jsonl: row 3: label 'emu' is none of the classes; the classes are cat"
            in sent(cli, made, "truth.jsonl").complaint()
        )


class TestObjectStore:
    def test_keys_folders_and_globs(self, made, tmp_path):
        objects = {
            "day/01/a.csv": b"id,label\nid-80,cat\nid-81,dog\n",
            "day/02/b.csv.gz": gzip.compress(b"id,label\nid-82,owl\n"),
            "day/02/_SUCCESS": b"",
            "other/c.csv": b"id,label\nid-83,cat\n",
            "bad/d.csv": b"id\nid-84\n",
        }
        with object_store("labels", objects) as environment:

            def run(*files: str) -> subprocess.CompletedProcess[str]:
                command = [sys.executable, "-m", "modelcanary_cli", "labels", "import", *files]
                more = ["--ledger", made.url, "-n", "shop", "--name", "fraud"]
                return subprocess.run(
                    [*command, *more], env=environment, capture_output=True, text=True, timeout=120, check=False
                )

            done = run("s3://labels/day", "s3://labels/*/c.csv")
            assert (done.returncode, done.stderr) == (0, "")
            assert done.stdout.splitlines() == [
                "s3://labels/day/01/a.csv: 2 labels, 2 joined",
                "s3://labels/day/02/b.csv.gz: 1 labels, 1 joined",
                "s3://labels/other/c.csv: 1 labels, 1 joined",
                "3 files: 4 labels, 4 joined",
            ]
            bad = run("s3://labels/bad/d.csv")
            assert bad.returncode == 3
            assert "s3://labels/bad/d.csv: has no column 'label'" in bad.stderr
            assert "s3://labels/none: is not there" in run("s3://labels/none").stderr
        assert labels_in(made, ["id-80", "id-81", "id-82", "id-83"]) == [0, 1, 2, 0]


class TestBadInput:
    @pytest.mark.parametrize(
        ("table", "complaint"),
        [
            ({"id": ["a"]}, "has no column 'label'"),
            ({"id": ["a", "b"], "label": ["cat", None]}, "row 2: label is missing"),
            ({"id": ["a", None], "label": ["cat", "cat"]}, "row 2: id is missing"),
            ({"id": ["a", ""], "label": ["cat", "cat"]}, "row 2: id is empty or too long"),
            ({"id": ["a"], "label": [0.5]}, "row 1: label is no whole number"),
            ({"id": ["a"], "label": [True]}, "column 'label' holds true and false"),
            ({"id": ["a"], "label": ["cat"], "index": [-1]}, "row 1: index is none"),
            ({"id": ["a"], "label": ["cat"], "ts": ["soon"]}, "not a time, for example 'soon'"),
            ({"id": ["a"], "label": [[0.5, None]]}, "row 1: label has a number missing"),
            ({"id": ["id-90", "a"], "label": ["cat", "emu"]}, "row 2: label 'emu' is none of the classes"),
        ],
        ids=str,
    )
    def test_a_bad_row_is_named_and_nothing_is_sent(self, cli, made, table, complaint):
        pq.write_table(pa.table(table), "labels.parquet")
        assert complaint in sent(cli, made, "labels.parquet").complaint()
        assert labels_in(made, ["id-90"]) == [None]

    def test_files_that_are_not_there(self, cli, made):
        assert "none.csv: is not there" in sent(cli, made, "none.csv").complaint()
        assert "*.csv: fits no file" in sent(cli, made, "*.csv").complaint()
        assert "ftp://x/y: is of a kind that is not known" in sent(cli, made, "ftp://x/y").complaint()
        Path("folder").mkdir()
        assert "folder: has no files" in sent(cli, made, "folder").complaint()

    def test_the_ledgers_address_and_token(self, cli, made):
        Path("labels.csv").write_text("id,label\nid-91,cat\n")
        Path("empty").touch()
        where = ("-n", "shop", "--name", "fraud")
        assert (
            "'ledger' is no address" in cli("labels", "import", "labels.csv", "--ledger", "ledger", *where).complaint()
        )
        assert "empty: holds no token" in sent(cli, made, "labels.csv", **{"token-file": "empty"}).complaint()
        assert "empty: holds no certificates" in sent(cli, made, "labels.csv", **{"ledger-ca": "empty"}).complaint()

    def test_a_canary_that_the_ledger_does_not_know(self, cli, made):
        Path("labels.csv").write_text("id,label\nid-91,cat\n")
        answer = cli("labels", "import", "labels.csv", "--ledger", made.url, "-n", "shop", "--name", "other")
        assert "the ledger: refuses them: 404 no models are known by namespace=shop name=other" in answer.complaint()

    def test_what_was_taken_before_is_said(self, cli, made):
        Path("a.csv").write_text("id,label\nid-92,cat\n")
        Path("b.csv").write_text("id,label\nid-93,\n")
        answer = sent(cli, made, "a.csv", "b.csv")
        assert answer.code == 3
        assert "1 labels were taken before, 1 files of them whole" in answer.err
        assert "b.csv: row 1: label is missing" in answer.err


@contextlib.contextmanager
def faulty(*answers: tuple[int, dict[str, str]]) -> Iterator[tuple[str, list[str]]]:
    """A ledger that answers as is said, then takes everything; yields its address and the tokens that it was sent."""
    left, tokens = list(answers), []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            tokens.append(self.headers.get("Authorization", ""))
            status, headers = left.pop(0) if left else (202, {})
            if not status:  # taken, and the answer lost
                self.close_connection = True
                return
            body = b'{"joined": 1}' if status == 202 else b'{"detail": "not now"}'
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(len(body))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with listening(ThreadingHTTPServer(("127.0.0.1", 0), Handler)) as url:
        yield url, tokens


class TestALedgerThatCannot:
    def arguments(self, url: str, *more: object) -> tuple[object, ...]:
        Path("labels.csv").write_text("id,label\na,cat\n")
        return ("labels", "import", "labels.csv", "--ledger", url, "-n", "shop", "--name", "fraud", *more)

    def test_what_it_did_not_take_is_sent_again(self, cli):
        soon = {"Retry-After": "1"}
        with faulty((429, soon), (507, soon), (503, soon), (0, {})) as (url, tokens):
            answer = cli(*self.arguments(url))
        assert (answer.code, answer.out) == (0, "labels.csv: 1 labels, 1 joined\n")
        assert len(tokens) == 5
        assert [line.partition("now: ")[2][:3] for line in answer.err.splitlines()] == ["429", "507", "503", ""]

    def test_it_is_given_up_after_the_time(self, cli):
        with faulty(*[(503, {"Retry-After": "20"})] * 3) as (url, tokens):
            answer = cli(*self.arguments(url, "--timeout", "10s"))
        assert answer.code == 69
        assert "cannot take them now: 503 not now" in answer.err
        assert len(tokens) == 1

    def test_a_quota_is_waited_for_however_long_it_takes(self, cli):
        with faulty((429, {"Retry-After": "2"})) as (url, tokens):
            assert cli(*self.arguments(url, "--timeout", "1s")).code == 0
        assert len(tokens) == 2

    def test_nobody_there(self, cli):
        answer = cli(*self.arguments("http://127.0.0.1:9", "--timeout", "1s"))
        assert answer.code == 69
        assert "does not answer" in answer.err

    def test_the_token_is_read_for_each_request(self, cli):
        Path("token").write_text("first\n")
        with faulty() as (url, tokens):
            for text in ("first", "second"):
                Path("token").write_text(text)
                assert cli(*self.arguments(url, "--token-file", "token")).code == 0
        assert tokens == ["Bearer first", "Bearer second"]
