"""Verbs for a run that is not on are taken off, and said to be refused where they were not carried out."""

from dataclasses import replace
from typing import Any

import pytest

from modelcanary_gate.plan.actions import RemoveVerb
from modelcanary_gate.plan.phases import Phase
from modelcanary_gate.plan.planner import plan


def step(world: Any) -> Any:
    return plan(world.spec, world.status, world.observe(), world.decision(), world.now)


def _shadowing(new_world: Any, new_operator: Any) -> tuple[Any, Any]:
    """A run of B is on, and the operator."""
    world = new_world()
    operator = new_operator(world)
    operator.settle()
    world.push("B")
    operator.settle()
    return world, operator


@pytest.mark.parametrize("verb", ["promote", "rollback", "pause", "resume", "retry"])
def test_an_unknown_run_is_refused_once(new_world: Any, new_operator: Any, verb: str) -> None:
    world, operator = _shadowing(new_world, new_operator)
    assert world.status.phase is Phase.SHADOWING
    world.verbs = replace(world.verbs, **{verb: "fraud-other-1"})
    [action] = step(world).actions
    assert isinstance(action, RemoveVerb) and action.verb == verb
    assert "fraud-other-1" in action.refusal and world.status.run.id in action.refusal
    operator.settle()
    assert getattr(world.verbs, verb) == ""
    assert world.status.phase is Phase.SHADOWING
    assert step(world).actions == ()


def test_what_was_carried_out_is_taken_off_and_not_called_refused(new_world: Any, new_operator: Any) -> None:
    """Else it is a run two back by and by, and said to be unknown."""
    world = new_world()
    operator = new_operator(world)
    operator.settle()
    for template, verb in (("B", "promote"), ("C", "rollback"), ("D", "pause")):
        world.push(template)
        operator.settle()
        run = world.status.run.id
        world.verbs = replace(world.verbs, **{verb: run})
        operator.settle()
        if verb == "pause":
            assert world.verbs.pause == run, "it is on for as long as the run is"
            world.push("E")
        while getattr(world.verbs, verb):
            before = step(world)
            assert [action.refusal for action in before.actions if isinstance(action, RemoveVerb)] in ([], [""])
            operator.step()
        operator.settle()


def test_what_came_too_late_is_refused_with_how_the_run_ended(new_world: Any, new_operator: Any) -> None:
    world, operator = _shadowing(new_world, new_operator)
    run = world.status.run.id
    world.verbs = replace(world.verbs, rollback=run)
    operator.settle()
    assert world.status.phase is Phase.COOLDOWN
    world.verbs = replace(world.verbs, promote=run)
    [action] = step(world).actions
    assert isinstance(action, RemoveVerb) and "was rolled back" in action.refusal
    operator.settle()
    world.push("C")
    operator.settle()
    second = world.status.run.id
    world.verbs = replace(world.verbs, promote=second)
    operator.settle()
    assert world.status.last.run == second
    for verb in ("rollback", "retry"):
        world.verbs = replace(world.verbs, **{verb: second})
        [action] = step(world).actions
        assert isinstance(action, RemoveVerb) and action.refusal, verb
        operator.settle()


def test_a_run_that_begins_within_the_second_has_an_id_of_its_own(new_world: Any, new_operator: Any) -> None:
    """Else what was said of the run before it would end it at once, again and again."""
    world, operator = _shadowing(new_world, new_operator)
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
    world, operator = _shadowing(new_world, new_operator)
    world.verbs = replace(world.verbs, pause=world.status.run.id)
    world.wipe()
    operator.settle()
    assert world.status.phase is Phase.SHADOWING
    assert world.verbs.pause == world.status.run.id
