import math

import pytest

from modelcanary_gate.hysteresis import Trigger, log_threshold


def test_threshold_is_villes() -> None:
    assert log_threshold(0.001) == pytest.approx(math.log(1000))


def test_confirmed_only_after_as_many_blocks_in_a_row_as_asked() -> None:
    trigger = Trigger(threshold=4.0, confirm_after=2)
    trigger.push(4.0, allowed=True)
    assert trigger.on and not trigger.confirmed
    trigger.push(4.0, allowed=True)
    assert trigger.confirmed


def test_stays_on_between_the_levels_and_goes_off_below_half() -> None:
    trigger = Trigger(threshold=4.0, confirm_after=3)
    seen = []
    for evidence in (3.9, 4.0, 2.0, 3.0, 1.99, 3.9, 4.0):
        trigger.push(evidence, allowed=True)
        seen.append((trigger.on, trigger.streak))
    assert seen == [(False, 0), (True, 1), (True, 2), (True, 3), (False, 0), (False, 0), (True, 1)]


def test_does_not_turn_on_where_it_is_not_allowed() -> None:
    trigger = Trigger(threshold=4.0, confirm_after=1)
    trigger.push(9.0, allowed=False)
    assert not trigger.on
    trigger.push(9.0, allowed=True)
    trigger.push(3.0, allowed=False)
    assert trigger.on  # staying on needs no permission


def test_what_fired_once_stays_fired() -> None:
    trigger = Trigger(threshold=4.0, confirm_after=2)
    for evidence, fired in ((4.0, False), (1.0, False), (4.0, False), (2.0, True), (0.0, True)):
        trigger.push(evidence, allowed=True)
        assert trigger.fired is fired
    assert not trigger.confirmed
