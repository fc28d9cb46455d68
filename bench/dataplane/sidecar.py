"""The sidecar as it ships, with a real ledger: decoding, accounting and sending included.

`measuring` starts one ledger for all, on the load's core and at normal priority, and sidecars on the proxies' core.
Both processes of a sidecar are on that one core, and both count. Of its settings one is not the default: no limit on
the pairs per second.
"""

import json
import os
import re
import subprocess
import sys
import time
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.dataplane import payload, shipped
from bench.dataplane.processes import LOAD_CORE, PROXY_CORE, REAL_TIME, Stage, tree
from bench.dataplane.proxies import Mirror, Running

_PATIENCE = 20.0
_RUN = "run-1"


class Ledger:
    """A process of its own; each sidecar is of a ModelCanary of its own."""

    def __init__(self, stage: Stage, state: Path) -> None:
        state.mkdir()
        command = [sys.executable, "-m", "modelcanary_ledger", "--listen", "127.0.0.1:0", "--state", str(state)]
        process = stage.start(LOAD_CORE, command, real_time=False, stdout=subprocess.PIPE)
        if REAL_TIME:
            os.setpriority(os.PRIO_PROCESS, process.pid, -10)
        assert process.stdout is not None
        said = process.stdout.readline()
        if not said:
            raise SystemExit("the ledger did not start")
        self.url = said.split()[-1]
        self._names = 0

    def canary(self, candidate: int, share: float, classes: int) -> str:
        """A new one's name; sidecars of it follow these instructions."""
        self._names += 1
        name = f"c{self._names}"
        model = {"classes": [f"class {index}" for index in range(classes)], "paths": [payload.PATH]}
        instructions = {
            "version": 1,
            "run": _RUN,
            "candidate": f"http://127.0.0.1:{candidate}",
            "share": share,
            "model": model,
            "mirror": {"maxPairsPerSecond": 1e6},
        }
        body = {"epoch": 1, "instructions": instructions, "spec": {"model": model}}
        url = f"{self.url}/v1/runs/default/{name}/instructions"
        urllib.request.urlopen(urllib.request.Request(url, json.dumps(body).encode(), method="PUT"), timeout=10).close()
        return name

    def counts(self, name: str) -> dict[str, Any]:
        """Of the pairs that were recorded, and of those that were not, by reason."""
        url = f"{self.url}/v1/runs/default/{name}/evidence?run={_RUN}&since=0.0"
        with urllib.request.urlopen(url, timeout=30) as answer:
            counts: dict[str, Any] = json.load(answer)["counts"]
            return counts


@dataclass(frozen=True, slots=True)
class Sidecar:
    running: Running
    admin: int
    canary: str

    def metric(self, name: str, labels: str = "") -> float:
        """The sum over all label sets in which `labels` occurs."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.admin}/metrics", timeout=10) as answer:
            text = answer.read().decode()
        found = re.findall(rf"^modelcanary_sidecar_{name}{{(.*)}} (\S+)$", text, re.M)
        return sum(float(value) for of, value in found if labels in of)


def start(
    stage: Stage,
    ledger: Ledger,
    model: int,
    mirror: Mirror | None,
    *,
    classes: int = payload.CLASSES,
    workers: int = 1,
    saturated: bool = False,
    core: int | None = PROXY_CORE,
) -> Sidecar:
    """One that follows its instructions already. `saturated`: its live process will never rest."""
    share = mirror.percent / 100 if mirror else 0.0
    canary = ledger.canary(mirror.port if mirror else model, share, classes)
    command = [*shipped.command(), "--name", canary, "--drain-delay", "0s"]
    command += ["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--workers", str(workers)]
    command += ["--upstream", f"http://127.0.0.1:{model}", "--ledger", ledger.url]
    process = stage.start(core, command, stderr=subprocess.PIPE)
    assert process.stderr is not None
    said: list[str] = []
    for line in process.stderr:
        said.append(line)
        if "listening on" in line:
            break
    else:
        raise SystemExit("the sidecar did not start:\n" + "".join(said))
    port, admin = (int(found) for found in re.findall(r"on 127\.0\.0\.1:(\d+)", line))
    pids = tree(process.pid)
    deadline = time.monotonic() + _PATIENCE
    while (scorer := _scorer(pids)) is None:
        if time.monotonic() > deadline:
            raise SystemExit("the sidecar's scorer did not start")
        time.sleep(0.05)
        pids = tree(process.pid)
    sidecar = Sidecar(Running(port, tuple(pids), scorer), admin, canary)
    while sidecar.metric("share") != share:
        if time.monotonic() > deadline:
            raise SystemExit("the sidecar does not follow its instructions")
        time.sleep(0.1)
    if REAL_TIME:
        # It stays behind the live process, which runs at real-time priority now; but it is not to wait for whatever
        # else the machine does, since on a core of its own it would not. Below a live process that never rests it
        # would get nothing at all as a real-time process; as it ships it gets a seventieth.
        if saturated:
            os.setpriority(os.PRIO_PROCESS, scorer, -20)
        else:
            os.sched_setscheduler(scorer, os.SCHED_FIFO, os.sched_param(10))
    return sidecar


def _scorer(pids: list[int]) -> int | None:
    """The process that has stepped back."""
    return next((pid for pid in pids if os.sched_getscheduler(pid) == os.SCHED_BATCH), None)
