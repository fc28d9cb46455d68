"""Verbs that name a run which cannot be meant are taken off, and said to be refused."""

from dataclasses import replace
from typing import Any

import pytest

from modelcanary_gate.plan.actions import RefuseVerb
from modelcanary_gate.plan.phases import Phase
from modelcanary_gate.plan.planner import plan


def step(world: Any) -> Any:
    return plan(world.spec, world.status, world.observe(), world.decision(), world.now)


@pytest.mark.parametrize("verb", ["promote", "rollback", "pause", "resume", "retry"])
def test_an_unknown_run_is_refused_once(new_world: Any, new_operator: Any, verb: str) -> None:
    world = new_world()
    operator = new_operator(world)
    operator.settle()
    world.push("B")
    operator.settle()
    assert world.status.phase is Phase.SHADOWING
    world.verbs = replace(world.verbs, **{verb: "fraud-other-1"})
    [action] = step(world).actions
    assert isinstance(action, RefuseVerb) and action.verb == verb
    assert "fraud-other-1" in action.message and world.status.run.id in action.message
    operator.settle()
    assert getattr(world.verbs, verb) == ""
    assert world.status.phase is Phase.SHADOWING
    assert step(world).actions == ()


def test_the_last_run_and_the_one_that_is_on_are_no_strangers(new_world: Any, new_operator: Any) -> None:
    world = new_world()
    operator = new_operator(world)
    operator.settle()
    world.push("B")
    operator.settle()
    first = world.status.run.id
    world.verbs = replace(world.verbs, promote=first)
    operator.settle()
    assert world.status.baseline == "B" and world.status.last.run == first
    world.push("C")
    operator.settle()
    assert world.status.run.id != first
    assert world.verbs.promote == first, "it is left: it has been carried out"


def test_a_run_that_begins_within_the_second_has_an_id_of_its_own(new_world: Any, new_operator: Any) -> None:
    """Else what was said of the run before it would end it at once, again and again."""
    world = new_world()
    operator = new_operator(world)
    operator.settle()
    world.push("B")
    operator.settle()
    run = world.status.run.id
    world.now = float(int(run.rpartition("-")[2], 16))
    world.verbs = replace(world.verbs, rollback=run)
    while world.status.phase is not Phase.COOLDOWN:
        operator.step()
    assert world.now < int(world.now) + 1 and world.status.last.run == run
    world.verbs = replace(world.verbs, retry=run)
    while world.status.run is None:
        operator.step()
    assert world.status.run.id != run


def test_nothing_is_refused_before_a_lost_status_is_found_again(new_world: Any, new_operator: Any) -> None:
    world = new_world()
    operator = new_operator(world)
    operator.settle()
    world.push("B")
    operator.settle()
    world.verbs = replace(world.verbs, pause=world.status.run.id)
    world.wipe()
    operator.settle()
    assert world.status.phase is Phase.SHADOWING
    assert world.verbs.pause == world.status.run.id
