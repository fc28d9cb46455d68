"""The seam to the Kubernetes API: what the operator needs of it, as a Protocol. `kube` is the real one.

Objects are JSON as the API server has it. Every method raises an ApiError by class, and nothing else.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

Object = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Kind:
    """A resource of the API."""

    prefix: str  # "/api/v1" or "/apis/GROUP/VERSION"
    plural: str
    kind: str

    @property
    def api_version(self) -> str:
        return self.prefix.removeprefix("/apis/").removeprefix("/api/")

    def path(self, namespace: str, name: str = "", subresource: str = "") -> str:
        """Without a namespace: of all of them."""
        parts = [self.prefix, *(["namespaces", namespace] if namespace else []), self.plural]
        return "/".join([*parts, *([name] if name else []), *([subresource] if subresource else [])])


CANARIES = Kind("/apis/modelcanary.io/v1alpha1", "modelcanaries", "ModelCanary")
DEPLOYMENTS = Kind("/apis/apps/v1", "deployments", "Deployment")
REVISIONS = Kind("/apis/apps/v1", "controllerrevisions", "ControllerRevision")
SERVICES = Kind("/api/v1", "services", "Service")
PODS = Kind("/api/v1", "pods", "Pod")
EVENTS = Kind("/api/v1", "events", "Event")
CLAIMS = Kind("/api/v1", "persistentvolumeclaims", "PersistentVolumeClaim")
ENDPOINT_SLICES = Kind("/apis/discovery.k8s.io/v1", "endpointslices", "EndpointSlice")
AUTOSCALERS = Kind("/apis/autoscaling/v2", "horizontalpodautoscalers", "HorizontalPodAutoscaler")
CONFIG_MAPS = Kind("/api/v1", "configmaps", "ConfigMap")
SCALED_OBJECTS = Kind("/apis/keda.sh/v1alpha1", "scaledobjects", "ScaledObject")
NETWORK_POLICIES = Kind("/apis/networking.k8s.io/v1", "networkpolicies", "NetworkPolicy")
LEASES = Kind("/apis/coordination.k8s.io/v1", "leases", "Lease")


class Api(Protocol):
    async def get(self, kind: Kind, namespace: str, name: str) -> Object:
        """Raises NotFound."""
        ...

    async def list_metadata(self, kind: Kind, namespace: str, labels: Mapping[str, str]) -> list[Object]:
        """Of all that have these labels; not what is in them."""
        ...

    async def list(self, kind: Kind, namespace: str, labels: Mapping[str, str] | None = None) -> list[Object]:
        """All that have these labels."""
        ...

    async def create(self, kind: Kind, namespace: str, body: Object) -> Object:
        """Raises Conflict where it is there already."""
        ...

    async def replace(self, kind: Kind, namespace: str, name: str, body: Object, subresource: str = "") -> Object:
        """Raises Conflict where its resourceVersion is not the body's any more."""
        ...

    async def merge(self, kind: Kind, namespace: str, name: str, patch: Object) -> Object:
        """A JSON merge patch; with a resourceVersion in its metadata, Conflict as for `replace`."""
        ...

    async def delete(self, kind: Kind, namespace: str, name: str, version: str | None = None) -> None:
        """With its dependents, in the background. Raises NotFound, or Conflict where it has changed."""
        ...
