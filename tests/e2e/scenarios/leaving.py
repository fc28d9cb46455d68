"""Deletions of all kinds, and what GitOps tools do to a resource: users keep being answered."""

from tests.e2e.errors import Broken
from tests.e2e.history import dig
from tests.e2e.scenario import Scenario
from tests.e2e.team import ADOPTED, NAMESPACES, Team
from tests.e2e.worlds import BAD, BETTER, GOOD

from modelcanary_operator.api import CANARIES, DEPLOYMENTS, SERVICES


async def foreground(team: Team) -> None:
    """Argo CD's way: the garbage collector would end all that belongs to the resource."""
    await team.serve()
    await team.adopt()
    await team.cluster.delete(CANARIES, team.namespace, team.name, propagationPolicy="Foreground")
    await team.until(lambda: not team.canary, "the ModelCanary is gone", ADOPTED)
    await team.nothing_left()
    await team.only(GOOD)
    await team.answers(30)


async def after_roll_back(team: Team) -> None:
    """The target has the rejected template still: it gets back the one that serves."""
    await team.serve()
    await team.adopt()
    await team.deploy(BAD)
    await team.rolled_back("LossRegression")
    await team.delete()
    await team.only(GOOD)
    if team.target() != GOOD.name:
        raise Broken(f"the target has version {team.target()}")
    await team.answers(30)


async def during_run(team: Team) -> None:
    await team.serve()
    await team.adopt()
    await team.deploy(BETTER)
    await team.shadowed()
    await team.delete()
    await team.only(GOOD)
    await team.answers(30)


async def recreated(team: Team) -> None:
    """Another uid: the baseline is found again by its label, and the next deploy is gated."""
    await team.serve()
    await team.adopt({"deletion": "KeepBaseline"})
    await team.cluster.delete(CANARIES, team.namespace, team.name)
    await team.until(lambda: not team.canary, "the ModelCanary is gone", ADOPTED)
    await team.answers(30)
    await team.adopt()
    await team.deploy(BETTER)
    await team.promoted(BETTER)


async def kept_untouched(team: Team) -> None:
    """Nothing of ours is ever in the Service, and what serves stays in its place."""
    await team.serve()
    await team.adopt({"deletion": "KeepBaseline", "adoption": {"service": "Untouched"}})
    await team.deploy(BETTER)
    await team.promoted(BETTER)
    await team.cluster.delete(CANARIES, team.namespace, team.name)
    await team.until(lambda: not team.canary, "the ModelCanary is gone", ADOPTED)
    selectors = {str(dig(each.body, "spec", "selector")) for each in team.history.of(SERVICES, team.name)}
    if len(selectors) != 1:
        raise Broken(f"the Service's selector was {selectors}")
    await team.only(BETTER)
    await team.answers(30)


async def status_wiped(team: Team) -> None:
    await team.serve()
    await team.adopt()
    await team.deploy(BETTER)
    await team.promoted(BETTER)
    await team.patch(CANARIES, {"status": None}, subresource="status")
    await team.phase("Serving", ADOPTED)
    await team.only(BETTER)
    await team.deploy(BAD)
    await team.shadowed()
    await team.patch(CANARIES, {"status": None}, subresource="status")
    await team.rolled_back("LossRegression")
    await team.only(BETTER)


async def namespace_deleted(team: Team) -> None:
    """Nobody is left to be answered; what must not happen is that it hangs."""
    await team.serve()
    await team.adopt()
    await team.finish()
    await team.cluster.delete(NAMESPACES, "", team.namespace)
    await team.until(lambda: not team.canary, "the ModelCanary is gone", ADOPTED)
    await team.until(lambda: not team.history.all(DEPLOYMENTS), "the Deployments are gone", ADOPTED)


SCENARIOS = [
    Scenario("foreground", foreground),
    Scenario("delete-after-roll-back", after_roll_back),
    Scenario("delete-during-run", during_run),
    Scenario("recreated", recreated),
    Scenario("kept-untouched", kept_untouched),
    Scenario("status-wiped", status_wiped),
    Scenario("namespace-deleted", namespace_deleted, checks_users=False),
]
