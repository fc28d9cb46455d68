"""When a sidecar stops accepting, closes what is idle, ends, or serves on."""

from modelcanary_sidecar.drain import Drain, Phase


def test_a_process_ends_after_the_delay_when_nobody_is_connected() -> None:
    drain = Drain(5.0, 25.0)
    assert drain.step(0.0, 0) is Phase.SERVING
    drain.end(10.0)
    assert drain.step(10.1, 0) is Phase.LEAVING
    assert drain.step(14.9, 0) is Phase.LEAVING
    assert drain.step(15.0, 1) is Phase.FINISHING
    assert drain.step(30.0, 1) is Phase.FINISHING
    assert drain.step(30.1, 0) is Phase.ENDED


def test_requests_in_flight_are_not_waited_for_for_ever() -> None:
    drain = Drain(5.0, 25.0)
    drain.end(0.0)
    assert drain.step(29.0, 1) is Phase.FINISHING
    assert drain.step(30.0, 1) is Phase.ENDED


def test_a_hook_alone_does_not_end_the_process_and_its_delay_counts() -> None:
    drain = Drain(5.0, 25.0)
    drain.leave(0.0)
    assert drain.step(4.9, 0) is Phase.LEAVING
    assert drain.step(100.0, 0) is Phase.EMPTYING
    drain.end(100.0)
    assert drain.step(100.1, 0) is Phase.FINISHING
    assert drain.step(100.2, 0) is Phase.ENDED


def test_a_hook_is_held_while_somebody_is_connected_or_still_comes() -> None:
    drain = Drain(5.0, 25.0)
    drain.leave(0.0)
    drain.step(4.9, 0)
    assert not drain.gone(0, 0.0, 4.9)  # the delay is not over
    drain.step(5.0, 1)
    assert not drain.gone(1, 0.0, 5.0)
    assert not drain.gone(0, 4.5, 5.0)  # the last one came just now: there may be more who have not heard
    assert drain.gone(0, 4.5, 5.5)
    assert not drain.held_long_enough(29.9)
    assert drain.held_long_enough(30.0)
    drain.end(30.0)
    drain.step(30.1, 0)
    assert not drain.gone(0, 0.0, 30.1)  # the hook is over


def test_a_model_that_is_started_again_ends_the_drain_and_no_other_does() -> None:
    drain = Drain(5.0, 25.0)
    assert not drain.model_is(True, 0.0)
    drain.leave(0.0)
    assert not drain.model_is(True, 0.1)  # it has not been ended yet
    assert not drain.model_is(False, 6.0)
    assert drain.model_is(True, 9.0)
    drain.stay()
    assert drain.step(9.1, 3) is Phase.SERVING
    drain.leave(20.0)
    assert drain.step(20.1, 3) is Phase.LEAVING
    assert not drain.model_is(True, 20.1)  # what was seen in the drain before does not count
    assert not drain.model_is(True, 80.0)
    assert drain.model_is(True, 91.0)  # a pod whose end was meant has ended by now
    drain.end(92.0)
    assert not drain.model_is(True, 200.0)
    drain.stay()
    assert drain.step(200.0, 0) is Phase.FINISHING
