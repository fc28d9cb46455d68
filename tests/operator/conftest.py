"""A real API server with the resource's definition and a team's namespace, for the tests marked `cluster`."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from tests.cluster.control_plane import ControlPlane
from tests.operator.relay import Relay


@dataclass(frozen=True, slots=True)
class RealApi:
    plane: ControlPlane
    kubeconfig: Path  # for this process; `plane.kubeconfig` is for those in the cluster's network


@pytest.fixture(scope="session")
def real_api(
    apiserver: ControlPlane, defined: dict[str, Any], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RealApi]:
    with Relay(apiserver.network, apiserver.address) as relay:
        kubeconfig = tmp_path_factory.mktemp("api") / "kubeconfig"
        here = f"https://127.0.0.1:{relay.port}"
        kubeconfig.write_text(apiserver.kubeconfig.read_text().replace(apiserver.server, here))
        yield RealApi(apiserver, kubeconfig)


@pytest.fixture
def namespace(real_api: RealApi) -> Iterator[str]:
    """`team`, empty, with the service account that pods need."""
    client = real_api.plane.client()
    client.request("POST", "/api/v1/namespaces", {"metadata": {"name": "team"}})
    client.request("POST", "/api/v1/namespaces/team/serviceaccounts", {"metadata": {"name": "default"}})
    yield "team"
    canaries = "/apis/modelcanary.io/v1alpha1/namespaces/team/modelcanaries"
    for item in client.expect("GET", canaries)["items"]:
        path, kind = f"{canaries}/{item['metadata']['name']}", "application/merge-patch+json"
        client.request("PATCH", path, {"metadata": {"finalizers": None}}, kind)
    collections = (
        "/apis/modelcanary.io/v1alpha1/namespaces/team/modelcanaries",
        "/apis/apps/v1/namespaces/team/deployments",
        "/apis/apps/v1/namespaces/team/controllerrevisions",
        "/apis/discovery.k8s.io/v1/namespaces/team/endpointslices",
        "/apis/autoscaling/v2/namespaces/team/horizontalpodautoscalers",
        "/apis/networking.k8s.io/v1/namespaces/team/networkpolicies",
        "/api/v1/namespaces/team/persistentvolumeclaims",
        "/api/v1/namespaces/team/pods",
        "/api/v1/namespaces/team/events",
        "/api/v1/namespaces/team/configmaps?labelSelector=modelcanary.io/role=report",
    )
    for path in collections:
        client.expect("DELETE", path)
    for item in client.expect("GET", "/api/v1/namespaces/team/services")["items"]:
        client.expect("DELETE", f"/api/v1/namespaces/team/services/{item['metadata']['name']}")
    client.close()
