"""The life of a deploy, undisturbed and disturbed at every step: the same end, and users never the worse for it."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelcanary_gate.plan import actions as do
from modelcanary_gate.plan.observed import Candidate as CandidateSeen
from modelcanary_gate.plan.observed import Failure, Verbs
from modelcanary_gate.plan.phases import Phase
from modelcanary_gate.plan.planner import plan
from modelcanary_gate.plan.reasons import Why
from modelcanary_gate.plan.status import Run
from modelcanary_gate.spec import Adoption, Analysis, Canary, Candidate, Hysteresis, Promotion
from modelcanary_gate.vocabulary import Reason, Verdict

CANARY = Canary(steps=(0.05, 0.5), step_duration=20.0)


def adopt(world: Any) -> list[Callable[[], None]]:
    return []


def promote(world: Any) -> list[Callable[[], None]]:
    world.verdicts["B"] = Verdict.PROMOTE
    return [lambda: world.push("B")]


def roll_back(world: Any) -> list[Callable[[], None]]:
    world.verdicts["B"] = Verdict.ROLL_BACK
    return [lambda: world.push("B")]


def crash_loop(world: Any) -> list[Callable[[], None]]:
    return [lambda: world.push("broken-crash")]


def never_ready(world: Any) -> list[Callable[[], None]]:
    world.spec = replace(world.spec, candidate=Candidate(ready_deadline=15.0))
    return [lambda: world.push("broken-slow")]


def steps_then_promote(world: Any) -> list[Callable[[], None]]:
    world.spec = replace(world.spec, canary=CANARY)
    return promote(world)


def supersede(world: Any) -> list[Callable[[], None]]:
    world.verdicts["C"] = Verdict.PROMOTE
    return [lambda: world.push("B"), lambda: world.push("C")]


def withdraw(world: Any) -> list[Callable[[], None]]:
    return [lambda: world.push("B"), lambda: world.push("A")]


def measure_otherwise(world: Any) -> list[Callable[[], None]]:
    def edit() -> None:
        world.spec = replace(world.spec, model=replace(world.spec.model, classes=("a", "b", "c")))
        world.verdicts["B"] = Verdict.PROMOTE

    return [lambda: world.push("B"), edit]


def suspend(world: Any) -> list[Callable[[], None]]:
    def set_to(value: bool) -> None:
        world.spec = replace(world.spec, suspend=value)

    world.verdicts["C"] = Verdict.PROMOTE
    return [lambda: world.push("B"), lambda: set_to(True), lambda: world.push("C"), lambda: set_to(False)]


def observe(world: Any) -> list[Callable[[], None]]:
    world.spec = replace(world.spec, promotion=Promotion(observe_for=45.0))
    return promote(world)


def observe_and_take_back(world: Any) -> list[Callable[[], None]]:
    """Labels that come late speak against what was promoted."""
    world.spec = replace(world.spec, promotion=Promotion(observe_for=7200.0), analysis=Analysis(interval=90.0))
    return [*promote(world), lambda: world.verdicts.update(B=Verdict.ROLL_BACK)]


def observe_and_supersede(world: Any) -> list[Callable[[], None]]:
    events = observe_and_take_back(world)[:1]
    world.verdicts["C"] = Verdict.ROLL_BACK
    return [*events, lambda: world.push("C")]


def delete_while_observing(world: Any) -> list[Callable[[], None]]:
    return [*observe_and_take_back(world)[:1], *delete(world)]


def delete(world: Any) -> list[Callable[[], None]]:
    return [lambda: setattr(world, "deleting", True)]


def delete_after_roll_back(world: Any) -> list[Callable[[], None]]:
    return [*roll_back(world), *delete(world)]


def delete_after_promotion(world: Any) -> list[Callable[[], None]]:
    return [*promote(world), *delete(world)]


def delete_mid_run(world: Any) -> list[Callable[[], None]]:
    return [lambda: world.push("B"), *delete(world)]


def keep_baseline(world: Any) -> list[Callable[[], None]]:
    world.spec = replace(world.spec, deletion="KeepBaseline")
    return delete_after_roll_back(world)


def upgrade_with_replicas(world: Any) -> list[Callable[[], None]]:
    """`helm upgrade` writes a new image and `replicas: 3` at once."""

    def upgrade() -> None:
        world.push("B")
        world.target.replicas = 3

    world.verdicts["B"] = Verdict.ROLL_BACK
    return [upgrade]


def autoscaled(world: Any) -> list[Callable[[], None]]:
    world.autoscaler = "fraud"
    return [*promote(world), *delete(world)]


def keda_scaled(world: Any) -> list[Callable[[], None]]:
    world.keda = True
    return autoscaled(world)


def fenced(world: Any) -> list[Callable[[], None]]:
    """The user has NetworkPolicies, changes one while a run is on, and deletes them all before the end."""
    world.policy = 1
    world.verdicts["B"] = Verdict.ROLL_BACK

    def allow(version: int) -> None:
        world.policy = version

    return [lambda: world.push("C"), lambda: allow(2), lambda: world.push("B"), lambda: allow(0)]


def fenced_and_deleted(world: Any) -> list[Callable[[], None]]:
    world.policy = 1
    return [*promote(world), *delete(world)]


def new_sidecar_mid_run(world: Any) -> list[Callable[[], None]]:
    return [lambda: world.push("B"), lambda: setattr(world, "refresh", "today")]


def taken_back_mid_promotion(world: Any) -> list[Callable[[], None]]:
    """There is no room for the promoted template's pods, and the user says to roll back."""
    world.verdicts["scarce"] = Verdict.PROMOTE

    def take_back() -> None:
        world.verbs = Verbs(rollback=world.status.run.id)

    return [lambda: world.push("scarce"), take_back]


SCENARIOS = [
    *(adopt, promote, roll_back, crash_loop, never_ready, steps_then_promote, supersede, withdraw),
    *(measure_otherwise, suspend, delete, delete_after_roll_back, delete_after_promotion, delete_mid_run),
    *(observe, observe_and_take_back, observe_and_supersede, delete_while_observing),
    *(keep_baseline, upgrade_with_replicas, autoscaled, keda_scaled, fenced, fenced_and_deleted),
    *(new_sidecar_mid_run, taken_back_mid_promotion),
]
SHAPES = {
    "named": {},
    "numeric": {"numeric": True},
    "unscaled": {"adoption": Adoption(scale_target=False)},
    "unscaled numeric": {"numeric": True, "adoption": Adoption(scale_target=False)},
    "untouched": {"adoption": Adoption(service="Untouched")},
}


@pytest.fixture(scope="session")
def play(new_world: Any, new_operator: Any) -> Callable[..., Any]:
    def run(scenario: Any, shape: str = "named", faults: dict[int, str] | None = None, wipe: int = 0) -> Any:
        options = SHAPES[shape]
        world = new_world(numeric=options.get("numeric", False))
        world.spec = replace(world.spec, adoption=options.get("adoption", Adoption()))
        operator = new_operator(world, faults)
        if wipe:
            step = operator.step

            def wiping() -> bool:
                if operator.steps == wipe and world.exists:
                    world.wipe()
                return bool(step())

            operator.step = wiping
        events = scenario(world)
        operator.settle()
        for event in events:
            event()
            operator.settle(operator.steps + 400)
        return world, operator

    return run


def test_the_user_sees_the_end_that_was_asked_for(play: Any) -> None:
    ends = {scenario.__name__: play(scenario)[0] for scenario in SCENARIOS}

    def phase(name: str) -> tuple[str, str, str]:
        world = ends[name]
        return (str(world.status.phase), world.status.baseline, str(world.status.reason))

    assert phase("adopt") == ("Serving", "A", "Serving")
    assert phase("promote")[:2] == ("Serving", "B")
    assert phase("roll_back") == ("Cooldown", "A", "LossRegression")
    assert phase("crash_loop") == ("Cooldown", "A", "CrashLooping")
    assert phase("never_ready") == ("Cooldown", "A", "CandidateNotReady")
    assert phase("steps_then_promote")[:2] == ("Serving", "B")
    assert phase("supersede")[:2] == ("Serving", "C")
    assert phase("withdraw") == ("Serving", "A", "Serving")
    assert phase("measure_otherwise")[:2] == ("Serving", "B")
    assert phase("suspend")[:2] == ("Serving", "C")
    assert phase("upgrade_with_replicas")[:2] == ("Cooldown", "A")
    assert phase("observe") == ("Serving", "B", "Serving")
    assert phase("observe_and_take_back") == ("Cooldown", "A", "LossRegression")
    assert ends["observe_and_take_back"].baseline.pods == [("A", True)] * 2
    assert phase("observe_and_supersede") == ("Cooldown", "B", "LossRegression")
    assert ends["upgrade_with_replicas"].baseline.replicas == 3
    assert ends["upgrade_with_replicas"].target.replicas == 0
    for name in ("delete", "delete_after_roll_back", "delete_mid_run"):
        assert not ends[name].exists
        assert ends[name].target.template == "A"
        assert ends[name].target.pods == [("A", True)] * 2
    for name in ("delete_after_promotion", "delete_while_observing"):
        assert ends[name].target.pods == [("B", True)] * 2
    assert phase("taken_back_mid_promotion") == ("Cooldown", "A", "RolledBackByUser")
    assert ends["taken_back_mid_promotion"].baseline.pods == [("A", True)] * 2
    assert phase("fenced") == ("Cooldown", "A", "LossRegression")
    assert ends["new_sidecar_mid_run"].sidecars_rolled == 1
    assert ends["keda_scaled"].target.pods == [("B", True)] * 2
    assert ends["keep_baseline"].baseline.pods == [("A", True)] * 2
    assert not ends["keep_baseline"].exists


@pytest.mark.parametrize("shape", SHAPES)
def test_the_service_is_as_it_was(play: Any, shape: str) -> None:
    """Named: nothing of ours stays. Numeric: the port. Unscaled: the label. Untouched: nothing at any time."""
    world, _ = play(adopt, shape)
    assert world.status.phase is Phase.SERVING
    assert (world.service.narrowed, world.service.redirected) == ("unscaled" in shape, "numeric" in shape)
    assert world.target.replicas == (2 if "unscaled" in shape else 0)
    assert (world.narrowed_at == 0.0) is (shape == "untouched")
    world, _ = play(delete, shape)
    assert (world.service.narrowed, world.service.redirected) == (False, False)
    assert not world.exists


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.__name__)
def test_an_unchanged_world_is_left_alone(play: Any, scenario: Any, shape: str) -> None:
    world, operator = play(scenario, shape)
    writes = world.writes
    for _ in range(10):
        operator.step()
    assert world.writes == writes


@pytest.mark.parametrize("fault", ["before", "tick", "stale", "late1", "late4", "late15"])
@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.__name__)
def test_interrupted_at_any_step_it_ends_the_same(play: Any, scenario: Any, fault: str) -> None:
    undisturbed, operator = play(scenario)
    expected = undisturbed.summary()
    for step in range(1, operator.steps + 1):
        world, _ = play(scenario, faults={step: fault})
        assert world.summary() == expected, f"{fault} at step {step}"


@pytest.mark.parametrize("shape", ["numeric", "unscaled", "unscaled numeric", "untouched"])
@pytest.mark.parametrize("fault", ["before", "late4"])
@pytest.mark.parametrize("scenario", [promote, delete_after_roll_back], ids=lambda scenario: scenario.__name__)
def test_however_the_service_is_written(play: Any, scenario: Any, fault: str, shape: str) -> None:
    undisturbed, operator = play(scenario, shape)
    expected = undisturbed.summary()
    for step in range(1, operator.steps + 1):
        world, _ = play(scenario, shape, faults={step: fault})
        assert world.summary() == expected, f"{fault} at step {step}"


LOST = (observe_and_take_back, observe_and_supersede, taken_back_mid_promotion)
FOUND_AGAIN = [scenario for scenario in SCENARIOS if scenario not in LOST]


@pytest.mark.parametrize("scenario", FOUND_AGAIN, ids=lambda scenario: scenario.__name__)
def test_a_lost_status_is_found_again_in_the_cluster(play: Any, scenario: Any) -> None:
    """But for the words: which template was rejected, and how often, is noted beside it. A promotion that has begun
    stays: there is no run any more that could be observed or rolled back.
    """
    undisturbed, operator = play(scenario)
    expected = undisturbed.summary()
    for step in range(1, operator.steps + 1):
        world, _ = play(scenario, wipe=step)
        found = world.summary()
        for summary in (found, expected):
            summary.pop("reason", None)
            if summary["phase"] == "gone":
                summary.pop("rejected", None)
        assert found == expected, f"wiped at step {step}"


FAULTS = st.sampled_from(["before", "tick", "stale", "late1", "late2", "late7", "late20"])


@settings(max_examples=150, deadline=None, derandomize=True)
@given(
    scenario=st.sampled_from(SCENARIOS),
    shape=st.sampled_from(sorted(SHAPES)),
    faults=st.dictionaries(st.integers(1, 80), FAULTS, max_size=12),
)
def test_disturbed_as_often_as_you_like(play: Any, scenario: Any, shape: str, faults: dict[int, str]) -> None:
    expected = play(scenario, shape)[0].summary()
    assert play(scenario, shape, faults)[0].summary() == expected


def test_a_rejected_template_waits_for_its_cooldown_or_the_user(play: Any) -> None:
    world, operator = play(roll_back)
    first = world.status.rejected
    assert first.attempts == 1
    world.now += world.spec.analysis.hysteresis.cooldown - 60.0
    operator.settle(operator.steps + 100)
    assert world.status.phase is Phase.COOLDOWN and world.status.rejected == first
    world.now += 61.0
    operator.settle(operator.steps + 100)
    assert world.status.rejected.attempts == 2
    world.verdicts["B"] = Verdict.PROMOTE
    world.verbs = replace(world.verbs, retry=world.status.last.run)
    operator.settle(operator.steps + 100)
    assert (world.status.phase, world.status.baseline) == (Phase.SERVING, "B")


def test_nothing_is_promoted_while_dry_run_manual_or_paused(play: Any) -> None:
    def held(change: Callable[[Any], None]) -> Any:
        def scenario(world: Any) -> list[Callable[[], None]]:
            change(world)
            return promote(world)

        return play(scenario)

    def dry(world: Any) -> None:
        world.spec = replace(world.spec, dry_run=True)

    def manual(world: Any) -> None:
        world.spec = replace(world.spec, promotion=Promotion(mode="Manual"))

    world, operator = held(dry)
    assert (world.status.phase, world.status.verdict, world.status.reason) == (Phase.SHADOWING, "Promote", "DryRun")
    world.spec = replace(world.spec, dry_run=False)
    operator.settle(operator.steps + 100)
    assert world.status.baseline == "B"
    world, operator = held(manual)
    assert (world.status.phase, world.status.reason) == (Phase.SHADOWING, "AwaitingApproval")
    run = world.status.run.id
    world.verbs = replace(world.verbs, promote="another-run")
    operator.settle(operator.steps + 100)
    assert world.status.phase is Phase.SHADOWING
    world.verbs = replace(world.verbs, promote=run)
    operator.settle(operator.steps + 100)
    assert world.status.baseline == "B"


def test_the_user_pauses_resumes_and_rolls_back(new_world: Any, new_operator: Any) -> None:
    world = new_world()
    operator = new_operator(world)
    operator.settle()
    world.push("B")
    operator.settle(operator.steps + 100)
    run = world.status.run.id
    world.verbs = replace(world.verbs, pause=run)
    world.verdicts["B"] = Verdict.PROMOTE
    operator.settle(operator.steps + 100)
    assert (world.status.phase, world.status.reason) == (Phase.SHADOWING, "Paused")
    world.verbs = replace(world.verbs, resume=run, rollback=run)
    operator.settle(operator.steps + 100)
    assert (world.status.phase, world.status.reason) == (Phase.COOLDOWN, "RolledBackByUser")


def test_users_reach_the_candidate_by_steps_and_never_without_pods(new_world: Any, new_operator: Any) -> None:
    world = new_world(replicas=4)
    world.spec = replace(
        world.spec, canary=CANARY, mirror=replace(world.spec.mirror, share=0.1), analysis=Analysis(interval=5.0)
    )
    world.verdicts["B"] = Verdict.PROMOTE
    operator = new_operator(world)
    operator.settle()
    world.push("B")
    seen: list[tuple[float, int]] = []
    while world.status.baseline != "B":
        operator.step()
        weight = world.ledger.weight
        if weight and weight not in [before for before, _ in seen]:
            seen.append((weight, sum(ready for _, ready in world.candidate.pods)))
        assert operator.steps < 300
    assert seen == [(0.05, 1), (0.5, 2)]
    assert world.ledger.weight == 0


def test_a_canary_that_turns_bad_is_rolled_back_even_when_paused_or_dry(new_world: Any, new_operator: Any) -> None:
    world = new_world()
    world.spec = replace(world.spec, canary=CANARY)
    world.verdicts["B"] = Verdict.PROMOTE
    operator = new_operator(world)
    operator.settle()
    world.push("B")
    while not world.ledger.weight:
        operator.step()
    world.spec = replace(world.spec, dry_run=True)
    world.verbs = replace(world.verbs, pause=world.status.run.id)
    world.verdicts["B"] = Verdict.ROLL_BACK
    operator.settle(operator.steps + 100)
    assert (world.status.phase, world.ledger.run, world.candidate) == (Phase.COOLDOWN, "", None)


def test_a_ledger_that_is_away_delays_a_run_and_no_roll_back(new_world: Any, new_operator: Any) -> None:
    world = new_world()
    operator = new_operator(world)
    operator.settle()
    world.ledger_up = False
    world.push("B")
    operator.settle(operator.steps + 100)
    assert (world.status.phase, world.status.reason) == (Phase.PREPARING, "LedgerUnavailable")
    world.ledger_up = True
    operator.settle(operator.steps + 100)
    assert world.status.phase is Phase.SHADOWING
    world.ledger_up = False
    world.verbs = replace(world.verbs, rollback=world.status.run.id)
    operator.settle(operator.steps + 100)
    assert (world.status.phase, world.candidate) == (Phase.COOLDOWN, None)
    world.ledger_up = True
    operator.settle(operator.steps + 100)
    assert world.ledger.run == ""


def test_what_is_taken_away_by_hand_comes_back(new_world: Any, new_operator: Any) -> None:
    world = new_world()
    operator = new_operator(world)
    operator.settle()
    world.harmed, world.baseline = True, None
    operator.settle(operator.steps + 100)
    assert world.baseline is not None and world.baseline.pods == [("A", True)] * 2
    world.harmed = False
    world.revisions.clear()
    operator.settle(operator.steps + 100)
    assert world.revisions == {"A"}
    world.push("B")
    operator.settle(operator.steps + 100)
    world.candidate, world.candidate_service = None, False
    operator.settle(operator.steps + 100)
    assert world.candidate is not None and world.candidate.template == "B" and world.candidate_service


@pytest.mark.parametrize("resumed", [True, False])
@pytest.mark.parametrize("numeric", [True, False])
def test_pods_of_the_target_get_no_users(new_world: Any, new_operator: Any, numeric: bool, resumed: bool) -> None:
    """However busy the controllers are: a target resumed by hand and scaled up lets no unjudged template in."""
    world = new_world(numeric=numeric)
    world.verdicts["B"] = Verdict.ROLL_BACK
    operator = new_operator(world)
    operator.settle()
    world.push("B")
    world.target.paused, world.target.replicas = not resumed, 3
    for _ in range(100):
        world.tick()
        world.check()
        operator.step()
        world.check()
    operator.settle(operator.steps + 200)
    assert (world.target.paused, world.target.replicas, world.target.pods) == (True, 0, [])
    assert (world.status.phase, world.baseline.replicas) == (Phase.COOLDOWN, 3)
    assert (world.service.narrowed, world.service.redirected) == (False, numeric)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("scenario", [promote, steps_then_promote, roll_back], ids=lambda scenario: scenario.__name__)
def test_deleted_at_any_step(play: Any, new_world: Any, new_operator: Any, scenario: Any, shape: str) -> None:
    """The target serves what was promoted last: a decision that was made is not taken back."""
    _, undisturbed = play(scenario, shape)
    options = SHAPES[shape]
    for step in range(2, undisturbed.steps):
        world = new_world(numeric=options.get("numeric", False))
        world.spec = replace(world.spec, adoption=options.get("adoption", Adoption()))
        operator = new_operator(world)
        (push,) = scenario(world)
        while operator.steps < step:
            if world.status.phase is Phase.SERVING and world.target.template == "A":
                push()
            operator.step()
            world.check()
        world.deleting = True
        operator.settle(operator.steps + 400)
        assert not world.exists, f"deleted at step {step}"
        assert world.target.pods == [(world.promoted[-1], True)] * 2, f"deleted at step {step}"


def test_a_template_pushed_during_adoption_is_judged_even_if_the_status_is_lost(
    new_world: Any, new_operator: Any
) -> None:
    for step in range(1, 40):
        world = new_world()
        operator = new_operator(world)
        while not world.target.held or operator.steps < step:
            operator.step()
        world.push("B")
        world.wipe()
        operator.settle(operator.steps + 400)
        assert (world.status.phase, world.status.baseline) == (Phase.SHADOWING, "A"), f"at step {step}"


def test_a_finalizer_that_was_taken_away_comes_back(play: Any) -> None:
    world, operator = play(adopt)
    world.finalizer = False
    operator.step()
    assert world.finalizer


def test_what_is_measured_otherwise_is_another_run(new_world: Any, new_operator: Any) -> None:
    world = new_world()
    operator = new_operator(world)
    operator.settle()
    world.push("B")
    operator.settle(operator.steps + 100)
    first = world.status.run.id
    world.now += 5.0
    world.spec = replace(world.spec, model=replace(world.spec.model, classes=("a", "b", "c")))
    operator.settle(operator.steps + 100)
    assert world.status.last.reason == "SpecChanged"
    assert world.status.run.id != first == world.status.last.run
    assert world.candidate.run == world.status.run.id == world.ledger.run


def test_suspended_and_resumed_in_a_cooldown_the_template_still_waits(play: Any) -> None:
    world, operator = play(roll_back)
    world.spec = replace(world.spec, suspend=True)
    operator.settle(operator.steps + 100)
    assert world.status.phase is Phase.SUSPENDED
    world.spec = replace(world.spec, suspend=False)
    operator.settle(operator.steps + 100)
    assert (world.status.phase, world.status.rejected.attempts) == (Phase.COOLDOWN, 1)
    assert world.status.reason == "LossRegression"


def test_mirroring_ends_before_the_baseline_changes(new_world: Any, new_operator: Any) -> None:
    world = new_world()
    world.verdicts["B"] = Verdict.PROMOTE
    operator = new_operator(world)
    operator.settle()
    world.push("B")
    while world.baseline.template == "A":
        operator.step()
        assert operator.steps < 200
    assert world.ledger.run == ""


def test_a_run_is_not_taken_up_again_by_its_old_candidate(new_world: Any, new_operator: Any) -> None:
    """What a late write of a run that has ended leaves behind is taken away; its evidence is not used again."""
    world = new_world()
    world.verdicts["B"] = Verdict.ROLL_BACK
    operator = new_operator(world)
    operator.settle()
    world.push("B")
    operator.settle(operator.steps + 100)
    first = world.status.last.run
    world.now += world.spec.analysis.hysteresis.cooldown
    while world.status.phase is not Phase.SERVING:
        operator.step()
    world.apply(do.ApplyCandidate(first, "B", 1, None))
    while world.status.phase is not Phase.SHADOWING:
        operator.step()
        assert operator.steps < 300
    assert world.status.run.id != first
    world.candidate.run = first
    operator.settle(operator.steps + 100)
    assert world.status.rejected.attempts == 2


def test_scaled_up_again_its_pods_are_drained_again(new_world: Any, new_operator: Any) -> None:
    world = new_world()
    operator = new_operator(world)
    operator.settle()
    for replicas in (3, 4):
        world.target.replicas = replicas
        for _ in range(6):
            world.tick()
        operator.settle(operator.steps + 200)
        assert (world.target.replicas, world.baseline.replicas) == (0, replicas)
        assert world.status.handover_since is None


def test_a_candidate_of_another_run_is_replaced(new_world: Any, new_operator: Any) -> None:
    world = new_world()
    operator = new_operator(world)
    operator.settle()
    world.push("B")
    operator.settle(operator.steps + 100)
    world.candidate.run = "another"
    operator.settle(operator.steps + 100)
    assert world.candidate.run == world.status.run.id


def test_the_last_healthy_copy_is_not_deleted(new_world: Any, new_operator: Any) -> None:
    world = new_world()
    operator = new_operator(world)
    operator.settle()
    world.target = None
    world.deleting = True
    operator.settle(operator.steps + 100)
    assert world.exists and world.baseline is not None and world.status.stalled
    assert world.status.reason == "TargetMissing"
    world.service = None
    operator.settle(operator.steps + 100)
    assert not world.exists and world.baseline is None


def test_cooldown_has_the_length_that_the_user_gave(play: Any) -> None:
    def short(world: Any) -> list[Callable[[], None]]:
        world.spec = replace(world.spec, analysis=Analysis(hysteresis=Hysteresis(cooldown=100.0)))
        return roll_back(world)

    world, operator = play(short)
    world.now += 101.0
    operator.step()
    assert world.status.phase is not Phase.COOLDOWN


def observed(new_world: Any, new_operator: Any) -> tuple[Any, Any]:
    """A world in which B was promoted and is observed."""
    world = new_world()
    operator = new_operator(world)
    events = observe_and_take_back(world)
    operator.settle()
    events[0]()
    operator.settle(operator.steps + 300)
    assert (world.status.phase, world.status.baseline) == (Phase.OBSERVING, "B")
    return world, operator


def test_the_model_before_is_the_shadow_of_what_was_promoted(new_world: Any, new_operator: Any) -> None:
    world, operator = observed(new_world, new_operator)
    assert world.candidate.pods == [("A", True)] * 2
    assert world.baseline.pods == [("B", True)] * 2
    run = world.status.run
    assert (run.baseline, run.candidate) == ("A", "B"), "roles, and so the sign of the evidence, stay as they were"
    assert (world.ledger.run, world.ledger.observing, world.ledger.weight) == (run.id, True, 0.0)
    assert world.status.last.decision == f"{run.id}/Promote"
    world.now += 7200.0
    operator.settle(operator.steps + 300)
    assert (world.status.phase, world.status.baseline) == (Phase.SERVING, "B")
    assert world.status.last.decision == f"{run.id}/Promote"
    assert world.candidate is None and not world.ledger.run and world.revisions == {"B"}


def test_that_time_is_up_takes_no_promotion_back(new_world: Any, new_operator: Any) -> None:
    world, operator = observed(new_world, new_operator)
    decision = world.decision
    world.verdicts["B"] = Verdict.ROLL_BACK
    world.decision = lambda: replace(decision(), reason=Reason.ANALYSIS_TIMED_OUT)
    operator.settle(operator.steps + 300)
    assert world.status.phase is Phase.OBSERVING
    world.decision = decision
    world.spec = replace(world.spec, dry_run=True)
    operator.settle(operator.steps + 300)
    assert (world.status.phase, world.status.reason) == (Phase.OBSERVING, "DryRun")
    world.spec = replace(world.spec, dry_run=False)
    operator.settle(operator.steps + 300)
    assert (world.status.phase, world.status.baseline) == (Phase.COOLDOWN, "A")


def test_the_user_takes_a_promotion_back_while_it_is_observed(new_world: Any, new_operator: Any) -> None:
    world, operator = observed(new_world, new_operator)
    world.verbs = replace(world.verbs, rollback=world.status.run.id)
    operator.settle(operator.steps + 300)
    assert (world.status.phase, world.status.reason) == (Phase.COOLDOWN, "RolledBackByUser")
    assert (world.status.baseline, world.status.rejected.template) == ("A", "B")
    assert world.promotions[-1].endswith("/RollBack A")


def test_a_shadow_that_fails_ends_the_observation_and_nothing_else(new_world: Any, new_operator: Any) -> None:
    world, operator = observed(new_world, new_operator)
    look = world.observe
    failing = Failure(Why.CRASH_LOOPING, "exit code 1", world.now, restarts=9)

    def observe() -> Any:
        found = look()
        return replace(found, candidate=found.candidate and replace(found.candidate, failure=failing))

    world.observe = observe
    operator.settle(operator.steps + 300)
    assert (world.status.phase, world.status.baseline) == (Phase.SERVING, "B")


def test_a_rollout_that_waits_for_capacity_says_so_and_leaves_what_serves(new_world: Any, new_operator: Any) -> None:
    world = new_world()
    world.verdicts["scarce"] = Verdict.PROMOTE
    operator = new_operator(world)
    operator.settle()
    world.push("scarce")
    operator.settle(operator.steps + 200)
    assert (world.status.phase, world.status.reason) == (Phase.PROMOTING, "RolloutOverdue")
    assert world.status.stalled and "0/1 nodes are available" in world.status.message
    assert [pod for pod in world.baseline.pods if pod[1]] == [("A", True)] * 2
    found = replace(world.observe(), baseline=replace(world.observe().baseline, overdue=""))
    waiting = plan(world.spec, world.status, found, None, world.now).status
    assert (waiting.reason, waiting.stalled) == ("WaitingForCapacity", False)


def test_a_new_sidecar_is_put_in_once_for_each_request(play: Any) -> None:
    world, operator = play(adopt)
    for wanted, request in enumerate(("monday", "tuesday"), 1):
        world.refresh = request
        operator.settle(operator.steps + 100)
        assert (world.sidecars_rolled, world.baseline.refreshed) == (wanted, request)
    world.refresh = ""
    operator.settle(operator.steps + 100)
    assert world.sidecars_rolled == 2


@pytest.mark.parametrize("resource", ["wiped", "recreated"])
def test_a_rejection_outlives_the_status_until_it_is_retried(play: Any, resource: str) -> None:
    world, operator = play(roll_back)
    rejected = world.status.rejected
    world.wipe()
    if resource == "recreated":
        world.finalizer = False
        world.verbs = Verbs()
    operator.settle(operator.steps + 200)
    assert (world.status.phase, world.status.reason) == (Phase.COOLDOWN, "LossRegression")
    assert world.status.rejected == rejected
    world.verdicts["B"] = Verdict.CONTINUE
    world.verbs = Verbs(retry=rejected.run)
    while world.status.phase is Phase.COOLDOWN:
        operator.step()
    world.wipe()
    operator.settle(operator.steps + 200)
    assert (world.status.phase, world.status.run.attempt) == (Phase.SHADOWING, 1)


def test_each_of_two_rejected_templates_has_its_own_cooldown(play: Any) -> None:
    world, operator = play(roll_back)
    first = world.status.rejected
    world.now += 60.0
    world.verdicts["C"] = Verdict.ROLL_BACK
    world.push("C")
    operator.settle(operator.steps + 200)
    assert world.status.rejected.template == "C"
    world.push("B")
    operator.settle(operator.steps + 200)
    assert (world.status.phase, world.status.rejected) == (Phase.COOLDOWN, first)
    world.push("A")
    operator.settle(operator.steps + 200)
    assert world.revisions == {"A", "B", "C"}
    world.now += world.spec.analysis.hysteresis.cooldown
    operator.settle(operator.steps + 200)
    assert "C" not in world.revisions


def test_the_kubelets_clock_alone_ends_no_run(play: Any) -> None:
    """An hour behind ours, it says that a pod has failed for an hour."""
    world, _ = play(adopt)
    world.push("B")
    run = Run("r", "A", "B", world.observe().measured, world.now)
    status = replace(world.status, phase=Phase.PREPARING, run=run)
    failure = Failure(Why.IMAGE_PULL_FAILED, "no such image", world.now - 3600.0)
    seen = replace(world.observe(), candidate=CandidateSeen("1", "B", "r", 2, 0, False, failure=failure))
    assert plan(world.spec, status, replace(seen, failing=59.0), None, world.now).status.phase is Phase.PREPARING
    assert plan(world.spec, status, replace(seen, failing=61.0), None, world.now).status.phase is Phase.ROLLING_BACK


def test_a_name_of_ours_that_somebody_has_taken_is_said(new_world: Any, new_operator: Any) -> None:
    """Else the write is refused again and again, and nobody hears why."""
    world = new_world()
    operator = new_operator(world)
    operator.settle()
    taken = ("Deployment fraud-baseline",)
    seen = replace(world.observe(), baseline=None, taken=taken)
    result = plan(world.spec, world.status, seen, None, world.now)
    assert (result.status.stalled, result.status.reason, result.actions) == (True, "NameTaken", ())
    assert "fraud-baseline" in result.status.message
    world.push("B")
    operator.settle()
    seen = replace(world.observe(), candidate=None, taken=("Deployment fraud-candidate",))
    result = plan(world.spec, world.status, seen, world.decision(), world.now)
    assert (result.status.stalled, result.status.reason, result.actions) == (True, "NameTaken", ())
