"""`make soak`: does the sidecar stay as it is over an hour's worth of requests, all of them mirrored and scored?

Ten minutes at 1,000 requests/s and as long at 5,000/s: 3,600,000 requests in all. Memory and loop lag are read every
five seconds, over the admin port and /proc. `--minutes 2 1` is a shorter one.

Writes bench/results/soak.json and its part of bench/RESULTS.md, unless --no-record.
"""

import argparse
import json
import subprocess
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from bench.dataplane import models, payload, programs, report, sidecar
from bench.dataplane.machine import machine
from bench.dataplane.measuring import CONNECTIONS
from bench.dataplane.processes import LOAD_CORE, RANK, Stage, cpu, memory
from bench.dataplane.programs import Programs
from bench.dataplane.proxies import Mirror
from bench.dataplane.sidecar import Ledger, Sidecar
from bench.sections import keep

RESULTS = Path(__file__).resolve().parent.parent / "results"
_RATES = (1000, 5000)
_EVERY = 5.0
_SETTLED = 0.2  # of a phase, after which memory is expected to stay


@dataclass(frozen=True, slots=True)
class Phase:
    rate: int
    seconds: float
    answered: int
    failed: int
    scored: int
    dropped: int
    most_lag_ms: float  # of those that were seen
    cpu_us: float  # per request
    p99_us: float
    memory_mb: list[float]

    @property
    def growth_mb(self) -> float:
        """Of the last quarter's median over the first quarter's, behind what fills at the beginning."""
        settled = self.memory_mb[int(len(self.memory_mb) * _SETTLED) :]
        quarter = max(1, len(settled) // 4)
        return sorted(settled[-quarter:])[quarter // 2] - sorted(settled[:quarter])[quarter // 2]


def run_phase(
    found: Programs, folder: Path, stage: Stage, ledger: Ledger, ours: Sidecar, rate: int, seconds: float
) -> Phase:
    request = payload.write(folder, 1024)
    before = _counts(ledger, ours)
    used = cpu(ours.running.pids)
    command = [
        found.load,
        str(ours.running.port),
        str(request),
        str(CONNECTIONS),
        "0",
        str(seconds),
        str(rate),
        str(rate),
    ]
    load = stage.start(LOAD_CORE, command, stdout=subprocess.PIPE)
    lags, sizes = [0.0], []
    while load.poll() is None:
        time.sleep(_EVERY)
        lags.append(ours.metric("loop_lag_seconds"))
        sizes.append(round(memory(ours.running.pids), 1))
        print(f"  {rate}/s, {sizes[-1]} MiB, lag {lags[-1] * 1e3:.1f} ms", flush=True)
    assert load.stdout is not None
    got = json.loads(load.stdout.read())
    used = cpu(ours.running.pids) - used
    time.sleep(3.0)  # for the last pairs to be sent, and the counts of what was dropped
    after = _counts(ledger, ours)
    return Phase(
        rate,
        seconds,
        got["answered"],
        got["errors"] + got["wrong"] + got["unanswered"] + got["unsent"],
        after[0] - before[0],
        after[1] - before[1],
        round(max(lags) * 1e3, 2),
        round(used / got["asked"] * 1e6, 1),
        got["p99"],
        sizes,
    )


def _counts(ledger: Ledger, ours: Sidecar) -> tuple[int, int]:
    counts = ledger.counts(ours.canary)
    return counts["pairs"], sum(counts["dropped"].values())


def section(phases: list[Phase], where: str) -> str:
    heads = (
        "requests/s",
        "for",
        "answered",
        "failed",
        "scored",
        "CPU µs",
        "p99 µs",
        "MiB, first → last",
        "growth, MiB",
    )
    heads += ("most lag, ms",)
    rows = [
        (
            f"{phase.rate:,}",
            f"{phase.seconds / 60:g} min",
            f"{phase.answered:,}",
            phase.failed,
            f"{phase.scored:,}",
            phase.cpu_us,
            phase.p99_us,
            f"{phase.memory_mb[0]:.1f} → {phase.memory_mb[-1]:.1f}",
            f"{phase.growth_mb:+.1f}",
            phase.most_lag_ms,
        )
        for phase in phases
    ]
    asked = sum(phase.rate * phase.seconds for phase in phases)
    return f"""## {asked / 3.6e6:.0%} of an hour's worth of requests at 1,000/s

`make soak`: {where}
One sidecar as it ships, everything mirrored and scored by a real ledger. Growth is that of the median of the last
quarter over that of the first, after the first fifth. What the loop's lag was at most includes what other work on the
machine took meanwhile.

{report.table(heads, rows)}
"""


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.dataplane.soak", description=__doc__)
    parser.add_argument("--minutes", type=float, nargs=2, default=[10.0, 10.0], help="of the one rate and of the other")
    parser.add_argument("--rank", type=int, default=RANK, help="among real-time processes, as root")
    parser.add_argument("--no-record", action="store_true")
    given = parser.parse_args()
    found = programs.find()
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as name, Stage(given.rank) as stage:
        folder = Path(name)
        ledger = Ledger(stage, folder / "ledger")
        model, shadow = (models.start(stage, found, folder, role) for role in ("baseline", "candidate"))
        with Stage(given.rank) as inner:
            ours = sidecar.start(inner, ledger, model, Mirror(shadow, 100))
            phases = [
                run_phase(found, folder, inner, ledger, ours, rate, minutes * 60)
                for rate, minutes in zip(_RATES, given.minutes, strict=True)
            ]
    text = section(phases, machine(time.monotonic() - began))
    print(text)
    if not given.no_record:
        rows = [asdict(phase) | {"growth_mb": round(phase.growth_mb, 1)} for phase in phases]
        (RESULTS / "soak.json").write_text(json.dumps(rows, indent=1) + "\n")
        keep("soak", text)


if __name__ == "__main__":
    main()
