"""Programs of Debian packages, unpacked into the cache and run from there: real receivers for what the operator sends.

Nothing is installed. A machine without lists of packages fetches them first, for which apt-get needs root.
"""

import contextlib
import fcntl
import os
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path


def debian_program(package: str) -> Path:
    """The program that has the package's name."""
    base = os.environ.get("MODELCANARY_CACHE") or Path.home() / ".cache" / "modelcanary"
    place = Path(base) / "debian" / package
    program = place / "usr" / "bin" / package
    place.parent.mkdir(parents=True, exist_ok=True)
    with (place.parent / f"{package}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not program.is_file():
            _unpack(package, place)
    return program


def _unpack(package: str, place: Path) -> None:
    with tempfile.TemporaryDirectory(dir=place.parent) as folder:
        download = ["apt-get", "-o", "APT::Sandbox::User=root", "download", "-q", package]
        if subprocess.run(download, cwd=folder, capture_output=True, timeout=300, check=False).returncode:
            subprocess.run(["apt-get", "update", "-q"], capture_output=True, timeout=300, check=True)
            subprocess.run(download, cwd=folder, capture_output=True, timeout=300, check=True)
        (archive,) = Path(folder).glob("*.deb")
        unpacked = Path(folder) / "unpacked"
        subprocess.run(["dpkg-deb", "-x", archive, unpacked], check=True, timeout=120)
        shutil.rmtree(place, ignore_errors=True)
        unpacked.rename(place)


@contextlib.contextmanager
def running(command: Sequence[str | Path], folder: Path, listening: str) -> Iterator[int]:
    """The port that the program says, in its log, that it listens on; ended afterwards."""
    log = folder / f"{Path(command[0]).name}.log"
    with log.open("w") as output:
        process = subprocess.Popen(list(command), cwd=folder, stdout=output, stderr=subprocess.STDOUT)
    try:
        yield _port(process, log, listening)
    finally:
        process.terminate()
        process.wait(30)


def _port(process: subprocess.Popen[bytes], log: Path, listening: str, seconds: float = 60.0) -> int:
    ends = time.monotonic() + seconds
    while time.monotonic() < ends:
        found = re.search(listening, log.read_text())
        if found:
            return int(found[1])
        if process.poll() is not None:
            break
        time.sleep(0.05)
    raise AssertionError(f"it does not listen: {log.read_text()[-2000:]}")
