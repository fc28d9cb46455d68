"""Canary steps: real users on the candidate, with the baseline's answer as the safety net."""

import asyncio

from tests.e2e.errors import Broken
from tests.e2e.scenario import Scenario
from tests.e2e.team import ADOPTED, JUDGED, ROLLED, Team
from tests.e2e.worlds import BETTER, GOOD, LIGHT, REAL

from modelcanary_operator import names
from modelcanary_operator.api import PODS

_STEPS = {"canary": {"steps": [5, 50], "stepDuration": "6s", "candidateGrace": "500ms"}}


async def promoted_by_steps(team: Team) -> None:
    """5, 50, 100: users have both versions meanwhile."""
    await team.serve(replicas=2 if team.world is LIGHT else 1)
    await team.adopt(_STEPS)
    await team.deploy(BETTER)
    await asyncio.gather(
        team.promoted(BETTER),
        team.reached(lambda seen: seen.status("run", "step") == 1, 0.05),
        team.reached(lambda seen: seen.status("run", "step") == 2, 0.5),
    )
    (step, *_) = team.stays("Canary")
    await team.answers(30)
    first = (await team.ask_users())["versions"].get(BETTER.name, {}).get("first")
    if first is None:
        raise Broken("no user had the candidate's answer")
    team.measured["weight to first answer"] = first - step.at


async def dies_midway(team: Team) -> None:
    """Its pod is gone with half of the users on it: they have the baseline's answers, and the next pod goes on."""
    await team.serve()
    await team.adopt(_STEPS)
    await team.deploy(BETTER)
    await team.until(lambda: team.status("run", "step") == 2, "the second step", JUDGED)
    for pod in team.pods(names.CANDIDATE):
        await team.cluster.delete(PODS, team.namespace, pod, gracePeriodSeconds=0)
    await team.answers(50)
    await team.until(lambda: team.status("decided") or team.status("phase") == "Serving", "an end", JUDGED)
    await team.until(lambda: team.status("phase") in ("Serving", "Cooldown"), "carried out", ROLLED)
    await team.answers(30)


async def breaks_midway(team: Team) -> None:
    """It begins to fail with half of the users on it: rolled back, and none of them sees it."""
    await team.serve()
    await team.adopt(_STEPS | {"canary": {**_STEPS["canary"], "stepDuration": "60s"}})
    await team.deploy(BETTER)
    await team.until(lambda: team.status("run", "step") == 1, "the first step", JUDGED)
    await team.break_candidate("500")
    await asyncio.gather(
        team.rolled_back("ErrorRate"), team.reached(lambda seen: seen.status("phase") == "RollingBack", 0.0)
    )
    await team.answers(30)
    (moment,) = team.stays("RollingBack")
    last = (await team.ask_users())["versions"].get(BETTER.name, {}).get("last", 0.0)
    team.measured["roll-back to last answer"] = max(0.0, last - moment.at)


async def observed(team: Team) -> None:
    """The promoted model is watched, with the one before as its shadow, and taken back."""
    await team.serve()
    await team.adopt({"promotion": {"observeFor": "1h"}})
    await team.deploy(BETTER)
    await team.judged("Promoting")
    await team.phase("Observing", ROLLED)
    await team.only(BETTER)
    await team.until(lambda: len(team.pods(names.CANDIDATE)) == 1, "a shadow of the template before", ADOPTED)
    await team.answers(30)
    await team.annotate(names.ROLL_BACK, team.run)
    await team.phase("Cooldown", ROLLED, reason="RolledBackByUser")
    await team.only(GOOD)
    await team.answers(30)


SCENARIOS = [
    Scenario("steps", promoted_by_steps, world=REAL),
    Scenario("steps-light", promoted_by_steps, also_killed=True),
    Scenario("observed", observed),
    Scenario("steps-die", dies_midway),
    Scenario("steps-break", breaks_midway),
]
