"""etcd and kube-apiserver: alone they are the API that custom resources are tested on, up in seconds.

Called by the `apiserver` fixture, and by `node`, which adds the rest. `light` ends what it started, whatever
happens; a node's processes outlive the command that started them.
"""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.cluster.api import ApiClient
from tests.cluster.build import API_SERVER, build
from tests.cluster.errors import ClusterError
from tests.cluster.network import HOLDER, HOLDER_OF_MOUNTS, Loopback, Namespace, Network, has_root
from tests.cluster.pki import Authority, kubeconfig
from tests.cluster.places import Places
from tests.cluster.processes import Processes

SERVICE_CIDR = "10.96.0.0/16"


@dataclass(frozen=True, slots=True)
class ControlPlane:
    processes: Processes
    network: Network
    binaries: Path
    authority: Authority
    address: tuple[str, int]

    @property
    def server(self) -> str:
        return f"https://{self.address[0]}:{self.address[1]}"

    @property
    def kubeconfig(self) -> Path:
        return self.processes.folder / "kubeconfig"

    def client(self) -> ApiClient:
        pki = self.authority.folder
        return ApiClient(self.network, self.address, self.authority.certificate, pki / "admin.crt", pki / "admin.key")

    def kubectl(self, *arguments: str) -> list[str]:
        """A kubectl command as the cluster's admin, to be run as a subprocess."""
        return self.network.inside([str(self.binaries / "kubectl"), f"--kubeconfig={self.kubeconfig}", *arguments])


@contextmanager
def light(places: Places) -> Iterator[ControlPlane]:
    """etcd and kube-apiserver in a temporary folder; no nodes, no controllers."""
    binaries = build(places, API_SERVER)
    folder = Path(tempfile.mkdtemp(prefix="modelcanary-api-"))
    processes = Processes(folder, bound=True)
    try:
        yield start(processes, network(processes), binaries, "127.0.0.1")
    finally:
        for name in ("kube-apiserver", "etcd", "network"):
            processes.end(name)
        shutil.rmtree(folder, ignore_errors=True)


def network(processes: Processes, *, mounts: bool = False) -> Network:
    """A namespace with its loopback up, or the machine's network where there is no root."""
    if not has_root():
        return Loopback()
    holder = processes.start("network", HOLDER_OF_MOUNTS if mounts else HOLDER)
    made = Namespace(holder, mounts)
    processes.wait("network", "network namespace", lambda: _holds(holder), 10.0)
    made.run("ip", "link", "set", "lo", "up")
    return made


def start(processes: Processes, inside: Network, binaries: Path, host: str, *more: str) -> ControlPlane:
    """Starts both and returns when the API is ready. `more`: options of kube-apiserver."""
    clients, peers, secure = (inside.port(usual) for usual in (2379, 2380, 6443))
    authority = Authority(processes.folder / "pki")
    pki = authority.folder
    names = "DNS:kubernetes,DNS:kubernetes.default,DNS:kubernetes.default.svc,DNS:localhost"
    authority.issue("apiserver", "/CN=kube-apiserver", f"{names},IP:127.0.0.1,IP:10.96.0.1,IP:{host}")
    admin = authority.issue("admin", "/O=system:masters/CN=admin")
    private, public = authority.service_account_keys()
    plane = ControlPlane(processes, inside, binaries, authority, (host, secure))
    kubeconfig(plane.kubeconfig, plane.server, authority.certificate, *admin)

    etcd = f"http://127.0.0.1:{clients}"
    peer = f"http://127.0.0.1:{peers}"
    processes.start(
        "etcd",
        inside.inside(
            [
                *(str(binaries / "etcd"), f"--data-dir={processes.folder / 'etcd'}", "--unsafe-no-fsync"),
                *(f"--listen-client-urls={etcd}", f"--advertise-client-urls={etcd}", f"--listen-peer-urls={peer}"),
                *(f"--initial-advertise-peer-urls={peer}", f"--initial-cluster=default={peer}"),
            ]
        ),
    )
    processes.start(
        "kube-apiserver",
        inside.inside(
            [
                *(str(binaries / "kube-apiserver"), f"--etcd-servers={etcd}", f"--secure-port={secure}"),
                *(f"--bind-address={host}", f"--advertise-address={host}", f"--client-ca-file={authority.certificate}"),
                *(f"--tls-cert-file={pki / 'apiserver.crt'}", f"--tls-private-key-file={pki / 'apiserver.key'}"),
                *(f"--service-account-key-file={public}", f"--service-account-signing-key-file={private}"),
                *("--service-account-issuer=https://kubernetes.default.svc", "--allow-privileged=true"),
                *(f"--service-cluster-ip-range={SERVICE_CIDR}", "--authorization-mode=Node,RBAC"),
                *more,
            ]
        ),
    )
    client = plane.client()

    def ready() -> bool:
        try:
            return client.request("GET", "/readyz")[0] == 200
        except (ClusterError, OSError):
            return False

    processes.wait("etcd", "etcd", lambda: True)
    processes.wait("kube-apiserver", "API", ready)
    client.close()
    return plane


def _holds(holder: int) -> bool:
    """The holder makes its namespaces first, and then becomes `sleep`."""
    try:
        return Path(f"/proc/{holder}/comm").read_text().strip() == "sleep"
    except OSError:
        return False
