"""How a sidecar leaves without failing a request, and how it comes back. Pure: it is told what happens, and when.

Two things begin it. A hook (`leave`) runs before somebody is ended: first readiness fails and answers say
`Connection: close`, while new connections are still served, since those who send them have not heard yet; after
the delay what is idle is closed, and new connections are served all the same. SIGTERM (`end`) goes on from there:
nothing new is accepted, what is in flight may finish, and the process ends.

A hook that no SIGTERM follows was the model's alone: its own probe failed, and it is started again. Then the sidecar
is told by the model (`model_is`), and serves on. `draining` asks `step` ten times a second and tells the live processes
the phase.
"""

from enum import IntEnum

_QUIET = 1.0
#: A hook comes before the end of a pod, which comes before this: whoever is still there then was not meant.
_ENDED_BY = 40.0


class Phase(IntEnum):
    """The numbers are what the live processes are told."""

    SERVING = 0
    LEAVING = 1  # not ready any more, answers close their connections, still accepting
    EMPTYING = 2  # and closing what is idle, for the hook
    FINISHING = 3  # not accepting any more
    ENDED = 4


class Drain:
    def __init__(self, delay: float, time: float) -> None:
        self._delay = delay
        self._time = time
        self._since: float | None = None
        #: For so long nobody has come before a hook is answered, since who comes has not heard yet; and nothing has
        #: come on a connection before it is closed as idle.
        self.quiet = min(_QUIET, delay)
        self._ends = False
        self.model_left = False
        self.phase = Phase.SERVING

    def leave(self, now: float) -> None:
        """The hook. It fails readiness and does not end the process."""
        if self._since is None:
            self._since = now
            self.model_left = False
            self.phase = Phase.LEAVING

    def stay(self) -> None:
        """Serve on; not after SIGTERM."""
        if not self._ends:
            self._since = None
            self.phase = Phase.SERVING

    def end(self, now: float) -> None:
        """SIGTERM. The delay counts from `leave`, if that came first."""
        self.leave(now)
        self._ends = True

    def step(self, now: float, connections: int) -> Phase:
        """The phase as of now; `connections` are clients', and what is asked for them."""
        if self._since is not None and self.phase is not Phase.ENDED:
            elapsed = now - self._since
            if elapsed >= self._delay and not self._ends:
                self.phase = Phase.EMPTYING
            elif elapsed >= self._delay:
                over = not connections or elapsed >= self._delay + self._time
                # One step in between, always: accepting ends before it is believed that nobody is there.
                finishing = self.phase is Phase.FINISHING
                self.phase = Phase.ENDED if finishing and over else Phase.FINISHING
        return self.phase

    def gone(self, connections: int, arrived: float, now: float) -> bool:
        """For the hook: nobody is connected any more, and nobody has come for a while; `arrived`: when the last did."""
        return self.phase is Phase.EMPTYING and not connections and now - arrived >= self.quiet

    def held_long_enough(self, now: float) -> bool:
        """The hook is answered at this time at the latest, whoever is still connected."""
        return self._since is None or now - self._since >= self._delay + self._time

    def model_is(self, up: bool, now: float) -> bool:
        """Whether the model accepts connections, asked since the hook. True: it has been started again, serve on."""
        if self._since is None or self._ends:
            return False
        self.model_left = self.model_left or not up
        return up and (self.model_left or now - self._since >= self._delay + self._time + _ENDED_BY)
