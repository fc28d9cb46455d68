"""Several canaries: two in one namespace at once, and a hundred of which nothing is asked."""

import asyncio
import time
from dataclasses import replace
from pathlib import Path

from tests.e2e import manifests
from tests.e2e.chaos import processes_of
from tests.e2e.errors import Broken
from tests.e2e.scenario import Group, Scenario
from tests.e2e.team import ADOPTED, Team
from tests.e2e.worlds import BAD, BETTER

from modelcanary_operator.api import CANARIES, PODS

_HUNDRED = 100
_WATCHED = 30.0  # seconds
_MOST_MEMORY = 150.0  # MB


async def two_at_once(team: Team) -> None:
    other = replace(team, name="shapes", seed=team.seed + 1, measured={}, report={})

    async def deploy(each: Team) -> None:
        await each.serve()
        await each.adopt()
        await each.deploy(BAD if each is other else BETTER)

    await asyncio.gather(deploy(team), deploy(other))
    await asyncio.gather(team.promoted(BETTER), other.rolled_back("LossRegression"))
    await other.finish()
    await team.delete()
    await other.answers(30)


async def hundred(team: Team) -> None:
    """Resources whose targets are not there: nothing is written, and the operator needs little."""
    for number in range(_HUNDRED):
        await team.create(CANARIES, manifests.canary(f"idle-{number}", team.world))

    def stalled() -> bool:
        phases = [(each.get("status") or {}).get("phase") for each in team.history.all(CANARIES)]
        return phases == ["Stalled"] * _HUNDRED

    await team.until(stalled, "all of them Stalled", ADOPTED)
    await asyncio.sleep(5.0)
    (pod, *_) = await team.cluster.list(PODS, team.release.namespace, "app.kubernetes.io/component=operator")
    before, began = _used(pod["metadata"]["uid"]), time.monotonic()
    await team.idle(_WATCHED)
    after = _used(pod["metadata"]["uid"])
    if after is None or before is None:
        return  # it runs on another machine
    team.measured["operator's seconds of a core, of 100, with 100 canaries"] = (
        100.0 * (after[0] - before[0]) / (time.monotonic() - began)
    )
    if after[1] > _MOST_MEMORY:
        raise Broken(f"the operator needs {after[1]:.0f} MB with {_HUNDRED} canaries")


def _used(uid: str) -> tuple[float, float] | None:
    """Seconds of a processor, and MB that are its own, of a pod's processes."""
    processes = processes_of(uid)
    if not processes:
        return None
    ticks, size = 0, 0.0
    for process in processes:
        fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
        for line in Path(f"/proc/{process}/status").read_text().splitlines():
            if line.startswith(("RssAnon:", "RssShmem:")):
                size += int(line.split()[1]) / 1000.0
    return ticks / 100.0, size


SCENARIOS = [
    Scenario("two-at-once", two_at_once),
    Scenario("hundred-idle", hundred, Group.ALONE, checks_users=False),
]
