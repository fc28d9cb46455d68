"""Stand-ins for a model and its candidate, on the load's core."""

import subprocess
from pathlib import Path

from bench.dataplane import payload
from bench.dataplane.processes import LOAD_CORE, Stage
from bench.dataplane.programs import Programs


def start(
    stage: Stage,
    programs: Programs,
    folder: Path,
    role: str,
    mode: str = "ok",
    delay_us: int = 2000,
    classes: int = payload.CLASSES,
) -> int:
    """A stand-in's port. `role`: whose answers it gives; `mode`: what it does instead, see programs/model.c."""
    answer = payload.answer_file(folder, role, classes)
    process = stage.start(LOAD_CORE, [programs.model, mode, str(delay_us), str(answer)], stdout=subprocess.PIPE)
    assert process.stdout is not None
    return int(process.stdout.readline())
