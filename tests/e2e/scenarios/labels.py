"""Labels that come late, never, or wrong: the gate waits, says so, and decides when they are there."""

from tests.e2e.manifests import Users
from tests.e2e.scenario import Scenario
from tests.e2e.team import JUDGED, Team
from tests.e2e.worlds import BAD, BETTER, REAL


async def late(team: Team) -> None:
    """Some come after ten seconds: younger pairs do not count, and then there is a verdict."""
    await team.serve(users=Users({"delay_least": 1.0, "delay_most": 10.0, "missing": 0.2}))
    await team.adopt({"labels": {"maturity": "12s", "minCoverage": "0.7"}})
    await team.deploy(BETTER)
    await team.phase("Shadowing", JUDGED, reason="WaitingForMaturity")
    await team.promoted(BETTER)


async def missing(team: Team) -> None:
    """None comes: it holds, with that reason. Then they come: it decides."""
    await team.serve(users=Users({"missing": 1.0}))
    await team.adopt()
    await team.deploy(BAD)
    await team.phase("Shadowing", JUDGED, reason="WaitingForLabels")
    await team.answers(150)
    await team.ask_users("/set?missing=0.05")
    await team.rolled_back("LossRegression")


async def noisy(team: Team) -> None:
    """One label in ten is wrong, alike for both."""
    await team.serve(users=Users({"noisy": 0.1}))
    await team.adopt()
    await team.deploy(BAD)
    await team.rolled_back("LossRegression")


SCENARIOS = [
    Scenario("labels-late", late, world=REAL),
    Scenario("labels-missing", missing),
    Scenario("labels-noisy", noisy),
]
