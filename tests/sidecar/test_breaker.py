from modelcanary_sidecar.breaker import Breaker, BreakerState


def opened(now: float = 0.0) -> Breaker:
    breaker = Breaker(threshold=3, first=1.0, longest=4.0, probes=2)
    assert [breaker.failed(now) for _ in range(3)] == [False, False, True]
    return breaker


def test_opens_after_failures_in_a_row_only() -> None:
    breaker = Breaker(threshold=3)
    for _ in range(10):
        assert not breaker.failed(0.0)
        assert not breaker.failed(0.0)
        breaker.succeeded()
    assert breaker.state(0.0) is BreakerState.CLOSED
    assert breaker.allow(0.0)


def test_lets_nothing_through_while_open() -> None:
    breaker = opened()
    assert breaker.state(0.99) is BreakerState.OPEN
    assert not breaker.allow(0.99)


def test_half_open_lets_a_few_probes_through() -> None:
    breaker = opened()
    assert [breaker.allow(1.0) for _ in range(4)] == [True, True, False, False]
    assert breaker.state(1.0) is BreakerState.HALF_OPEN


def test_a_probe_that_succeeds_closes_it() -> None:
    breaker = opened()
    breaker.allow(1.0)
    breaker.succeeded()
    assert all(breaker.allow(1.0) for _ in range(10))
    assert [breaker.failed(1.0) for _ in range(3)] == [False, False, True]
    assert breaker.allow(2.0)  # the pause is the first one again


def test_pauses_double_up_to_the_longest() -> None:
    breaker = opened()
    now, pauses = 0.0, []
    for _ in range(4):
        start = now
        while not breaker.allow(now):
            now += 0.5
        pauses.append(now - start)
        assert breaker.failed(now)
    assert pauses == [1.0, 2.0, 4.0, 4.0]


def test_failures_from_before_it_opened_do_not_prolong_it() -> None:
    breaker = opened()
    assert not breaker.failed(0.9)
    assert breaker.allow(1.0)
