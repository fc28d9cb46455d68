"""Sidecars are restarted one after the other while users send requests: is an answer lost, or a pair?

`make bench-drain` runs it. Two sidecars, each with a model of its own that is gone at once when it is ended, and one
real ledger. A restart is what kubelet does in a rolling update: the next one is started, then the hook, which is held;
the model is killed; SIGTERM to the sidecar. Users choose a sidecar when they connect, as kube-proxy does for them, and
hear of an ending one half a second late. Three kinds of them: kept-alive connections in use, kept-alive connections
that are seldom used, and a connection for each request. Every answer is compared with the one that is due; a request
that got another one, or none, is a failure, and nothing is tried again.

Every request is mirrored. Each sidecar says what it captured before it gets SIGTERM; in the end the ledger has to have
as many pairs, but for those that were counted as dropped.

Writes bench/results/drain.json and its part of bench/RESULTS.md, unless --no-record. Exit code 1 if something is lost.
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
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import uvloop
from bench.sections import keep

from modelcanary_sidecar.figures import AFTERWARDS, Drop

HERE = Path(__file__).parent
PATH = "/v2/models/m/infer"
HOOK = "/drain/of-this-bench"
BODY = b'{"inputs":[{"name":"x","shape":[1,1],"datatype":"FP32","data":[1.0]}]}'
BASELINE = b'{"model_name":"m","outputs":[{"name":"p","shape":[1,2],"datatype":"FP32","data":[0.25,0.75]}]}'
CANDIDATE = BASELINE.replace(b"0.25,0.75", b"0.50,0.50")
HEARD = 0.5  # seconds until users' connections go elsewhere
DELAY = 2.0  # of the drain
LIMIT = 30.0  # for anything to happen
_NEVER_CAPTURED = frozenset(Drop) - AFTERWARDS


class Model(asyncio.Protocol):
    """Answers each request at once; gone at once when its process is killed."""

    def __init__(self, answer: bytes) -> None:
        self.answer = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b" % (
            len(answer),
            answer,
        )

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        if data.endswith(BODY[-16:]):
            self.transport.write(self.answer)


async def serve_model(answer: bytes) -> None:
    server = await asyncio.get_running_loop().create_server(lambda: Model(answer), "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


# -- the processes


async def _start_model(role: str) -> tuple[asyncio.subprocess.Process, int]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "bench.drain", "--role", role, stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    return process, int(await process.stdout.readline())


async def _ended(process: asyncio.subprocess.Process, how: signal.Signals) -> int:
    if process.returncode is None:
        process.send_signal(how)
    async with asyncio.timeout(LIMIT):
        return await process.wait()


@dataclass(slots=True)
class Pod:
    """A model and its sidecar."""

    model: asyncio.subprocess.Process
    sidecar: asyncio.subprocess.Process
    port: int
    admin: str
    reader: asyncio.Task[None]

    @classmethod
    async def start(cls, ledger: str, number: int) -> "Pod":
        model, upstream = await _start_model("baseline")
        sidecar = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "modelcanary_sidecar.main", "--name", "m", "--identity", f"pod-{number}"),
            *("--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--upstream", f"http://127.0.0.1:{upstream}"),
            *("--ledger", ledger, "--drain-path", HOOK, "--drain-delay", f"{DELAY}s", "--drain-time", f"{LIMIT}s"),
            stderr=asyncio.subprocess.PIPE,
        )
        assert sidecar.stderr is not None
        async with asyncio.timeout(LIMIT):
            while b"listening on" not in (line := await sidecar.stderr.readline()):
                if not line:
                    raise SystemExit("a sidecar did not start")
        port, admin = (int(found) for found in re.findall(rb"on 127\.0\.0\.1:(\d+)", line))
        reader = asyncio.create_task(cls._forget(sidecar.stderr))
        return cls(model, sidecar, port, f"http://127.0.0.1:{admin}", reader)

    @staticmethod
    async def _forget(stream: asyncio.StreamReader) -> None:
        while line := await stream.readline():
            if b"ERROR" in line or b"Traceback" in line or b"lost" in line:
                print(line.decode(), end="", file=sys.stderr)

    async def end(self, client: httpx.AsyncClient) -> tuple[str, int]:
        """What the hook said in the end, and how many requests were captured."""
        hook = await client.get(self.admin + HOOK)
        await _ended(self.model, signal.SIGKILL)
        captured = await self.captured(client)
        code = await _ended(self.sidecar, signal.SIGTERM)
        await self.reader
        return hook.text.strip() if not code else f"exit code {code}", captured

    async def captured(self, client: httpx.AsyncClient) -> int:
        metrics = (await client.get(f"{self.admin}/metrics")).text
        found = re.search(r"^modelcanary_sidecar_captured_total{.*} (\S+)$", metrics, re.M)
        assert found is not None
        return int(float(found[1]))


# -- the users


def _closed(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
    """As urllib3 and httpx look at a connection before they use it again."""
    if reader.at_eof() or reader.exception() is not None or writer.transport.is_closing():
        return True
    return bool(select.select([writer.get_extra_info("socket")], [], [], 0.0)[0])


@dataclass(slots=True)
class Users:
    """`endpoints`: where new connections go."""

    endpoints: list[tuple[str, int]] = field(default_factory=list)
    sent: Counter[str] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)
    over: bool = False
    number: int = 0

    def begin(self, tasks: asyncio.TaskGroup, rate: float) -> None:
        """Three kinds of them, until it is over."""
        for number in range(16):
            tasks.create_task(self.kept_alive("kept alive, in use", 0.6 * rate / 16, number))
        for number in range(8):
            tasks.create_task(self.kept_alive("kept alive, seldom used", 0.2, 100 + number))
        tasks.create_task(self.one_shot(0.4 * rate, 200))

    async def kept_alive(self, kind: str, rate: float, seed: int) -> None:
        arrivals = random.Random(seed)
        connection: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        due = time.monotonic()
        while not self.over:
            due += arrivals.expovariate(rate)
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            if connection is not None and _closed(*connection):
                connection[1].close()
                connection = None
            connection = await self._ask(kind, connection, arrivals, close=False)
        if connection is not None:
            connection[1].close()

    async def one_shot(self, rate: float, seed: int) -> None:
        arrivals = random.Random(seed)
        due = time.monotonic()
        async with asyncio.TaskGroup() as tasks:
            while not self.over:
                due += arrivals.expovariate(rate)
                await asyncio.sleep(max(0.0, due - time.monotonic()))
                tasks.create_task(self._ask("a connection each", None, arrivals, close=True))

    async def _ask(
        self,
        kind: str,
        connection: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None,
        choose: random.Random,
        *,
        close: bool,
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter] | None:
        """A request, and whether it was answered; the connection, where it may be used again."""
        self.number += 1
        self.sent[kind] += 1
        began, step = time.monotonic(), "connecting"
        try:
            async with asyncio.timeout(LIMIT):
                if connection is None:
                    connection = await asyncio.open_connection(*choose.choice(self.endpoints))
                reader, writer = connection
                head = f"POST {PATH} HTTP/1.1\r\nHost: m\r\nX-Request-Id: r{self.number}\r\n"
                head += f"{'Connection: close' if close else 'Accept: */*'}\r\nContent-Length: {len(BODY)}\r\n\r\n"
                step = "sending"
                writer.write(head.encode() + BODY)
                answer = await reader.readuntil(b"\r\n\r\n")
                step = "reading"
                body = await reader.readexactly(len(BASELINE))
            if not answer.startswith(b"HTTP/1.1 200 ") or body != BASELINE:
                raise ValueError(f"{answer[:60]!r}")
        except (OSError, ValueError, asyncio.IncompleteReadError) as error:
            self.failures.append(f"{kind}, {step}, {time.monotonic() - began:.3f} s: {error!r}")
            if connection is not None:
                connection[1].close()
            return None
        if close or b"connection: close" in answer:
            writer.close()
            return None
        return connection


async def users_alone(address: str, rate: float) -> None:
    """Users of one address until SIGTERM; what became of them is printed. For tests with pods."""
    host, _, port = address.partition(":")
    users = Users([(host, int(port))])
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, setattr, users, "over", True)
    async with asyncio.TaskGroup() as tasks:
        users.begin(tasks, rate)
    print(json.dumps({"requests": dict(users.sent), "failures": users.failures}))


# -- the whole


async def _until_ready(client: httpx.AsyncClient, url: str) -> None:
    async with asyncio.timeout(LIMIT):
        while True:
            try:
                if (await client.get(url)).status_code == 200:
                    return
            except httpx.HTTPError:
                pass  # it does not listen yet
            await asyncio.sleep(0.05)


async def _free_port() -> int:
    server = await asyncio.start_server(lambda _reader, _writer: None, "127.0.0.1", 0)
    port: int = server.sockets[0].getsockname()[1]
    server.close()
    await server.wait_closed()
    return port


def _instructions(candidate: int) -> dict[str, object]:
    model = {"classes": ["no", "yes"], "paths": [PATH]}
    instructions = {
        "version": 1,
        "run": "run-1",
        "candidate": f"http://127.0.0.1:{candidate}",
        "share": 1.0,
        "model": model,
        "mirror": {"maxPairsPerSecond": 100_000.0},
    }
    return {"epoch": 1, "instructions": instructions, "spec": {"model": model, "labels": {"maturity": "0s"}}}


async def measure(restarts: int, rate: float, state: str) -> dict[str, object]:
    port = await _free_port()
    ledger = f"http://127.0.0.1:{port}"
    recording = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "modelcanary_ledger.main", "--listen", f"127.0.0.1:{port}", "--state", state),
        stderr=asyncio.subprocess.DEVNULL,
    )
    candidate, candidate_port = await _start_model("candidate")
    users = Users()
    captured, hooks, pods = 0, Counter[str](), []
    began = time.monotonic()
    async with httpx.AsyncClient(trust_env=False, timeout=2 * LIMIT) as client:
        await _until_ready(client, f"{ledger}/readyz")
        put = await client.put(f"{ledger}/v1/runs/default/m/instructions", json=_instructions(candidate_port))
        put.raise_for_status()
        for number in range(2):
            pods.append(await Pod.start(ledger, number))
            await _until_ready(client, f"{pods[-1].admin}/readyz")
        users.endpoints = [("127.0.0.1", pod.port) for pod in pods]
        starting = asyncio.create_task(Pod.start(ledger, 2))
        async with asyncio.TaskGroup() as tasks:
            users.begin(tasks, rate)
            for number in range(restarts):
                pods.append(await starting)
                await _until_ready(client, f"{pods[-1].admin}/readyz")
                users.endpoints = [("127.0.0.1", other.port) for other in pods]
                starting = asyncio.create_task(Pod.start(ledger, 3 + number))
                ending = asyncio.create_task(pods.pop(0).end(client))
                await asyncio.sleep(HEARD)
                users.endpoints = [("127.0.0.1", other.port) for other in pods]
                said, of_pod = await ending
                hooks[said] += 1
                captured += of_pod
                if sys.stderr.isatty() or number % 20 == 19:
                    print(f"{number + 1} restarts, {len(users.failures)} failures", file=sys.stderr, flush=True)
            users.over = True
        seconds = time.monotonic() - began
        for pod in [*pods, await starting]:
            said, of_pod = await pod.end(client)
            hooks[said] += 1
            captured += of_pod
        asked = await client.get(f"{ledger}/v1/runs/default/m/evidence", params={"run": "run-1", "since": "0.0"})
        counts = asked.json()["counts"]
    await _ended(candidate, signal.SIGKILL)
    await _ended(recording, signal.SIGTERM)
    # Of what was captured: the other reasons are those for which a request never was.
    dropped = sum(count for reason, count in counts["dropped"].items() if reason not in _NEVER_CAPTURED)
    return {
        "restarts": restarts,
        "requests": dict(users.sent),
        "requests_per_second": round(users.sent.total() / seconds, 1),
        "failures": users.failures,
        "hooks": dict(hooks),
        "captured": captured,
        "pairs": counts["pairs"],
        "dropped": counts["dropped"],
        "lost_pairs": max(0, captured - counts["pairs"] - dropped),
        "seconds": round(seconds, 1),
        "load": os.getloadavg()[0],
        "cores": os.cpu_count(),
        "python": platform.python_version(),
    }


def record(result: dict[str, Any]) -> None:
    (HERE / "results").mkdir(exist_ok=True)
    (HERE / "results" / "drain.json").write_text(json.dumps(result, indent=1) + "\n")
    rows = "".join(f"| {kind} | {count:,} |\n" for kind, count in sorted(result["requests"].items()))
    counted = result["captured"] - result["pairs"] - result["lost_pairs"]
    text = (
        "## Restarts of sidecars under load\n\n"
        f"`make bench-drain`: {result['restarts']} restarts of sidecars and their models, one after the other, in "
        f"{result['seconds'] / 60:.0f} minutes\n"
        f"under {result['requests_per_second']:.0f} requests/s; the models are gone at once; users hear of an ending "
        f"sidecar {HEARD} s late; drain delay {DELAY:.0f} s\n"
        f"(5 s in a cluster); {result['cores']} cores, load average {result['load']:.1f}: other work on the same "
        "machine.\n\n"
        f"| users | requests |\n|---|---|\n{rows}\n"
        f"**{len(result['failures'])} requests failed.** Captured {result['captured']:,}, in the ledger "
        f"{result['pairs']:,} pairs, {counted:,} counted as dropped "
        f"by starved scorers; **{result['lost_pairs']} lost**.\n"
        f"What the hooks said: {', '.join(f'{said} {count}' for said, count in sorted(result['hooks'].items()))}."
    )
    keep("drain", text)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--restarts", type=int, default=200)
    parser.add_argument("--rate", type=float, default=500.0, help="requests per second, of all users")
    parser.add_argument("--no-record", action="store_true")
    parser.add_argument("--users", metavar="HOST:PORT", help="nothing but users, of this address, until SIGTERM")
    parser.add_argument("--role", choices=["baseline", "candidate"], help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.users:
        uvloop.run(users_alone(given.users, given.rate))
        return
    if given.role:
        uvloop.run(serve_model(BASELINE if given.role == "baseline" else CANDIDATE))
        return
    with tempfile.TemporaryDirectory() as state:
        result = uvloop.run(measure(given.restarts, given.rate, state))
    print(json.dumps(result, indent=1))
    if not result["pairs"]:
        raise SystemExit("nothing was mirrored: what was measured is not what is meant")
    if not given.no_record:
        record(result)
    if result["failures"] or result["lost_pairs"] or set(result["hooks"]) != {"drained"}:  # type: ignore[call-overload]
        sys.exit(1)


if __name__ == "__main__":
    main()
