"""The shapes that Services, pods and autoscalers come in."""

from tests.e2e.errors import Broken
from tests.e2e.history import dig
from tests.e2e.manifests import Users
from tests.e2e.scenario import Scenario
from tests.e2e.team import ADOPTED, ROLLED, Team
from tests.e2e.worlds import BAD, BETTER, GOOD, Version

from modelcanary_operator import names
from modelcanary_operator.api import AUTOSCALERS, DEPLOYMENTS, PODS, SERVICES, Kind


async def numeric_port(team: Team) -> None:
    """The Service targets a number: it is redirected, and restored."""
    await team.serve(port=8080)
    await team.adopt()
    await team.deploy(BETTER)
    await team.promoted(BETTER)
    await team.delete()
    service = await team.cluster.get(SERVICES, team.namespace, team.name)
    if service["spec"]["ports"][0]["targetPort"] != 8080:
        raise Broken(f"the Service is not as it was: {service['spec']}")
    await team.only(BETTER)
    await team.answers(30)


async def autoscaled(team: Team) -> None:
    """The user's autoscaler has a copy for the baseline, which follows its edits and goes with the resource."""
    await team.serve()
    scaler = {
        "metadata": {"name": team.name},
        "spec": {
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": team.name},
            "minReplicas": 2,
            "maxReplicas": 4,
        },
    }
    await team.create(AUTOSCALERS, scaler)
    await team.until(lambda: len(team.endpoints()) == 2, "the target scaled to 2", ADOPTED)
    await team.adopt()
    await team.until(lambda: len(team.pods(names.BASELINE)) == 2, "two pods of the baseline", ADOPTED)
    await team.patch(AUTOSCALERS, {"spec": {"minReplicas": 3}})
    await team.until(lambda: len(team.endpoints()) == 3, "three endpoints", ROLLED)
    await team.answers(30)
    await team.delete()
    await team.answers(30)


async def scaled(team: Team) -> None:
    """What a user asks of the target is asked of the baseline: no pod of an unjudged template comes up."""
    await team.serve()
    await team.adopt()
    await team.deploy(BAD, replicas=3)
    await team.until(lambda: len(team.pods(names.BASELINE)) == 3, "three pods of the baseline", ADOPTED)
    await team.until(lambda: dig(team.history.get(DEPLOYMENTS, team.name), "spec", "replicas") == 0, "0 again", ADOPTED)
    await team.rolled_back("LossRegression")
    await team.only(GOOD)
    await team.answers(30)


async def ends_at_once(team: Team) -> None:
    """A model that exits on SIGTERM, with requests under way: its pods are evicted, updated and promoted away."""
    rude = Version("rude", fault="exit-at-once")
    await team.model(rude, replicas=2)
    await team.adopt()
    await team.start_users(Users({"rate": 60.0, "one_shot": 0.5}))
    await team.answers(100)
    (pod, *_) = team.pods(names.BASELINE)
    await team.cluster.delete(PODS, team.namespace, pod)
    await _replaced(team, pod)
    await team.answers(300)
    await team.deploy(BETTER)
    await team.promoted(BETTER)
    await team.answers(100)


async def _replaced(team: Team, pod: str) -> None:
    """It has ended, and two are ready again."""
    await team.until(lambda: pod not in team.pods(names.BASELINE), "the pod ends", ADOPTED)
    await team.until(lambda: len(team.pods(names.BASELINE)) == 2, "another pod", ADOPTED)


async def evicted(team: Team) -> None:
    """A node is drained: each pod of the baseline is evicted, with requests under way."""
    await team.serve(replicas=2, users=Users({"rate": 60.0, "one_shot": 0.5}))
    await team.adopt()
    for pod in team.pods(names.BASELINE):
        eviction = Kind("/api/v1", f"pods/{pod}/eviction", "Eviction")
        await team.create(eviction, {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": pod}})
        await _replaced(team, pod)
    await team.answers(200)
    await team.deploy(BETTER)
    await team.promoted(BETTER)


SCENARIOS = [
    Scenario("numeric-port", numeric_port, also_killed=True),
    Scenario("autoscaled", autoscaled),
    Scenario("scaled", scaled),
    Scenario("evicted", evicted),
    Scenario("ends-at-once", ends_at_once),
]
