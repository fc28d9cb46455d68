import asyncio
from collections.abc import Awaitable, Callable

from modelcanary_operator.workqueue import Key, WorkQueue

A, B = Key("team", "a"), Key("team", "b")


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def run(story: Callable[[WorkQueue, Clock], Awaitable[None]]) -> None:
    async def go() -> None:
        clock = Clock()
        await asyncio.wait_for(story(WorkQueue(clock), clock), 5.0)

    asyncio.run(go())


def test_a_key_is_there_once_and_first_come_first_served() -> None:
    async def story(queue: WorkQueue, _: Clock) -> None:
        for key in (A, B, A):
            queue.add(key)
        assert [await queue.get(), await queue.get()] == [A, B]
        assert len(queue) == 0

    run(story)


def test_a_key_that_is_worked_on_comes_again_and_not_twice_at_a_time() -> None:
    async def story(queue: WorkQueue, _: Clock) -> None:
        queue.add(A)
        assert await queue.get() == A
        queue.add(A)
        queue.add(B)
        assert await queue.get() == B
        assert len(queue) == 0
        queue.done(A, None)
        assert await queue.get() == A

    run(story)


def test_what_comes_later_comes_when_it_is_due_and_the_sooner_counts() -> None:
    async def story(queue: WorkQueue, clock: Clock) -> None:
        queue.add_after(A, 10.0)
        queue.add_after(A, 4.0)
        queue.add_after(A, 7.0)
        waiting = asyncio.create_task(queue.get())
        await asyncio.sleep(0)
        clock.now = 3.9
        queue.add_after(B, 100.0)
        await asyncio.sleep(0)
        assert not waiting.done()
        clock.now = 4.0
        queue.add_after(B, 99.0)
        assert await waiting == A
        queue.done(A, None)
        clock.now = 50.0
        queue.add(B)
        assert await queue.get() == B
        queue.done(B, None)
        assert len(queue) == 0  # what A was to come for later was seen to at 4

    run(story)


def test_failures_wait_ever_longer_and_a_success_forgets_them() -> None:
    async def story(queue: WorkQueue, clock: Clock) -> None:
        pauses = []
        for _ in range(9):
            queue.add(A)
            await queue.get()
            pauses.append(queue.failed(A))
            clock.now += pauses[-1]
        assert pauses == [0.5, 1, 2, 4, 8, 16, 32, 60, 60]
        assert await queue.get() == A
        queue.done(A, None)
        queue.add(A)
        await queue.get()
        assert queue.failed(A) == 0.5

    run(story)


def test_an_event_cuts_a_pause_short() -> None:
    async def story(queue: WorkQueue, clock: Clock) -> None:
        queue.add(A)
        await queue.get()
        queue.failed(A)
        queue.add(A)
        assert await queue.get() == A
        queue.done(A, 5.0)
        clock.now += 5.0
        assert await queue.get() == A

    run(story)
