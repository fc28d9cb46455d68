"""Two processes and one lease, on an API that keeps versions; time is the test's."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from tests.operator.fake_api import FakeApi

from modelcanary_operator.api import LEASES
from modelcanary_operator.errors import LeaseLost, Unavailable
from modelcanary_operator.lease import NAME, Lease, Terms


class Time:
    def __init__(self) -> None:
        self.now = 0.0
        self.sleeping: list[tuple[float, asyncio.Future[None]]] = []

    async def sleep(self, seconds: float) -> None:
        due: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.sleeping.append((self.now + seconds, due))
        await due

    async def pass_by(self, seconds: float) -> None:
        end = self.now + seconds
        while True:
            for _ in range(20):
                await asyncio.sleep(0)
            nearest = min((item for item in self.sleeping if item[0] <= end), key=lambda item: item[0], default=None)
            if nearest is None:
                break
            self.sleeping.remove(nearest)
            self.now = max(self.now, nearest[0])
            if not nearest[1].done():
                nearest[1].set_result(None)
        self.now = end
        for _ in range(20):
            await asyncio.sleep(0)


def lease(api: FakeApi, clock: Time, name: str) -> Lease:
    return Lease(api, "team", name, Terms(), clock=lambda: clock.now, wall=lambda: clock.now, sleep=clock.sleep)


def play(story: Callable[[FakeApi, Time], Awaitable[None]]) -> None:
    async def go() -> None:
        await asyncio.wait_for(story(FakeApi(), Time()), 10.0)

    asyncio.run(go())


def test_one_leads_and_the_other_waits_until_it_stops_renewing() -> None:
    async def story(api: FakeApi, clock: Time) -> None:
        one, two = lease(api, clock, "one"), lease(api, clock, "two")
        first = await one.acquire()
        holding = asyncio.create_task(one.hold())
        waiting = asyncio.create_task(two.acquire())
        await clock.pass_by(60.0)
        assert not waiting.done() and not holding.done()
        holding.cancel()
        # The other has seen the last renewal, and waits for the term from then on, by its own clock.
        await clock.pass_by(12.0)
        assert not waiting.done()
        await clock.pass_by(8.0)
        assert await waiting > first
        assert api[LEASES, NAME]["spec"]["holderIdentity"] == "two"

    play(story)


def test_a_released_lease_is_taken_at_once() -> None:
    async def story(api: FakeApi, clock: Time) -> None:
        one, two = lease(api, clock, "one"), lease(api, clock, "two")
        await one.acquire()
        waiting = asyncio.create_task(two.acquire())
        await clock.pass_by(1.0)
        await one.release()
        await clock.pass_by(3.0)
        assert await waiting > 1

    play(story)


def test_the_leader_ends_when_another_has_taken_over() -> None:
    async def story(api: FakeApi, clock: Time) -> None:
        one = lease(api, clock, "one")
        await one.acquire()
        holding = asyncio.create_task(one.hold())
        api[LEASES, NAME]["spec"]["holderIdentity"] = "two"
        await clock.pass_by(3.0)
        with pytest.raises(LeaseLost, match="two has the lease"):
            await holding
        await one.release()
        assert api[LEASES, NAME]["spec"]["holderIdentity"] == "two"

    play(story)


@pytest.mark.parametrize("hangs", [False, True])
def test_the_leader_ends_before_its_term_does_when_it_cannot_renew(hangs: bool) -> None:
    async def story(api: FakeApi, clock: Time) -> None:
        one = lease(api, clock, "one")
        await one.acquire()
        holding = asyncio.create_task(one.hold())
        await clock.pass_by(5.0)

        def refuse(*_: str) -> None:
            raise Unavailable(0, "reset") if not hangs else TimeoutError

        api.saboteur = refuse
        await clock.pass_by(8.0)
        assert not holding.done()
        await clock.pass_by(4.0)
        with pytest.raises(LeaseLost, match="not renewed"):
            await holding

    play(story)


def test_of_two_that_take_a_free_lease_at_once_one_leads() -> None:
    async def story(api: FakeApi, clock: Time) -> None:
        waiting = [asyncio.create_task(lease(api, clock, name).acquire()) for name in ("one", "two")]
        await clock.pass_by(10.0)
        assert [task.done() for task in waiting].count(True) == 1
        for task in waiting:
            task.cancel()

    play(story)


def test_an_epoch_is_higher_than_those_before_though_the_lease_is_gone_or_the_clock_set_back() -> None:
    async def story(api: FakeApi, clock: Time) -> None:
        clock.now = 1000.0
        first = lease(api, clock, "one")
        assert await first.acquire() == 1000
        await first.release()
        clock.now = 900.0
        second = lease(api, clock, "two")
        assert await second.acquire() == 1001
        await api.delete(LEASES, "team", NAME)
        clock.now = 2000.0
        assert await lease(api, clock, "three").acquire() == 2000

    play(story)
