"""The network that a cluster lives in: a namespace of its own without a way out, where there is root for one.

Called by `control_plane` and `node`. Nothing in the namespace can be reached from the machine, and nothing in it
reaches the machine or beyond, so tests may use fixed ports and addresses. Without root the API server alone still
runs, on ports of 127.0.0.1 that the kernel chooses.
"""

import ctypes
import os
import shutil
import socket
import subprocess
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from tests.cluster.errors import ClusterError

_CLONE_NEWNET = 0x40000000


class Network(Protocol):
    def inside(self, command: Sequence[str]) -> list[str]:
        """The command, to be run in this network."""

    def connect(self, address: tuple[str, int], timeout: float) -> socket.socket:
        """A connection from this network, used from wherever the caller is."""

    def port(self, usual: int) -> int:
        """A port to listen on."""


@dataclass(frozen=True, slots=True)
class Loopback:
    """The machine's own network."""

    def inside(self, command: Sequence[str]) -> list[str]:
        return list(command)

    def connect(self, address: tuple[str, int], timeout: float) -> socket.socket:
        return socket.create_connection(address, timeout)

    def port(self, usual: int) -> int:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            chosen: int = probe.getsockname()[1]
        return chosen


@dataclass(frozen=True, slots=True)
class Namespace:
    """The network namespace of the process `holder`, which does nothing but to hold it; with mounts, those too."""

    holder: int
    mounts: bool = False

    @property
    def path(self) -> Path:
        return Path(f"/proc/{self.holder}/ns/net")

    def inside(self, command: Sequence[str]) -> list[str]:
        # nsenter and not `ip netns exec`: that remounts /sys and hides the cgroup mounts from the kubelet.
        more = [f"--mount=/proc/{self.holder}/ns/mnt"] if self.mounts else []
        return ["nsenter", f"--net={self.path}", *more, *command]

    def connect(self, address: tuple[str, int], timeout: float) -> socket.socket:
        made: list[socket.socket] = []
        failed: list[OSError] = []

        def in_a_thread_of_its_own() -> None:
            # A thread that has entered the namespace ends with its connection; the caller's stays where it was.
            try:
                _enter(self.path)
                made.append(socket.create_connection(address, timeout))
            except OSError as error:
                failed.append(error)

        thread = threading.Thread(target=in_a_thread_of_its_own)
        thread.start()
        thread.join()
        if failed:
            raise failed[0]
        return made[0]

    def port(self, usual: int) -> int:
        return usual

    def run(self, *command: str) -> None:
        run = subprocess.run(self.inside(command), capture_output=True, text=True, timeout=30, check=False)
        if run.returncode:
            raise ClusterError(f"{' '.join(command)} failed in the cluster's network: {run.stderr.strip()}")


#: What a process that holds a namespace runs. It ends when it is told to, or with the machine.
HOLDER = ("unshare", "--net", "--", "sleep", "infinity")
#: With mounts of its own too, which pods share among themselves (a kubelet needs that) and not with the machine.
HOLDER_OF_MOUNTS = (
    *("unshare", "--net", "--mount", "--propagation=private", "--"),
    # The names of the pods' networks are theirs alone too, so that none is left on the machine.
    *(
        "sh",
        "-c",
        "mkdir -p /run/netns && mount -t tmpfs pods /run/netns && mount --make-rshared / && exec sleep infinity",
    ),
)


def has_root() -> bool:
    """Whether a namespace can be made: root, with the commands for it."""
    return os.geteuid() == 0 and all(shutil.which(name) for name in ("unshare", "nsenter", "ip"))


def _enter(path: Path) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    with path.open("rb") as file:
        if libc.setns(file.fileno(), _CLONE_NEWNET):
            code = ctypes.get_errno()
            raise OSError(code, f"cannot enter {path}: {os.strerror(code)}")
