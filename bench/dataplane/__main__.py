"""`python -m bench.dataplane`: the sidecar and others before the same model, in turns; `make bench-dataplane`.

Load and models are on the first core, the proxy on the second, with all of its processes: the sidecar's scorer shares
that core with its live process, and its CPU is the sidecar's. The ledger is a process of its own on the first.

Writes bench/results/dataplane.json (the cells), dataplane-rounds.json (what they are made of), dataplane.png, and its
part of bench/RESULTS.md; --quick writes dataplane-goals in the same way, so that the goals can be looked at again
without half an hour for the rest.
"""

import argparse
import fcntl
import json
import os
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from bench.dataplane import cells, paired, plot, programs, report
from bench.dataplane.goals import Results, judged
from bench.dataplane.machine import machine
from bench.dataplane.measuring import Bench, details
from bench.dataplane.processes import REAL_TIME, Stage
from bench.sections import keep

RESULTS = Path(__file__).resolve().parent.parent / "results"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.dataplane", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="the cells of the goals only, 7 minutes")
    parser.add_argument("--paired", action="store_true", help="latency in every fault against its own without mirror")
    parser.add_argument("--rounds", type=int, default=16, help="of --paired")
    parser.add_argument("--faults", nargs="+", default=cells.FAULTS, choices=cells.FAULTS, help="of --paired")
    parser.add_argument("--scale", type=float, default=1.0, help="of the rounds, and of each one's time")
    parser.add_argument("--only", help="groups with this in their name; prints, and writes nothing")
    parser.add_argument("--lock", type=Path, help="held for a group, or a round, where several share the machine")
    given = parser.parse_args()
    if (os.cpu_count() or 1) < 2:
        raise SystemExit("two cores are needed: one for the proxy, one for all else")
    found = programs.find()
    if REAL_TIME:
        os.setpriority(os.PRIO_PROCESS, 0, -15)  # else it is late to start what it measures, and the rounds take longer
    with tempfile.TemporaryDirectory() as folder, Stage() as stage:
        began = time.monotonic()
        if given.paired:
            bench = Bench(found, stage, Path(folder))
            seconds = paired.SECONDS * given.scale
            compared = paired.measure(bench, given.faults, given.rounds, seconds, lambda: _held(given.lock))
            text = paired.section(compared, given.rounds, seconds, machine(time.monotonic() - began))
            print(text)
            if given.only is None:
                (RESULTS / "dataplane-paired.json").write_text(json.dumps(compared, indent=1) + "\n")
                keep("dataplane-paired", text)
            return
        bench = Bench(found, stage, Path(folder))
        measured: list[dict[str, Any]] = []
        for group in cells.QUICK if given.quick else cells.FULL:
            if given.only is None or given.only in group.name:
                rounds = max(1, round(group.rounds * given.scale))
                shorter = replace(group, rounds=rounds, seconds=group.seconds * given.scale)
                with _held(given.lock):
                    measured += [details(subject) for subject in bench.measure(shorter)]
    results = Results(measured)
    name = "dataplane-goals" if given.quick else "dataplane"
    command = "QUICK=1 make bench-dataplane" if given.quick else "make bench-dataplane"
    if given.scale != 1.0:
        command += f"` with `--scale {given.scale:g}"
    text = section(results, found.versions, name, command, machine(time.monotonic() - began))
    print(text)
    if given.only is None:
        _write(f"{name}.json", [detail["cell"] for detail in results.usual])
        _write(f"{name}-rounds.json", measured)
        plot.draw(results, RESULTS / f"{name}.png")
        keep(name, text)


@contextmanager
def _held(lock: Path | None) -> Iterator[None]:
    if lock is None:
        yield
        return
    with open(lock, "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _write(name: str, rows: Sequence[object]) -> None:
    lines = ",\n ".join(json.dumps(row) for row in rows)
    (RESULTS / name).write_text(f"[\n {lines}\n]\n")


def section(results: Results, versions: dict[str, str], name: str, command: str, where: str) -> str:
    title = "The data plane" if name == "dataplane" else "The data plane: the cells of the goals"
    goals = report.goals_table(judged(results))
    others = ", ".join(f"{name} {version}" for name, version in versions.items())
    return f"""## {title}

`{command}`: {where}
{others}.

The proxy has one core with all of its processes (the sidecar's scorer among them: its CPU is in the sidecar's), load,
models, shadow and ledger the other. Rounds of all proxies of a table in turns; the better quartile of the rounds.
Latency counts from when a request was due, so that a stall counts for all who would have come. A busy proxy's latency
is that of 32 waiting clients. CPU counts all processes, until 0.4 s after the last answer. Memory is what is the
processes' own, and the files they map as if nobody shared them. The sidecar is as it ships, but for
`maxPairsPerSecond`; 'scored' is the share of requests whose pair the ledger has, of 10 classes. The others read
nothing of what the shadow answers.

{goals}

![CPU per request, throughput, and latency while the shadow fails](results/{name}.png)

{report.cell_tables(results)}
"""


if __name__ == "__main__":
    main()
