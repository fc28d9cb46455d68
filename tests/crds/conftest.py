"""ModelCanaries on a real API server, for the tests marked `cluster`."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from tests.cluster.api import ApiClient
from tests.cluster.control_plane import ControlPlane

_RESOURCES = "/apis/modelcanary.io/v1alpha1/namespaces/default/modelcanaries"


@dataclass(frozen=True, slots=True)
class Answer:
    """What the API server said to a resource."""

    status: int
    body: dict[str, Any]

    @property
    def accepted(self) -> bool:
        return self.status in (200, 201)

    @property
    def message(self) -> str:
        return str(self.body.get("message", ""))

    @property
    def fields(self) -> set[str]:
        """The fields that a refusal names."""
        return {cause.get("field", "") for cause in (self.body.get("details") or {}).get("causes", ())}


@dataclass(frozen=True, slots=True)
class Resources:
    """ModelCanaries on the API server; like kubectl it asks for unknown fields to be refused."""

    client: ApiClient

    def try_to_create(self, resource: dict[str, Any]) -> Answer:
        return Answer(*self.client.request("POST", f"{_RESOURCES}?dryRun=All&fieldValidation=Strict", resource))

    def create(self, resource: dict[str, Any]) -> dict[str, Any]:
        return self.client.expect("POST", f"{_RESOURCES}?fieldValidation=Strict", resource)

    def get(self, name: str) -> dict[str, Any]:
        return self.client.expect("GET", f"{_RESOURCES}/{name}")

    def put(self, resource: dict[str, Any], subresource: str = "") -> Answer:
        name = resource["metadata"]["name"]
        return Answer(*self.client.request("PUT", f"{_RESOURCES}/{name}{subresource}", resource))

    def delete(self, name: str) -> None:
        self.client.expect("DELETE", f"{_RESOURCES}/{name}")


@pytest.fixture
def resources(apiserver: ControlPlane, defined: dict[str, Any]) -> Iterator[Resources]:
    client = apiserver.client()
    yield Resources(client)
    client.close()
