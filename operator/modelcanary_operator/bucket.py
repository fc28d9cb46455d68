"""A token bucket: how fast the operator may call the API server. Called by `kube` before each call."""

import asyncio
import time
from collections.abc import Callable


class Bucket:
    """`rate` calls a second on average, up to `burst` at once; who comes later waits its turn."""

    def __init__(self, rate: float, burst: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._rate = rate
        self._burst = float(burst)
        self._clock = clock
        self._tokens = float(burst)
        self._then = clock()

    def reserve(self) -> float:
        """Takes a token that is there, or will be; seconds until it is."""
        now = self._clock()
        self._tokens = min(self._burst, self._tokens + (now - self._then) * self._rate)
        self._then = now
        self._tokens -= 1.0
        return max(0.0, -self._tokens / self._rate)

    async def take(self) -> None:
        wait = self.reserve()
        if wait > 0:
            await asyncio.sleep(wait)
