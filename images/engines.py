"""The programs that build an image on this machine: docker, podman, or buildah where there is no engine.

Called by `build`. All of them get the same Containerfile, build arguments and secret.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from images import base
from images.commands import answers, run
from images.errors import ImageError
from images.places import Places
from images.recipes import Recipe


class Engine(Protocol):
    def base(self) -> str | None:
        """What images are built on; None: what the Containerfile says."""

    def build(self, recipe: Recipe, context: Path, reference: str, archive: Path) -> None:
        """Builds it in the folder and leaves it as a docker archive."""


@dataclass(frozen=True, slots=True)
class Docker:
    places: Places

    def base(self) -> str | None:
        return self.places.base

    def build(self, recipe: Recipe, context: Path, reference: str, archive: Path) -> None:
        epoch = {"SOURCE_DATE_EPOCH": str(self.places.epoch)}
        run(["docker", "build", *_options(self.places, recipe, self.base(), context, reference, epoch), str(context)])
        run(["docker", "save", "--output", str(archive), reference])


@dataclass(frozen=True, slots=True)
class Podman:
    places: Places

    def base(self) -> str | None:
        return self.places.base

    def build(self, recipe: Recipe, context: Path, reference: str, archive: Path) -> None:
        options = _options(self.places, recipe, self.base(), context, reference)
        run(["podman", "build", "--layers", f"--timestamp={self.places.epoch}", *options, str(context)])
        run(["podman", "save", "--format=docker-archive", "--output", str(archive), reference])


@dataclass(frozen=True, slots=True)
class Buildah:
    """With a storage of its own in the cache, and a base of Debian's packages unless the user names another."""

    places: Places

    @property
    def _command(self) -> list[str]:
        return ["buildah", f"--root={self.places.cache / 'layers'}", f"--runroot={self.places.cache / 'runs'}"]

    def base(self) -> str:
        if self.places.base:
            return self.places.base
        if not answers(*self._command, "inspect", "--type=image", base.NAME):
            base.make(self._command)
        return base.NAME

    def build(self, recipe: Recipe, context: Path, reference: str, archive: Path) -> None:
        options = _options(self.places, recipe, self.base(), context, reference)
        built = [*self._command, "build", "--quiet", "--isolation=chroot", "--layers"]
        run([*built, f"--timestamp={self.places.epoch}", *options, str(context)])
        run([*self._command, "push", "--quiet", reference, f"docker-archive:{archive}:{reference}"])


def choose(places: Places) -> Engine:
    """The first that works here."""
    for program, engine in (("docker", Docker), ("podman", Podman)):
        if answers(program, "info"):
            return engine(places)
    if answers("buildah", "version"):
        return Buildah(places)
    raise ImageError(
        "nothing here builds images: start docker or podman,"
        " or as root: apt-get install --no-install-recommends buildah debootstrap"
    )


def _options(
    places: Places,
    recipe: Recipe,
    base_image: str | None,
    context: Path,
    reference: str,
    more: Mapping[str, str] | None = None,
) -> list[str]:
    arguments = {**recipe.arguments, **({"BASE": base_image} if base_image else {}), **(more or {})}
    options = [f"--file={context / 'Containerfile'}", f"--tag={reference}"]
    options += [f"--build-arg={name}={value}" for name, value in arguments.items()]
    options += [f"--target={recipe.target}"] if recipe.target else []
    options += [f"--secret=id=certificates,src={places.certificates}"] if places.certificates else []
    return options
