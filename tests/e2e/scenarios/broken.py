"""Candidates that do not come up, or answer nonsense: each is a roll-back with that reason, and users see nothing."""

from collections.abc import Awaitable, Callable

from tests.e2e.errors import Broken
from tests.e2e.scenario import Scenario
from tests.e2e.team import Team
from tests.e2e.worlds import BETTER, GOOD, Version

from modelcanary_operator.api import DEPLOYMENTS


def rolled_back_for(reason: str, version: Version) -> Callable[[Team], Awaitable[None]]:
    # Of those that become ready in the end, a busy machine's must not be rolled back for being late.
    deadline = "20s" if reason == "CandidateNotReady" else "120s"

    async def run(team: Team) -> None:
        await team.serve()
        await team.adopt({"mirror": {"timeout": "1s"}, "candidate": {"readyDeadline": deadline}})
        await team.deploy(version)
        await team.rolled_back(reason)
        await team.answers(30)
        if team.baseline() != GOOD.name:
            raise Broken(f"users have version {team.baseline()}")

    return run


async def without_a_node(team: Team) -> None:
    """No node has room for the candidate."""
    await team.serve()
    await team.adopt({"candidate": {"readyDeadline": "15s"}})
    template = team.template(BETTER)
    template["spec"]["containers"][0]["resources"] = {"requests": {"cpu": "10000"}}
    await team.patch(DEPLOYMENTS, {"spec": {"template": template}})
    await team.rolled_back("Unschedulable")
    await team.only(GOOD)
    await team.answers(30)


def _broken(fault: str) -> Version:
    return Version(f"broken-{fault}", fault=fault)


SCENARIOS = [
    Scenario("crash", rolled_back_for("CrashLooping", _broken("crash"))),
    Scenario("unready", rolled_back_for("CandidateNotReady", _broken("unready"))),
    Scenario("pull", rolled_back_for("ImagePullFailed", Version("missing", image="localhost/no-such-image:1"))),
    Scenario("nan", rolled_back_for("NonFinite", _broken("nan"))),
    Scenario("html", rolled_back_for("ErrorRate", _broken("html"))),
    Scenario("status-500", rolled_back_for("ErrorRate", _broken("500"))),
    Scenario("no-room", without_a_node),
    Scenario("hang", rolled_back_for("ErrorRate", _broken("hang"))),
]
