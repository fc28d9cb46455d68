"""Ten restarts of sidecars and their models under load: the short form of `make bench-drain`."""

import json
import subprocess
import sys
from pathlib import Path

PROJECT = Path(__file__).parents[2]


def test_rolling_restarts_lose_no_answer_and_no_pair() -> None:
    command = [sys.executable, "-m", "bench.drain", "--no-record", "--restarts", "10", "--rate", "150"]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=280, check=False, cwd=PROJECT)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    result = json.loads(ended.stdout[ended.stdout.index("{") :])
    assert result["failures"] == []
    assert result["lost_pairs"] == 0
    assert sum(result["requests"].values()) > 100
