"""The release's own parts fail: users notice nothing, and runs are decided when the parts are back."""

from tests.e2e.chaos import back, kill
from tests.e2e.scenario import Group, Scenario
from tests.e2e.team import Team
from tests.e2e.worlds import BAD, BETTER, GOOD, REAL

from modelcanary_operator import names
from modelcanary_operator.api import PODS


async def ledger_killed(team: Team) -> None:
    """In the middle of a run: what it had is on disk, the run goes on."""
    release = team.release.namespace
    await team.serve()
    await team.adopt({"analysis": {"minSamples": {"rollback": 1500, "promote": 1500}}})
    await team.deploy(BETTER)
    await team.shadowed()
    run = team.run
    await team.answers(200)
    await kill(team.cluster, release, "ledger")
    await team.answers(50)
    await back(team.cluster, release, "ledger")
    moment = await team.judged("Promoting")
    if moment.status("run", "id") != run:
        raise AssertionError(f"run {moment.status('run', 'id')} was decided, and {run} was on")
    await team.only(BETTER)


async def both_away(team: Team) -> None:
    """Neither operator nor ledger: the baseline serves, its pods are replaced, and a deploy waits to be gated."""
    release = team.release.namespace
    await team.serve(replicas=2)
    await team.adopt()
    await kill(team.cluster, release, "ledger")
    await kill(team.cluster, release, "operator")
    (pod, *_) = team.pods(names.BASELINE)
    await team.cluster.delete(PODS, team.namespace, pod)
    await team.answers(100)
    await team.deploy(BAD)
    await team.rolled_back("LossRegression")
    await team.only(GOOD)


SCENARIOS = [
    Scenario("ledger-killed", ledger_killed, Group.KILLED, world=REAL),
    Scenario("both-away", both_away, Group.KILLED),
]
