"""Builds images into archives in the cache: those whose content has not changed are there already.

Called by the command line and by tests that need images. The archives' names go by their content, so that several
working copies share one cache.
"""

import fcntl
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from images.engines import Engine, choose
from images.places import Places, project
from images.recipes import Recipe

#: Archives of an image that are kept, the newest.
_KEPT = 4


@dataclass(frozen=True, slots=True)
class Built:
    name: str
    reference: str  # by which a pod names it
    archive: Path


def build(places: Places, recipes: Iterable[Recipe]) -> list[Built]:
    """One process at a time. Raises ImageError."""
    places.cache.mkdir(parents=True, exist_ok=True)
    with _alone(places.cache / "build.lock"):
        engine = choose(places)
        return [_build(places, engine, recipe) for recipe in recipes]


def _build(places: Places, engine: Engine, recipe: Recipe) -> Built:
    digest = recipe.digest(f"{type(engine).__name__} {engine.base()} {places.epoch}")
    reference = f"localhost/{recipe.name}:{project()['version']}-{digest}"
    archive = places.cache / f"{recipe.name}-{digest}.tar"
    if archive.is_file():
        archive.touch()  # it is in use: not among the oldest
    else:
        started = time.monotonic()
        print(f"building {reference} …", file=sys.stderr, flush=True)
        unfinished = archive.with_suffix(".unfinished")
        unfinished.unlink(missing_ok=True)
        with tempfile.TemporaryDirectory(prefix="modelcanary-image-") as context:
            recipe.write(Path(context))
            engine.build(recipe, Path(context), reference, unfinished)
        unfinished.rename(archive)
        print(f"built {archive} in {time.monotonic() - started:.0f} s", file=sys.stderr, flush=True)
        _forget_old(places, recipe.name, archive)
    return Built(recipe.name, reference, archive)


def _forget_old(places: Places, name: str, newest: Path) -> None:
    pattern = f"{name}-{'[0-9a-f]' * 12}.tar"
    archives = sorted(places.cache.glob(pattern), key=lambda path: path.stat().st_mtime, reverse=True)
    for archive in archives[_KEPT:]:
        if archive != newest:
            archive.unlink()


@contextmanager
def _alone(lock: Path) -> Iterator[None]:
    with lock.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
