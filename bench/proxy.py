"""What the sidecar costs a user: requests per second, CPU per request, latency added; `make bench-proxy`.

Every cell is measured in each round, in turns, and compared with 'direct' of the same round, because machines
drift. The model and the load run on the first core, the sidecar on the second. The model and the candidate
are echo-sized stand-ins of a fixed delay, and the ledger says nothing but the instructions: what is measured is
the sidecar. Closed loop: 32 kept-alive connections. Open loop: Poisson arrivals, latency from the time at
which a request was due, so that a stall counts for all who would have come.

Writes bench/results/proxy.json.
"""

import argparse
import asyncio
import json
import os
import platform
import random
import re
import select
import signal
import socket
import statistics
import subprocess
import sys
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import msgspec
import uvloop

from modelcanary_gate.protocol import Instructions, MirrorLimits, ModelReading

RESULTS = Path(__file__).parent / "results" / "proxy.json"
CONNECTIONS = 32
DELAY = 0.002  # of the model, in the open loop
_VALUES = [round(random.Random(seed).gauss(0, 1), 15) for seed in range(48)]
BODY = json.dumps({"inputs": [{"name": "x", "shape": [1, 48], "datatype": "FP32", "data": _VALUES}]}).encode()
ANSWER_BODY = json.dumps(
    {"outputs": [{"name": "p", "shape": [1, 10], "datatype": "FP32", "data": [0.1] * 10}], "pad": "x" * 800}
).encode()
ANSWER = (
    b"HTTP/1.1 200 OK\r\nServer: bench\r\nDate: Sun, 22 Nov 2026 00:00:00 GMT\r\n"
    b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n%b" % (len(ANSWER_BODY), ANSWER_BODY)
)


def request(number: int) -> bytes:
    return (
        b"POST /v2/models/m/infer HTTP/1.1\r\nHost: fraud.ml.svc.cluster.local:8080\r\n"
        b"User-Agent: python-httpx/0.28\r\nAccept: */*\r\nAccept-Encoding: gzip, deflate\r\n"
        b"Content-Type: application/json\r\nX-Request-Id: %032x\r\n"
        b"traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01\r\n"
        b"Content-Length: %d\r\n\r\n%b" % (number, len(BODY), BODY)
    )


# -- the processes around the sidecar


class Model(asyncio.Protocol):
    """Answers each request after a delay; None: never."""

    def __init__(self, delay: float | None) -> None:
        self.delay = delay
        self.tail = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        transport.set_write_buffer_limits(0)  # type: ignore[attr-defined]

    def data_received(self, data: bytes) -> None:
        if self.delay is not None and data.endswith(BODY[-16:]):
            if self.delay:
                asyncio.get_running_loop().call_later(self.delay, self.transport.write, ANSWER)  # type: ignore[attr-defined]
            else:
                self.transport.write(ANSWER)  # type: ignore[attr-defined]


class Ledger(asyncio.Protocol):
    """Answers everything with the instructions."""

    def __init__(self, instructions: Instructions) -> None:
        body = msgspec.json.encode(instructions)
        self.answer = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b" % (
            len(body),
            body,
        )
        self.buffer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        head, end, rest = self.buffer.partition(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length:")[2].split(b"\r\n")[0] or 0)
        if end and len(rest) >= length:
            self.buffer = b""
            self.transport.write(self.answer)  # type: ignore[attr-defined]


def serve(role: str, argument: str) -> None:
    async def run() -> None:
        loop = asyncio.get_running_loop()
        if role == "ledger":
            instructions = msgspec.json.decode(argument, type=Instructions)
            server = await loop.create_server(lambda: Ledger(instructions), "127.0.0.1", 0)
        else:
            delay = None if argument == "hang" else float(argument)
            server = await loop.create_server(lambda: Model(delay), "127.0.0.1", 0)
        print(server.sockets[0].getsockname()[1], flush=True)
        await server.serve_forever()

    uvloop.run(run())


# -- load


def _connect(port: int) -> socket.socket:
    client = socket.create_connection(("127.0.0.1", port))
    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return client


def closed_loop(port: int, seconds: float) -> int:
    """Requests answered."""
    epoll = select.epoll()
    clients = {client.fileno(): client for client in (_connect(port) for _ in range(CONNECTIONS))}
    got = dict.fromkeys(clients, b"")
    for number, client in enumerate(clients.values()):
        epoll.register(client, select.EPOLLIN)
        client.send(request(number))
    done = 0
    number = CONNECTIONS
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        for ready, _ in epoll.poll(1.0):
            data = clients[ready].recv(65536)
            if not data:
                raise SystemExit("a connection was closed under load")
            got[ready] += data
            if got[ready].endswith(ANSWER_BODY[-16:]):
                if not got[ready].startswith(b"HTTP/1.1 200"):
                    raise SystemExit(f"not an answer: {got[ready][:60]!r}")
                got[ready] = b""
                done += 1
                number += 1
                clients[ready].send(request(number))
    for client in clients.values():
        client.close()
    return done


def open_loop(port: int, rate: float, seconds: float, seed: int) -> list[float]:
    """Latencies in seconds, from the time at which each request was due."""
    arrivals = random.Random(seed)
    free = deque(_connect(port) for _ in range(CONNECTIONS))
    due_of: dict[socket.socket, float] = {}
    waiting: deque[float] = deque()
    latencies: list[float] = []
    now = start = time.perf_counter()
    due = start + arrivals.expovariate(rate)
    number = 0
    while now < start + seconds or due_of:
        ready, _, _ = select.select(list(due_of), [], [], max(0.0, due - now) if now < start + seconds else 1.0)
        now = time.perf_counter()
        for client in ready:
            if client.recv(65536).endswith(ANSWER_BODY[-16:]):
                if now - start > 0.3:  # warm
                    latencies.append(time.perf_counter() - due_of[client])
                del due_of[client]
                free.append(client)
        while due <= now < start + seconds:
            waiting.append(due)
            due += arrivals.expovariate(rate)
        while waiting and free:
            client = free.popleft()
            due_of[client] = waiting.popleft()
            number += 1
            client.send(request(number))
        now = time.perf_counter()
        if now > start + seconds + 5.0:
            break
    for client in [*free, *due_of]:
        client.close()
    return latencies


# -- a cell


def _cpu(process: int) -> float:
    """Seconds of CPU that a process has had."""
    return int(Path(f"/proc/{process}/schedstat").read_text().split()[0]) / 1e9


NICE = [0]  # of every process but the scorer, which is nicer by 19


def _pinned(core: int, *command: str) -> list[str]:
    return ["nice", "-n", str(NICE[0]), "taskset", "-c", str(core % (os.cpu_count() or 1)), *command]


@contextmanager
def _process(core: int, *command: str, stderr: int | None = None) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(_pinned(core, *command), stdout=subprocess.PIPE, stderr=stderr, text=True)
    try:
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            process.wait(10)
        process.kill()
        process.wait()
        for stream in (process.stdout, process.stderr):
            if stream is not None:
                stream.close()


@contextmanager
def _helper(role: str, argument: str) -> Iterator[int]:
    with _process(0, sys.executable, __file__, "--role", role, argument) as process:
        assert process.stdout is not None
        yield int(process.stdout.readline())


@contextmanager
def _sidecar(model: int, ledger: int) -> Iterator[tuple[int, int, int, int]]:
    """Port and admin port, and the process ids of the live process and of the scorer."""
    command = [sys.executable, "-m", "modelcanary_sidecar.main", "--name", "bench", "--drain-delay", "0s"]
    command += ["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"]
    command += ["--upstream", f"http://127.0.0.1:{model}", "--ledger", f"http://127.0.0.1:{ledger}"]
    with _process(1, *command, stderr=subprocess.PIPE) as process:
        assert process.stderr is not None
        said: list[str] = []
        for line in process.stderr:
            said.append(line)
            if "listening on" in line:
                break
        else:
            raise SystemExit("the sidecar did not start:\n" + "".join(said))
        port, admin = (int(found) for found in re.findall(r"on 127\.0\.0\.1:(\d+)", line))
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        time.sleep(2.5)  # for the scorer to have heard the ledger, and the live process the scorer
        yield port, admin, int(children[0]), int(children[1])


CELLS: dict[str, tuple[float, str] | None] = {
    "direct": None,
    "sidecar": (0.0, "0.002"),
    "mirrored": (1.0, "0.002"),
    "mirrored, candidate hangs": (1.0, "hang"),
}


def measure(cell: tuple[float, str] | None, seconds: float, rate: float, seed: int) -> dict[str, float]:
    with _helper("model", "0") as fast, _helper("model", str(DELAY)) as slow:
        if cell is None:
            done = closed_loop(fast, seconds)
            return {"rps": done / seconds, **_quantiles(open_loop(slow, rate, seconds, seed))}
        share, candidate = cell
        result: dict[str, float] = {}
        with _helper("model", candidate) as asked:
            instructions = Instructions(
                1,
                "bench",
                f"http://127.0.0.1:{asked}",
                share,
                model=ModelReading(classes=[f"c{number}" for number in range(10)]),
                mirror=MirrorLimits(maxPairsPerSecond=1e9),
            )
            with _helper("ledger", msgspec.json.encode(instructions).decode()) as ledger:
                with _sidecar(fast, ledger) as (port, _, live, scorer):
                    closed_loop(port, 0.5)
                    before = _cpu(live), _cpu(scorer)
                    done = closed_loop(port, seconds)
                    result["rps"] = done / seconds
                    result["live_cpu_us"] = (_cpu(live) - before[0]) / done * 1e6
                    result["scorer_cpu_us"] = (_cpu(scorer) - before[1]) / done * 1e6
                with _sidecar(slow, ledger) as (port, admin, live, _):
                    before_live = _cpu(live)
                    latencies = open_loop(port, rate, seconds, seed)
                    result["live_cpu_us_open"] = (_cpu(live) - before_live) / max(1, len(latencies)) * 1e6
                    result |= _quantiles(latencies)
                    result["pairs"] = _pairs(admin) / rate / seconds
                    if share and not result["pairs"]:
                        raise SystemExit("nothing was mirrored: what was measured is not what is meant")
        return result


def _pairs(admin: int) -> float:
    """How many the scorer has made."""
    time.sleep(1.5)  # it says so each second
    with socket.create_connection(("127.0.0.1", admin)) as client:
        client.sendall(b"GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n")
        text = b"".join(iter(lambda: client.recv(65536), b"")).decode()
    return sum(float(found) for found in re.findall(r'figure="candidate_pairs_total".*} (\S+)', text))


def _quantiles(latencies: list[float]) -> dict[str, float]:
    cuts = statistics.quantiles(latencies, n=100)
    return {"p50_us": cuts[49] * 1e6, "p90_us": cuts[89] * 1e6, "p99_us": cuts[98] * 1e6}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--rate", type=float, default=1000.0, help="requests per second in the open loop")
    parser.add_argument("--nice", type=int, default=0, help="below 0 (as root) where other jobs run beside it")
    parser.add_argument("--role", nargs=2, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.role:
        serve(*given.role)
        return
    NICE[0] = given.nice
    os.nice(given.nice)
    rounds: list[dict[str, dict[str, float]]] = []
    for number in range(given.rounds):
        order = list(CELLS) if number % 2 == 0 else list(CELLS)[::-1]
        measured = {name: measure(CELLS[name], given.seconds, given.rate, number) for name in order}
        for name, values in measured.items():
            if name != "direct":
                for quantile in ("p50_us", "p90_us", "p99_us"):
                    values[f"added_{quantile}"] = values[quantile] - measured["direct"][quantile]
        rounds.append(measured)
        print(f"round {number + 1} of {given.rounds}", file=sys.stderr, flush=True)
    medians = {
        name: {key: round(statistics.median(measured[name][key] for measured in rounds), 2) for key in rounds[0][name]}
        for name in CELLS
    }
    keys = ("rps", "live_cpu_us", "live_cpu_us_open", "scorer_cpu_us", "pairs")
    keys += ("added_p50_us", "added_p90_us", "added_p99_us")
    print(f"{'':28}" + "".join(f"{key:>17}" for key in keys))
    for name, values in medians.items():
        print(f"{name:28}" + "".join(f"{values.get(key, float('nan')):17.2f}" for key in keys))
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(
        json.dumps(
            {
                "python": platform.python_version(),
                "cores": os.cpu_count(),
                "load": os.getloadavg()[0],
                "rate": given.rate,
                "seconds": given.seconds,
                "medians": medians,
                "rounds": rounds,
            },
            indent=1,
        )
        + "\n"
    )


if __name__ == "__main__":
    main()
