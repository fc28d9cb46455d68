"""Which requests are mirrored: those in the share, by the hash of their id, as far as the rate allows.

Called for each eligible request with its id and the time; pure. It must not know what a request is.
"""

from modelcanary_gate.sampling import position


class Sampler:
    """A share that adapts: beyond `per_second` it is lowered, so that which ids are mirrored still follows
    from the ids and not from which came first. A bucket of one second's worth, and of one request at least,
    cuts what comes before the share has adapted.
    """

    __slots__ = ("_adapted", "_bucket", "_level", "_seen", "_since", "_tokens", "per_second", "share")

    def __init__(self) -> None:
        self.share = 0.0
        self.per_second = 0.0
        self._adapted = 0.0  # the share that holds now: `share`, or less
        self._seen = 0  # in the share, since `_since`
        self._since = 0.0
        self._level = 0.0  # requests per second in the share, smoothed
        self._tokens = 0.0
        self._bucket = 0.0

    @property
    def adapted(self) -> float:
        """The share that holds now."""
        return self._adapted

    def set(self, share: float, per_second: float, now: float) -> None:
        if (share, per_second) == (self.share, self.per_second):
            return
        self.share, self.per_second = share, per_second
        self._adapted = share
        self._seen, self._since, self._level = 0, now, 0.0
        self._tokens = self._bucket = max(1.0, per_second) if per_second > 0.0 else 0.0

    def admit(self, id: str) -> bool | None:
        """True: mirror it. None: not in the share. False: in the share, but beyond the rate."""
        adapted = self._adapted
        if adapted >= 1.0:  # everything: where the id falls need not be found out
            self._seen += 1
        else:
            where = position(id)
            if where >= self.share:
                return None
            self._seen += 1
            if where >= adapted:
                return False
        if self._tokens < 1.0:
            return False
        self._tokens -= 1.0
        return True

    def sweep(self, now: float) -> None:
        """Adapt to what came; to be called a few times a second."""
        elapsed = now - self._since
        if elapsed <= 0.0:
            return
        self._tokens = min(self._bucket, self._tokens + self.per_second * elapsed)
        keep = 0.5**elapsed  # half of what is known is a second old
        self._level = keep * self._level + (1.0 - keep) * self._seen / elapsed
        self._seen, self._since = 0, now
        excess = self._level / self.per_second if self.per_second > 0.0 else float("inf")
        self._adapted = self.share / excess if excess > 1.0 else self.share
