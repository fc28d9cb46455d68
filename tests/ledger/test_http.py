"""The service over HTTP: a real process, each call of the interface, and each way to call it wrongly."""

import asyncio
import contextlib
import hashlib
import json
import math
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import httpx
import msgspec
import pytest

from modelcanary_gate.protocol import Heartbeat, Instructions, PairBatch
from modelcanary_ledger import problems
from modelcanary_ledger.errors import TooSlow

MODEL = "/v1/runs/shop/fraud"
SPEC = {"model": {"classes": ["cat", "dog", "owl"]}, "labels": {"maturity": "0s"}}
FEEDBACK = "/v1/feedback?namespace=shop&name=fraud"
MSGPACK = {"Content-Type": "application/vnd.msgpack"}


@contextlib.contextmanager
def process(directory: Path, *options: str) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    with subprocess.Popen(
        [
            *(sys.executable, "-m", "modelcanary_ledger", "--listen", "127.0.0.1:0"),
            *("--state", str(directory), *options),
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as started:
        try:
            assert started.stdout is not None
            yield started.stdout.readline().split()[-1], started
        finally:
            started.kill()


def run_once(*options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "modelcanary_ledger", *options], capture_output=True, text=True, timeout=30, check=False
    )


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with process(tmp_path_factory.mktemp("http") / "state") as (address, _):
        yield address


@pytest.fixture
def client(url: str) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=url) as made:
        made.put(f"{MODEL}/instructions", json=instructions()).raise_for_status()
        yield made


def instructions(run: str = "r1", epoch: int = 1, **changes: object) -> dict[str, object]:
    return {
        "epoch": epoch,
        "instructions": {"version": 3, "run": run, "share": 1.0, "candidate": "http://c", **changes},
        "spec": SPEC,
    }


@pytest.fixture
def send(client: httpx.Client, make_pair: Callable[..., object]) -> Callable[..., httpx.Response]:
    def sender(*ids: str, run: str = "r1", headers: dict[str, str] | None = None) -> httpx.Response:
        pairs = [make_pair(identifier, time.time()) for identifier in ids]
        body = msgspec.msgpack.encode(PairBatch("/".join(ids), "sidecar", run, pairs))
        return client.post(f"{MODEL}/pairs", content=body, headers={**MSGPACK, **(headers or {})})

    return sender


def problem(response: httpx.Response, status: int) -> dict[str, object]:
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    body = response.json()
    assert body["status"] == status
    return body


class TestSidecars:
    def test_the_answer_to_a_batch_is_the_instructions(self, send):
        answer = send("http-1", headers={"Accept": "application/vnd.msgpack"})
        assert answer.headers["content-type"] == "application/vnd.msgpack"
        found = msgspec.msgpack.decode(answer.content, type=Instructions)
        assert (found.version, found.run, found.share, found.candidate) == (3, "r1", 1.0, "http://c")
        assert send("http-1").json()["run"] == "r1"

    def test_a_heartbeat_is_answered_alike(self, client):
        beat = msgspec.msgpack.encode(Heartbeat("s", 0))
        assert client.post(f"{MODEL}/heartbeat", content=beat, headers=MSGPACK).json()["version"] == 3
        problem(client.post(f"{MODEL}/heartbeat", json={"sidecar": "s"}), 400)

    def test_a_model_that_is_not_known_is_not_mirrored(self, client):
        answer = client.post("/v1/runs/shop/none/heartbeat", json={"sidecar": "s", "version": 9})
        assert answer.json()["run"] == ""
        assert answer.json()["share"] == 0.0

    def test_pairs_of_an_unknown_run_are_counted_as_dropped(self, client, send):
        assert send("http-2", run="gone").json()["run"] == "r1"
        assert client.get(f"{MODEL}/evidence").json()["counts"]["dropped"]["unknownRun"] >= 1

    def test_a_pair_that_could_never_be_scored_is_refused(self, client, make_pair):
        def post(**changes: object) -> dict[str, object]:
            pair = msgspec.to_builtins(make_pair("bad", time.time()), builtin_types=(bytes,))
            pair["baseline"].update(changes)
            body = msgspec.msgpack.encode({"batch": "x", "sidecar": "s", "run": "r1", "pairs": [pair]})
            return problem(client.post(f"{MODEL}/pairs", content=body, headers=MSGPACK), 422)

        nan, above = b"\x00\x00\xc0\x7f" * 3, b"\x00\x00\x80\x3f" * 3
        assert post(log_probabilities=nan)["field"] == "pairs[0].baseline.log_probabilities"
        assert "is 1" in str(post(log_probabilities=above)["detail"])
        assert "8 bytes" in str(post(log_probabilities=b"12345678")["detail"])
        assert "timeout" in str(post(outcome="timeout")["detail"])
        for latency in (-1.0, math.inf, math.nan, 1e303):
            assert post(latency=latency)["field"] == "pairs[0].baseline.latency"
        assert client.get(f"{MODEL}/pairs").text.count('"bad"') == 0

    @pytest.mark.parametrize(
        ("field", "value"), [("id", ""), ("id", "i" * 1025), ("index", -1), ("index", 2**63), ("time", math.nan)]
    )
    def test_a_pair_that_could_not_be_stored_is_refused(self, client, make_pair, field, value):
        pair = msgspec.to_builtins(make_pair("odd", time.time()), builtin_types=(bytes,)) | {field: value}
        body = msgspec.msgpack.encode({"batch": "y", "sidecar": "s", "run": "r1", "pairs": [pair]})
        found = problem(client.post(f"{MODEL}/pairs", content=body, headers=MSGPACK), 422)
        assert (found["field"], found["row"]) == (f"pairs[0].{field}", 0)

    def test_what_is_not_a_batch_is_refused(self, client):
        bad = client.post(f"{MODEL}/pairs", content=b"{not msgpack", headers=MSGPACK)
        problem(bad, 400)
        wrong = client.post(f"{MODEL}/pairs", json={"batch": "x", "sidecar": "s", "run": "r1", "pairs": [{"key": 1}]})
        assert problem(wrong, 400)["field"] == "pairs[0].key"


class TestFeedback:
    def test_one_object_an_array_and_lines(self, client, send):
        send("f-1", "f-2", "f-3", "f-4")
        one = client.post(FEEDBACK, json={"id": "f-1", "label": "dog"})
        assert one.status_code == 202
        assert one.json()["joined"] == 1
        many = client.post(FEEDBACK, json=[{"id": "f-2", "label": 0}, {"id": "f-1", "label": "dog"}])
        assert (many.json()["joined"], many.json()["duplicate"]) == (1, 1)
        lines = '{"id":"f-3","label":[0,0.5,0.5],"source":"desk"}\n\n{"id":"f-4","label":"owl","ts":"%s"}\n'
        sent = client.post(FEEDBACK, content=lines % time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()))
        assert sent.json()["joined"] == 2

    @pytest.mark.parametrize(
        ("body", "status", "field", "row", "says"),
        [
            ('{"id":"a","label":"fox"}', 422, "label", 0, "cat, dog, owl"),
            ('[{"id":"a","label":"cat"},{"id":"a","label":3}]', 422, "label", 1, "0 to 2"),
            ('{"id":"a","label":-1}', 422, "label", 0, "0 to 2"),
            ('{"id":"a","label":[0.5,0.4,0.0]}', 422, "label", 0, "0.9, 0.1 below 1"),
            ('{"id":"a","label":[0.5,0.5,0.2]}', 422, "label", 0, "1.2, 0.2 above 1"),
            ('{"id":"a","label":[1.5,-0.5,0]}', 422, "label", 0, "label[0] is 1.5"),
            ('{"id":"a","label":[1,0]}', 422, "label", 0, "3 of them"),
            ('{"id":"a","label":1,"index":-1}', 422, "index", 0, "count from 0"),
            ('{"id":"a","label":1,"index":9223372036854775808}', 422, "index", 0, "2147483647"),
            ('{"id":"a","label":1,"index":99999999999999999999999}', 422, "index", 0, "2147483647"),
            ('{"id":"","label":1}', 422, "id", 0, "empty"),
            ('{"id":"' + "i" * 1025 + '","label":1}', 422, "id", 0, "1025 characters"),
            ('{"id":"a","label":1,"ts":"soon"}', 422, "ts", 0, "2026-01-31"),
            ('{"id":"a","label":1.5}', 400, "label", None, "float"),
            ('{"id":"a","label":[NaN,0,1]}', 400, None, 0, "malformed"),
            ('{"id":"a"}', 400, None, None, "label"),
            ('{"id":"a","label":1,"lable":2}', 400, None, None, "lable"),
            ('{"id":"a","label":1}\n{"id":"b","label":}', 400, None, 1, "row 1"),
            ('[{"id":"a","label":1},{"id":7,"label":1}]', 400, "id", 1, "row 1"),
            ("", 400, None, None, "empty"),
            ("<html>", 400, None, 0, "malformed"),
            ("\xff", 400, None, 0, "row 0"),
        ],
    )
    def test_what_is_wrong_is_named_and_nothing_is_taken(self, client, body, status, field, row, says):
        before = client.get(f"{MODEL}/evidence").json()["counts"]
        response = client.post(FEEDBACK, content=body.encode("latin-1"))
        found = problem(response, status)
        assert found.get("field") == field
        assert found.get("row") == row
        assert says in found["detail"] + found.get("remedy", "")
        assert client.get(f"{MODEL}/evidence").json()["counts"] == before

    def test_which_model_is_meant_has_to_be_clear(self, client):
        client.put("/v1/runs/shop/second/instructions", json=instructions())
        found = problem(client.post("/v1/feedback?namespace=shop", json={"id": "a", "label": 1}), 404)
        assert "namespace=" in str(found["remedy"])
        problem(client.post("/v1/feedback?namespace=x&name=y", json={"id": "a", "label": 1}), 404)
        client.post("/v1/feedback?namespace=shop&name=second", json={"id": "a", "label": 1}).raise_for_status()

    def test_a_body_that_is_too_large_is_refused(self, client):
        problem(client.post(f"{MODEL}/heartbeat", content=b" " * (2 << 20)), 413)
        chunks = (b" " * 65536 for _ in range(20))
        problem(client.post(f"{MODEL}/heartbeat", content=chunks), 413)


class TestReaders:
    def test_evidence_is_tagged(self, client, send):
        first = client.get(f"{MODEL}/evidence")
        tag = first.headers["etag"]
        again = client.get(f"{MODEL}/evidence", headers={"If-None-Match": tag})
        assert (again.status_code, again.content) == (304, b"")
        send("e-1")
        assert client.get(f"{MODEL}/evidence", headers={"If-None-Match": tag}).status_code == 200

    def test_evidence_says_where_to_go_on(self, client):
        found = client.get(f"{MODEL}/evidence?since=0.0&run=r1").json()
        assert (found["run"], found["maturity"]) == ("r1", 0.0)
        assert client.get(f"{MODEL}/evidence?since={found['next']}").json()["loss"] == []
        for since in ("x", "1", "1.2.3", "\u0663.0", "99999999999999999999.0"):
            assert problem(client.get(f"{MODEL}/evidence", params={"since": since}), 400)["field"] == "since"
        assert problem(client.get(f"{MODEL}/evidence?run=none"), 404)["field"] == "run"
        problem(client.get("/v1/runs/shop/none/evidence"), 404)

    def test_pairs_are_streamed_as_lines(self, client, send):
        ids = [f"x-{i}" for i in range(2500)]
        for start in range(0, 2500, 500):
            send(*ids[start : start + 500])
        client.post(FEEDBACK, json={"id": "x-7", "label": "owl"})
        rows = [json.loads(line) for line in client.get(f"{MODEL}/pairs?format=ndjson").text.splitlines()]
        found = {row["id"]: row for row in rows if row["id"].startswith("x-")}
        assert list(found) == ids
        assert (found["x-7"]["label"], found["x-8"]["label"]) == (2, None)
        assert sum(found["x-8"]["baseline"]) == pytest.approx(1.0, abs=1e-6)
        assert problem(client.get(f"{MODEL}/pairs?format=csv"), 400)["field"] == "format"

    def test_metrics_and_probes(self, client, send):
        send("m-1")
        text = client.get("/metrics").text
        assert 'modelcanary_ledger_labels_total{result="joined"}' in text
        assert "shop" not in text
        assert client.get("/healthz").status_code == client.get("/readyz").status_code == 200
        problem(client.get("/v2/nothing"), 404)
        problem(client.delete("/v1/feedback"), 405)


class TestInstructions:
    def test_an_older_epoch_is_refused(self, client):
        path = "/v1/runs/shop/epochs/instructions"
        client.put(path, json=instructions(epoch=7)).raise_for_status()
        assert problem(client.put(path, json=instructions(epoch=6)), 409)["field"] == "epoch"

    @pytest.mark.parametrize(
        ("change", "field"),
        [
            ({"epoch": "new"}, "epoch"),
            ({"epoch": 2**63}, "epoch"),
            ({"instructions": {"version": 2**70, "run": "r"}}, "instructions.version"),
            ({"instructions": {"version": 1, "run": "r", "share": 1.5}}, "instructions.share"),
            ({"spec": {"model": {"classes": ["a"]}}}, "spec.model.classes"),
            ({"spec": {"model": {"classes": ["a", "b"]}, "modle": 1}}, "spec.modle"),
        ],
    )
    def test_what_cannot_be_used_is_named(self, client, change, field):
        found = problem(client.put("/v1/runs/shop/bad/instructions", json={**instructions(), **change}), 400)
        assert field in str(found["field"])
        problem(client.get("/v1/runs/shop/bad/evidence"), 404)


@pytest.fixture(scope="module")
def guarded(tmp_path_factory) -> Iterator[str]:
    directory = tmp_path_factory.mktemp("callers")
    lines = [
        f"{hashlib.sha256(token.encode()).hexdigest()} {namespace} {name}"
        for token, namespace, name in (("all", "*", "operator"), ("mine", "shop", "desk"))
    ]
    (directory / "tokens").write_text("# callers\n" + "\n".join(lines) + "\n")
    with process(directory / "state", "--token-file", str(directory / "tokens")) as (address, _):
        yield address


class TestCallers:
    @pytest.mark.parametrize(
        ("token", "namespace", "status"),
        [
            (None, "shop", 401),
            ("other", "shop", 401),
            ("mine", "bank", 403),
            ("mine", "shop", 200),
            ("all", "bank", 200),
        ],
    )
    def test_a_caller_reaches_its_own_namespace_only(self, guarded, token, namespace, status):
        headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        path = f"{guarded}/v1/runs/{namespace}/m/instructions"
        response = httpx.put(path, json=instructions(), headers=headers)
        assert response.status_code == status
        labels = httpx.post(
            f"{guarded}/v1/feedback?namespace={namespace}&name=m", json={"id": "a", "label": 1}, headers=headers
        )
        assert labels.status_code == (202 if status == 200 else status)

    def test_probes_need_no_token(self, guarded):
        assert httpx.get(f"{guarded}/healthz").status_code == 200


class TestTheProcess:
    def test_it_ends_as_it_is_asked_to(self, tmp_path):
        with process(tmp_path / "state") as (address, started):
            assert httpx.get(f"{address}/readyz").status_code == 200
            httpx.put(f"{address}{MODEL}/instructions", json=instructions()).raise_for_status()
            # The only model there is need not be named.
            assert httpx.post(f"{address}/v1/feedback", json={"id": "a", "label": 1}).json()["unmatched"] == 1
            started.send_signal(signal.SIGTERM)
            assert started.wait(20) == 0

    def test_it_does_not_listen_to_others_by_default(self, tmp_path):
        ended = run_once("--listen", "0.0.0.0:0", "--state", str(tmp_path / "state"))
        assert ended.returncode == 3
        assert "--token-file" in ended.stderr
        assert not (tmp_path / "state").exists()

    def test_a_port_in_use_is_one_line(self, tmp_path):
        with socket.create_server(("127.0.0.1", 0)) as taken:
            address = f"127.0.0.1:{taken.getsockname()[1]}"
            ended = run_once("--listen", address, "--state", str(tmp_path / "state"))
        assert (ended.returncode, len(ended.stderr.splitlines())) == (3, 1)
        assert address in ended.stderr
        assert not (tmp_path / "state").exists()

    def test_a_directory_in_use_is_one_line(self, tmp_path):
        with process(tmp_path / "state"):
            ended = run_once("--listen", "127.0.0.1:0", "--state", str(tmp_path / "state"))
        assert (ended.returncode, len(ended.stderr.splitlines())) == (3, 1)
        assert "another ledger" in ended.stderr

    def test_a_directory_that_cannot_be_read_is_one_line(self, tmp_path):
        state = tmp_path / "state"
        with process(state) as (address, _):
            httpx.put(f"{address}{MODEL}/instructions", json=instructions()).raise_for_status()
        with contextlib.closing(sqlite3.connect(state / "state.db")) as file:
            file.execute("UPDATE run SET loss = '{}'")
            file.commit()
        for says in ("another version", "not a database"):
            ended = run_once("--listen", "127.0.0.1:0", "--state", str(state))
            assert (ended.returncode, len(ended.stderr.splitlines())) == (3, 1)
            assert says in ended.stderr
            (state / "state.db-wal").unlink(missing_ok=True)
            (state / "state.db").write_bytes(b"no database" * 100)

    @pytest.mark.parametrize(
        "options",
        [("--listen", "nowhere"), ("--reserve", "much"), ("--segment-pairs", "3"), ("--token-file", "/dev/null")],
    )
    def test_options_that_cannot_be_used_are_named(self, tmp_path, options):
        ended = run_once("--state", str(tmp_path / "state"), *options)
        assert (ended.returncode, len(ended.stderr.splitlines())) == (3, 1)
        assert options[0] in ended.stderr

    def test_memory_stays_while_pairs_wait(self, tmp_path, make_pair):
        """Sealed segments leave memory: 120,000 waiting pairs take no more than 40,000 did."""
        with process(tmp_path / "state", "--segment-pairs", "5000") as (address, started), httpx.Client() as client:
            client.put(f"{address}{MODEL}/instructions", json=instructions()).raise_for_status()
            template = make_pair("t", time.time())
            resident = []
            for part in range(3):
                for batch in range(100):
                    pairs = [_another(template, os.urandom(16)) for _ in range(400)]
                    body = msgspec.msgpack.encode(PairBatch(f"{part}.{batch}", "s", "r1", pairs))
                    client.post(f"{address}{MODEL}/pairs", content=body, headers=MSGPACK).raise_for_status()
                client.get(f"{address}{MODEL}/evidence").raise_for_status()
                resident.append(_resident_kib(started.pid))
            assert client.get(f"{address}{MODEL}/evidence").json()["counts"]["unlabelled"] == 120_000
        assert resident[2] < resident[0] + 8 * 1024, resident


def _another(pair, unique: bytes):
    key = int(time.time() * 1000).to_bytes(6, "big") + unique[:10]
    return type(pair)(key, unique.hex(), 0, time.time(), pair.baseline, pair.candidate)


def _resident_kib(pid: int) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS"):
            return int(line.split()[1])
    raise AssertionError("no VmRSS")


def test_a_body_that_never_ends_is_given_up(monkeypatch):
    async def never() -> AsyncIterator[bytes]:
        yield b"{"
        await asyncio.sleep(60)

    monkeypatch.setattr(problems, "BODY_SECONDS", 0.05)
    request = SimpleNamespace(headers={}, stream=never)
    with pytest.raises(TooSlow):
        asyncio.run(problems.read_body(request, 100))
