"""How a live process ends without failing a request. Pure: it is told the time and whether it is idle.

`live` asks `step` at each sweep and does what the phase says. First readiness fails and answers say
`Connection: close`, while new connections are still served: those who send them have not heard yet. After the
delay nothing new is accepted, and what is in flight may finish.
"""

from enum import StrEnum


class Phase(StrEnum):
    SERVING = "serving"
    LEAVING = "leaving"  # not ready any more, still accepting
    FINISHING = "finishing"  # not accepting any more
    ENDED = "ended"


class Drain:
    def __init__(self, delay: float, time: float) -> None:
        self._delay = delay
        self._time = time
        self._since: float | None = None
        self._ends = False
        self.phase = Phase.SERVING

    def leave(self, now: float) -> None:
        """`/drain`: a hook that runs before the end. It fails readiness and does not end the process."""
        if self._since is None:
            self._since = now
            self.phase = Phase.LEAVING

    def end(self, now: float) -> None:
        """SIGTERM. The delay counts from `leave`, if that came first."""
        self.leave(now)
        self._ends = True

    def step(self, now: float, idle: bool) -> Phase:
        if self._since is not None and self._ends and self.phase is not Phase.ENDED:
            elapsed = now - self._since
            if elapsed >= self._delay:
                over = idle or elapsed >= self._delay + self._time
                # One step in between, always: accepting ends before idleness is believed.
                finishing = self.phase is Phase.FINISHING
                self.phase = Phase.ENDED if finishing and over else Phase.FINISHING
        return self.phase
