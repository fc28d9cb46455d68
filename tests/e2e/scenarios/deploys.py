"""The life that every user sees: adopted, a bad model rolled back, a better one promoted, deleted."""

from tests.e2e.errors import Broken
from tests.e2e.scenario import Scenario
from tests.e2e.team import Team
from tests.e2e.worlds import BAD, BETTER, GOOD, REAL

from modelcanary_operator.api import DEPLOYMENTS


async def adopt(team: Team) -> None:
    await team.serve(replicas=2)
    await team.adopt()
    await team.only(GOOD)
    await team.answers(100)
    await team.idle(10.0)


async def bad(team: Team) -> None:
    await team.serve()
    await team.adopt()
    await team.deploy(BAD)
    await team.rolled_back("LossRegression")
    await team.answers(50)
    if team.baseline() != GOOD.name:
        raise Broken(f"users have version {team.baseline()}")


async def better(team: Team) -> None:
    await team.serve()
    await team.adopt()
    await team.deploy(BETTER)
    await team.promoted(BETTER)
    await team.answers(50)
    await team.idle(5.0)


async def delete(team: Team) -> None:
    await team.serve()
    await team.adopt()
    await team.delete()
    await team.only(GOOD)
    target = await team.cluster.get(DEPLOYMENTS, team.namespace, team.name)
    if target["spec"].get("paused") or target["spec"]["replicas"] != 1:
        raise Broken(f"the target is not as it was: {target['spec']}")
    await team.answers(50)


SCENARIOS = [
    Scenario("adopt", adopt),
    Scenario("bad", bad, world=REAL),
    Scenario("better", better, world=REAL),
    Scenario("bad-light", bad, also_killed=True),
    Scenario("better-light", better, also_killed=True),
    Scenario("delete", delete, also_killed=True),
]
