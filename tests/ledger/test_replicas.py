"""Two ledgers over one PostgreSQL, one of them killed time and again: nothing is lost, nothing counts twice."""

import contextlib
import http.client
import json
import math
import os
import random
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from tests.ledger.postgres_server import Server, server
from tests.ledger.test_kill import MODEL, SPEC, Labeller, Recorder, Sender, Service, sending

from modelcanary_gate.protocol import PairBatch

KILLS = int(os.environ.get("MODELCANARY_KILLS", "30")) // 5


class Replicas:
    """What the senders see of a Service in front of two ledgers: one of them, whichever answers."""

    def __init__(self, directory: Path, url: str) -> None:
        file = directory / "url"
        file.write_text(f"{url}\n")
        options = ("--store-url-file", str(file))
        self.both = [Service(*options), Service(*options)]
        self._rng = random.Random(3)

    def start(self) -> None:
        for service in self.both:
            service.start()

    def request(self, method: str, path: str, body: bytes | str = b"", kind: str = "application/json") -> bytes:
        return self._rng.choice(self.both).request(method, path, body, kind)


@contextlib.contextmanager
def replicas(directory: Path, url: str) -> Iterator[Replicas]:
    made = Replicas(directory, url)
    try:
        made.start()
        yield made
    finally:
        for service in made.both:
            service.kill()


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_two_replicas_of_which_one_is_killed(tmp_path, postgres: Server, make_pair, answer_loss):
    rng = random.Random(21)
    with replicas(tmp_path, postgres.schema()) as pair:
        first, second = pair.both
        put = {"epoch": 1, "instructions": {"version": 1, "run": "r1", "share": 1.0}, "spec": SPEC}
        first.request("PUT", f"{MODEL}/instructions", json.dumps(put))
        _until(lambda: json.loads(second.request("POST", f"{MODEL}/heartbeat", HEARTBEAT))["run"] == "r1")
        offered: list[str] = []
        recorders = [Recorder(pair, seed, make_pair, offered) for seed in (1, 2)]
        labellers = [Labeller(pair, 3, offered)]
        senders: list[Sender] = [*recorders, *labellers]
        with sending(senders, 60):
            for _ in range(KILLS):
                time.sleep(rng.uniform(0.05, 0.6))
                victim = rng.choice(pair.both)
                victim.kill()
                time.sleep(rng.uniform(0.0, 0.3))  # the other one goes on alone
                victim.start()
        assert sum(sender.again for sender in senders) > KILLS / 4  # kills did meet requests

        recorded = [identifier for recorder in recorders for identifier in recorder.sent_ids]
        labels = {key: label for labeller in labellers for key, label in labeller.first.items()}
        assert len(recorded) == len(set(recorded)) > 20 * KILLS
        for service in pair.both:
            exported = [json.loads(line) for line in service.request("GET", f"{MODEL}/pairs").splitlines()]
            assert sorted(row["id"] for row in exported) == sorted(recorded)
            assert {row["id"]: row["label"] for row in exported if row["label"] is not None} == labels
            evidence = json.loads(service.request("GET", f"{MODEL}/evidence?unclosed=true"))
            counts = evidence["counts"]
            assert counts["pairs"] == counts["scored"] == len(recorded)
            assert counts["labelled"] == len(labels)
            assert (counts["unmatched"], counts["unlabelled"]) == (0, len(recorded) - len(labels))
            assert counts["dropped"]["shed"] <= sum(recorder.number for recorder in recorders)
            assert [block["seq"] for block in evidence["loss"]] == list(range(len(evidence["loss"])))
            assert sum(block["n"] for block in evidence["loss"]) == len(labels)
            for role in ("b", "c"):
                total = math.fsum(block["moments"][role] for block in evidence["loss"])
                again = math.fsum(answer_loss(f"{role}{key}/0", label) for key, label in labels.items())
                assert total == pytest.approx(again, rel=1e-9)
        print(f"{KILLS} kills, {len(recorded)} pairs, {len(labels)} labels, {labellers[0].counts}")


HEARTBEAT = msgspec.json.encode({"sidecar": "s", "version": 0})


def _until(done, seconds: float = 30.0) -> None:
    deadline = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.timeout(120)
def test_batches_and_labels_are_refused_for_a_while_when_the_server_is_gone(tmp_path, make_pair):
    with server() as own, replicas(tmp_path, own.schema()) as pair:
        ledger = pair.both[0]
        put = {"epoch": 1, "instructions": {"version": 1, "run": "r1", "share": 1.0}, "spec": SPEC}
        ledger.request("PUT", f"{MODEL}/instructions", json.dumps(put))
        batch = msgspec.msgpack.encode(PairBatch("b1", "s", "r1", [make_pair("a", time.time())]))
        own.stop()
        for path, body, kind in (
            (f"{MODEL}/pairs", batch, "application/vnd.msgpack"),
            ("/v1/feedback", b'{"id": "a", "label": 1}', "application/json"),
        ):
            connection = http.client.HTTPConnection("127.0.0.1", ledger.port, timeout=30)
            connection.request("POST", path, body, {"Content-Type": kind})
            response = connection.getresponse()
            problem = json.loads(response.read())
            connection.close()
            assert response.status == 503, problem
            assert response.headers["Retry-After"] == "1"
        own.start(own.port)
        assert json.loads(ledger.request("POST", f"{MODEL}/pairs", batch, "application/vnd.msgpack"))["run"] == "r1"
        assert json.loads(ledger.request("POST", "/v1/feedback", b'{"id": "a", "label": 1}'))["joined"] == 1
        counts = json.loads(ledger.request("GET", f"{MODEL}/evidence"))["counts"]
        assert (counts["pairs"], counts["labelled"]) == (1, 1)
