"""Fuzzes one target with atheris: `python -m tests.sidecar.fuzzing TARGET --runs N`, or replays one input.

An input that fails is written beside the corpus and printed, with the command that replays it; it belongs into
`tests/sidecar/corpus/TARGET` from then on, where the tests replay it.
"""

import argparse
import sys
import tempfile
from pathlib import Path

CORPUS = Path(__file__).parents[1] / "corpus"
#: Bytes of one input. Pipelined requests beyond 64 are refused, so that cuts could make a difference.
_LENGTHS = {"requests": 1024, "answers": 1024, "decoded": 2048, "understood": 2048}
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
        from tests.sidecar.fuzzing.targets import TARGETS

        TARGETS[given.target](given.replay.read_bytes())
        return
    import atheris

    with atheris.instrument_imports(include=["modelcanary_sidecar"]):
        from tests.sidecar.fuzzing.seeds import seeds
        from tests.sidecar.fuzzing.targets import TARGETS

    target = TARGETS[given.target]

    def one(data: bytes) -> None:
        try:
            target(data)
        except BaseException:
            found = Path(given.findings).resolve() / f"{given.target}.finding"
            found.write_bytes(data)
            command = f"python -m tests.sidecar.fuzzing {given.target} --replay {found}"
            print(f"\nthis input fails: {data!r}\n  replay it: {command}")
            sys.stdout.flush()
            raise

    with tempfile.TemporaryDirectory() as folder:
        for number, seed in enumerate([*seeds(given.target), *_kept(given.target)]):
            (Path(folder) / f"{number:05d}").write_bytes(seed)
        options = [f"-runs={given.runs}", f"-seed={given.seed}", f"-max_len={_LENGTHS[given.target]}"]
        options += [f"-timeout={_ONE_INPUT}", f"-rss_limit_mb={_MEMORY}", f"-artifact_prefix={given.findings}/"]
        options += ["-print_final_stats=1", "-verbosity=0", "-reduce_inputs=0"]
        atheris.Setup([sys.argv[0], *options, folder], one)
        atheris.Fuzz()


def _kept(target: str) -> list[bytes]:
    return [path.read_bytes() for path in sorted((CORPUS / target).glob("*"))]


if __name__ == "__main__":
    main(sys.argv[1:])
