"""No trap of early labels catches the gate where it would without maturity. The full size: `make bench-late`."""

import pytest
from bench.late_labels import AUTO, SO_FAR, TRAPS, Delay, Rule, World, judged

from modelcanary_gate.vocabulary import Verdict

BAD, GOOD = list(TRAPS)[:2]
WRONG = {BAD: Verdict.PROMOTE, GOOD: Verdict.ROLL_BACK}


def _verdicts(trap: str, rule: Rule, delay: Delay, seeds: int, hours: float) -> list[Verdict]:
    worlds = (World(seed, TRAPS[trap], delay, hours) for seed in range(seeds))
    return [judged(world, rule).verdict for world in worlds]


@pytest.mark.parametrize("trap", [BAD, GOOD])
def test_labels_so_far_are_a_trap(trap: str) -> None:
    """Else the other tests would show nothing."""
    assert _verdicts(trap, SO_FAR, Delay(), 6, 1.5).count(WRONG[trap]) >= 2


@pytest.mark.parametrize("trap", [BAD, GOOD])
@pytest.mark.parametrize("delay", [Delay(), Delay(fast=2.0, sharp=True)], ids=["spread", "two speeds"])
def test_learned_maturity_is_not_caught(trap: str, delay: Delay) -> None:
    """Labels of the slow class take an hour on average, or an hour all of them: none of those is there at first."""
    verdicts = _verdicts(trap, AUTO, delay, 2, 4.0)
    right = Verdict.ROLL_BACK if trap == BAD else Verdict.PROMOTE
    assert verdicts == [right] * 2
