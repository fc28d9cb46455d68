"""Measures the cells of a group in turns. Called by `__main__`, which says which groups.

Within a group all proxies are up, and one at a time is asked; the order turns round with each round. What other work
on the machine does to a figure only ever makes it worse, so of the rounds' figures the better quartile is taken.
"""

import json
import socket
import statistics
import subprocess
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from bench.dataplane import cells, models, payload, proxies, sidecar
from bench.dataplane.cells import Cell, Group
from bench.dataplane.processes import LOAD_CORE, Stage, cpu, memory, pinned
from bench.dataplane.programs import Programs
from bench.dataplane.proxies import Mirror, Running
from bench.dataplane.sidecar import Ledger, Sidecar

CONNECTIONS = 32
_WARM, _SETTLE = 0.4, 0.4  # seconds; the second for what is sent in batches
_MODES = {
    cells.FAST: "ok",
    cells.SLOW: "ok",
    cells.HUNG: "hang",
    cells.RESET: "reset",
    cells.GARBAGE: "garbage",
    cells.ENDLESS: "endless",
}
Round = dict[str, float]


@dataclass(slots=True)
class Subject:
    """A cell's proxy, up and ready, and what its rounds showed."""

    cell: Cell
    port: int
    request: Path
    running: Running | None  # None: direct
    sidecar: Sidecar | None = None
    rounds: list[Round] = field(default_factory=list)
    memory_before: float = 0.0
    memory_after: float = 0.0
    asked: float = 0.0  # requests, in all
    scored: int = 0  # pairs in the ledger
    dropped: dict[str, int] = field(default_factory=dict)  # requests that are no pairs there, by reason

    def better(self, key: str, *, more: bool = False) -> float:
        """The better quartile of the rounds; `more`: the more the better."""
        values = sorted((values[key] for values in self.rounds if key in values), reverse=more)
        return values[(len(values) - 1) // 4] if values else float("nan")

    def total(self, key: str) -> float:
        return sum(values[key] for values in self.rounds)


class Bench:
    def __init__(self, programs: Programs, stage: Stage, folder: Path) -> None:
        self.programs = programs
        self._folder = folder
        stage.spin(programs.spin)
        self.ledger = Ledger(stage, folder / "ledger")
        # Bound and not listening: it refuses, and nobody else can have it meanwhile.
        self._refusing = socket.socket()
        self._refusing.bind(("127.0.0.1", 0))

    def measure(self, group: Group) -> list[Subject]:
        subjects: list[Subject] = []
        batches = [[cell] for cell in group.cells] * group.rounds if group.alone else [list(group.cells)]
        for batch in batches:
            with Stage() as stage:
                fresh = [self.subject(stage, cell) for cell in batch]
                self._rounds(group, fresh, 1 if group.alone else group.rounds)
                for subject in fresh:
                    self.conclude(subject)
            subjects += fresh
        return _joined(subjects) if group.alone else subjects

    def _rounds(self, group: Group, subjects: Sequence[Subject], rounds: int) -> None:
        for number in range(rounds):
            for subject in subjects if number % 2 == 0 else subjects[::-1]:
                self.slice(subject, group.seconds, number)
                last = subject.rounds[-1]
                cell = subject.cell
                what = f"{cell.proxy} {cell.mirror_pct}% {cell.shadow or ''}"
                print(
                    f"  {group.name} {number + 1}/{rounds} {what:24} {last['served']:8.0f}/s p50 {last['p50']:8.0f}"
                    f" p99 {last['p99']:8.0f} cpu {last.get('cpu', 0):6.1f} errors {last['failed']:.0f}",
                    flush=True,
                )

    def subject(self, stage: Stage, cell: Cell) -> Subject:
        """A cell's proxy, started, with models of its own."""
        request = payload.write(self._folder, cell.body_bytes)
        delay = cell.upstream_ms * 1000
        model = models.start(stage, self.programs, self._folder, "baseline", "ok", delay, cell.classes)
        if cell.proxy == cells.DIRECT:
            return Subject(cell, model, request, None)
        mirror = None
        if cell.shadow is not None:
            shadow = int(self._refusing.getsockname()[1])
            if cell.shadow != cells.REFUSING:
                late = 2_000_000 if cell.shadow == cells.SLOW else delay
                mode = _MODES[cell.shadow]
                shadow = models.start(stage, self.programs, self._folder, "candidate", mode, late, cell.classes)
            mirror = Mirror(shadow, cell.mirror_pct)
        ours = None
        if cell.proxy == cells.SIDECAR:
            ours = sidecar.start(stage, self.ledger, model, mirror, classes=cell.classes, saturated=not cell.rate)
            running = ours.running
        else:
            running = proxies.start(cell.proxy, self.programs, stage, self._folder, model, mirror)
        # Connections, and code that is run for the first time.
        asked = self.ask(running.port, request, 0.2, cell.rate, 99)["asked"]
        time.sleep(_SETTLE)
        return Subject(cell, running.port, request, running, ours, memory_before=memory(running.pids), asked=asked)

    def ask(self, port: int, request: Path, seconds: float, rate: int, seed: int, warm: float = 0.0) -> Round:
        numbers = (CONNECTIONS, warm, seconds, rate, seed)
        command = [self.programs.load, str(port), str(request), *map(str, numbers)]
        done = subprocess.run(
            pinned(LOAD_CORE, command), stdout=subprocess.PIPE, text=True, timeout=seconds + 30, check=False
        )
        if done.returncode:
            raise SystemExit("the load generator cannot connect")
        return {name: float(value) for name, value in json.loads(done.stdout).items()}

    def slice(self, subject: Subject, seconds: float, seed: int) -> None:
        """Ask for some seconds, and note what it showed."""
        running = subject.running
        pids = running.pids if running else ()
        scorer = [running.scorer] if running and running.scorer else []
        before = cpu(pids), cpu(scorer)
        got = self.ask(subject.port, subject.request, seconds, subject.cell.rate, seed, _WARM)
        time.sleep(_SETTLE)
        asked = max(1.0, got["asked"])
        subject.asked += asked
        values: Round = {
            "served": got["answered"] / seconds,
            "failed": got["errors"] + got["wrong"] + got["unanswered"] + got["unsent"],
            "load_cpu": got["cpu"],
            **{quantile: got[quantile] for quantile in ("p50", "p90", "p99")},
        }
        if pids:
            values["cpu"] = (cpu(pids) - before[0]) / asked * 1e6
            values["scorer_cpu"] = (cpu(scorer) - before[1]) / asked * 1e6
        subject.rounds.append(values)

    def conclude(self, subject: Subject) -> None:
        if subject.running is not None:
            subject.memory_after = memory(subject.running.pids)
        if subject.sidecar is not None and subject.cell.mirror_pct:
            subject.scored, subject.dropped = self._settled(subject.sidecar.canary)

    def _settled(self, canary: str) -> tuple[int, dict[str, int]]:
        """Pairs in the ledger, when no more come, and what was dropped."""
        had, counts = -1, self.ledger.counts(canary)
        while counts["pairs"] != had:
            time.sleep(1.5)
            had, counts = counts["pairs"], self.ledger.counts(canary)
        return had, counts["dropped"]


def _joined(subjects: Sequence[Subject]) -> list[Subject]:
    """One of each cell, with the rounds of all that were started anew for it."""
    joined: dict[Cell, Subject] = {}
    for subject in subjects:
        first = joined.setdefault(subject.cell, subject)
        if first is not subject:
            first.rounds += subject.rounds
            first.scored += subject.scored
            first.asked += subject.asked
            first.dropped = dict(Counter(first.dropped) + Counter(subject.dropped))
            if subject.memory_after - subject.memory_before > first.memory_after - first.memory_before:
                first.memory_before, first.memory_after = subject.memory_before, subject.memory_after
    return list(joined.values())


def row(subject: Subject) -> dict[str, object]:
    """The cell and what was found, as it is kept."""
    cell = subject.cell
    proxied = subject.running is not None
    return {
        "proxy": cell.proxy,
        "mirror_pct": cell.mirror_pct,
        "shadow": cell.shadow,
        "upstream_ms": cell.upstream_ms,
        "body_bytes": cell.body_bytes,
        "rate": cell.rate,
        "served_rps": round(subject.better("served", more=True), 1),
        "cpu_us_per_request": round(subject.better("cpu"), 2) if proxied else None,
        "p50_us": round(subject.better("p50"), 1),
        "p99_us": round(subject.better("p99"), 1),
        "memory_mb": round(max(subject.memory_before, subject.memory_after), 1) if proxied else None,
        "errors": int(subject.total("failed")),
    }


def details(subject: Subject) -> dict[str, object]:
    """What the row has no field for: every round, and of the sidecar how many requests were scored."""
    kept: dict[str, object] = {
        "cell": row(subject),
        "classes": subject.cell.classes,
        "growth_mb": round(subject.memory_after - subject.memory_before, 1),
        "p99_us_median": round(statistics.median(values["p99"] for values in subject.rounds), 1),
        "rounds": [{key: round(value, 2) for key, value in values.items()} for values in subject.rounds],
    }
    if subject.sidecar is not None and subject.cell.mirror_pct:
        kept["scorer_cpu_us"] = round(subject.better("scorer_cpu"), 2)
        kept["scored_share"] = round(subject.scored / subject.asked, 4)
        kept["dropped"] = subject.dropped
    return kept
