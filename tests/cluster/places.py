"""Where the harness keeps things: what is built once (the cache) and what runs now (the state).

Called by all other modules of the harness. The environment is read here only.
"""

import os
from dataclasses import dataclass
from pathlib import Path

#: The last minor version whose kubelet starts on machines with cgroup v1; go.mod in `binaries/` pins the same.
KUBERNETES = "v1.34.4"
GO_MODULE = Path(__file__).with_name("binaries")


@dataclass(frozen=True, slots=True)
class Places:
    cache: Path  # outside of the tree: the binaries, and the container images of the node
    state: Path  # of the one node that `up` starts

    @property
    def binaries(self) -> Path:
        return self.cache / KUBERNETES

    @property
    def images(self) -> Path:
        """Kept from node to node; one containerd at a time has a folder, so nodes side by side have one each."""
        return self.cache / f"containerd-{self.state.name}"

    @property
    def cgroup(self) -> str:
        """The node's own: a kubelet ends what it does not know below its root."""
        return self.state.name

    @staticmethod
    def of_environment() -> "Places":
        base = os.environ.get("MODELCANARY_CACHE") or Path.home() / ".cache" / "modelcanary"
        state = os.environ.get("MODELCANARY_CLUSTER_STATE") or "/run/modelcanary-cluster"
        return Places(cache=Path(base) / "cluster", state=Path(state))


def users_kubeconfig() -> Path | None:
    """The cluster that the user says may be used, and filled with test objects; never found by itself."""
    path = os.environ.get("MODELCANARY_KUBECONFIG")
    return Path(path) if path else None
