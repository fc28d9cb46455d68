"""An API server in memory, for faults that a real one does not give on demand: it fails the calls that it is told to.

It keeps what the operator relies on: versions and their conflicts, generations, the status subresource, finalizers,
merge patches, and the garbage collection of what belongs to a deleted resource.
"""

import copy
from collections.abc import Callable, Mapping
from typing import Any

from modelcanary_operator.api import CANARIES, Kind, Object
from modelcanary_operator.errors import Conflict, NotFound

#: Told of each call, before and after it: (when, method, plural, name). Raises to fail it.
Saboteur = Callable[[str, str, str, str], None]
_STATUS = ("modelcanaries", "deployments", "pods")


class FakeApi:
    def __init__(self) -> None:
        self.objects: dict[tuple[str, str, str], Object] = {}
        self.version = 100
        self.writes: list[tuple[str, str, str]] = []
        self.saboteur: Saboteur = lambda *_: None
        self.not_installed = {"scaledobjects"}
        self.now = "2026-01-01T00:00:00Z"

    def __getitem__(self, place: tuple[Kind, str]) -> Object:
        kind, name = place
        return self.objects[kind.plural, "team", name]

    def find(self, kind: Kind, name: str) -> Object | None:
        return self.objects.get((kind.plural, "team", name))

    async def get(self, kind: Kind, namespace: str, name: str) -> Object:
        self.saboteur("before", "GET", kind.plural, name)
        return copy.deepcopy(self._known(kind, namespace, name))

    async def list_metadata(self, kind: Kind, namespace: str, labels: Mapping[str, str]) -> list[Object]:
        return [{"metadata": item["metadata"]} for item in await self.list(kind, namespace, labels)]

    async def list(self, kind: Kind, namespace: str, labels: Mapping[str, str] | None = None) -> list[Object]:
        self.saboteur("before", "LIST", kind.plural, "")
        if kind.plural in self.not_installed:
            raise NotFound(404, "the server could not find the requested resource")
        wanted = (labels or {}).items()
        return [
            copy.deepcopy(found)
            for (plural, where, _), found in sorted(self.objects.items())
            if plural == kind.plural
            and where == namespace
            and all((found["metadata"].get("labels") or {}).get(key) == value for key, value in wanted)
        ]

    async def create(self, kind: Kind, namespace: str, body: Object) -> Object:
        name = body["metadata"]["name"]
        self.saboteur("before", "POST", kind.plural, name)
        if (kind.plural, namespace, name) in self.objects:
            raise Conflict(409, f"{kind.plural} {name} is there already")
        found = copy.deepcopy(body)
        self.version += 1
        found["metadata"] |= {
            "namespace": namespace,
            "uid": f"uid-{self.version}",
            "creationTimestamp": self.now,
            "generation": 1,
        }
        return self._store(kind, namespace, name, found, "POST")

    async def replace(self, kind: Kind, namespace: str, name: str, body: Object, subresource: str = "") -> Object:
        self.saboteur("before", "PUT", kind.plural, name)
        before = self._known(kind, namespace, name)
        self._match(before, body)
        found = copy.deepcopy(before if subresource else body)
        if subresource:
            found["status"] = copy.deepcopy(body.get("status"))
        elif kind.plural in _STATUS and "status" in before:
            found["status"] = before["status"]
        return self._update(kind, namespace, name, before, found, "PUT")

    async def merge(self, kind: Kind, namespace: str, name: str, patch: Object) -> Object:
        self.saboteur("before", "PATCH", kind.plural, name)
        before = self._known(kind, namespace, name)
        self._match(before, patch)
        return self._update(kind, namespace, name, before, _merged(before, patch), "PATCH")

    async def delete(self, kind: Kind, namespace: str, name: str, version: str | None = None) -> None:
        self.saboteur("before", "DELETE", kind.plural, name)
        before = self._known(kind, namespace, name)
        if version is not None and before["metadata"]["resourceVersion"] != version:
            raise Conflict(409, f"{kind.plural} {name} has changed")
        self.writes.append(("DELETE", kind.plural, name))
        if before["metadata"].get("finalizers"):
            before["metadata"]["deletionTimestamp"] = self.now
            before["metadata"]["generation"] += 1
            self._bump(before)
        else:
            self._remove(kind.plural, namespace, name)
        self.saboteur("after", "DELETE", kind.plural, name)

    # --- inside

    def _known(self, kind: Kind, namespace: str, name: str) -> Object:
        found = self.objects.get((kind.plural, namespace, name))
        if found is None:
            raise NotFound(404, f"{kind.plural} {name} is not there")
        return found

    def _match(self, before: Object, body: Object) -> None:
        wanted = (body.get("metadata") or {}).get("resourceVersion")
        if wanted is not None and wanted != before["metadata"]["resourceVersion"]:
            raise Conflict(409, f"{before['metadata']['name']} has changed")

    def _update(self, kind: Kind, namespace: str, name: str, before: Object, found: Object, method: str) -> Object:
        metadata, old = found["metadata"], before["metadata"]
        for key in ("uid", "creationTimestamp", "namespace", "generation", "deletionTimestamp"):
            if key in old:
                metadata[key] = old[key]
        if found.get("spec") != before.get("spec"):
            metadata["generation"] = old["generation"] + 1
        if {**found, "metadata": {**metadata, "resourceVersion": ""}} == {
            **before,
            "metadata": {**old, "resourceVersion": ""},
        }:
            self.writes.append((method, kind.plural, name))
            return copy.deepcopy(before)  # as the API server: no change, no version
        stored = self._store(kind, namespace, name, found, method)
        if metadata.get("deletionTimestamp") and not metadata.get("finalizers"):
            self._remove(kind.plural, namespace, name)
        return stored

    def _store(self, kind: Kind, namespace: str, name: str, found: Object, method: str) -> Object:
        self._bump(found)
        self.objects[kind.plural, namespace, name] = found
        self.writes.append((method, kind.plural, name))
        self.saboteur("after", method, kind.plural, name)
        return copy.deepcopy(found)

    def _bump(self, found: Object) -> None:
        self.version += 1
        found["metadata"]["resourceVersion"] = str(self.version)

    def _remove(self, plural: str, namespace: str, name: str) -> None:
        gone = self.objects.pop((plural, namespace, name))
        if plural == CANARIES.plural:
            uid = gone["metadata"]["uid"]
            for place, found in [*self.objects.items()]:
                if any(owner["uid"] == uid for owner in found["metadata"].get("ownerReferences") or []):
                    self.objects.pop(place, None)


def _merged(before: Any, patch: Any) -> Any:
    if not isinstance(patch, dict):
        return copy.deepcopy(patch)
    result = dict(before) if isinstance(before, dict) else {}
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = _merged(result.get(key), value)
    return copy.deepcopy(result)
