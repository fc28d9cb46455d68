"""What is told: each event once, whatever is interrupted, and nothing that was acknowledged a second time."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from modelcanary_gate.plan.actions import RemoveFinalizer
from modelcanary_gate.plan.observed import Confirmation
from modelcanary_gate.plan.phases import Phase
from modelcanary_gate.plan.planner import plan
from modelcanary_gate.plan.signals import MOST_SIGNALS
from modelcanary_gate.spec import Analysis, Canary, Notification, Promotion
from modelcanary_gate.vocabulary import Event, Verdict

EVERYTHING = tuple(event for event in Event if event is not Event.CONFIRM_PROMOTION)
Play = Callable[..., tuple[Any, Any]]


def promote(world: Any) -> list[Callable[[], None]]:
    world.verdicts["B"] = Verdict.PROMOTE
    return [lambda: world.push("B")]


def roll_back(world: Any) -> list[Callable[[], None]]:
    world.verdicts["B"] = Verdict.ROLL_BACK
    return [lambda: world.push("B")]


def by_steps(world: Any) -> list[Callable[[], None]]:
    world.spec = replace(world.spec, canary=Canary(steps=(0.05, 0.5), step_duration=20.0))
    return promote(world)


def manual(world: Any) -> list[Callable[[], None]]:
    world.spec = replace(world.spec, promotion=Promotion(mode="Manual"))

    def approve() -> None:
        world.verbs = replace(world.verbs, promote=world.status.run.id)

    return [*promote(world), approve]


def observe(world: Any) -> list[Callable[[], None]]:
    world.spec = replace(world.spec, promotion=Promotion(observe_for=45.0))
    return promote(world)


def take_back(world: Any) -> list[Callable[[], None]]:
    world.spec = replace(world.spec, promotion=Promotion(observe_for=7200.0), analysis=Analysis(interval=90.0))
    return [*promote(world), lambda: world.verdicts.update(B=Verdict.ROLL_BACK)]


def stall(world: Any) -> list[Callable[[], None]]:
    def say(problem: str) -> None:
        world.endpoint_problem = problem
        world.version += 1

    return [lambda: say('spec.alerts[0].endpoint: "x" is unknown'), lambda: say("")]


ENDS = {
    promote: ["RunStarted", "Promoted"],
    roll_back: ["RunStarted", "RolledBack"],
    by_steps: ["RunStarted", "CanaryStep", "CanaryStep", "Promoted"],
    manual: ["RunStarted", "Held", "Promoted"],
    observe: ["RunStarted", "Promoted", "RunEnded"],
    take_back: ["RunStarted", "Promoted", "RolledBack"],
    stall: ["Stalled", "Recovered"],
}


@pytest.fixture(scope="session")
def play(new_world: Any, new_operator: Any) -> Play:
    def run(scenario: Any, faults: dict[int, str] | None = None) -> tuple[Any, Any]:
        world = new_world()
        world.spec = replace(world.spec, alerts=(Notification("oncall", EVERYTHING),))
        events = scenario(world)
        operator = new_operator(world, faults)
        operator.settle()
        for event in events:
            event()
            operator.settle(operator.steps + 400)
        return world, operator

    return run


@pytest.mark.parametrize("scenario", ENDS, ids=lambda scenario: scenario.__name__)
def test_each_event_is_told_once(play: Play, scenario: Any) -> None:
    world, _ = play(scenario)
    assert [event for event, _, _ in world.sent] == ENDS[scenario]
    assert len({number for _, number, _ in world.sent}) == len(world.sent), "ids are not used twice"
    assert world.status.signals == (), "what was acknowledged is not kept"


@pytest.mark.parametrize("fault", ["before", "stale", "late1", "late4"])
@pytest.mark.parametrize("scenario", ENDS, ids=lambda scenario: scenario.__name__)
def test_interrupted_at_any_step_the_same_is_told(play: Play, scenario: Any, fault: str) -> None:
    _, operator = play(scenario)
    for step in range(1, operator.steps + 1):
        world, _ = play(scenario, {step: fault})
        assert [event for event, _, _ in world.sent] == ENDS[scenario], f"{fault} at step {step}"


def test_what_nobody_acknowledges_waits_and_blocks_nothing(new_world: Any, new_operator: Any) -> None:
    world = new_world()
    world.spec = replace(
        world.spec, alerts=(Notification("oncall", EVERYTHING),), webhooks=(Notification("log", EVERYTHING),)
    )
    world.deaf = {"oncall"}
    world.verdicts["B"] = Verdict.PROMOTE
    operator = new_operator(world)
    operator.settle()
    world.push("B")
    operator.settle(operator.steps + 400)
    assert (world.status.phase, world.status.baseline) == (Phase.SERVING, "B")
    assert [(signal.event, signal.to) for signal in world.status.signals] == [
        ("RunStarted", ("oncall",)),
        ("Promoted", ("oncall",)),
    ]
    assert [event for event, _, endpoint in world.sent if endpoint == "log"] == ["RunStarted", "Promoted"]
    # Another leader goes on from the status alone.
    world.deaf = set()
    new_operator(world).settle(400)
    assert [event for event, _, endpoint in world.sent if endpoint == "oncall"] == ["RunStarted", "Promoted"]
    assert world.status.signals == ()


def test_what_waits_is_bounded_and_the_oldest_goes_first(new_world: Any, new_operator: Any) -> None:
    world = new_world()
    world.spec = replace(world.spec, alerts=(Notification("oncall", EVERYTHING),))
    world.deaf = {"oncall"}
    operator = new_operator(world)
    operator.settle()
    for number in range(MOST_SIGNALS):
        world.push(f"T{number}")
        operator.settle(operator.steps + 400)
    assert len(world.status.signals) == MOST_SIGNALS
    assert world.status.signals[-1].candidate == f"T{MOST_SIGNALS - 1}"
    assert world.status.signals[0].candidate != "T0"


def test_a_roll_back_carries_what_it_was_made_from(play: Play) -> None:
    kept: list[Any] = []

    def scenario(world: Any) -> list[Callable[[], None]]:
        world.deaf = {"oncall"}
        kept.append(world)
        return roll_back(world)

    world, _ = play(scenario)
    signal = world.status.signals[-1]
    assert (signal.event, signal.reason) == ("RolledBack", "LossRegression")
    assert (signal.baseline, signal.candidate) == ("A", "B")
    assert signal.id == f"{signal.run}/RollBack/RolledBack", "the decision's id and the event"


def test_a_hold_is_told_once_however_often_it_comes_and_goes(new_world: Any, new_operator: Any) -> None:
    world = new_world()
    world.spec = replace(world.spec, alerts=(Notification("oncall", (Event.HELD,)),))
    operator = new_operator(world)
    operator.settle()
    world.push("B")
    for _ in range(3):
        for mode, verdict in (("Manual", Verdict.PROMOTE), ("Manual", Verdict.CONTINUE)):
            world.spec = replace(world.spec, promotion=Promotion(mode=mode))
            world.verdicts["B"] = verdict
            operator.settle(operator.steps + 400)
    assert [event for event, _, _ in world.sent] == ["Held"]


# --- the webhooks that are asked


def asking(new_world: Any, new_operator: Any, **given: Any) -> tuple[Any, Any]:
    world = new_world()
    hooks = (Notification("gate", (Event.CONFIRM_PROMOTION,)), Notification("risk", (Event.CONFIRM_PROMOTION,)))
    world.spec = replace(world.spec, webhooks=hooks, alerts=(Notification("oncall", (Event.HELD,)),))
    world.verdicts["B"] = Verdict.PROMOTE
    world.confirmations = given
    operator = new_operator(world)
    operator.settle()
    world.push("B")
    operator.settle(operator.steps + 400)
    return world, operator


YES, NO, SILENT = Confirmation(True), Confirmation(False, "a freeze until Monday"), Confirmation(None, "no answer")


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ({}, "AwaitingConfirmation"),
        ({"gate": YES}, "AwaitingConfirmation"),
        ({"gate": YES, "risk": SILENT}, "AwaitingConfirmation"),
        ({"gate": SILENT, "risk": NO}, "PromotionRefused"),
    ],
)
def test_silence_and_refusal_promote_nothing(new_world: Any, new_operator: Any, given: Any, reason: str) -> None:
    world, operator = asking(new_world, new_operator, **given)
    assert (world.status.phase, world.status.reason) == (Phase.SHADOWING, reason)
    assert [event for event, _, _ in world.sent] == (["Held"] if reason == "PromotionRefused" else [])
    if reason == "PromotionRefused":
        assert "a freeze until Monday" in world.status.message
    world.confirmations = {"gate": YES, "risk": YES}
    operator.settle(operator.steps + 400)
    assert (world.status.phase, world.status.baseline) == (Phase.SERVING, "B")


def test_who_is_asked_delays_no_roll_back(new_world: Any, new_operator: Any) -> None:
    world, operator = asking(new_world, new_operator, risk=NO)
    world.verdicts["B"] = Verdict.ROLL_BACK
    operator.settle(operator.steps + 400)
    assert (world.status.phase, world.status.baseline) == (Phase.COOLDOWN, "A")


# --- endpoints that are not there


def test_an_unknown_endpoint_stalls_what_is_not_adopted_and_begins_no_run(new_world: Any, new_operator: Any) -> None:
    world = new_world()
    world.endpoint_problem = 'spec.alerts[0].endpoint: "x" is unknown; there are: a, b'
    operator = new_operator(world)
    operator.settle()
    assert (world.status.phase, world.status.reason) == (Phase.STALLED, "EndpointUnknown")
    assert world.baseline is None and not world.target.paused, "nothing was touched"
    world.endpoint_problem = ""
    operator.settle(operator.steps + 400)
    assert world.status.phase is Phase.SERVING
    world.endpoint_problem = "again"
    world.push("B")
    operator.settle(operator.steps + 400)
    assert (world.status.phase, world.status.reason, world.status.stalled) == (Phase.SERVING, "EndpointUnknown", True)
    assert world.candidate is None


def test_an_endpoint_that_is_lost_in_a_run_holds_a_promotion_and_no_roll_back(
    new_world: Any, new_operator: Any
) -> None:
    world = new_world()
    operator = new_operator(world)
    operator.settle()
    world.push("B")
    operator.settle(operator.steps + 400)
    world.endpoint_problem = "spec.guards[0].endpoint: gone"
    world.verdicts["B"] = Verdict.PROMOTE
    operator.settle(operator.steps + 400)
    assert (world.status.phase, world.status.reason, world.status.stalled) == (Phase.SHADOWING, "EndpointUnknown", True)
    world.verdicts["B"] = Verdict.ROLL_BACK
    operator.settle(operator.steps + 400)
    assert world.status.phase is Phase.COOLDOWN


def _untold(new_world: Any, new_operator: Any) -> tuple[Any, Any]:
    """A run was rolled back, and nobody has taken the news."""
    world = new_world()
    world.spec = replace(world.spec, alerts=(Notification("oncall", EVERYTHING),))
    world.deaf = {"oncall"}
    operator = new_operator(world)
    operator.settle()
    roll_back(world)[0]()
    operator.settle()
    return world, operator


def test_a_deletion_waits_a_while_for_whom_there_is_something_to_tell(new_world: Any, new_operator: Any) -> None:
    world, operator = _untold(new_world, new_operator)
    assert world.status.signals
    world.deleting, world.deleted_at = True, world.now
    last = None
    while world.exists:
        result = plan(world.spec, world.status, world.observe(), None, world.now)
        last = result.actions[0] if result.actions else last
        operator.step()
    assert world.now - world.deleted_at >= 60.0
    assert isinstance(last, RemoveFinalizer) and "RolledBack to oncall" in last.untold


def test_a_deletion_goes_on_once_all_are_told(new_world: Any, new_operator: Any) -> None:
    world, operator = _untold(new_world, new_operator)
    world.deleting, world.deleted_at = True, world.now
    while world.baseline is not None or world.revisions:
        operator.step()
    assert world.exists
    world.deaf, world.deleted_at = set(), world.now
    while world.exists:
        operator.step()
    assert "RolledBack" in {event for event, _, _ in world.sent}
    assert world.now - world.deleted_at < 60.0
