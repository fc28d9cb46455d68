"""An image to build on, made of Debian's packages, for machines that have no container engine to fetch one.

Called by `engines` for buildah. It is for trying and testing: what is released stands on the official Python image.
"""

import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

from images.commands import run
from images.errors import ImageError

_SUITE = "bookworm"
NAME = f"localhost/modelcanary-base:{_SUITE}"
_PACKAGES = "python3,python3-venv,ca-certificates"
#: What no process in an image reads.
_UNUSED = ("usr/share/doc", "usr/share/man", "usr/share/locale", "usr/share/info", "var/cache/apt", "var/lib/apt/lists")


def make(buildah: Sequence[str]) -> None:
    """Into the storage of the given buildah command; a minute."""
    if shutil.which("debootstrap") is None:
        raise ImageError("debootstrap is not there, which makes the base of images; install it, or docker or podman")
    with tempfile.TemporaryDirectory(prefix="modelcanary-base-") as temporary:
        system, packed = Path(temporary) / "system", Path(temporary) / "system.tar"
        run(["debootstrap", "--variant=minbase", f"--include={_PACKAGES}", _SUITE, str(system)])
        for folder in _UNUSED:
            for path in (system / folder).glob("*"):
                if path.is_dir() and not path.is_symlink():
                    shutil.rmtree(path)
                else:
                    path.unlink()
        # Devices are the runtime's. Times stay as they are: Python's compiled modules know their sources by them.
        run(["tar", "--create", f"--file={packed}", f"--directory={system}", "--exclude=./dev/*", "."])
        container = run([*buildah, "from", "scratch"]).strip()
        run([*buildah, "add", "--quiet", container, str(packed), "/"])
        run([*buildah, "commit", "--quiet", "--rm", container, NAME])
