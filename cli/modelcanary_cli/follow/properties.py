"""Files of `name=value` lines that the admin mounts: how to connect to brokers, or to an object store.

Called by `topics` and `folders`. Their values are secrets: no message shows one.
"""

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
