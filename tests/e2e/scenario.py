"""What a scenario is, and how they are found: each module of `scenarios/` has one or several in `SCENARIOS`.

Called by `__main__` and `runner`.
"""

import importlib
import pkgutil
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from enum import StrEnum

from tests.e2e import scenarios
from tests.e2e.team import Team
from tests.e2e.worlds import LIGHT, World


class Group(StrEnum):
    """Scenarios of one group run at the same time, several at once."""

    SHARED = "shared"  # each in its own namespace, with the operator and the ledger undisturbed
    KILLED = "killed"  # the operator is killed again and again meanwhile
    ALONE = "alone"  # does something to the operator, the ledger or the cluster that others would notice


@dataclass(frozen=True, slots=True)
class Scenario:
    name: str  # of its namespace too, after "e2e-"
    run: Callable[[Team], Awaitable[None]]
    group: Group = Group.SHARED
    seconds: float = 420.0
    also_killed: bool = False  # runs once more with the operator being killed
    world: World = LIGHT
    checks_users: bool = True


def all_scenarios() -> list[Scenario]:
    """In the order of their modules' names; those that run twice are there twice."""
    found: list[Scenario] = []
    for module in sorted(pkgutil.iter_modules(scenarios.__path__), key=lambda each: each.name):
        loaded = importlib.import_module(f"{scenarios.__name__}.{module.name}")
        found += loaded.SCENARIOS
    killed = [
        replace(each, name=f"{each.name}-killed", group=Group.KILLED, seconds=2 * each.seconds, also_killed=False)
        for each in found
        if each.also_killed
    ]
    return [*found, *killed]
