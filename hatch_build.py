"""Compiles the sidecar's live process (`sidecar/live`, Rust) and puts it into what is built of the project.

Called by hatchling for wheels and editable installs, and by the Makefile (`python hatch_build.py`) after the sources
changed. What was compiled is kept in $MODELCANARY_CACHE/live by the digest of its sources, next to the list of the
crates that are in it. It must not know what the binary does.

The binary is for Linux alone: elsewhere the wheel has none, and all but the sidecar works.
"""

import fcntl
import hashlib
import json
import os
import re
import shutil
import struct
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

NAME = "modelcanary-live"
#: Where the package looks for it.
PLACE = f"modelcanary_sidecar/bin/{NAME}"
#: Names a binary that is already built: no toolchain is needed then.
VARIABLE = "MODELCANARY_LIVE_BINARY"
_CRATE = "sidecar/live"
#: Compiled binaries that are kept, the newest.
_KEPT = 8
_MACHINES = {62: "x86_64", 183: "aarch64"}  # ELF's numbers
_TOOLCHAIN = (
    "the sidecar's live process is compiled with Rust's cargo, 1.82 or newer, which is not there: install it"
    f" (https://rustup.rs) and try again, or name a binary that is already built by {VARIABLE};"
    " released wheels and images bring it"
)


class LiveError(Exception):
    """The binary cannot be had; the text says why, and what to do."""


@dataclass(frozen=True, slots=True)
class Compiled:
    binary: Path
    contents: Path | None  # the crates in it, as CycloneDX; a binary that was named may come without


class CustomBuildHook(BuildHookInterface[Any]):
    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        if not sys.platform.startswith("linux"):
            return
        try:
            compiled = compile_live(Path(self.root))
            tag = wheel_tag(compiled.binary.read_bytes())
        except LiveError as error:
            self.app.abort(str(error))
            return
        if version == "editable":
            install(compiled, Path(self.root))
            return
        build_data["pure_python"] = False
        build_data["tag"] = tag
        build_data["force_include"][str(compiled.binary)] = PLACE
        if compiled.contents is not None:
            build_data["sbom_files"].append(str(compiled.contents))


def install(compiled: Compiled, root: Path) -> Path:
    """Into the working copy, in one step: processes may be running the one that was there."""
    target = root / "sidecar" / PLACE
    target.parent.mkdir(exist_ok=True)
    if not target.is_file() or target.read_bytes() != compiled.binary.read_bytes():
        unfinished = target.with_suffix(f".{os.getpid()}")
        shutil.copyfile(compiled.binary, unfinished)
        unfinished.chmod(0o755)
        unfinished.rename(target)
    os.utime(target)  # for make: it is newer than its sources
    return target


def wheel_tag(binary: bytes) -> str:
    """For systems that can run it: of its processor, with the C library that its symbols ask for, or a newer one."""
    if binary[:4] != b"\x7fELF" or len(binary) < 20:
        raise LiveError(f"what {VARIABLE} names is no program of Linux")
    (machine,) = struct.unpack_from("<H", binary, 18)
    if machine not in _MACHINES:
        raise LiveError(f"wheels are made for {' and '.join(_MACHINES.values())}, not for ELF machine {machine}")
    needed = [int(minor) for minor in re.findall(rb"\x00GLIBC_2\.(\d+)(?=[\x00.])", binary)]
    # Without any it is linked statically, and runs on whatever there is: 2.17 is the oldest that has a tag of its own.
    return f"py3-none-manylinux_2_{max([17, *needed])}_{_MACHINES[machine]}"


def compile_live(root: Path) -> Compiled:
    """As it is in the cache already, if nothing changed. Raises LiveError."""
    named = os.environ.get(VARIABLE)
    if named:
        binary = Path(named).resolve()
        if not binary.is_file():
            raise LiveError(f"{VARIABLE} names {named}, which is no file")
        contents = binary.with_name(f"{NAME}.cdx.json")
        return Compiled(binary, contents if contents.is_file() else None)
    crate = root / _CRATE
    if shutil.which("cargo") is None:
        raise LiveError(_TOOLCHAIN)
    version = _toolchain(crate)
    cache = Path(os.environ.get("MODELCANARY_CACHE") or Path.home() / ".cache" / "modelcanary") / "live"
    made = cache / _digest(crate, version)
    compiled = Compiled(made / NAME, made / f"{NAME}.cdx.json")
    if not compiled.binary.is_file():
        cache.mkdir(parents=True, exist_ok=True)
        with _alone(cache / "build.lock"):  # cargo's folder is that of all working copies, its result the last one's
            if not compiled.binary.is_file():
                print(f"compiling {NAME} (about a minute) …", file=sys.stderr, flush=True)
                _compile(crate, cache / "target", version, made)
                _forget_old(cache, made)
    os.utime(made)  # it is in use: not among the oldest
    return compiled


def _toolchain(crate: Path) -> str:
    """What rustc says of itself."""
    version = _run(["rustc", "--version", "--verbose"], crate)
    with (crate / "Cargo.toml").open("rb") as file:
        needed = tomllib.load(file)["package"]["rust-version"]
    found = re.search(r"^release: (\d+)\.(\d+)", version, re.MULTILINE)
    if found is None or [int(number) for number in found.groups()] < [int(number) for number in needed.split(".")]:
        raise LiveError(
            f"Rust {needed} or newer is needed, and this is {version.splitlines()[0]}: see https://rustup.rs"
        )
    return version


def _compile(crate: Path, target: Path, version: str, made: Path) -> None:
    # No path of this machine may be in it. cargo names the crate's own files relatively.
    home = os.environ.get("CARGO_HOME") or Path.home() / ".cargo"
    flags = [*os.environ.get("RUSTFLAGS", "").split(), f"--remap-path-prefix={home}=/cargo"]
    environment = {**os.environ, "CARGO_ENCODED_RUSTFLAGS": "\x1f".join(flags), "CARGO_TARGET_DIR": str(target)}
    build = ["cargo", "build", "--quiet", "--release", "--locked", "--message-format=json-render-diagnostics"]
    messages = [json.loads(line) for line in _run(build, crate, environment).splitlines()]
    (built,) = (message["executable"] for message in messages if message.get("executable"))
    platform = next(line.removeprefix("host: ") for line in version.splitlines() if line.startswith("host: "))
    asked = ["cargo", "metadata", "--quiet", "--locked", "--format-version=1", f"--filter-platform={platform}"]
    made.mkdir(exist_ok=True)
    (made / f"{NAME}.cdx.json").write_text(contents(json.loads(_run(asked, crate, environment))))
    unfinished = made / "unfinished"
    shutil.copyfile(built, unfinished)
    unfinished.chmod(0o755)
    unfinished.rename(made / NAME)


def contents(metadata: dict[str, Any]) -> str:
    """The crates that are linked into the binary, with licences and notices, as CycloneDX; from what cargo says."""
    packages = {package["id"]: package for package in metadata["packages"]}
    needs = {node["id"]: node["deps"] for node in metadata["resolve"]["nodes"]}
    linked, follow = set(), [metadata["resolve"]["root"]]
    while follow:
        for needed in needs[follow.pop()]:
            package = packages[needed["pkg"]]
            runs_then = any("proc-macro" in target["kind"] for target in package["targets"])  # while it is compiled
            linking = any(kind["kind"] is None for kind in needed["dep_kinds"])
            if linking and not runs_then and package["id"] not in linked:
                linked.add(package["id"])
                follow.append(package["id"])
    found = sorted((packages[one] for one in linked), key=lambda package: (package["name"], package["version"]))
    version = packages[metadata["resolve"]["root"]]["version"]
    about = {"component": {"type": "application", "name": NAME, "version": version}}
    head = {"bomFormat": "CycloneDX", "specVersion": "1.5", "version": 1, "metadata": about}
    return json.dumps({**head, "components": [_component(package) for package in found]}, indent=1) + "\n"


def _component(package: dict[str, Any]) -> dict[str, Any]:
    name, version, folder = package["name"], package["version"], Path(package["manifest_path"]).parent
    notices = [
        {"license": {"name": path.name, "text": {"content": path.read_text(errors="replace")}}}
        for path in sorted(folder.glob("*"))
        if path.is_file() and re.match(r"(LICEN[CS]E|COPYING|NOTICE|COPYRIGHT|UNLICENSE)\b", path.name, re.IGNORECASE)
    ]
    # Before SPDX had an OR, crates wrote a slash.
    licence = re.sub(r"\s*/\s*", " OR ", package["license"] or "NOASSERTION")
    return {
        **{"type": "library", "name": name, "version": version, "purl": f"pkg:cargo/{name}@{version}"},
        "licenses": [{"expression": licence}],
        "evidence": {"licenses": notices},
    }


def _digest(crate: Path, version: str) -> str:
    """Of all that decides what the binary is."""
    state = hashlib.sha256(f"{version}\0{os.environ.get('RUSTFLAGS', '')}\0".encode())
    state.update(Path(__file__).read_bytes())
    for path in (crate / "Cargo.toml", crate / "Cargo.lock", *sorted((crate / "src").rglob("*.rs"))):
        state.update(f"{path.relative_to(crate)}\0{path.stat().st_size}\0".encode())
        state.update(path.read_bytes())
    return state.hexdigest()[:16]


def _run(command: Sequence[str], folder: Path, environment: dict[str, str] | None = None) -> str:
    try:
        done = subprocess.run(
            command, cwd=folder, env=environment, capture_output=True, text=True, timeout=1800, check=False
        )
    except FileNotFoundError as error:
        raise LiveError(_TOOLCHAIN) from error
    except subprocess.TimeoutExpired as error:
        raise LiveError(f"{' '.join(command)} took more than half an hour") from error
    if done.returncode:
        raise LiveError(f"{' '.join(command)} failed:\n{done.stderr.strip()[-3000:]}")
    return done.stdout


def _forget_old(cache: Path, newest: Path) -> None:
    made = sorted(cache.glob("[0-9a-f]" * 16), key=lambda path: path.stat().st_mtime, reverse=True)
    for path in made[_KEPT:]:
        if path != newest:
            shutil.rmtree(path)


@contextmanager
def _alone(lock: Path) -> Iterator[None]:
    with lock.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def main() -> int:
    root = Path(__file__).resolve().parent
    try:
        install(compile_live(root), root)
    except LiveError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
