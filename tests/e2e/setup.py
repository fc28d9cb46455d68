"""What there must be before a scenario can begin: the images, built or in a registry of yours. Called by `__main__`."""

import json
import os
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from images.build import build as build_images
from images.errors import ImageError
from images.places import PROJECT, Places
from images.recipes import Recipe, parts
from tests.e2e.errors import E2EError

_MLSERVER = Path(__file__).with_name("mlserver")


@dataclass(frozen=True, slots=True)
class Images:
    archives: Sequence[Path]
    values: Path  # of the chart, which name the images
    python: str  # one that has a Python: for the light models, and for users
    mlserver: str


def build() -> Images:
    """Those that have not changed are there already. Raises E2EError."""
    places = Places.of_environment()
    servers = PROJECT / "demo" / "servers"
    more = {name: servers / name for name in ("mlserver.txt", "train.py")}
    try:
        recipes = [*parts(places), Recipe.of_folder("modelcanary-e2e-mlserver", _MLSERVER, more)]
        operator, ledger, sidecar, mlserver = build_images(places, recipes)
    except ImageError as error:
        raise E2EError(str(error)) from error
    named = {"operator": {"image": operator.reference}, "ledger": {"image": ledger.reference}}
    values = places.cache / "e2e-values.json"
    values.write_text(json.dumps({**named, "sidecar": {"image": sidecar.reference}}))
    archives = [image.archive for image in (operator, ledger, sidecar, mlserver)]
    return Images(archives, values, sidecar.reference, mlserver.reference)


def run(command: Sequence[str], environment: Mapping[str, str]) -> int:
    """With what it says going to where ours goes."""
    return subprocess.run(command, env={**os.environ, **environment}, check=False).returncode
