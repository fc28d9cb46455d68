"""The sidecar as its image has it: an optimised Python, and none but the locked packages.

An environment for development is no measure of it: httpx loads what draws its command line where that is installed, and
a Python that was compiled without its profile takes a fifth longer.
"""

import subprocess
import sys
from functools import cache
from pathlib import Path

from demo.cache import built, cache_root, key_of
from demo.environments import install
from demo.errors import DemoError

_ROOT = Path(__file__).resolve().parent.parent.parent
_LOCK = _ROOT / "images/locks/sidecar.txt"
#: Debian's, which images that are built here stand on; what is released stands on the official image's.
_SYSTEM = Path("/usr/bin/python3")
_VERSIONS = ((3, 11), (3, 13))


@cache
def command() -> tuple[str, ...]:
    """What starts it, before its options. SystemExit where it cannot be installed."""
    python = _python()
    place = cache_root() / "bench" / f"sidecar-{key_of(_LOCK.read_bytes(), python, version())}"
    try:
        installed = built(place, lambda folder: install(folder, python, _LOCK))
    except DemoError as error:
        raise SystemExit(f"the sidecar cannot be installed: {error}") from error
    sources = f"PYTHONPATH={_ROOT / 'gate'}:{_ROOT / 'sidecar'}"
    return ("env", sources, str(installed / "bin/python"), "-m", "modelcanary_sidecar.main")


@cache
def version() -> str:
    """Of its Python: `3.11.2`."""
    return _version(_python())


@cache
def _python() -> str:
    if _SYSTEM.exists() and _VERSIONS[0] <= tuple(map(int, _version(str(_SYSTEM)).split(".")))[:2] <= _VERSIONS[1]:
        return str(_SYSTEM.resolve())
    return sys.executable


def _version(python: str) -> str:
    return subprocess.run([python, "-V"], capture_output=True, text=True, check=True).stdout.split()[-1]
