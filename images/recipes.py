"""What goes into an image: the files that it is built from, and a digest that changes with them.

Called by the command line, and by whoever has images of its own to build the same way. It starts nothing but the
wheel's build.
"""

import hashlib
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from images.errors import ImageError
from images.places import PROJECT, Places, project

#: The project's images, and the extras of the distribution that each has.
PARTS: Mapping[str, Sequence[str]] = {"operator": ("operator", "cli"), "ledger": ("ledger",), "sidecar": ("sidecar",)}
_FOLDER = Path(__file__).resolve().parent


@dataclass(frozen=True, slots=True)
class Recipe:
    """`files`: by their place in the folder that the image is built in; `Containerfile` is among them."""

    name: str
    files: Mapping[str, Path]
    target: str = ""  # of a Containerfile with several
    arguments: Mapping[str, str] = field(default_factory=dict)

    @staticmethod
    def of_folder(name: str, folder: Path, more: Mapping[str, Path] | None = None) -> "Recipe":
        """All files of a folder, and `more` of elsewhere."""
        files = {str(path.relative_to(folder)): path for path in _files(folder)}
        if "Containerfile" not in files:
            raise ImageError(f"{folder} has no Containerfile, so nothing says how {name} is built; add one")
        return Recipe(name, {**files, **(more or {})})

    def digest(self, base: str) -> str:
        """Of all that decides what the image is."""
        state = hashlib.sha256(f"{self.target}\0{base}\0{sorted(self.arguments.items())}\0".encode())
        for place, source in sorted(self.files.items()):
            content = source.read_bytes()
            state.update(f"{place}\0{source.stat().st_mode & 0o111:o}\0{len(content)}\0".encode())
            state.update(content)
        return state.hexdigest()[:12]

    def write(self, folder: Path) -> None:
        """The folder that the image is built in."""
        for place, source in self.files.items():
            target = folder / place
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, target)
            target.chmod(0o755 if source.stat().st_mode & 0o111 else 0o644)


def parts(places: Places, wheels: Sequence[Path] = ()) -> list[Recipe]:
    """The project's own three, of wheels for several processors or of one built here.

    Raises ImageError where a lock lacks what the project asks for.
    """
    for part in PARTS:
        missing = unlocked(part)
        if missing:
            raise ImageError(f"images/locks/{part}.txt has no {', '.join(sorted(missing))}; run: make locks")
    files = {name: _FOLDER / name for name in ("Containerfile", "install.py", *(f"locks/{part}.txt" for part in PARTS))}
    files |= {path.name: path for path in wheels or (wheel(places),)}
    return [Recipe(f"modelcanary-{part}", files, target=part) for part in PARTS]


def unlocked(part: str) -> set[str]:
    """What the project declares for a part, and its lock has not. An image without it would not start."""
    declared = {*project()["dependencies"]}
    for extra in PARTS[part]:
        declared |= {*project()["optional-dependencies"][extra]}
    names = {re.split(r"[^\w.-]", line, maxsplit=1)[0].lower() for line in declared} - {"modelcanary"}
    lock = (_FOLDER / "locks" / f"{part}.txt").read_text()
    return names - set(re.findall(r"^([\w.-]+)==", lock, re.MULTILINE))


def wheel(places: Places) -> Path:
    """The project, built; the same bytes for the same sources."""
    into = places.cache / "wheel" / hashlib.sha256(str(PROJECT).encode()).hexdigest()[:12]
    shutil.rmtree(into, ignore_errors=True)
    command = [sys.executable, "-m", "uv", "build", "--quiet", "--wheel", "--out-dir", str(into), str(PROJECT)]
    environment = {**os.environ, "SOURCE_DATE_EPOCH": str(places.epoch)}
    run = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False, env=environment)
    if run.returncode:
        raise ImageError(f"the project's wheel could not be built: {run.stderr.strip()[-1000:]}")
    (built,) = into.glob("*.whl")
    return built


def _files(folder: Path) -> Iterable[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
