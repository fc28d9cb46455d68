"""Files of `name=value` lines that the admin mounts: how to connect to brokers, or to an object store.

Called by `topics` and `folders`, and by `following`, which starts a source anew when one of them is replaced. Their
values are secrets: no message shows one.
"""

import hashlib
from collections.abc import Collection
from pathlib import Path

from modelcanary_cli.errors import InputError


def read_properties(path: Path | None, known: Collection[str] | None = None) -> dict[str, str]:
    """Nothing without a file. Raises InputError naming file, line and remedy; `known`: the names that there are."""
    if path is None:
        return {}
    try:
        lines = path.read_text().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = (error.strerror if isinstance(error, OSError) else None) or "it is no text"
        raise InputError(path, f"cannot be read ({reason})", "mount the Secret that has it") from error
    found: dict[str, str] = {}
    for number, line in enumerate(lines, start=1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        name, equals, value = (part.strip() for part in line.partition("="))
        if not equals or not name:
            raise InputError(path, f"line {number} is not name=value", "write one property a line")
        if known is not None and name not in known:
            raise InputError(path, f"line {number}: {name!r} is not known", f"known here: {', '.join(sorted(known))}")
        found[name] = value
    return found


def digest(path: Path | None) -> str:
    """Of the file, and of the certificates and keys that it names: all of them are replaced when they are renewed.

    What cannot be read counts as empty: the source itself says that it is missing.
    """
    if path is None:
        return ""
    found = hashlib.sha256(_content(path))
    try:
        named = [value for name, value in read_properties(path).items() if name.endswith(".location")]
    except InputError:
        named = []
    for each in named:
        found.update(hashlib.sha256(_content(Path(each))).digest())
    return found.hexdigest()


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes() if path.is_file() else b""
    except OSError:
        return b""
