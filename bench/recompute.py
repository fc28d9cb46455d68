"""How long `modelcanary recompute` takes for millions of pairs with labels in another file, and how much memory.

`make bench-recompute` runs it and writes bench/results/recompute.json and its part of bench/RESULTS.md. The files
are made anew from a seed: pairs in order of arrival, labels in another order, a tenth of them missing.
"""

import argparse
import json
import os
import platform
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import yaml
from bench.sections import keep

HERE = Path(__file__).resolve().parent
CLASSES = 10
SLICE = 250_000
SPEC = {
    "apiVersion": "modelcanary.io/v1alpha1",
    "kind": "ModelCanary",
    "metadata": {"name": "bench"},
    "spec": {
        "model": {"classes": [f"c{i}" for i in range(CLASSES)], "paths": ["/"]},
        "labels": {"maturity": "1h", "maxDelay": "24h"},
        "guards": [{"name": "errors", "type": "errorRate", "max": "+1%"}],
    },
}


def write(folder: Path, pairs: int) -> None:
    rng = np.random.default_rng(3)
    writers: list[pq.ParquetWriter] = []
    for start in range(0, pairs, SLICE):
        n = min(SLICE, pairs - start)
        labels = rng.integers(0, CLASSES, n)
        logits = rng.normal(size=(2, n, CLASSES)).astype(np.float32)
        logits[:, np.arange(n), labels] += 2
        p = np.exp(logits - np.log(np.exp(logits).sum(axis=2, keepdims=True))).astype(np.float64)
        ids = pa.array([f"{start + i:012x}-{start + i:08d}-request" for i in range(n)])
        ends = pa.array(np.arange(0, n * CLASSES + 1, CLASSES, dtype=np.int32))
        times = 1.79e9 + (start + np.arange(n)) * 0.01
        latencies = rng.gamma(2.0, 0.01, size=(2, n))
        columns = {
            "id": ids,
            "index": np.zeros(n, dtype=np.int32),
            "ts": times,
            "baseline": pa.ListArray.from_arrays(ends, pa.array(p[0].ravel())),
            "candidate": pa.ListArray.from_arrays(ends, pa.array(p[1].ravel())),
            "baselineOutcome": ["ok"] * n,
            "candidateOutcome": ["ok"] * n,
            "baselineLatency": latencies[0],
            "candidateLatency": latencies[1],
        }
        order = rng.permutation(n)[: n - n // 10]
        known = {
            "id": ids.take(pa.array(order)),
            "label": pa.array(labels[order]),
            "labelledAt": times[order] + rng.exponential(900.0, len(order)),
        }
        tables = [pa.table(columns), pa.table(known)]
        names = ("pairs.parquet", "labels.parquet")
        writers = writers or [pq.ParquetWriter(folder / n, t.schema) for n, t in zip(names, tables, strict=True)]
        for writer, table in zip(writers, tables, strict=True):
            writer.write_table(table)
    for writer in writers:
        writer.close()
    (folder / "spec.yaml").write_text(yaml.safe_dump(SPEC))


def measure(folder: Path) -> dict[str, object]:
    out = folder / "out.json"
    command = [sys.executable, "-m", "modelcanary_cli", "recompute", str(folder / "pairs.parquet")]
    command += ["--spec", str(folder / "spec.yaml"), "--labels", str(folder / "labels.parquet"), "--json"]
    started = time.perf_counter()
    opened = [(os.POSIX_SPAWN_OPEN, 1, str(out), os.O_WRONLY | os.O_CREAT, 0o644)]
    pid = os.posix_spawn(command[0], command, os.environ, file_actions=opened)
    _, status, usage = os.wait4(pid, 0)
    seconds = time.perf_counter() - started
    if os.waitstatus_to_exitcode(status) not in (0, 1, 2):
        raise SystemExit("recompute failed")
    return {
        "seconds": round(seconds, 1),
        "cpu_seconds": round(usage.ru_utime + usage.ru_stime, 1),
        "memory_mb": round(usage.ru_maxrss / 1024),
        "load": os.getloadavg()[0],
        "file_mb": round((folder / "pairs.parquet").stat().st_size / 2**20),
        **json.loads(out.read_text()),
    }


def section(found: dict[str, object]) -> str:
    return "\n".join(
        [
            "## Recompute",
            "",
            f"`make bench-recompute`: {found['pairs']:,} pairs of {CLASSES} classes in one Parquet file "
            f"({found['file_mb']:,} MiB), {found['labelled']:,} labels in time",
            "from another, in another order; one call of `modelcanary recompute`, from the start of the process to its",
            f"end. {os.cpu_count()} cores, {platform.machine()}; the load average says how busy they were otherwise.",
            "",
            "| seconds | seconds of CPU | memory at most, MiB | load average |",
            "|---|---|---|---|",
            f"| {found['seconds']} | {found['cpu_seconds']} | {found['memory_mb']:,} | {found['load']:.1f} |",
        ]
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=5_000_000)
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        print(f"making {chosen.pairs:,} pairs", flush=True)
        write(Path(folder), chosen.pairs)
        found = measure(Path(folder))
    text = section(found)
    print(text)
    if chosen.pairs == 5_000_000:
        (HERE / "results" / "recompute.json").write_text(json.dumps(found, indent=1) + "\n")
        keep("recompute", text)


if __name__ == "__main__":
    main()
