"""Programs of `sidecar/live/fuzz`, which read as the live process reads; compiled into the cache where they changed.

Called by the tests of framing and by fuzzing. It must not know what is read.
"""

import os
import subprocess
from functools import cache
from pathlib import Path
from typing import Final

CRATE: Final = Path(__file__).parents[2] / "sidecar" / "live" / "fuzz"
#: What libFuzzer is told by, as rustc's coverage pass is called by cargo-fuzz; a nightly toolchain is not needed.
_COVERAGE: Final = (
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Clink-dead-code",
    "-Ccodegen-units=1",
)
_TIME: Final = 900  # seconds, on a machine that is busy with other things


class UncompiledError(Exception):
    """The text says what to install."""


@cache
def cases() -> Path:
    """Reads messages from its stdin, whole and cut."""
    return _build([], "--bin", "cases") / "cases"


@cache
def fuzzer(target: str) -> Path:
    """libFuzzer, with what it calls instrumented."""
    said = subprocess.run(["rustc", "-vV"], capture_output=True, text=True, check=True).stdout
    host = next(line.removeprefix("host: ") for line in said.splitlines() if line.startswith("host: "))
    # With a target named, the flags are for the crate and not for what builds libFuzzer.
    options = ["--features", "libfuzzer", "--target", host, "--bin", target]
    return _build([*_COVERAGE], *options, below=host) / target


def _build(flags: list[str], *options: str, below: str = "") -> Path:
    cache = Path(os.environ.get("MODELCANARY_CACHE") or Path.home() / ".cache" / "modelcanary") / "live" / "fuzz"
    command = ["cargo", "build", "--quiet", "--release", "--locked", *options]
    environment = {**os.environ, "CARGO_ENCODED_RUSTFLAGS": "\x1f".join(flags), "CARGO_TARGET_DIR": str(cache)}
    try:
        subprocess.run(command, cwd=CRATE, env=environment, check=True, capture_output=True, text=True, timeout=_TIME)
    except FileNotFoundError as error:
        raise UncompiledError("Rust's cargo is missing: https://rustup.rs says how to install it") from error
    except subprocess.CalledProcessError as error:
        hint = "; libFuzzer is C++: `apt-get install --no-install-recommends g++`" if "c++" in error.stderr else ""
        raise UncompiledError(f"{' '.join(command)} failed{hint}:\n{error.stderr[-3000:]}") from error
    return cache / below / "release"
