"""Which ModelCanary an object concerns: by our label, as its target, or as its Service. Called by `events`."""

from modelcanary_operator import names
from modelcanary_operator.api import Object
from modelcanary_operator.workqueue import Key


class Index:
    """Filled from the ModelCanaries that were heard of."""

    def __init__(self) -> None:
        self._targets: dict[Key, str] = {}
        self._services: dict[Key, str] = {}

    def take(self, resource: Object) -> Key:
        key = key_of(resource)
        spec = resource.get("spec") or {}
        self._targets[key] = (spec.get("targetRef") or {}).get("name", "")
        self._services[key] = (spec.get("service") or {}).get("name", "")
        return key

    def forget(self, key: Key) -> None:
        self._targets.pop(key, None)
        self._services.pop(key, None)

    def sharing(self, key: Key) -> list[Key]:
        """Others with the same target: what happens to one may free it for them."""
        target = self._targets.get(key)
        return [
            other
            for other, name in self._targets.items()
            if other != key and other.namespace == key.namespace and name == target
        ]

    def known(self) -> list[Key]:
        return list(self._targets)

    def concerned(self, plural: str, found: Object) -> list[Key]:
        namespace, name = key_of(found)
        owner = (found["metadata"].get("labels") or {}).get(names.CANARY)
        if owner:
            return [Key(namespace, owner)]
        if plural in ("services", "networkpolicies"):
            # Any Service may find a candidate's pods, and any policy may be about the model's.
            return [key for key in self._services if key.namespace == namespace]
        if plural == "horizontalpodautoscalers":
            name = ((found.get("spec") or {}).get("scaleTargetRef") or {}).get("name", "")
        return [key for key, target in self._targets.items() if key.namespace == namespace and target == name]


def key_of(found: Object) -> Key:
    return Key(found["metadata"]["namespace"], found["metadata"]["name"])
