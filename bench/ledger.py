"""How much one ledger takes: pairs recorded and labels joined at once, over real HTTP, from another process.

`make bench-ledger` runs it and writes bench/results/ledger.json and the ledger's part of bench/RESULTS.md;
`make bench-ledger-postgres` does the same over a PostgreSQL of its own (Debian's package `postgresql`), with one ledger
and with two, into a part of its own.
The load is open-loop: it is offered at a fixed rate, and what is late is late. Each second half of the pairs of
the second before gets its label, in requests of 200 lines of JSON.
"""

import argparse
import http.client
import json
import os
import platform
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import deque
from pathlib import Path

import msgspec
import numpy as np
from bench.sections import keep
from tests.ledger.postgres_server import server

from modelcanary_gate.protocol import Answer, Pair, PairBatch
from modelcanary_gate.vocabulary import Outcome

HERE = Path(__file__).resolve().parent
CLASSES = 10
BATCH = 150
LABELS = 200
CASES = {"ids of the clients' own (random)": ("random", 8_000), "time-prefixed ids": ("prefixed", 20_000)}
POSTGRES = {
    "one ledger, random ids": (1, "random", 10_000),
    "one ledger, time-prefixed ids": (1, "prefixed", 10_000),
    "two ledgers, random ids": (2, "random", 10_000),
}
SPEC = {"model": {"classes": [str(i) for i in range(CLASSES)]}, "labels": {"maturity": "0s"}}


class Sender(threading.Thread):
    """One kept-alive connection that sends what `make` returns, at a fixed interval."""

    def __init__(self, port: int, path: str, kind: str, interval: float, until: float, make, done) -> None:
        super().__init__()
        self.port, self.path, self.kind = port, path, kind
        self.interval, self.until, self.make, self.done = interval, until, make, done
        self.seconds: list[float] = []
        self.failed = 0

    def run(self) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self.port)
        due = time.perf_counter() + random.random() * self.interval
        while due < self.until:
            wait = due - time.perf_counter()
            if wait > 0:
                time.sleep(wait)
            made = self.make()
            if made is None:
                due += self.interval
                continue
            body, what = made
            connection.request("POST", self.path, body, {"Content-Type": self.kind})
            response = connection.getresponse()
            answer = response.read()
            self.seconds.append(time.perf_counter() - due)  # from when it should have been sent
            if response.status >= 300:
                self.failed += 1
            else:
                self.done(what, answer)
            due += self.interval


class Load:
    """Pairs with fresh ids, and labels for a half of them."""

    def __init__(self, prefixed: bool) -> None:
        self.prefixed = prefixed
        rng = np.random.default_rng(1)
        rows = np.log(rng.dirichlet(np.ones(CLASSES), size=512)).astype("<f4")
        self.answers = [Answer(Outcome.OK, 0.002, row.tobytes()) for row in rows]
        self.acknowledged: deque[tuple[float, list[str]]] = deque()
        self.pairs = 0
        self.counts: dict[str, int] = {}
        self.batches = 0
        self.lock = threading.Lock()

    def batch(self) -> tuple[bytes, list[str]]:
        now = time.time()
        head = int(now * 1000).to_bytes(6, "big")
        ids, pairs = [], []
        for _ in range(BATCH):
            unique = os.urandom(16)
            identifier = (head + unique[:10]).hex() if self.prefixed else unique.hex()
            ids.append(identifier)
            one, two = self.answers[unique[0]], self.answers[256 + unique[1]]
            pairs.append(Pair(head + unique[6:], identifier, 0, now, one, two))
        with self.lock:
            self.batches += 1
            name = f"b{self.batches}"
        return msgspec.msgpack.encode(PairBatch(name, "bench", "bench", pairs)), ids

    def recorded(self, ids: list[str], _: bytes) -> None:
        with self.lock:
            self.pairs += len(ids)
            self.acknowledged.append((time.perf_counter(), random.sample(ids, len(ids) * 52 // 100)))

    def labels(self) -> tuple[bytes, int] | None:
        ids: list[str] = []
        with self.lock:
            while self.acknowledged and self.acknowledged[0][0] < time.perf_counter() - 0.5 and len(ids) < LABELS:
                ids += self.acknowledged.popleft()[1]
        if not ids:
            return None
        random.shuffle(ids)
        return b"\n".join(b'{"id":"%s","label":%d}' % (i.encode(), random.randrange(CLASSES)) for i in ids), len(ids)

    def labelled(self, _: int, answer: bytes) -> None:
        with self.lock:
            for name, value in json.loads(answer).items():
                self.counts[name] = self.counts.get(name, 0) + value


def resources(pid: int) -> tuple[float, float]:
    """(resident MiB of its own, CPU seconds) of a process."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    status = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    memory = sum(int(status[name].split()[0]) for name in ("RssAnon", "RssFile", "RssShmem"))
    return memory / 1024, (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def start(*options: str) -> tuple[subprocess.Popen[str], int]:
    process = subprocess.Popen(
        [sys.executable, "-m", "modelcanary_ledger", "--listen", "127.0.0.1:0", *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert process.stdout is not None
    return process, int(process.stdout.readline().rstrip().rpartition(":")[2])


def measure(kind: str, rate: int, seconds: float, directory: str, url: str = "", ledgers: int = 1) -> dict[str, object]:
    """`url`: of the PostgreSQL that the ledgers share, whose data is in `directory`."""
    options = ["--state", directory]
    if url:
        file = Path(directory) / "url"
        file.write_text(url)
        options = ["--store-url-file", str(file)]
    started_now = [start(*options) for _ in range(ledgers)]
    processes = [process for process, _ in started_now]
    ports = [port for _, port in started_now]
    try:
        connection = http.client.HTTPConnection("127.0.0.1", ports[0])
        put = {"epoch": 1, "instructions": {"version": 1, "run": "bench", "share": 1.0}, "spec": SPEC}
        connection.request("PUT", "/v1/runs/bench/m/instructions", json.dumps(put))
        assert connection.getresponse().read()
        load = Load(kind == "prefixed")
        started = time.perf_counter()
        until = started + seconds
        path = "/v1/runs/bench/m/pairs"
        recorders = [
            Sender(
                ports[i % ledgers], path, "application/vnd.msgpack", 4 * BATCH / rate, until, load.batch, load.recorded
            )
            for i in range(4)
        ]
        # A little faster than labels arise, so that none are left behind.
        pause = 2 * LABELS / (rate / 2) * 0.9
        labellers = [
            Sender(ports[i % ledgers], "/v1/feedback", "application/x-ndjson", pause, until, load.labels, load.labelled)
            for i in range(2)
        ]
        size_before = size_of(directory) if url else 0  # an empty server is 40 MB
        cpu_before = sum(resources(process.pid)[1] for process in processes)
        for sender in (*recorders, *labellers):
            sender.start()
        memory = []
        while time.perf_counter() < until:
            time.sleep(min(5.0, max(0.1, until - time.perf_counter())))
            memory.append(round(max(resources(process.pid)[0] for process in processes), 1))
            print(f"  {time.perf_counter() - started:5.0f} s {load.pairs:>9} pairs {load.counts} {memory[-1]} MiB")
        for sender in (*recorders, *labellers):
            sender.join()
        elapsed = time.perf_counter() - started
        cpu = sum(resources(process.pid)[1] for process in processes) - cpu_before
        size = size_of(directory) - size_before
        return {
            "ids": kind,
            "load_average": round(os.getloadavg()[0], 1),  # above 2 or so, others had a part of the cores
            "seconds": round(elapsed, 1),
            "pairs_per_second": round(load.pairs / elapsed),
            "labels_joined_per_second": round(load.counts["joined"] / elapsed),
            "labels": load.counts,
            "failed": sum(sender.failed for sender in (*recorders, *labellers)),
            "batch_ms": quantiles([s for sender in recorders for s in sender.seconds]),
            "labels_ms": quantiles([s for sender in labellers for s in sender.seconds]),
            "cpu_share": round(cpu / elapsed, 2),
            "memory_mib": memory,
            "disk_bytes_per_pair": round(size / load.pairs),
        }
    finally:
        for process in processes:
            process.send_signal(signal.SIGTERM)
        for process in processes:
            process.wait(30)


def size_of(directory: str) -> int:
    return sum(file.stat().st_size for file in Path(directory).rglob("*") if file.is_file())


def quantiles(seconds: list[float]) -> dict[str, float]:
    cut = statistics.quantiles(seconds, n=100)
    return {"p50": round(cut[49] * 1e3, 1), "p99": round(cut[98] * 1e3, 1)}


def table(results: dict[str, dict[str, object]]) -> str:
    lines = [
        "| | pairs/s recorded | labels/s joined | batch of 150, ms p50/p99 | 200 labels, ms p50/p99 "
        "| cores | load average | memory MiB, after 5 s → at the end | disk B/pair | refused |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for name, row in results.items():
        batch, labels, memory = row["batch_ms"], row["labels_ms"], row["memory_mib"]
        assert isinstance(batch, dict)
        assert isinstance(labels, dict)
        assert isinstance(memory, list)
        lines.append(
            f"| {name} | {row['pairs_per_second']:,} | {row['labels_joined_per_second']:,} "
            f"| {batch['p50']} / {batch['p99']} | {labels['p50']} / {labels['p99']} | {row['cpu_share']} "
            f"| {row['load_average']} "
            f"| {memory[0]:.0f} → {memory[-1]:.0f} | {row['disk_bytes_per_pair']} | {row['failed']} |"
        )
    return "\n".join(lines)


def over_postgres(seconds: float, rate: int | None) -> None:
    """Rates that the machine holds with everything on its two cores: load, ledgers and server."""
    results: dict[str, dict[str, object]] = {}
    for name, (ledgers, ids, fixed) in POSTGRES.items():
        print(f"{name}: {rate or fixed} pairs/s and half as many labels")
        with tempfile.TemporaryDirectory() as directory:
            Path(directory).chmod(0o755)  # the server runs as another user
            with server(durable=True, within=directory) as own:
                results[name] = measure(ids, rate or fixed, seconds, str(own.directory), own.schema(), ledgers)
        print(json.dumps(results[name], indent=1))
    if rate:
        return
    (HERE / "results" / "ledger-postgres.json").write_text(json.dumps(list(results.values()), indent=1) + "\n")
    keep(
        "ledger-postgres",
        "## The ledger over PostgreSQL\n\n"
        "`make bench-ledger-postgres`: the same load as above, all of it for one run, over PostgreSQL 15 with `fsync`\n"
        "on the same machine, 64 MB of shared buffers and its defaults else, at real-time priority;\n"
        f"{seconds:.0f} s for each. `cores` is what the ledgers used, without the server; bytes per pair are its\n"
        "whole directory, write-ahead log included.\n\n" + table(results),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--only", choices=[kind for kind, _ in CASES.values()])
    parser.add_argument("--rate", type=int, help="pairs per second, instead of the case's own; nothing is written")
    parser.add_argument("--postgres", action="store_true", help="over PostgreSQL, with one ledger and with two")
    arguments = parser.parse_args()
    (HERE / "results").mkdir(exist_ok=True)
    if arguments.postgres:
        over_postgres(arguments.seconds, arguments.rate)
        return
    results: dict[str, dict[str, object]] = {}
    for name, (kind, rate) in CASES.items():
        if arguments.only not in (None, kind):
            continue
        print(f"{name}: {arguments.rate or rate} pairs/s and half as many labels")
        with tempfile.TemporaryDirectory() as directory:
            results[name] = measure(kind, arguments.rate or rate, arguments.seconds, directory)
        print(json.dumps(results[name], indent=1))
    if arguments.rate or arguments.only:
        return
    (HERE / "results" / "ledger.json").write_text(json.dumps(list(results.values()), indent=1) + "\n")
    keep(
        "ledger",
        "## The ledger\n\n"
        "`make bench-ledger`: one process, pairs of 10 classes (float32) in batches of 150, labels for half of them\n"
        "in requests of 200 lines, joined and scored at once (`maturity: 0s`), every commit synced to disk; offered\n"
        f"at a fixed rate for {arguments.seconds:.0f} s by another process on the same machine "
        f"({os.cpu_count()} cores, {platform.machine()}).\n"
        "Times are from when a request should have been sent to its answer. `cores` is what the ledger used; the load\n"
        "average is the machine's: load and ledger alone make about 1.5, more is other work on the same cores.\n\n"
        + table(results),
    )


if __name__ == "__main__":
    main()
