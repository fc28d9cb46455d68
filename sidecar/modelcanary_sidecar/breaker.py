"""A circuit breaker: how often a candidate that fails is asked again.

The shadow pool asks it before each request and tells it each outcome; the live path has its own (`breaker.rs`). Pure:
it takes `now`, and knows neither connections nor what a failure was.
"""

from enum import StrEnum


class BreakerState(StrEnum):
    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "halfOpen"


class Breaker:
    """Opens after `threshold` failures in a row, for a pause that doubles up to `longest` seconds.

    After the pause it is half-open: a few requests pass, whose first outcome closes it or opens it again. The
    pauses of the shadow pool are short on purpose: each failed probe is a pair that the error-rate guard counts, so
    that a candidate which is down is rolled back on evidence rather than left without any.
    """

    __slots__ = (
        "_failures",
        "_first",
        "_longest",
        "_pause",
        "_probes",
        "_probes_left",
        "_state",
        "_threshold",
        "_until",
    )

    def __init__(self, *, threshold: int = 5, first: float = 0.1, longest: float = 1.0, probes: int = 4) -> None:
        self._threshold = threshold
        self._first = first
        self._longest = longest
        self._probes = probes
        self._state = BreakerState.CLOSED
        self._failures = 0
        self._pause = first
        self._until = 0.0
        self._probes_left = 0

    def state(self, now: float) -> BreakerState:
        if self._state is BreakerState.OPEN and now >= self._until:
            self._state = BreakerState.HALF_OPEN
            self._probes_left = self._probes
        return self._state

    def allow(self, now: float) -> bool:
        """May a request be made? In the half-open state each yes is one of the probes."""
        if self._state is BreakerState.CLOSED:
            return True
        state = self.state(now)
        if state is BreakerState.HALF_OPEN:
            if not self._probes_left:
                return False
            self._probes_left -= 1
            return True
        return False

    def succeeded(self) -> None:
        """A whole answer came, whatever its status. Late ones count too: the candidate answers."""
        self._state = BreakerState.CLOSED
        self._failures = 0
        self._pause = self._first

    def failed(self, now: float) -> bool:
        """No whole answer came; True if that opened the breaker."""
        state = self.state(now)
        if state is BreakerState.OPEN:
            return False  # of a request from before it opened
        if state is BreakerState.CLOSED:
            self._failures += 1
            if self._failures < self._threshold:
                return False
        self._state = BreakerState.OPEN
        self._until = now + self._pause
        self._pause = min(self._longest, 2.0 * self._pause)
        return True
