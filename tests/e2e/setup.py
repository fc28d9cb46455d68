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
from tests.cluster.build import build as build_programs
from tests.cluster.places import Places as ClusterPlaces
from tests.e2e.errors import E2EError

_MLSERVER = Path(__file__).with_name("mlserver")


@dataclass(frozen=True, slots=True)
class Images:
    archives: Sequence[Path]
    chart: Mapping[str, Mapping[str, str]]  # the chart's values that name them
    pods: Mapping[str, str]  # of the scenarios' own pods: `python` and `mlserver`


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
    chart = {"operator": {"image": operator.reference}, "ledger": {"image": ledger.reference}}
    chart |= {"sidecar": {"image": sidecar.reference}}
    archives = [image.archive for image in (operator, ledger, sidecar, mlserver)]
    found = Images(archives, chart, {"python": sidecar.reference, "mlserver": mlserver.reference})
    _kept(places).write_text(json.dumps({"chart": found.chart, "pods": found.pods}))
    return found


def built() -> Images:
    """What was built last: in the cluster's network nothing can be fetched to build with."""
    try:
        kept = json.loads(_kept(Places.of_environment()).read_text())
    except OSError as error:
        raise E2EError(f"the images are not built: {error}; leave --installed out") from error
    return Images((), kept["chart"], kept["pods"])


def _kept(places: Places) -> Path:
    return places.cache / "e2e.json"


def helm() -> None:
    """Beside the node's programs, where `Target.environment` finds it."""
    build_programs(ClusterPlaces.of_environment(), ("helm",))


def run(command: Sequence[str], environment: Mapping[str, str]) -> int:
    """With what it says going to where ours goes."""
    return subprocess.run(command, env={**os.environ, **environment}, check=False).returncode
