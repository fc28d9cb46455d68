"""Plays the controllers and the nodes of a cluster over the operator's own seam, a move at a time.

Deployments become pods, pods become ready or not by their image's name, Services become endpoint slices. It works on
the API in memory and on a real API server alike.
"""

import copy
import uuid
from typing import Any

from modelcanary_operator.api import DEPLOYMENTS, ENDPOINT_SLICES, PODS, SERVICES, Api, Object
from modelcanary_operator.errors import Conflict, NotFound
from modelcanary_operator.templates import contains, selects, template_hash

NOW = "2026-01-01T00:00:00Z"
_DEPLOYMENT, _TEMPLATE = "test.deployment", "test.template"


class Controllers:
    def __init__(self, api: Api, namespace: str = "team", *, pod_ip: str = "10.0.0.1") -> None:
        self._api = api
        self._namespace = namespace
        self._active: dict[str, tuple[str, Object]] = {}
        self._pod_ip = pod_ip

    async def tick(self) -> bool:
        """One move of each Deployment and of the endpoints; False where there was none."""
        try:
            moved = [await self._deployment(item) for item in await self._api.list(DEPLOYMENTS, self._namespace)]
            orphans = await self._orphans()
            return any([*moved, orphans, await self._endpoints()])
        except (Conflict, NotFound):
            return True

    async def settle(self, most: int = 100) -> None:
        for _ in range(most):
            if not await self.tick():
                return
        raise AssertionError("the controllers do not come to rest")

    async def pods(self, deployment: str) -> list[Object]:
        return await self._api.list(PODS, self._namespace, {_DEPLOYMENT: deployment})

    async def _deployment(self, found: Object) -> bool:
        name, spec = found["metadata"]["name"], found["spec"]
        template, replicas = spec["template"], spec.get("replicas", 1)
        current = template_hash(template)
        if not spec.get("paused") or found["metadata"]["uid"] not in self._active:
            self._active[found["metadata"]["uid"]] = (current, copy.deepcopy(template))
        active, body = self._active[found["metadata"]["uid"]]
        pods = await self.pods(name)
        moved = await self._move(name, active, body, replicas, pods)
        pods = await self.pods(name)
        ready = [pod for pod in pods if _ready(pod)]
        status = {
            "observedGeneration": found["metadata"].get("generation", 1),
            "replicas": len(pods),
            "updatedReplicas": sum(_hash(pod) == current for pod in pods),
            "readyReplicas": len(ready),
            "availableReplicas": len(ready),
        }
        status = {key: value for key, value in status.items() if value}
        if status != {key: value for key, value in (found.get("status") or {}).items() if value}:
            fresh = await self._api.get(DEPLOYMENTS, self._namespace, name)
            if fresh["metadata"].get("generation") == found["metadata"].get("generation"):
                await self._api.replace(DEPLOYMENTS, self._namespace, name, {**fresh, "status": status}, "status")
            return True
        return moved

    async def _move(self, name: str, active: str, template: Object, replicas: int, pods: list[Object]) -> bool:
        for pod in pods:
            status = pod_status(pod, NOW, self._pod_ip)
            if not contains((pod.get("status") or {}).get("conditions"), status["conditions"]):
                pod["status"] = {**(pod.get("status") or {}), **status}
                await self._api.replace(PODS, self._namespace, pod["metadata"]["name"], pod, "status")
                return True
        ready = sum(_ready(pod) for pod in pods)
        old = [pod for pod in pods if _hash(pod) != active]
        if len(pods) > replicas and (ready > replicas or replicas == 0):
            await self._api.delete(PODS, self._namespace, (old or pods[::-1])[0]["metadata"]["name"])
            return True
        if len(pods) - len(old) < replicas and len(pods) <= replicas:
            await self._create(name, active, template)
            return True
        return False

    async def _create(self, deployment: str, template_name: str, template: Object) -> None:
        labels = {**(template["metadata"].get("labels") or {}), _DEPLOYMENT: deployment, _TEMPLATE: template_name}
        body = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": f"{deployment}-{uuid.uuid4().hex[:8]}", "labels": labels},
            "spec": copy.deepcopy(template["spec"]),
        }
        await self._api.create(PODS, self._namespace, body)

    async def _orphans(self) -> bool:
        known = {item["metadata"]["name"] for item in await self._api.list(DEPLOYMENTS, self._namespace)}
        moved = False
        for pod in await self._api.list(PODS, self._namespace):
            if pod["metadata"]["labels"].get(_DEPLOYMENT) not in known:
                await self._api.delete(PODS, self._namespace, pod["metadata"]["name"])
                moved = True
        return moved

    async def endpoints(self, service: Object) -> list[tuple[Object, int | None]]:
        """Each ready pod that a Service finds, and the port's number in it; None where the name is not known."""
        port = service["spec"]["ports"][0]
        aims = port.get("targetPort", port["port"])
        return [
            (pod, aims if isinstance(aims, int) else _named(pod, aims))
            for pod in await self._api.list(PODS, self._namespace)
            if _ready(pod) and selects(service["spec"].get("selector") or {}, pod["metadata"]["labels"])
        ]

    async def _endpoints(self) -> bool:
        moved = False
        for service in await self._api.list(SERVICES, self._namespace):
            name, port = service["metadata"]["name"], service["spec"]["ports"][0]
            wanted: dict[str, Object] = {}
            for pod, number in await self.endpoints(service):
                if number is None:
                    continue
                piece = wanted.setdefault(f"{name}-{number}", _slice(name, port.get("name", ""), number))
                piece["endpoints"].append(
                    {
                        "addresses": ["10.0.0.1"],
                        "conditions": {"ready": True},
                        "targetRef": {"kind": "Pod", "name": pod["metadata"]["name"], "namespace": self._namespace},
                    }
                )
            there = await self._api.list(ENDPOINT_SLICES, self._namespace, {"kubernetes.io/service-name": name})
            moved |= await self._slices(wanted, {item["metadata"]["name"]: item for item in there})
        return moved

    async def _slices(self, wanted: dict[str, Object], there: dict[str, Object]) -> bool:
        moved = False
        for name in there.keys() - wanted.keys():
            await self._api.delete(ENDPOINT_SLICES, self._namespace, name)
            moved = True
        for name, piece in wanted.items():
            before = there.get(name)
            if before is None:
                await self._api.create(ENDPOINT_SLICES, self._namespace, piece)
            elif not contains(before["endpoints"], piece["endpoints"]):
                piece["metadata"] = before["metadata"]
                await self._api.replace(ENDPOINT_SLICES, self._namespace, name, piece)
            else:
                continue
            moved = True
        return moved


def _slice(service: str, port: str, number: int) -> Object:
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {"name": f"{service}-{number}", "labels": {"kubernetes.io/service-name": service}},
        "addressType": "IPv4",
        "ports": [{"name": port, "port": number, "protocol": "TCP"}],
        "endpoints": [],
    }


def _hash(pod: Object) -> str:
    return str(pod["metadata"]["labels"][_TEMPLATE])


def _ready(pod: Object) -> bool:
    conditions = (pod.get("status") or {}).get("conditions") or []
    return any(item["type"] == "Ready" and item["status"] == "True" for item in conditions)


def _named(pod: Object, name: str) -> int | None:
    for container in [*pod["spec"]["containers"], *(pod["spec"].get("initContainers") or [])]:
        for port in container.get("ports") or []:
            if port.get("name") == name:
                return int(port["containerPort"])
    return None


def pod_status(pod: Object, now: str = NOW, address: str = "10.0.0.1") -> dict[str, Any]:
    """By the model's image: `broken-crash`, `broken-pull`, `broken-slow`, and all others, which are ready."""
    image = pod["spec"]["containers"][-1]["image"]
    broken = image.startswith("broken")
    states: dict[str, Any] = {
        "broken-crash": {
            "state": {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off restarting"}},
            "lastState": {"terminated": {"exitCode": 1, "reason": "Error"}},
            "restartCount": 5,
        },
        "broken-pull": {"state": {"waiting": {"reason": "ImagePullBackOff", "message": f"no such image {image}"}}},
    }
    container = {"name": "model", "image": image, "imageID": "", "ready": not broken, "restartCount": 0}
    return {
        "phase": "Pending" if broken else "Running",
        "podIP": address,
        "podIPs": [{"ip": address}],
        "conditions": [{"type": "Ready", "status": "False" if broken else "True", "lastTransitionTime": now}],
        "containerStatuses": [{**container, **states.get(image, {})}],
    }
