"""Fuzzes one target: `python -m tests.sidecar.fuzzing TARGET --runs N`, or replays one input.

What reads requests and answers is native, and driven by libFuzzer (`sidecar/live/fuzz`); what decodes is Python, and
driven by atheris, which is libFuzzer too. An input that fails is written beside the corpus and named, with the command
that replays it; it belongs into `tests/sidecar/corpus/TARGET` from then on, where the tests replay it.
"""

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

CORPUS = Path(__file__).parents[1] / "corpus"
#: Bytes of one input.
_LENGTHS = {"requests": 1024, "answers": 1024, "decoded": 2048, "understood": 2048}
NATIVE = ("requests", "answers")
_ONE_INPUT = 60  # seconds on the clock, beyond which an input counts as a hang: machines may be busy
_MEMORY = 1024  # MiB


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.sidecar.fuzzing")
    parser.add_argument("target", choices=_LENGTHS)
    parser.add_argument("--runs", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--findings", default=".", help="folder for inputs that fail")
    parser.add_argument("--replay", type=Path, help="a file with one input, which is tried and nothing else")
    given = parser.parse_args(arguments)
    if given.replay is not None:
        replay(given.target, [given.replay])
        return
    options = [f"-runs={given.runs}", f"-seed={given.seed}", f"-max_len={_LENGTHS[given.target]}"]
    options += [f"-timeout={_ONE_INPUT}", f"-rss_limit_mb={_MEMORY}", f"-artifact_prefix={given.findings}/"]
    options += ["-print_final_stats=1", "-verbosity=0", "-reduce_inputs=0"]
    with tempfile.TemporaryDirectory() as folder:
        if given.target in NATIVE:
            _write_seeds(given.target, Path(folder))
            _fuzz_native(given.target, [*options, folder], Path(given.findings))
        else:
            _fuzz_python(given.target, [*options, folder], Path(given.findings))


def replay(target: str, inputs: Sequence[Path]) -> None:
    """Fails where one of them does."""
    if target in NATIVE:
        from tests.sidecar.native import fuzzer

        subprocess.run([fuzzer(target), "-verbosity=0", *inputs], check=True)
        return
    from tests.sidecar.fuzzing.targets import TARGETS

    for path in inputs:
        TARGETS[target](path.read_bytes())


def _fuzz_native(target: str, options: Sequence[str], findings: Path) -> None:
    from tests.sidecar.native import fuzzer

    ended = subprocess.run([fuzzer(target), *options], check=False)
    if ended.returncode:
        print(f"\nthe input that fails is in {findings.resolve()}; replay it:")
        print(f"  python -m tests.sidecar.fuzzing {target} --replay FILE", flush=True)
        sys.exit(ended.returncode)


def _fuzz_python(name: str, options: Sequence[str], findings: Path) -> None:
    import atheris

    with atheris.instrument_imports(include=["modelcanary_sidecar"]):
        from tests.sidecar.fuzzing.targets import TARGETS

    target = TARGETS[name]

    def one(data: bytes) -> None:
        try:
            target(data)
        except BaseException:
            found = findings.resolve() / f"{name}.finding"
            found.write_bytes(data)
            command = f"python -m tests.sidecar.fuzzing {name} --replay {found}"
            print(f"\nthis input fails: {data!r}\n  replay it: {command}")
            sys.stdout.flush()
            raise

    _write_seeds(name, Path(options[-1]))  # only now: it imports what is to be instrumented
    atheris.Setup([sys.argv[0], *options], one)
    atheris.Fuzz()


def _write_seeds(target: str, folder: Path) -> None:
    from tests.sidecar.fuzzing.seeds import seeds

    kept = [path.read_bytes() for path in sorted((CORPUS / target).glob("*"))]
    for number, seed in enumerate([*seeds(target), *kept]):
        (folder / f"{number:05d}").write_bytes(seed)


if __name__ == "__main__":
    main(sys.argv[1:])
