"""A real API server takes what the chart makes, with no field that it does not know and no pod that it warns of."""

import json
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest
from tests.chart.helm import VARIANTS, render
from tests.cluster.control_plane import ControlPlane

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(3600)]


@pytest.fixture(scope="module")
def namespaces(apiserver: ControlPlane) -> Iterator[None]:
    client = apiserver.client()
    labels = {f"pod-security.kubernetes.io/{mode}": "restricted" for mode in ("warn", "enforce")}
    for name in ("canaries", "team-a", "team-b"):
        metadata = {"name": name, "labels": labels}
        client.expect("POST", "/api/v1/namespaces", {"apiVersion": "v1", "kind": "Namespace", "metadata": metadata})
        # No controller makes it here, and a pod's admission asks for it.
        account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "modelcanary-operator"}}
        client.expect("POST", f"/api/v1/namespaces/{name}/serviceaccounts", account)
    yield
    client.close()


def applied(apiserver: ControlPlane, manifests: list[Any]) -> subprocess.CompletedProcess[str]:
    command = apiserver.kubectl(
        "apply", "--server-side", "--dry-run=server", "--validate=strict", "--force-conflicts", "-f", "-"
    )
    text = "\n---\n".join(json.dumps(item) for item in manifests)
    return subprocess.run(command, input=text, capture_output=True, text=True, timeout=120, check=False)


@pytest.mark.parametrize("variant", VARIANTS)
def test_it_is_taken_as_it_is(apiserver: ControlPlane, namespaces: None, variant: str) -> None:
    made = render(VARIANTS[variant])
    done = applied(apiserver, made)
    assert done.returncode == 0, done.stderr
    assert done.stderr == "", "a warning of the API server"
    assert len(done.stdout.splitlines()) == len(made)


def test_the_server_would_have_said_so(apiserver: ControlPlane, namespaces: None) -> None:
    made = render()
    deployment = next(item for item in made if item["kind"] == "Deployment")
    deployment["spec"]["template"]["spec"]["containers"][0]["securityContext"]["allowPrivilegeEscalation"] = True
    assert "would violate PodSecurity" in applied(apiserver, [deployment]).stderr
    deployment["spec"]["replica"] = 2
    assert "replica" in applied(apiserver, [deployment]).stderr
