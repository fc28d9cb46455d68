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
_MOST_MEMORY, _MOST_CORE = 150.0, 2.0  # MB, %
_QUIET, _PATIENCE = 10.0, 180.0  # seconds


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
    """Resources whose targets are not there: nothing is written, and the operator needs little between two rounds of
    looks. A round comes every `--resync`, later than this watches; its cost is what `make bench-operator` measures.
    """
    for number in range(_HUNDRED):
        await team.create(CANARIES, manifests.canary(f"idle-{number}", team.world))

    def stalled() -> bool:
        phases = [(each.get("status") or {}).get("phase") for each in team.history.all(CANARIES)]
        return phases == ["Stalled"] * _HUNDRED

    await team.until(stalled, "all of them Stalled", ADOPTED)
    (pod, *_) = await team.cluster.list(PODS, team.release.namespace, "app.kubernetes.io/component=operator")
    await _at_rest(team, pod["metadata"]["name"])
    before, began = _used(pod["metadata"]["uid"]), time.monotonic()
    await team.idle(_WATCHED)
    after = _used(pod["metadata"]["uid"])
    if after is None or before is None:
        return  # it runs on another machine
    core = 100.0 * (after[0] - before[0]) / (time.monotonic() - began)
    team.measured["operator's seconds of a core, of 100, with 100 canaries, between two rounds of looks"] = core
    if core > _MOST_CORE:
        raise Broken(f"between two rounds of looks the operator needs {core:.2f}% of a core with {_HUNDRED} canaries")
    if after[1] > _MOST_MEMORY:
        raise Broken(f"the operator needs {after[1]:.0f} MB with {_HUNDRED} canaries")


async def _at_rest(team: Team, pod: str) -> None:
    """It has looked at each as often as their creation asks for: with its limit on calls that is minutes' work for a
    hundred at once, and creating is not being idle."""
    looks, since = -1.0, time.monotonic()
    deadline = since + _PATIENCE
    while time.monotonic() - since < _QUIET:
        found = await team.cluster.metric(team.release.namespace, pod, 8070, "modelcanary_operator_reconciles_total")
        if found != looks:
            looks, since = found, time.monotonic()
        if time.monotonic() > deadline:
            raise Broken(f"{_PATIENCE:g} s after the last was Stalled the operator still looks: {looks:g} times by now")
        await asyncio.sleep(1.0)


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
