"""A sender's labels a second, on a clock that the test moves."""

import pytest

from modelcanary_ledger.errors import TooMany
from modelcanary_ledger.quota import Quota


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_a_sender_that_sends_more_waits_and_others_do_not() -> None:
    clock = Clock()
    quota = Quota(100.0, clock)
    quota.admit("a")
    quota.charge("a", 20_000)  # of 2,000 that were left: it owes 18,000
    with pytest.raises(TooMany) as refused:
        quota.admit("a")
    assert refused.value.status == 429
    assert refused.value.retry_after == pytest.approx(180.01)
    quota.admit("b")
    clock.now += refused.value.retry_after
    quota.admit("a")


def test_an_average_below_the_rate_is_never_refused() -> None:
    clock = Clock()
    quota = Quota(100.0, clock)
    for _ in range(1000):
        quota.admit("a")
        quota.charge("a", 99)
        clock.now += 1.0


def test_requests_without_labels_count_too() -> None:
    clock = Clock()
    quota = Quota(1.0, clock)
    with pytest.raises(TooMany):
        for _ in range(1000):
            quota.admit("a")


def test_without_a_rate_there_is_no_limit() -> None:
    quota = Quota(0.0, Clock())
    for _ in range(10):
        quota.admit("a")
        quota.charge("a", 1 << 30)
