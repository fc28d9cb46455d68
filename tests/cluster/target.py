"""Which cluster the tests use: the user's, where the user says so; else kind; else a node of the project's own.

Called by the command line, and by tests that need more than an API server.
"""

import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from tests.cluster.errors import ClusterError
from tests.cluster.node import Node, environment
from tests.cluster.places import Places, users_kubeconfig

_KIND = "modelcanary-test"
_UP_SECONDS = 600


class Target(Protocol):
    @property
    def kubeconfig(self) -> Path: ...

    def up(self) -> None:
        """Returns when the cluster takes pods."""

    def load(self, archive: Path) -> None:
        """Makes the images of a docker archive known to the nodes."""

    def command(self, arguments: Sequence[str]) -> list[str]:
        """A command as it is run to reach the cluster."""

    def environment(self) -> Mapping[str, str]:
        """The environment that goes with `command`."""

    def down(self) -> None:
        """Ends what `up` started."""


@dataclass(frozen=True, slots=True)
class Yours:
    """A cluster that was there before, and stays."""

    kubeconfig: Path

    def up(self) -> None:
        if not self.kubeconfig.is_file():
            raise ClusterError(f"MODELCANARY_KUBECONFIG names {self.kubeconfig}, which is no file")
        _run("kubectl", f"--kubeconfig={self.kubeconfig}", "get", "--raw=/readyz", seconds=30)

    def load(self, archive: Path) -> None:
        raise ClusterError(f"{archive.name} cannot be loaded into a cluster of yours: push its image to your registry")

    def command(self, arguments: Sequence[str]) -> list[str]:
        return list(arguments)

    def environment(self) -> Mapping[str, str]:
        return environment(self.kubeconfig, None)

    def down(self) -> None:
        """Nothing was started."""


@dataclass(frozen=True, slots=True)
class Kind:
    places: Places

    @property
    def kubeconfig(self) -> Path:
        return self.places.cache / "kind.kubeconfig"

    def up(self) -> None:
        self.places.cache.mkdir(parents=True, exist_ok=True)
        _run(*self._kind("create", "cluster"), "--kubeconfig", str(self.kubeconfig), "--wait=5m", seconds=_UP_SECONDS)

    def load(self, archive: Path) -> None:
        _run(*self._kind("load", "image-archive"), str(archive), seconds=_UP_SECONDS)

    def command(self, arguments: Sequence[str]) -> list[str]:
        return list(arguments)

    def environment(self) -> Mapping[str, str]:
        return environment(self.kubeconfig, None)

    def down(self) -> None:
        _run(*self._kind("delete", "cluster"), seconds=_UP_SECONDS)
        self.kubeconfig.unlink(missing_ok=True)

    def _kind(self, *arguments: str) -> tuple[str, ...]:
        return ("kind", *arguments, "--name", _KIND)


@dataclass(frozen=True, slots=True)
class Own:
    node: Node

    @property
    def kubeconfig(self) -> Path:
        return self.node.kubeconfig

    def up(self) -> None:
        self.node.up()

    def load(self, archive: Path) -> None:
        self.node.load(archive)

    def command(self, arguments: Sequence[str]) -> list[str]:
        return self.node.command(arguments)

    def environment(self) -> Mapping[str, str]:
        return environment(self.kubeconfig, self.node.places.binaries)

    def down(self) -> None:
        self.node.down()


def choose(places: Places) -> Target:
    path = users_kubeconfig()
    if path is not None:
        return Yours(path)
    if shutil.which("kind") and _has_engine():
        return Kind(places)
    return Own(Node(places))


def _has_engine() -> bool:
    """Whether a container engine answers; a command that is there without its service does not count."""
    for engine in ("docker", "podman"):
        if shutil.which(engine) and _try(engine, "info", seconds=20).returncode == 0:
            return True
    return False


def _run(*command: str, seconds: float) -> None:
    run = _try(*command, seconds=seconds)
    if run.returncode:
        raise ClusterError(f"{' '.join(command)} failed: {run.stderr.strip()[-1000:]}")


def _try(*command: str, seconds: float) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=seconds, check=False)
    except FileNotFoundError as error:
        raise ClusterError(f"{command[0]} is not there; install it") from error
    except subprocess.TimeoutExpired as error:
        raise ClusterError(f"{' '.join(command)} took more than {seconds:.0f} s") from error
