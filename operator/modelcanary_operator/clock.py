"""Time that does not jump. Made by `main`; what is remembered here is a cache, and begins anew with the process."""

import time
from collections.abc import Callable, Hashable

Clock = Callable[[], float]


class SteadyClock:
    """The time of the process's start, and what has passed since by a clock that nobody sets.

    A wall clock that is set forward by an hour would end a candidate's deadline, and one that is set back would never.
    `start` is the API server's time, which is the same for the processes that follow one another on several nodes.
    """

    def __init__(self, start: float, monotonic: Clock = time.monotonic) -> None:
        self._monotonic = monotonic
        self._offset = start - monotonic()

    def now(self) -> float:
        return self._offset + self._monotonic()


class Sightings:
    """For how long something has been seen as it is, by one process."""

    def __init__(self, monotonic: Clock) -> None:
        self._monotonic = monotonic
        self._seen: dict[Hashable, tuple[Hashable, float]] = {}

    def age(self, place: Hashable, found: Hashable) -> float:
        """Seconds since `found` was first seen there, without anything else between."""
        now = self._monotonic()
        before, since = self._seen.get(place, (None, now))
        if before != found:
            since = now
        self._seen[place] = (found, since)
        return now - since

    def forget(self, place: Hashable) -> None:
        self._seen.pop(place, None)
