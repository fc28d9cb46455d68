"""kill -9 at random moments under load: nothing acknowledged is lost, nothing counts twice."""

import contextlib
import http.client
import json
import math
import os
import random
import signal
import statistics
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence

import msgspec
import pytest

from modelcanary_gate.protocol import PairBatch
from modelcanary_ledger.core import Ledger
from modelcanary_ledger.sqlite_store import SqliteStore

#: MODELCANARY_KILLS=100 by hand: each costs a start, and much more on a busy machine.
KILLS = int(os.environ.get("MODELCANARY_KILLS", "30"))
MODEL = "/v1/runs/ns/m"
SPEC = {"model": {"classes": ["cat", "dog", "owl"]}, "labels": {"maturity": "0s"}}


class Service:
    """The real process on a port of its own choice, started again as often as it is killed."""

    def __init__(self, *options: str) -> None:
        self.options = options
        self.starts: list[float] = []
        self.port = 0

    def start(self) -> None:
        began = time.perf_counter()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "modelcanary_ledger", "--listen", "127.0.0.1:0", *self.options],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, "the ledger did not start again"
        self.port = int(line.rstrip().rpartition(":")[2])
        self.starts.append(time.perf_counter() - began)

    def kill(self) -> None:
        self.port = 0
        self.process.kill()
        self.end()

    def end(self) -> int:
        code = self.process.wait(30)
        assert self.process.stdout is not None
        self.process.stdout.close()
        return code

    def request(self, method: str, path: str, body: bytes | str = b"", kind: str = "application/json") -> bytes:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        try:
            connection.request(method, path, body, {"Content-Type": kind})
            response = connection.getresponse()
            answer = response.read()
            assert response.status < 300, answer
            return answer
        finally:
            connection.close()


class Sender(threading.Thread):
    """Sends what `next_request` gives until it is acknowledged, then the next."""

    def __init__(self, service: Service, seed: int) -> None:
        super().__init__(daemon=True)
        self.service = service
        self.rng = random.Random(seed)
        self.stopping = threading.Event()
        self.errors: list[BaseException] = []
        self.again = 0

    def run(self) -> None:
        while not self.stopping.is_set():
            path, body, kind = self.next_request()
            while not self.sent(path, body, kind):
                self.again += 1
                path, body, kind = self.resend(path, body, kind)
                time.sleep(0.01)

    def sent(self, path: str, body: bytes, kind: str) -> bool:
        try:
            answer = self.service.request("POST", path, body, kind)
        except (OSError, http.client.HTTPException):
            return False
        except AssertionError as error:
            self.errors.append(error)
            return True
        self.acknowledged(answer)
        return True

    def resend(self, path: str, body: bytes, kind: str) -> tuple[str, bytes, str]:
        return path, body, kind

    def next_request(self) -> tuple[str, bytes, str]:
        raise NotImplementedError

    def acknowledged(self, answer: bytes) -> None:
        raise NotImplementedError


class Recorder(Sender):
    def __init__(self, service, seed, make_pair, offered) -> None:
        super().__init__(service, seed)
        self.seed = seed
        self.make_pair = make_pair
        self.offered = offered  # ids that labels may be sent for, from before their pair is sent
        self.sent_ids: list[str] = []
        self.pending: list[str] = []
        self.number = 0
        self.dropped = 0

    def next_request(self):
        ids = [f"{self.seed}-{self.rng.getrandbits(64):016x}" for _ in range(self.rng.randrange(1, 40))]
        self.pairs = [self.make_pair(identifier, time.time()) for identifier in ids]
        self.pending = ids
        self.offered += self.rng.sample(ids, len(ids) * 3 // 4)
        self.number += 1
        return self.body(f"b{self.number}")

    def body(self, name):
        batch = PairBatch(name, f"s{self.seed}", "r1", self.pairs, {"shed": 1})
        return f"{MODEL}/pairs", msgspec.msgpack.encode(batch), "application/vnd.msgpack"

    def resend(self, path, body, kind):
        """The same batch mostly; at times the same pairs in another one."""
        if self.rng.random() < 0.7:
            return path, body, kind
        self.rng.shuffle(self.pairs)
        return (
            f"{MODEL}/pairs",
            msgspec.msgpack.encode(PairBatch(f"n{self.rng.getrandbits(64)}", f"s{self.seed}", "r1", self.pairs)),
            kind,
        )

    def acknowledged(self, answer):
        assert msgspec.json.decode(answer)["run"] == "r1"
        self.sent_ids += self.pending


class Labeller(Sender):
    def __init__(self, service, seed, offered) -> None:
        super().__init__(service, seed)
        self.offered = offered
        self.first: dict[str, int] = {}
        self.counts: Counter[str] = Counter()
        self.posted = 0

    def next_request(self):
        fresh = [
            # The newest half of the time: their pair may still be on its way.
            self.offered.pop(self.rng.choice((-1, self.rng.randrange(len(self.offered)))))
            for _ in range(min(30, len(self.offered)))
        ]
        known = self.rng.sample(sorted(self.first), 3) if len(self.first) > 100 else []
        self.labels = [(identifier, self.rng.randrange(3)) for identifier in (*fresh, *known)]
        for identifier, label in self.labels:
            self.first.setdefault(identifier, label)
        if not self.labels:
            time.sleep(0.005)
            return "/v1/feedback", b"[]", "application/json"
        lines = [json.dumps({"id": identifier, "label": label}) for identifier, label in self.labels]
        return "/v1/feedback", "\n".join(lines).encode(), "application/x-ndjson"

    def acknowledged(self, answer):
        counts = json.loads(answer)
        assert sum(counts.values()) == len(self.labels)
        self.counts.update(counts)


@contextlib.contextmanager
def sending(senders: Sequence[Sender], seconds: float) -> Iterator[None]:
    """They send meanwhile, and a little longer; each ends within so many seconds, and has seen no wrong answer."""
    for sender in senders:
        sender.start()
    try:
        yield
        time.sleep(0.5)
    finally:
        for sender in senders:
            sender.stopping.set()
    for sender in senders:
        sender.join(seconds)
        assert not sender.is_alive()
        assert not sender.errors


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_nothing_acknowledged_is_lost_or_counted_twice(tmp_path, make_pair, answer_loss):
    rng = random.Random(20)
    service = Service("--state", str(tmp_path / "state"), "--segment-pairs", "1000")
    service.start()
    put = {"epoch": 1, "instructions": {"version": 1, "run": "r1", "share": 1.0}, "spec": SPEC}
    service.request("PUT", f"{MODEL}/instructions", json.dumps(put))
    offered: list[str] = []
    recorders = [Recorder(service, seed, make_pair, offered) for seed in (1, 2)]
    labellers = [Labeller(service, 3, offered)]
    senders = [*recorders, *labellers]
    with sending(senders, 30):
        for _ in range(KILLS):
            time.sleep(rng.uniform(0.02, 0.5))
            service.kill()
            service.start()
    assert min(sender.again for sender in senders) > KILLS / 4  # kills did meet requests

    recorded = [identifier for recorder in recorders for identifier in recorder.sent_ids]
    first = {key: label for labeller in labellers for key, label in labeller.first.items()}
    assert len(recorded) == len(set(recorded)) > 20 * KILLS
    exported = [json.loads(line) for line in service.request("GET", f"{MODEL}/pairs").splitlines()]
    assert sorted(row["id"] for row in exported) == sorted(recorded)
    assert {row["id"]: row["label"] for row in exported if row["label"] is not None} == first

    counts = json.loads(service.request("GET", f"{MODEL}/evidence"))["counts"]
    assert counts["pairs"] == counts["scored"] == len(recorded)
    assert counts["labelled"] == len(first)
    assert (counts["unmatched"], counts["unlabelled"]) == (0, len(recorded) - len(first))
    # Drops are counted once per batch, and not again where its pairs came in another one.
    assert counts["dropped"]["shed"] <= sum(recorder.number for recorder in recorders)
    assert counts["outcomes"] == {"baseline": {"ok": len(recorded)}, "candidate": {"ok": len(recorded)}}

    service.process.send_signal(signal.SIGTERM)
    assert service.end() == 0
    ledger = Ledger(SqliteStore(tmp_path / "state", time.time()), time.time())
    with contextlib.closing(ledger):
        evidence = ledger.evidence(ledger.standings["ns", "m"], None, (0, 0), time.time())
        blocks = [msgspec.json.decode(raw) for raw in evidence.loss]
        assert [block["seq"] for block in blocks] == list(range(len(blocks)))
        still_open = ledger._books.runs[1].loss.block
        assert sum(block["n"] for block in blocks) + still_open.n == len(first)
        for position, name, role in ((0, "b", "b"), (1, "c", "c")):
            total = math.fsum([block["moments"][name] for block in blocks]) + float(still_open.moments[position])
            again = math.fsum(answer_loss(f"{role}{key}/0", label) for key, label in first.items())
            assert total == pytest.approx(again, rel=1e-9)
    print(
        f"{KILLS} kills, {len(recorded)} pairs, {len(first)} labels, {labellers[0].counts}, "
        f"start: median {statistics.median(service.starts):.2f} s, {os.cpu_count()} cores"
    )
