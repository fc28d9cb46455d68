"""What users do while a run is on: another template, another specification, and the verbs."""

from tests.e2e.errors import Broken
from tests.e2e.scenario import Scenario
from tests.e2e.team import ADOPTED, JUDGED, ROLLED, Team
from tests.e2e.worlds import BAD, BETTER, GOOD, REAL

from modelcanary_operator import names

#: No verdict comes by itself in the time of a scenario.
_UNDECIDED = {"analysis": {"minSamples": {"rollback": 100_000, "promote": 100_000}}}
_MANUAL = {"promotion": {"mode": "Manual"}}


async def new_template(team: Team) -> None:
    await team.serve()
    await team.adopt()
    await team.deploy(BAD)
    await team.shadowed()
    first = team.run
    await team.deploy(BETTER)
    await team.until(lambda: team.run not in ("", first), "another run", ADOPTED)
    await team.promoted(BETTER)


async def new_specification(team: Team) -> None:
    """What is measured changes: another run. What is waited for changes: the same run, decided by the new limits."""
    await team.serve()
    await team.adopt(_UNDECIDED)
    await team.deploy(BETTER)
    await team.shadowed()
    first = team.run
    await team.edit(analysis={"loss": {"clipEpsilon": "1e-3"}})
    await team.until(lambda: team.run not in ("", first), "another run", ADOPTED)
    await team.shadowed()
    second = team.run
    await team.edit(analysis={"minSamples": {"rollback": 300, "promote": 400}})
    moment = await team.judged("Promoting")
    if moment.status("run", "id") != second:
        raise Broken(f"run {moment.status('run', 'id')} was decided, and {second} was on")
    await team.phase("Serving", ROLLED)
    await team.only(BETTER)


async def promote_by_hand(team: Team) -> None:
    await team.serve()
    await team.adopt(_MANUAL)
    await team.deploy(BETTER)
    await team.phase("Shadowing", JUDGED, reason="AwaitingApproval")
    await team.annotate(names.PROMOTE, team.run)
    await team.promoted(BETTER)


async def roll_back_by_hand(team: Team) -> None:
    await team.serve()
    await team.adopt(_UNDECIDED)
    await team.deploy(BETTER)
    await team.shadowed()
    await team.annotate(names.ROLL_BACK, team.run)
    await team.rolled_back("RolledBackByUser")
    await team.only(GOOD)


async def pause(team: Team) -> None:
    await team.serve()
    await team.adopt(_MANUAL)
    await team.deploy(BETTER)
    await team.shadowed()
    await team.annotate(names.PAUSE, team.run)
    await team.edit(promotion={"mode": "Automatic"})
    await team.phase("Shadowing", JUDGED, reason="Paused")
    await team.annotate(names.RESUME, team.run)
    await team.promoted(BETTER)


async def cooldown(team: Team) -> None:
    """A rejected template is not tried again while it cools down, unless the user says so."""
    await team.serve()
    await team.adopt()
    await team.deploy(BAD)
    await team.rolled_back("LossRegression")
    await team.deploy(GOOD)
    await team.phase("Serving", ADOPTED)
    await team.deploy(BAD)
    await team.phase("Cooldown", ADOPTED)
    await team.idle(5.0)
    rejected = str(team.status("last", "run"))
    await team.annotate(names.RETRY, rejected)
    await team.until(lambda: team.run not in ("", rejected), "the retry", ADOPTED)
    await team.rolled_back("LossRegression")
    if team.status("rejected", "attempts") != 2:
        raise Broken(f"it was rejected twice, and not {team.status('rejected')}")


async def suspended(team: Team) -> None:
    await team.serve()
    await team.adopt()
    await team.edit(suspend=True)
    await team.phase("Suspended", ADOPTED)
    await team.deploy(BETTER)
    await team.idle(5.0)
    await team.only(GOOD)
    await team.edit(suspend=False)
    await team.promoted(BETTER)


SCENARIOS = [
    Scenario("new-template", new_template, also_killed=True),
    Scenario("new-spec", new_specification),
    Scenario("promote-by-hand", promote_by_hand, world=REAL),
    Scenario("roll-back-by-hand", roll_back_by_hand),
    Scenario("pause", pause),
    Scenario("cooldown", cooldown),
    Scenario("suspended", suspended),
]
