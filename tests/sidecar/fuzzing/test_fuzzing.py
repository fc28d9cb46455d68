"""Fuzzing for as long as a test may take, with a seed; `make fuzz` does more. And what was once found stays mended."""

import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
from tests.sidecar.fuzzing.__main__ import CORPUS, NATIVE, replay
from tests.sidecar.fuzzing.targets import TARGETS

FOUND = {folder.name: sorted(folder.iterdir()) for folder in sorted(CORPUS.iterdir())}
RUNS = {"requests": 200_000, "answers": 200_000, "decoded": 80_000, "understood": 80_000}
_ATHERIS = pytest.mark.skipif(find_spec("atheris") is None, reason="atheris has wheels for Linux on x86-64 only")


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("target", FOUND)
def test_what_was_once_found_stays_mended(target: str) -> None:
    replay(target, FOUND[target])


def test_two_hundred_thousand_inputs_are_tried() -> None:
    assert sum(RUNS.values()) >= 200_000
    assert RUNS.keys() == TARGETS.keys() | set(NATIVE)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("target", [*NATIVE, *(pytest.param(target, marks=_ATHERIS) for target in TARGETS)])
def test_nothing_breaks_it(target: str, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.sidecar.fuzzing", target, "--runs", str(RUNS[target])]
    ended = subprocess.run([*command, "--findings", str(tmp_path)], capture_output=True, text=True, check=False)
    said = ended.stdout[-3000:] + ended.stderr[-3000:]
    assert ended.returncode == 0, said
    tried = re.search(r"number_of_executed_units: (\d+)", ended.stderr)
    assert tried is not None, said
    assert int(tried[1]) >= RUNS[target]
