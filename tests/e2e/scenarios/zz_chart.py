"""The release itself is upgraded and taken away: models go on being served. Last of all, by its name."""

from tests.e2e.errors import Broken
from tests.e2e.release import NAME, NAMESPACE, helm, install
from tests.e2e.scenario import Group, Scenario
from tests.e2e.setup import built
from tests.e2e.team import Team
from tests.e2e.worlds import BETTER, Version

from modelcanary_operator.api import Kind

_DEFINITIONS = Kind("/apis/apiextensions.k8s.io/v1", "customresourcedefinitions", "CustomResourceDefinition")


async def upgraded_and_uninstalled(team: Team) -> None:
    target = team.release.target
    await team.serve()
    await team.adopt()
    await team.deploy(BETTER)
    await team.shadowed()
    serving = team.pods("baseline")
    await install(target, built().chart, {"operator.workers": 3})
    await team.promoted(BETTER)
    if set(serving) & set(team.pods("baseline")):
        raise Broken("the promotion replaced no pod")
    before = team.pods("baseline")
    await helm(target, "uninstall", NAME, "--namespace", NAMESPACE, "--wait")
    await team.answers(100)
    if before != team.pods("baseline"):
        raise Broken("the uninstallation touched pods that serve")
    if await team.cluster.find(_DEFINITIONS, "", "modelcanaries.modelcanary.io") is None:
        raise Broken("the definition went with the release, and all ModelCanaries with it")
    await install(target, built().chart)
    # By a guard: whoever sends labels has the authority that went with the release, and would need the new one.
    await team.deploy(Version("broken", fault="nan"))
    await team.rolled_back("NonFinite")
    await team.answers(30)


SCENARIOS = [Scenario("chart", upgraded_and_uninstalled, Group.ALONE, 600.0)]
