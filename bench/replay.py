"""How long `modelcanary replay` takes for many long runs in one file: Parquet, one call, from start to exit.

`make bench-replay` runs it and writes bench/results/replay.json and its part of bench/RESULTS.md. The files are
made anew from a seed: every run has an equal, a slightly different, a worse or a much worse candidate in turn.
"""

import argparse
import json
import os
import platform
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from bench.sections import keep
from numpy.typing import NDArray

HERE = Path(__file__).resolve().parent
CLASSES = 10
NOISES = (0.0, 0.15, 0.3, 0.6)
Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Measured:
    what: str
    megabytes: float
    seconds: float
    cpu: float
    memory: float  # MiB at most
    load: float
    verdicts: dict[str, int]


def answers(rng: np.random.Generator, n: int, noise: float) -> tuple[Floats, Floats, NDArray[np.int64]]:
    labels = rng.integers(0, CLASSES, n)
    logits = rng.normal(size=(n, CLASSES))
    logits[np.arange(n), labels] += 2
    worse = logits + noise * rng.normal(size=(n, CLASSES))
    return _softmax(logits), _softmax(worse), labels


def _softmax(logits: Floats) -> Floats:
    p = np.exp(logits - logits.max(axis=1, keepdims=True))
    return p / p.sum(axis=1, keepdims=True)


def as_lists(run: str, baseline: Floats, candidate: Floats, labels: NDArray[np.int64]) -> pa.Table:
    n = len(labels)
    ends = pa.array(np.arange(0, n * CLASSES + 1, CLASSES, dtype=np.int32))
    lists = [pa.ListArray.from_arrays(ends, pa.array(p.ravel())) for p in (baseline, candidate)]
    return pa.table({**_common(run, n), "baseline": lists[0], "candidate": lists[1], "label": labels})


def as_losses(run: str, baseline: Floats, candidate: Floats, labels: NDArray[np.int64]) -> pa.Table:
    n = len(labels)
    rows = np.arange(n)
    losses = [-np.log(p[rows, labels]) for p in (baseline, candidate)]
    return pa.table({**_common(run, n), "baseline_loss": losses[0], "candidate_loss": losses[1]})


def _common(run: str, n: int) -> dict[str, object]:
    return {"run": [run] * n, "id": [f"{run}-{i}" for i in range(n)], "ts": 1.79e9 + np.arange(n) * 0.5}


def write(path: Path, runs: int, pairs: int, table: Callable[..., pa.Table]) -> None:
    writer = None
    for run in range(runs):
        part = table(f"run-{run:03}", *answers(np.random.default_rng(run), pairs, NOISES[run % len(NOISES)]))
        writer = writer or pq.ParquetWriter(path, part.schema)
        writer.write_table(part)
    if writer is not None:
        writer.close()


def measure(what: str, file: Path) -> Measured:
    out = file.with_suffix(".out")
    command = [sys.executable, "-m", "modelcanary_cli", "replay", str(file), "--json"]
    started = time.perf_counter()
    pid = os.posix_spawn(
        command[0],
        command,
        os.environ,
        file_actions=[(os.POSIX_SPAWN_OPEN, 1, str(out), os.O_WRONLY | os.O_CREAT, 0o644)],
    )
    _, status, usage = os.wait4(pid, 0)
    seconds = time.perf_counter() - started
    if os.waitstatus_to_exitcode(status) != 0:
        raise SystemExit("replay failed")
    verdicts = Counter(json.loads(line)["verdict"] for line in out.read_text().splitlines())
    return Measured(
        what,
        file.stat().st_size / 2**20,
        seconds,
        usage.ru_utime + usage.ru_stime,
        usage.ru_maxrss / 1024,
        os.getloadavg()[0],
        dict(sorted(verdicts.items())),
    )


def section(found: list[Measured], runs: int, pairs: int) -> str:
    lines = [
        "## Replay",
        "",
        f"`make bench-replay`: {runs} runs of {pairs:,} pairs each in one Parquet file and one call of",
        "`modelcanary replay --json`, from the start of the process to its end. Made from seeds; a quarter of the",
        f"candidates is equal, the others are worse by different degrees. {os.cpu_count()} cores,",
        f"{platform.machine()}; the load average says how busy they were with other work too.",
        "",
        "| file | MiB | seconds | seconds of CPU | memory at most, MiB | load average | verdicts |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in found:
        verdicts = ", ".join(f"{verdict} {count}" for verdict, count in row.verdicts.items())
        lines.append(
            f"| {row.what} | {row.megabytes:,.0f} | {row.seconds:.1f} | {row.cpu:.1f} | {row.memory:,.0f} "
            f"| {row.load:.1f} | {verdicts} |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=300)
    parser.add_argument("--pairs", type=int, default=20_000)
    parser.add_argument("--limit", type=float, default=60.0, help="seconds that a call may take")
    chosen = parser.parse_args()
    found = []
    forms = {f"lists of {CLASSES} probabilities, and labels": as_lists, "losses": as_losses}
    with tempfile.TemporaryDirectory() as folder:
        for what, table in forms.items():
            file = Path(folder) / "pairs.parquet"
            write(file, chosen.runs, chosen.pairs, table)
            found.append(measure(what, file))
    text = section(found, chosen.runs, chosen.pairs)
    print(text)
    if (chosen.runs, chosen.pairs) == (300, 20_000):
        (HERE / "results").mkdir(exist_ok=True)
        (HERE / "results" / "replay.json").write_text(json.dumps([asdict(row) for row in found], indent=1) + "\n")
        keep("replay", text)
    if any(row.seconds > chosen.limit for row in found):
        raise SystemExit(f"took more than {chosen.limit:g} s")


if __name__ == "__main__":
    main()
