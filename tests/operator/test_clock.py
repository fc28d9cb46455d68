from modelcanary_operator.clock import Sightings, SteadyClock


def test_a_clock_that_is_set_moves_nothing() -> None:
    passed = 50.0
    clock = SteadyClock(1_000_000.0, lambda: passed)
    assert clock.now() == 1_000_000.0
    passed += 61.0
    assert clock.now() == 1_000_061.0


def test_what_is_seen_without_a_break_has_an_age() -> None:
    passed = 50.0
    seen = Sightings(lambda: passed)
    ages = []
    for found in ("crash", "crash", None, "crash", "pull"):
        ages.append(seen.age("fraud", found))
        passed += 10.0
    assert ages == [0.0, 10.0, 0.0, 0.0, 0.0]
    assert seen.age("another", "pull") == 0.0
    seen.forget("fraud")
    assert seen.age("fraud", "pull") == 0.0
