"""Runs scenarios, several at the same time, and keeps what is needed to understand one that failed.

Called by `__main__`. The groups come one after the other; within a group a scenario begins as soon as there is room.
"""

import asyncio
import time
import traceback
import zlib
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.e2e import evidence
from tests.e2e.errors import E2EError
from tests.e2e.history import Observer
from tests.e2e.kube import Cluster
from tests.e2e.scenario import Group, Scenario
from tests.e2e.team import NAMESPACES, Release, Team

from modelcanary_operator.api import CANARIES, Object

_GONE = 120.0
#: By which waits are longer than on an idle machine; twice that with kills of the operator: no leader for 20 s each.
_PATIENCE = 2.0
_MERGE: Object = {"metadata": {"finalizers": None}}


@dataclass(frozen=True, slots=True)
class Result:
    name: str
    seconds: float
    error: str  # empty: it passed
    report: Object
    measured: dict[str, float] = field(default_factory=dict)


@dataclass(slots=True)
class Runner:
    cluster: Cluster
    observer: Observer
    release: Release
    kept: Path  # where what failed is written to
    at_once: int
    seed: int
    say: Callable[[str], None]

    async def group(self, scenarios: Sequence[Scenario]) -> list[Result]:
        room = asyncio.Semaphore(1 if any(each.group is Group.ALONE for each in scenarios) else self.at_once)

        async def one(scenario: Scenario) -> Result:
            async with room:
                result = await self._run(scenario)
            # The next scenario need not wait until the pods of this one have ended.
            await _quietly(lambda: self._end(f"e2e-{scenario.name}"))
            return result

        return list(await asyncio.gather(*(one(each) for each in scenarios)))

    async def _run(self, scenario: Scenario) -> Result:
        namespace = f"e2e-{scenario.name}"
        # By its name: the same for each run of it, whatever else runs.
        seed = self.seed ^ zlib.crc32(scenario.name.encode())
        patience = 2 * _PATIENCE if scenario.group is Group.KILLED else _PATIENCE
        team = Team(
            self.cluster, self.observer.histories[namespace], self.release, namespace, seed, scenario.world, patience
        )
        began, error = time.monotonic(), ""
        self.say(f"{scenario.name}: begins")
        try:
            async with asyncio.timeout(scenario.seconds):
                await team.found()
                await scenario.run(team)
                if scenario.checks_users:
                    await team.finish()
        except TimeoutError:
            error = f"not over after {scenario.seconds:g} s; {team._there()}"
        except (AssertionError, E2EError) as found:
            error = f"{type(found).__name__}: {found}"
        except Exception as found:  # noqa: BLE001 - one scenario's mistake must not end the others
            error = "".join(traceback.format_exception(found))
        seconds = time.monotonic() - began
        if error:
            await _quietly(lambda: evidence.keep(team, self.kept / scenario.name, error))
        self.say(f"{scenario.name}: {'FAILED: ' + error if error else 'passed'} after {seconds:.0f} s")
        # Without a leader, everything takes as long as its lease runs on: those are numbers of their own.
        when = ", amid kills" if scenario.group is Group.KILLED else ""
        measured = {f"{name}{when}": value for name, value in team.measured.items()}
        return Result(scenario.name, seconds, error, team.report, measured)

    async def _end(self, namespace: str) -> None:
        """Away with it all. What the operator did not take away itself, a failed scenario's, is let go."""
        for canary in await self.cluster.list(CANARIES, namespace):
            await self.cluster.patch(CANARIES, namespace, canary["metadata"]["name"], _MERGE)
            await self.cluster.delete(CANARIES, namespace, canary["metadata"]["name"])
        await self.cluster.delete(NAMESPACES, "", namespace)
        deadline = time.monotonic() + _GONE
        while await self.cluster.find(NAMESPACES, "", namespace) is not None and time.monotonic() < deadline:
            await asyncio.sleep(1.0)
        self.observer.histories.pop(namespace, None)


async def _quietly(what: Callable[[], Awaitable[None]]) -> None:
    """What comes after a scenario's verdict does not change it."""
    try:
        await what()
    except (E2EError, OSError) as error:
        print(f"  {error}")
