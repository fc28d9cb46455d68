"""The API server alone: what it answers, and that nothing of it is left."""

import socket
import subprocess
from pathlib import Path

import pytest
from tests.cluster.control_plane import light
from tests.cluster.errors import ClusterError
from tests.cluster.network import Namespace, has_root
from tests.cluster.places import Places

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(3600)]  # builds what it needs, where nobody did


def test_it_serves_the_api_and_leaves_nothing() -> None:
    with light(Places.of_environment()) as plane:
        client = plane.client()
        assert client.expect("GET", "/version")["gitVersion"].startswith("v1.")
        status, answer = client.request("GET", "/api/v1/namespaces/default/pods/none")
        assert status == 404
        assert 'pods "none" not found' in answer["message"]
        with pytest.raises(ClusterError, match='404 pods "none" not found'):
            client.expect("GET", "/api/v1/namespaces/default/pods/none")
        run = subprocess.run(
            plane.kubectl("get", "namespaces", "-o", "name"), capture_output=True, text=True, timeout=60, check=True
        )
        assert "namespace/default" in run.stdout.splitlines()
        ids = [plane.processes.id_of(name) for name in plane.processes.names()]
        assert None not in ids and len(ids) >= 2
        client.close()
        client.request("GET", "/version")  # it connects again
        client.close()
    assert not plane.processes.folder.exists()
    assert [pid for pid in ids if Path(f"/proc/{pid}").exists()] == []


@pytest.mark.skipif(not has_root(), reason="a network namespace needs root")
def test_its_network_has_no_way_in_or_out() -> None:
    before = Path("/proc/self/ns/net").readlink()
    with light(Places.of_environment()) as plane:
        with pytest.raises(OSError):
            socket.create_connection(plane.address, timeout=5).close()
        assert isinstance(plane.network, Namespace)
        with pytest.raises(OSError):
            plane.network.connect(("198.51.100.1", 80), timeout=5)
        with socket.create_server(("127.0.0.1", 0)) as listening, pytest.raises(OSError):
            plane.network.connect(listening.getsockname(), timeout=5)
        plane.network.connect(plane.address, timeout=5).close()
    assert Path("/proc/self/ns/net").readlink() == before, "this process stayed outside"


def test_without_root_it_takes_free_ports_of_the_loopback(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.cluster.control_plane.has_root", lambda: False)
    with light(Places.of_environment()) as plane:
        assert plane.address[0] == "127.0.0.1"
        client = plane.client()
        assert client.request("GET", "/readyz") == (200, {"message": "ok"})
        client.close()


def test_what_is_started_ends_when_the_test_fails() -> None:
    kept = []
    with pytest.raises(RuntimeError, match="in the test"), light(Places.of_environment()) as plane:
        kept += [plane.processes.id_of(name) for name in plane.processes.names()]
        raise RuntimeError("in the test")
    assert kept and [pid for pid in kept if Path(f"/proc/{pid}").exists()] == []
