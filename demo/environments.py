"""Environments of the model servers: one for each, since their pins exclude each other, from pinned lists.

Called by `__main__` and `models`. The environment is renamed when it is whole, so its scripts, which hold the
old path, are not to be used: `python(...)` is.
"""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from demo.cache import built, cache_root, key_of
from demo.errors import DemoError

SERVERS = Path(__file__).parent / "servers"
#: MLServer 1.7.1 refuses Python 3.13: then uv finds an older one, or fetches it.
NEWEST = (3, 12)
OLDER = ">=3.11,<3.13"
PATIENCE = 900.0


@dataclass(frozen=True, slots=True)
class Environment:
    name: str  # as people know it
    pins: Path
    building: tuple[tuple[str, str], ...] = ()  # environment variables for what has no wheel and is compiled

    def installed(self, say: Callable[[str], None]) -> Path:
        """The environment's Python; installs it on first use."""
        fits = sys.version_info[:2] <= NEWEST
        python = sys.executable if fits else OLDER
        settings = [f"{name}={value}" for name, value in self.building]
        key = key_of(self.pins.read_bytes(), "{}.{}".format(*sys.version_info) if fits else OLDER, *settings)
        place = cache_root() / "servers" / f"{self.pins.stem}-{key}"

        def build(partial: Path) -> None:
            say(f"Installing {self.name}, once, into {place} ...")
            began = time.monotonic()
            install(partial, python, self.pins, dict(self.building))
            say(f"Installed {self.name} in {time.monotonic() - began:.0f} s")

        return built(place, build) / "bin/python"


MLSERVER = Environment("MLServer 1.7.1", SERVERS / "mlserver.txt")
KSERVE = Environment("KServe 0.21.0", SERVERS / "kserve.txt")


def install(place: Path, python: str, pins: Path, building: Mapping[str, str] | None = None) -> None:
    """An environment of that Python with what is pinned in a file. Raises DemoError."""
    _uv("venv", "--quiet", "--allow-existing", "--python", python, str(place))
    packages = ("--python", str(place / "bin/python"), "-r", str(pins))
    _uv("pip", "install", "--quiet", *packages, building=building)


def _uv(*arguments: str, building: Mapping[str, str] | None = None) -> None:
    command = [sys.executable, "-m", "uv", *arguments]
    variables = {**os.environ, **(building or {})}
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False, env=variables)
    except subprocess.TimeoutExpired as error:
        raise DemoError(f"`uv {' '.join(arguments[:2])}` did not end within {PATIENCE:.0f} s; try again") from error
    if done.returncode != 0:
        raise DemoError(f"`uv {' '.join(arguments)}` failed: {done.stderr.strip()[-2000:]}")
