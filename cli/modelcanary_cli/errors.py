"""What the command line raises, and the exit codes that it ends with.

Raised everywhere in this package, turned into one line on stderr by `main`. Knows nothing of click.
"""

from enum import IntEnum
from pathlib import Path


class ExitCode(IntEnum):
    """What a script reads. A crash is none of the first four: it must not look like a verdict."""

    PROMOTE = 0
    ROLL_BACK = 1
    UNDECIDED = 2
    BAD_INPUT = 3
    DIFFERS = 4
    UNAVAILABLE = 69  # EX_UNAVAILABLE of sysexits.h: the API server, or the ledger, does not answer
    INTERNAL = 70  # EX_SOFTWARE of sysexits.h
    INTERRUPTED = 130
    BROKEN_PIPE = 141


class CliError(Exception):
    """Base of every error of the command line; its text is one line that names the remedy."""

    exit_code = ExitCode.BAD_INPUT


class InputError(CliError):
    """A file cannot be used: names the file, the place in it, what is wrong and what would be right."""

    def __init__(self, source: str | Path, problem: str, remedy: str) -> None:
        super().__init__(f"{source}: {problem}; {remedy}")
        self.source = str(source)
        self.problem = problem
        self.remedy = remedy
