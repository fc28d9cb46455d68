"""Keys that wait to be worked on: each at most once, never two at a time, again after a failure, ever later.

Filled by `events` and by timers, emptied by the workers of `main`. Bounded by the number of ModelCanaries there are.
"""

import asyncio
import heapq
import itertools
import time
from collections.abc import Callable
from typing import NamedTuple

_FIRST_PAUSE, _LONGEST_PAUSE = 0.5, 60.0


class Key(NamedTuple):
    namespace: str
    name: str


class WorkQueue:
    """Use it within one event loop."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._ready: dict[Key, None] = {}
        self._busy: set[Key] = set()
        self._again: set[Key] = set()  # asked for while being worked on
        self._later: list[tuple[float, int, Key]] = []
        self._due: dict[Key, float] = {}  # of `_later`, the entry that counts
        self._numbers = itertools.count()
        self._failures: dict[Key, int] = {}
        self._changed = asyncio.Event()

    def __len__(self) -> int:
        return len(self._ready)

    def add(self, key: Key) -> None:
        """As soon as may be."""
        if key in self._busy:
            self._again.add(key)
        else:
            self._ready[key] = None
        self._changed.set()

    def add_after(self, key: Key, seconds: float) -> None:
        """Not before so long; what comes sooner counts."""
        if seconds <= 0:
            self.add(key)
            return
        due = self._clock() + seconds
        if key in self._due and self._due[key] <= due:
            return
        self._due[key] = due
        heapq.heappush(self._later, (due, next(self._numbers), key))
        self._changed.set()

    async def get(self) -> Key:
        """The next key; `done` must follow."""
        while True:
            self._changed.clear()
            pause = self._ripen()
            if self._ready:
                key = next(iter(self._ready))
                del self._ready[key]
                self._busy.add(key)
                # What was to come later comes now; the work says when to come again.
                self._due.pop(key, None)
                return key
            try:
                async with asyncio.timeout(pause):
                    await self._changed.wait()
            except TimeoutError:
                continue

    def done(self, key: Key, after: float | None) -> None:
        """It went well; again `after` seconds, or when something happens."""
        self._failures.pop(key, None)
        self._free(key)
        if after is not None:
            self.add_after(key, after)

    def failed(self, key: Key) -> float:
        """Again after a pause that doubles; which is returned."""
        count = self._failures.get(key, 0)
        self._failures[key] = count + 1
        pause = min(_LONGEST_PAUSE, _FIRST_PAUSE * 2.0 ** min(count, 16))
        self._free(key)
        self.add_after(key, pause)
        return pause

    def _free(self, key: Key) -> None:
        self._busy.discard(key)
        if key in self._again:
            self._again.discard(key)
            self.add(key)

    def _ripen(self) -> float | None:
        """Moves what is due; seconds until the next is."""
        now = self._clock()
        while self._later:
            due, _, key = self._later[0]
            if self._due.get(key) != due:
                heapq.heappop(self._later)
                continue
            if due > now:
                return due - now
            heapq.heappop(self._later)
            del self._due[key]
            self.add(key)
        return None
