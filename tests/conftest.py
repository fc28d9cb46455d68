"""What tests of several parts share: one real API server for the whole session, for tests marked `cluster`."""

import time
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import settings
from tests.cluster.control_plane import ControlPlane, light
from tests.cluster.places import Places
from tests.crds.schema import definition

# How long an example takes says how busy the machine is: no property test fails for it.
settings.register_profile("busy machine", deadline=None)
settings.load_profile("busy machine")

_DEFINITIONS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
_RESOURCES = "/apis/modelcanary.io/v1alpha1/modelcanaries"


@pytest.fixture(scope="session")
def apiserver() -> Iterator[ControlPlane]:
    with light(Places.of_environment()) as plane:
        yield plane


@pytest.fixture(scope="session")
def defined(apiserver: ControlPlane) -> Iterator[dict[str, Any]]:
    """The resource's definition as the API server keeps it, once it serves the resource."""
    client = apiserver.client()
    client.expect("POST", f"{_DEFINITIONS}?fieldValidation=Strict", definition())
    name = definition()["metadata"]["name"]
    deadline = time.monotonic() + 30
    while True:
        kept = client.expect("GET", f"{_DEFINITIONS}/{name}")
        served = client.request("GET", _RESOURCES)[0] == 200
        if served or time.monotonic() > deadline:
            break
        time.sleep(0.1)
    assert served, kept.get("status")
    yield kept
    client.close()
