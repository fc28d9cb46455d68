"""The files that the parts of a node read: kubelet, kube-proxy, containerd, its network and CoreDNS.

Called by `node`. Each function writes one part's files below the state folder and returns the file to start it with.
"""

import json
from collections.abc import Mapping
from pathlib import Path

from tests.cluster.control_plane import ControlPlane
from tests.cluster.places import Places

NAME, ADDRESS = "node1", "198.18.0.1"  # of the range that is set apart for tests (RFC 2544)
PAUSE = "localhost/pause:test"
CNI = Path("/usr/lib/cni")
_PODS = "10.244.0.0/24"


def kubelet(plane: ControlPlane, places: Places, socket: Path) -> Path:
    state, pki = plane.processes.folder, plane.authority.folder
    (state / "resolv.conf").write_text(f"nameserver {ADDRESS}\n")
    authentication = {
        "x509": {"clientCAFile": str(plane.authority.certificate)},
        "webhook": {"enabled": True},
        "anonymous": {"enabled": False},
    }
    return _config(
        state / "kubelet.json",
        "kubelet.config.k8s.io/v1beta1",
        "KubeletConfiguration",
        {
            "cgroupDriver": "cgroupfs",
            "cgroupRoot": f"/{places.cgroup}",
            "containerRuntimeEndpoint": f"unix://{socket}",
            "authentication": authentication,
            "authorization": {"mode": "Webhook"},
            "clusterDNS": [ADDRESS],
            "clusterDomain": "cluster.local",
            "failSwapOn": False,
            "localStorageCapacityIsolation": False,  # it fails on disks that it does not know
            "evictionHard": {"memory.available": "100Mi"},
            "imageGCHighThresholdPercent": 100,
            "resolvConf": str(state / "resolv.conf"),
            "podLogsDir": str(state / "pod-logs"),  # a kubelet clears away what it does not know in it
            "tlsCertFile": str(pki / "kubelet.crt"),
            "tlsPrivateKeyFile": str(pki / "kubelet.key"),
        },
    )


def proxy(plane: ControlPlane, identity: Path) -> Path:
    return _config(
        plane.processes.folder / "kube-proxy.json",
        "kubeproxy.config.k8s.io/v1alpha1",
        "KubeProxyConfiguration",
        {
            "mode": "nftables",
            "clientConnection": {"kubeconfig": str(identity)},
            "clusterCIDR": _PODS,
            "hostnameOverride": NAME,
            "conntrack": {"maxPerCore": 0},
        },
    )


def corefile(plane: ControlPlane) -> Path:
    path = plane.processes.folder / "Corefile"
    cluster = f"  kubernetes cluster.local {{\n    kubeconfig {plane.kubeconfig} test\n  }}\n"
    path.write_text(f".:53 {{\n  bind {ADDRESS}\n{cluster}  cache 5\n}}\n")
    return path


def containerd(places: Places, socket: Path) -> Path:
    """Images are kept in the cache from node to node. runc, because crun refuses hybrid cgroups."""
    network = places.state / "cni"
    network.mkdir()
    (network / "10-bridge.conflist").write_text(json.dumps(_bridge(places.state)))
    cri = 'plugins."io.containerd.grpc.v1.cri"'
    path = places.state / "containerd.toml"
    path.write_text(
        f"""version = 2
root = "{places.images}"
state = "{places.state / "containerd"}"
[grpc]
  address = "{socket}"
[{cri}]
  sandbox_image = "{PAUSE}"
  # Root in a container has no CAP_SYS_RESOURCE.
  restrict_oom_score_adj = true
  [{cri}.containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
  [{cri}.cni]
    bin_dir = "{CNI}"
    conf_dir = "{network}"
"""
    )
    return path


def _bridge(state: Path) -> Mapping[str, object]:
    addresses = {
        "type": "host-local",
        "ranges": [[{"subnet": _PODS}]],
        "routes": [{"dst": "0.0.0.0/0"}],
        "dataDir": str(state / "ipam"),
    }
    bridge = {"type": "bridge", "bridge": "pods0", "isGateway": True, "ipMasq": True, "hairpinMode": True}
    return {
        "cniVersion": "0.4.0",
        "name": "pods",
        "plugins": [{**bridge, "ipam": addresses}, {"type": "portmap", "capabilities": {"portMappings": True}}],
    }


def _config(path: Path, version: str, kind: str, fields: Mapping[str, object]) -> Path:
    path.write_text(json.dumps({"apiVersion": version, "kind": kind, **fields}, indent=1))
    return path
