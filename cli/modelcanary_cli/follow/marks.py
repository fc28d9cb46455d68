"""How far each file was read, kept in a file of our own; lost, files are read again, which changes nothing.

Called by `folders`. Pure but for `load` and `save`.
"""

import hashlib
import logging
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from modelcanary_cli.errors import InputError
from modelcanary_cli.files import write_whole

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Mark:
    """As the file was when it was last looked at, and how far it was read then."""

    size: int
    changed: int  # nanoseconds since the epoch
    offset: int = 0  # of bytes, for files that grow by lines
    tail: str = ""  # a digest of what stands before `offset`: another file has come in its place where it differs
    done: bool = False

    def is_of(self, size: int, changed: int) -> bool:
        return (self.size, self.changed) == (size, changed)


@dataclass(frozen=True, slots=True)
class _Kept:
    source: str
    files: dict[str, Mark] = field(default_factory=dict)


class Marks:
    """Of one source. Without a folder, they last as long as the process."""

    def __init__(self, folder: Path | None, source: str) -> None:
        self._source = source
        self._path = None if folder is None else folder / f"{hashlib.sha256(source.encode()).hexdigest()[:32]}.json"
        self.files: dict[str, Mark] = {}

    def load(self) -> None:
        if self._path is None or not self._path.exists():
            return
        try:
            kept = msgspec.json.decode(self._path.read_bytes(), type=_Kept)
        except (OSError, msgspec.DecodeError) as error:
            log.warning("%s: how far it was read cannot be known (%s); it is read again", self._source, error)
            return
        self.files = kept.files if kept.source == self._source else {}

    def save(self) -> None:
        """A disk that is full keeps no mark, and stops nothing."""
        if self._path is None:
            return
        try:
            write_whole(self._path, msgspec.json.encode(_Kept(self._source, self.files)))
        except InputError as error:
            log.warning("%s: how far it was read is not kept: %s", self._source, error)
