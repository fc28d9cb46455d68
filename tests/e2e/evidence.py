"""What is kept of a scenario that failed: its objects, events, logs, and the order in which things happened.

Called by `runner`.
"""

import json
from datetime import UTC, datetime
from pathlib import Path

from tests.e2e.errors import E2EError
from tests.e2e.history import dig
from tests.e2e.kube import Cluster
from tests.e2e.team import CONFIG_MAPS, Team

from modelcanary_operator.api import EVENTS, PODS, Object

_UNINTERESTING = frozenset({CONFIG_MAPS.plural})


async def keep(team: Team, folder: Path, error: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "error.txt").write_text(error + "\n")
    (folder / "history.txt").write_text("\n".join(_lines(team)) + "\n")
    objects = [body for (plural, _), body in sorted(team.history.current.items()) if plural != EVENTS.plural]
    (folder / "objects.json").write_text(json.dumps([_plain(body) for body in objects], indent=1))
    try:
        (folder / "users.json").write_text(json.dumps(await team.ask_users(), indent=1))
    except E2EError as missing:
        (folder / "users.json").write_text(f"{missing}\n")
    for namespace in (team.namespace, team.release.namespace):
        await keep_logs(team.cluster, namespace, folder)


async def keep_logs(cluster: Cluster, namespace: str, folder: Path) -> None:
    for pod in await cluster.list(PODS, namespace):
        name, spec = pod["metadata"]["name"], pod["spec"]
        for container in [*spec["containers"], *(spec.get("initContainers") or [])]:
            for previous in (False, True):
                suffix = "-before" if previous else ""
                try:
                    text = await cluster.logs(namespace, name, container["name"], previous=previous)
                except E2EError:
                    continue  # it had none
                (folder / f"{name}-{container['name']}{suffix}.log").write_text(text)


def _lines(team: Team) -> list[str]:
    lines = []
    for seen in sorted(team.history.seen, key=lambda each: each.revision):
        at = datetime.fromtimestamp(seen.at, UTC).strftime("%H:%M:%S.%f")[:-3]
        lines.append(f"{at} {seen.revision} {seen.kind.plural}/{seen.name} {_short(seen.body)}")
    return lines


def _short(body: Object | None) -> str:
    if body is None:
        return "DELETED"
    if body.get("kind") == "Event" or "involvedObject" in body:
        return f"{dig(body, 'involvedObject', 'name')} {body.get('reason')}: {body.get('message')}"
    if "endpoints" in body:
        ready = [dig(each, "targetRef", "name") for each in body["endpoints"] or [] if dig(each, "conditions", "ready")]
        return f"ready {ready} ports {[port.get('port') for port in body.get('ports') or []]}"
    status = body.get("status") or {}
    if "phase" in status and "run" not in status and "conditions" in status and "podIP" in status:
        ready = [each["status"] for each in status["conditions"] if each["type"] == "Ready"]
        return f"{status['phase']} ready {ready} {'ending' if body['metadata'].get('deletionTimestamp') else ''}"
    spec = body.get("spec") or {}
    shown = {name: value for name, value in status.items() if name != "conditions"}
    return f"replicas {spec.get('replicas')} selector {spec.get('selector')} {json.dumps(shown)[:1500]}"


def _plain(body: Object) -> Object:
    metadata = {name: value for name, value in body["metadata"].items() if name != "managedFields"}
    return {**body, "metadata": metadata}
