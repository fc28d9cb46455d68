"""Runs a program for the builders, and says what it said when it failed."""

import subprocess
from collections.abc import Sequence

from images.errors import ImageError


def run(command: Sequence[str], *, seconds: float = 1800.0) -> str:
    """Its standard output. Raises ImageError with the end of what it wrote."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=seconds, check=False)
    except FileNotFoundError as error:
        raise ImageError(f"{command[0]} is not there; install it") from error
    except subprocess.TimeoutExpired as error:
        raise ImageError(f"{' '.join(command)} took more than {seconds:.0f} s") from error
    if done.returncode:
        raise ImageError(f"{' '.join(command)} failed:\n{(done.stdout + done.stderr).strip()[-3000:]}")
    return done.stdout


def answers(*command: str) -> bool:
    """Whether a program is there and does what is asked within 20 s."""
    try:
        return subprocess.run(command, capture_output=True, timeout=20, check=False).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False
