"""The folder that a run's state lives in: who uses it, which run it holds, and what a restart resumes.

Called by `run`. The evidence itself is the ledger's, in a folder of its own below.
"""

import errno
import fcntl
import os
import time
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec

from modelcanary_cli.errors import InputError
from modelcanary_cli.files import write_whole

#: How long the parts of a run that was killed may take to end, seconds.
_ENDING = 20.0


@dataclass(frozen=True, slots=True)
class RunFile:
    """`run.json`: the run that the folder holds."""

    run: str
    digest: str  # of what is measured: EvidencePlan.digest
    baseline: str
    candidate: str
    startedAt: float
    epoch: int = 1  # grows with each start: the ledger refuses instructions of an older one


class StateFolder:
    """Holds the folder's lock for as long as it, or a part that was given the lock, lives."""

    def __init__(self, path: Path) -> None:
        self.path = path.absolute()
        try:
            self.ledger.mkdir(parents=True, exist_ok=True)
            # not inherited by chance, only by the parts that are handed it
            self.lock = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise InputError(
                "--state", f"{path} cannot be written ({error.strerror})", "name a folder that you may write to"
            ) from error
        self._take()

    @property
    def ledger(self) -> Path:
        return self.path / "ledger"

    @property
    def record(self) -> Path:
        return self.path / "record.json"

    def log(self, part: str) -> Path:
        return self.path / f"{part}.log"

    def begin(self, fresh: RunFile, *, new: bool) -> tuple[RunFile, str]:
        """The run to go on with, saved, and why it is a new one ('' when an earlier one is resumed)."""
        earlier = self._read()
        if earlier is None:
            why, run = "the state folder is empty", fresh
        elif new:
            why, run = "asked for by --new-run", fresh
        elif (earlier.digest, earlier.candidate) != (fresh.digest, fresh.candidate):
            same_candidate = earlier.candidate == fresh.candidate
            why = "the specification measures something else" if same_candidate else "the candidate changed"
            run = fresh
        elif earlier.baseline != fresh.baseline:
            why, run = "the baseline changed", fresh
        else:
            why, run = "", earlier
        if earlier is not None:
            run = replace(run, epoch=earlier.epoch + 1)
        write_whole(self.path / "run.json", msgspec.json.encode(run))
        if why:
            self.record.unlink(missing_ok=True)
        return run, why

    def close(self) -> None:
        os.close(self.lock)

    def _read(self) -> RunFile | None:
        path = self.path / "run.json"
        try:
            return msgspec.json.decode(path.read_bytes(), type=RunFile)
        except FileNotFoundError:
            return None
        except (OSError, msgspec.DecodeError) as error:
            raise InputError(path, f"is not a run's state ({error})", "choose another --state") from error

    def _take(self) -> None:
        """A killed run's parts keep the lock until they have ended, which is soon: then it is waited for."""
        deadline = time.monotonic() + _ENDING
        while True:
            try:
                fcntl.flock(self.lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except OSError as error:
                if error.errno not in (errno.EWOULDBLOCK, errno.EACCES):
                    raise InputError(
                        "--state", f"{self.path} cannot be locked ({error.strerror})", "use a local file system"
                    ) from error
            owner = self._owner()
            if (owner and _lives(owner)) or time.monotonic() > deadline:
                self.close()
                raise InputError(
                    "--state",
                    f"{self.path} is in use by another `modelcanary run` (process {owner or 'unknown'})",
                    "end it, or choose another folder",
                )
            time.sleep(0.1)
        os.ftruncate(self.lock, 0)
        os.pwrite(self.lock, str(os.getpid()).encode(), 0)

    def _owner(self) -> int | None:
        text = os.pread(self.lock, 32, 0).decode(errors="replace")
        return int(text) if text.isdigit() else None


def _lives(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
