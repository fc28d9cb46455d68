"""`make bench-workers`: does throughput grow with `--workers`, while there are cores for them?

A machine of two cores has none to spare beside load and model. So each worker gets a small core: the kernel's quota
gives it that share of one and no more, and several of them still leave enough for the load. With whole cores nothing
is shared between workers that is not shared here: they are processes without a lock in common, and the kernel deals
connections out. What it cannot show is what cores share with each other: caches, memory, the clock's turbo.

Rounds in turns; nothing is mirrored: there is one scorer for all workers, and it sheds. Needs root. Writes
bench/results/workers.json and its part of bench/RESULTS.md, unless --no-record.
"""

import argparse
import json
import os
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from bench.dataplane import models, payload, programs, report, sidecar
from bench.dataplane.machine import machine
from bench.dataplane.processes import LOAD_CORE, REAL_TIME, Stage, cpu, pinned
from bench.dataplane.sidecar import Ledger
from bench.sections import keep

RESULTS = Path(__file__).resolve().parent.parent / "results"
_COUNTS = (1, 2, 3, 4)
_SHARE = 0.25  # of a core, for each worker
_PERIOD_US = 10_000
_CONNECTIONS = 128
_GOAL = 0.9
_V1, _V2 = Path("/sys/fs/cgroup/cpu"), Path("/sys/fs/cgroup")


@contextmanager
def small_core(name: str, pid: int) -> Iterator[None]:
    """The process gets a share of one core at most, and that before all else on the machine."""
    first = _V1.is_dir()
    group = (_V1 if first else _V2) / name
    quota = int(_SHARE * _PERIOD_US)
    limits = {"cpu.cfs_period_us": _PERIOD_US, "cpu.cfs_quota_us": quota, "cpu.shares": 262_144}
    if not first:
        limits = {"cpu.max": f"{quota} {_PERIOD_US}", "cpu.weight": 10_000}  # type: ignore[dict-item]
    before = "/".join(line.split(":", 2)[2] for line in _groups(pid, first))
    try:
        os.sched_setscheduler(pid, os.SCHED_OTHER, os.sched_param(0))  # quotas are for those of normal priority
        group.mkdir()
        for file, value in limits.items():
            (group / file).write_text(str(value))
        (group / "cgroup.procs").write_text(str(pid))
    except OSError as error:
        raise SystemExit(f"{group}: {error}; quotas need root and the controller `cpu`") from error
    try:
        yield
    finally:
        with suppress(OSError):
            ((_V1 if first else _V2) / before.lstrip("/") / "cgroup.procs").write_text(str(pid))
        group.rmdir()


def _groups(pid: int, first: bool) -> list[str]:
    lines = Path(f"/proc/{pid}/cgroup").read_text().splitlines()
    return [line for line in lines if (":cpu:" in line if first else line.startswith("0::"))]


def measure(rounds: int, seconds: float) -> dict[int, list[dict[str, float]]]:
    found = programs.find()
    values: dict[int, list[dict[str, float]]] = {count: [] for count in _COUNTS}
    with tempfile.TemporaryDirectory() as name, Stage() as stage:
        folder = Path(name)
        request = payload.write(folder, 1024)
        ledger = Ledger(stage, folder / "ledger")
        port = models.start(stage, found, folder, "baseline", delay_us=0)
        for number in range(rounds):
            for count in _COUNTS if number % 2 == 0 else _COUNTS[::-1]:
                with Stage() as inner:
                    ours = sidecar.start(inner, ledger, port, None, workers=count, core=None)
                    workers = [pid for pid in ours.running.pids[1:] if pid != ours.running.scorer]
                    values[count].append(_one(found.load, ours.running.port, request, workers, seconds))
                print(f"  {count} workers: {values[count][-1]}", flush=True)
    return values


def _one(load: str, port: int, request: Path, workers: Sequence[int], seconds: float) -> dict[str, float]:
    with _small_cores(workers):
        command = [load, str(port), str(request), str(_CONNECTIONS), "0.5", str(seconds), "0", "1"]
        before, began = [cpu([pid]) for pid in workers], time.monotonic()
        done = subprocess.run(pinned(LOAD_CORE, command), stdout=subprocess.PIPE, text=True, check=True)
        took = time.monotonic() - began
        used = [cpu([pid]) - had for pid, had in zip(workers, before, strict=True)]
    got = json.loads(done.stdout)
    return {
        "served": got["answered"] / seconds,
        "cpu_us": round(sum(used) / got["asked"] * 1e6, 2),
        "cores": round(sum(used) / took, 3),
        "uneven": round(max(used) / (sum(used) / len(used)), 3),
    }


@contextmanager
def _small_cores(pids: Sequence[int]) -> Iterator[None]:
    if not pids:
        yield
        return
    with small_core(f"modelcanary-bench-{pids[0]}", pids[0]), _small_cores(pids[1:]):
        yield


def section(values: dict[int, list[dict[str, float]]], where: str) -> str:
    def middle(count: int, key: str) -> float:
        several = sorted(value[key] for value in values[count])
        return several[len(several) // 2]

    alone = middle(1, "served")
    rows = []
    for count in _COUNTS:
        scale = middle(count, "served") / (count * alone)
        verdict = "" if count == 1 else "met" if scale >= _GOAL else "**missed**"
        numbers = (f"{middle(count, 'served'):,.0f}", middle(count, "cpu_us"), middle(count, "cores"))
        rows.append((count, *numbers, f"{scale:.2f}", verdict))
    heads = ("workers", "requests/s", "CPU µs per request", "cores used", "of N times one worker (goal ≥ 0.9)", "")
    return f"""## Workers

`make bench-workers`: {where}
Each worker has {_SHARE:g} of a core by the kernel's quota, so that the two cores last for all of them and the load:
a closed loop of {_CONNECTIONS} connections, 1 KiB, nothing mirrored; medians of {len(values[1])} rounds in turns. It
shows that workers do not get into each other's way; not what whole cores share with each other, caches and memory.

{report.table(heads, rows)}
"""


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.dataplane.workers", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--no-record", action="store_true")
    given = parser.parse_args()
    if not REAL_TIME:
        raise SystemExit("quotas of CPU need root")
    began = time.monotonic()
    values = measure(given.rounds, given.seconds)
    text = section(values, machine(time.monotonic() - began))
    print(text)
    if not given.no_record:
        (RESULTS / "workers.json").write_text(json.dumps(values, indent=1) + "\n")
        keep("workers", text)


if __name__ == "__main__":
    main()
