"""A real Kubernetes node on this machine, without a container engine: the API, controllers, kubelet and containerd.

Called by `target`, which chooses among the ways to have a cluster. Needs root and Debian's packages of containerd.
The network is a namespace without a way out, and so are the mounts: when its processes have ended nothing is left.
"""

import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.cluster import cgroups
from tests.cluster import node_settings as settings
from tests.cluster.build import NODE, build, build_pause
from tests.cluster.control_plane import SERVICE_CIDR, ControlPlane, network, start
from tests.cluster.errors import ClusterError
from tests.cluster.images import docker_archive
from tests.cluster.network import Namespace, has_root
from tests.cluster.node_settings import ADDRESS, CNI, NAME, PAUSE
from tests.cluster.pki import Authority, kubeconfig
from tests.cluster.places import Places
from tests.cluster.processes import Processes

#: Commands that a node runs and does not build, and Debian's package of each.
_COMMANDS = {
    **{"containerd": "containerd", "ctr": "containerd", "runc": "runc", "nft": "nftables", "conntrack": "conntrack"},
    **{"iptables": "iptables", "ip": "iproute2", "nsenter": "util-linux", "mount": "mount", "openssl": "openssl"},
}
#: In containerd's log, when it takes a kubelet.
_CRI_IS_UP = b"Start streaming server"


class Node:
    def __init__(self, places: Places) -> None:
        self.places = places
        self.processes = Processes(places.state)

    @property
    def kubeconfig(self) -> Path:
        return self.places.state / "kubeconfig"

    @property
    def _socket(self) -> Path:
        return self.places.state / "containerd" / "containerd.sock"

    def build(self) -> Path:
        build_pause(self.places)
        return build(self.places, NODE)

    def up(self) -> None:
        """Returns when the node is ready."""
        check_machine()
        if self.processes.id_of("network") is not None:
            raise ClusterError(
                f"a node is up in {self.places.state} already; end it with: python -m tests.cluster down"
            )
        binaries = self.build()
        self.down()  # what an earlier node left that did not end well
        self.places.state.mkdir(parents=True, exist_ok=True)
        try:
            self._start(binaries)
        except BaseException:
            self._keep_logs()
            self.down()
            raise

    def _start(self, binaries: Path) -> None:
        processes = self.processes
        inside = network(processes, mounts=True)
        if not isinstance(inside, Namespace):
            raise ClusterError("a node needs root for its network")
        _wire(inside)
        plane = start(
            *(processes, inside, binaries, ADDRESS),
            *("--enable-admission-plugins=NodeRestriction", "--kubelet-preferred-address-types=InternalIP"),
            f"--kubelet-client-certificate={self.places.state / 'pki' / 'admin.crt'}",
            f"--kubelet-client-key={self.places.state / 'pki' / 'admin.key'}",
        )
        configs = _identities(plane)
        self._run(
            plane, "kube-controller-manager", f"--kubeconfig={configs['controller-manager']}", *_controller(plane)
        )
        self._run(plane, "kube-scheduler", f"--kubeconfig={configs['scheduler']}", "--leader-elect=false")
        self._start_containerd(inside)
        cgroups.make(self.places.cgroup)
        self._run(
            *(plane, "kubelet", f"--config={settings.kubelet(plane, self.places, self._socket)}"),
            f"--kubeconfig={configs['kubelet']}",
            *(f"--hostname-override={NAME}", f"--node-ip={ADDRESS}", f"--root-dir={self.places.state / 'kubelet'}"),
        )
        self._run(plane, "kube-proxy", f"--config={settings.proxy(plane, configs['proxy'])}")
        self._run(plane, "coredns", "-conf", str(settings.corefile(plane)))
        client = plane.client()
        processes.wait("kubelet", "ready node", lambda: _is_ready(client.request("GET", f"/api/v1/nodes/{NAME}")[1]))
        account = "/api/v1/namespaces/default/serviceaccounts/default"
        processes.wait("kube-controller-manager", "account", lambda: client.request("GET", account)[0] == 200)
        client.close()

    def load(self, archive: Path) -> None:
        """Imports the images of a docker archive."""
        self._ctr("images", "import", str(archive))

    def command(self, arguments: Sequence[str]) -> list[str]:
        """A command as it runs inside of the cluster's network."""
        holder = self.processes.id_of("network")
        if holder is None:
            raise ClusterError("no node is up; start one with: python -m tests.cluster up")
        return Namespace(holder).inside(arguments)

    def down(self) -> None:
        """Ends what `up` started, and nothing else; the cache stays."""
        processes = self.processes
        for name in ("kubelet", "kube-proxy", "coredns", "kube-scheduler", "kube-controller-manager"):
            processes.end(name)
        if processes.id_of("containerd") is not None:
            self._end_pods()
        for name in ("containerd", "kube-apiserver", "etcd", "network"):
            processes.end(name)
        cgroups.remove(self.places.cgroup)
        shutil.rmtree(self.places.state, ignore_errors=True)

    def _run(self, plane: ControlPlane, name: str, *arguments: str) -> None:
        command = [str(plane.binaries / name), *arguments]
        self.processes.start(name, plane.network.inside(command))

    def _start_containerd(self, inside: Namespace) -> None:
        state = self.places.state
        config = settings.containerd(self.places, self._socket)
        self.processes.start("containerd", inside.inside(["containerd", "-c", str(config)]))
        # It answers before its part for the kubelet does, which ends where that is not there.
        log = self.processes.log("containerd")
        self.processes.wait("containerd", "container runtime", lambda: _CRI_IS_UP in log.read_bytes())
        if PAUSE not in self._ctr("images", "ls", "-q").splitlines():
            pause = self.places.binaries / "pause"
            self.load(docker_archive(state / "pause.tar", PAUSE, {"/pause": pause}, ["/pause"]))

    def _end_pods(self) -> None:
        """Pods outlive the kubelet and containerd, so they are ended by name through containerd."""
        for task in self._ctr("tasks", "ls", "-q").split():
            self._try_ctr("tasks", "kill", "-s", "KILL", task)
            self._try_ctr("tasks", "rm", "-f", task)
        for container in self._ctr("containers", "ls", "-q").split():
            self._try_ctr("containers", "rm", container)

    def _try_ctr(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        command = ["ctr", "-a", str(self._socket), "-n", "k8s.io", *arguments]
        return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)

    def _ctr(self, *arguments: str) -> str:
        run = self._try_ctr(*arguments)
        if run.returncode:
            raise ClusterError(f"ctr {' '.join(arguments)} failed: {run.stderr.strip()[-500:]}")
        return run.stdout

    def _keep_logs(self) -> None:
        kept = self.places.cache / "failed-logs"
        shutil.rmtree(kept, ignore_errors=True)
        if (self.places.state / "log").is_dir():
            shutil.copytree(self.places.state / "log", kept)


def check_machine() -> None:
    """Raises with what the machine lacks."""
    if not has_root():
        raise ClusterError(
            "a node of the project's own needs Linux and root; point MODELCANARY_KUBECONFIG to a cluster that may be"
            " filled with test objects, or install kind and a container engine"
        )
    lacking = {package for command, package in _COMMANDS.items() if shutil.which(command) is None}
    if not (CNI / "bridge").exists():
        lacking.add("containernetworking-plugins")
    if lacking:
        packages = " ".join(sorted(lacking))
        raise ClusterError(f"the node needs packages: apt-get install --no-install-recommends {packages}")


def environment(kubeconfig_path: Path, binaries: Path | None) -> dict[str, str]:
    path = os.environ.get("PATH", "")
    return {**os.environ, "KUBECONFIG": str(kubeconfig_path), "PATH": f"{binaries}:{path}" if binaries else path}


def _wire(inside: Namespace) -> None:
    """An address for the node, and a default route to nowhere: parts of Kubernetes refuse to start without one."""
    for command in (
        ("ip", "link", "add", "node0", "type", "bridge"),
        ("ip", "addr", "add", f"{ADDRESS}/24", "dev", "node0"),
        ("ip", "link", "set", "node0", "up"),
        ("ip", "route", "add", "default", "via", "198.18.0.254", "dev", "node0"),
        ("sh", "-c", "echo 1 > /proc/sys/net/ipv4/ip_forward"),
    ):
        inside.run(*command)


def _identities(plane: ControlPlane) -> Mapping[str, Path]:
    """A kubeconfig for each part."""
    subjects = {
        "controller-manager": "/CN=system:kube-controller-manager",
        "scheduler": "/CN=system:kube-scheduler",
        "kubelet": f"/O=system:nodes/CN=system:node:{NAME}",
        "proxy": "/CN=system:kube-proxy",
    }
    authority: Authority = plane.authority
    made = {}
    for name, subject in subjects.items():
        certificate, key = authority.issue(name, subject, f"DNS:{NAME},IP:{ADDRESS}")
        path = authority.folder / f"{name}.kubeconfig"
        made[name] = kubeconfig(path, plane.server, authority.certificate, certificate, key)
    return made


def _controller(plane: ControlPlane) -> tuple[str, ...]:
    return (
        *("--use-service-account-credentials", "--leader-elect=false"),
        f"--service-account-private-key-file={plane.authority.folder / 'sa.key'}",
        f"--root-ca-file={plane.authority.certificate}",
        f"--service-cluster-ip-range={SERVICE_CIDR}",
    )


def _is_ready(node: Mapping[str, object]) -> bool:
    status = node.get("status")
    conditions = status.get("conditions", []) if isinstance(status, dict) else []
    return any(condition.get("type") == "Ready" and condition.get("status") == "True" for condition in conditions)
