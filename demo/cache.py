"""Things that are built once and kept outside of the tree: environments of model servers, trained models.

Called by `environments` and `models`. What exists under its final name is whole: it is built beside it, under
a lock, and renamed.
"""

import fcntl
import hashlib
import os
import shutil
from collections.abc import Callable
from pathlib import Path


def cache_root() -> Path:
    """`$MODELCANARY_CACHE`, else `~/.cache/modelcanary`."""
    return Path(os.environ.get("MODELCANARY_CACHE") or "~/.cache/modelcanary").expanduser()


def key_of(*parts: bytes | str) -> str:
    """A short name for what something is built from: other parts, another name."""
    digest = hashlib.sha256()
    for part in parts:
        content = part.encode() if isinstance(part, str) else part
        digest.update(len(content).to_bytes(8, "big") + content)
    return digest.hexdigest()[:12]


def built(place: Path, build: Callable[[Path], None]) -> Path:
    """The folder `place`, made by `build(a folder beside it)` unless it is there already."""
    if place.is_dir():
        return place
    place.parent.mkdir(parents=True, exist_ok=True)
    with open(place.with_name(place.name + ".lock"), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if place.is_dir():  # another demo made it while this one waited
            return place
        partial = place.with_name(place.name + ".partial")
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir()
        build(partial)
        partial.rename(place)
    return place
