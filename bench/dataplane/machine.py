"""Where, when and how calmly something was measured: a sentence for bench/RESULTS.md."""

import os
import platform
import subprocess
from pathlib import Path

from bench.dataplane import shipped
from bench.dataplane.processes import REAL_TIME


def machine(seconds: float) -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    names = [line.partition(":")[2].strip() for line in lines if "model name" in line]
    head = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    calm = "at real-time priority" if REAL_TIME else "at normal priority"
    where = f"{os.cpu_count()} cores ({names[0] if names else platform.machine()}), Linux {platform.release()}"
    return (
        f"{where}, sources of {head.stdout.strip() or 'no commit'}, the sidecar "
        f"on Python {shipped.version()} with what its image has; "
        f"{seconds / 60:.0f} minutes {calm}, load average at the end {os.getloadavg()[0]:.1f}: what is above 2 is "
        "other work on the same cores."
    )
