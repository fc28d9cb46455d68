"""Writing files whole: a reader sees the old content or the new, never half of it.

Called for records, reports and whatever else the command line leaves behind. Knows nothing of their content.
"""

import os
import tempfile
from pathlib import Path

from modelcanary_cli.errors import InputError


def refuse_unwritable(*paths: Path | None) -> None:
    """Raises InputError now for a file that could not be written after all the work."""
    for path in paths:
        if path is None:
            continue
        if path.is_dir():
            raise InputError(path, "is a folder", "name a file")
        if not os.access(path.parent, os.W_OK | os.X_OK):
            there = "is not writable" if path.parent.is_dir() else "does not exist"
            raise InputError(path, f"cannot be written: its folder {there}", "name a file in a writable folder")


def write_whole(path: Path, content: bytes) -> None:
    """Writes beside the target, then renames over it. Raises InputError when the folder does not allow it."""
    temporary: str | None = None
    try:
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        # mkstemp makes it the owner's alone; a report is for others, as the umask allows
        umask = os.umask(0)
        os.umask(umask)
        Path(temporary).chmod(0o666 & ~umask)
        Path(temporary).replace(path)
    except OSError as error:
        raise InputError(
            path,
            f"cannot be written ({error.strerror})",
            "name a file in a folder that exists and is writable",
        ) from error
    finally:
        if temporary is not None:
            Path(temporary).unlink(missing_ok=True)
