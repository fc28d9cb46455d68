"""How many tokens models are made to score: a token bucket that may go into debt. Pure; `session` asks it.

What a text costs is known when it is scored. So a text may begin while the bucket is not empty, however long it is,
and what it cost beyond is waited for before the next: long texts are no less likely to be scored than short ones.
"""


class Budget:
    """`rate` tokens a second, and one second's worth at once. `now` is monotonic seconds."""

    def __init__(self, rate: float, now: float) -> None:
        self._rate = rate
        self._level = rate
        self._at = now

    def wait(self, now: float) -> float:
        """Seconds until the next text may begin; 0: now."""
        self._level = min(self._rate, self._level + (now - self._at) * self._rate)
        self._at = now
        # By a rounding's worth below 0 it would be waited for no time at all, for ever.
        return max(0.001, -self._level / self._rate) if self._level <= 0.0 else 0.0

    def spend(self, tokens: float) -> None:
        """Negative gives back what was estimated too high."""
        self._level -= tokens
