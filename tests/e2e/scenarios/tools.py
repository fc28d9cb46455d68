"""Deploys by the tools that users have: helm with a chart of theirs, and kubectl."""

import asyncio
import json
import tempfile
from pathlib import Path
from typing import Any

from tests.e2e import manifests
from tests.e2e.errors import Broken
from tests.e2e.release import command
from tests.e2e.scenario import Scenario
from tests.e2e.team import JUDGED, Team
from tests.e2e.worlds import BAD, BETTER, GOOD, REAL, Version

from modelcanary_operator import names
from modelcanary_operator.api import DEPLOYMENTS, SERVICES

_CHART = {
    "Chart.yaml": "apiVersion: v2\nname: team\nversion: 0.1.0\n",
    "templates/all.yaml": "{{- range .Values.objects }}\n---\n{{ toYaml . }}\n{{- end }}\n",
}


async def helm_upgrade(team: Team) -> None:
    """A new image and three replicas at once: no pod of it serves before it was judged."""
    with tempfile.TemporaryDirectory() as folder:
        chart = Path(folder)
        for name, text in _CHART.items():
            (chart / name).parent.mkdir(exist_ok=True)
            (chart / name).write_text(text)
        await _helm(team, chart, GOOD, 1)
        await team.start_users(manifests.Users())
        await team.adopt()
        await _helm(team, chart, BAD, 3)
        await team.rolled_back("LossRegression")
        await team.until(lambda: len(team.pods(names.BASELINE)) == 3, "three pods of the baseline", JUDGED)
        await _helm(team, chart, BETTER, 3)
        await team.promoted(BETTER)
        await team.answers(30)


async def _helm(team: Team, chart: Path, version: Version, replicas: int) -> None:
    objects: list[dict[str, Any]] = [
        {"apiVersion": SERVICES.api_version, "kind": SERVICES.kind, **manifests.service(team.name)},
        {
            "apiVersion": DEPLOYMENTS.api_version,
            "kind": DEPLOYMENTS.kind,
            **manifests.deployment(team.name, team.template(version), replicas),
        },
    ]
    values = chart / "objects.json"
    values.write_text(json.dumps({"objects": objects}))
    upgrade = ("helm", "upgrade", "--install", "team", str(chart), "--namespace", team.namespace)
    await command(team.release.target, [*upgrade, "--values", str(values)])


async def kubectl_wait(team: Team) -> None:
    """A pipeline deploys, and waits for what becomes of it."""
    await team.serve()
    await team.adopt()
    await team.deploy(BETTER)
    await team.shadowed()
    waiting = ("kubectl", "wait", "--for=condition=Promoted", f"modelcanary/{team.name}", "--timeout=150s")
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(team.promoted(BETTER))
        said = await command(team.release.target, [*waiting, "--namespace", team.namespace])
    if "condition met" not in said:
        raise Broken(said)


SCENARIOS = [
    Scenario("helm-upgrade", helm_upgrade),
    Scenario("kubectl-wait", kubectl_wait, world=REAL),
]
