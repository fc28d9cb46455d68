"""How many labels each sender may post: a bucket for each, refilled at a steady rate. Pure; called by `app`.

It must not know who senders are; the clock is handed in.
"""

from collections import OrderedDict
from collections.abc import Callable, Hashable

from modelcanary_ledger.errors import TooMany

#: Requests may each hold 20,000 labels; a bucket that is not empty takes one more, and owes what it lacks.
_BURST_SECONDS = 20.0
_MOST_SENDERS = 10_000


class Quota:
    """`rate`: labels a second, on average; 0: no limit."""

    def __init__(self, rate: float, clock: Callable[[], float]) -> None:
        self._rate = rate
        self._clock = clock
        self._buckets: OrderedDict[Hashable, tuple[float, float]] = OrderedDict()  # what is left, and when that was

    def admit(self, sender: Hashable) -> None:
        """Raises TooMany. A request counts as one label at least, whatever becomes of it."""
        if not self._rate:
            return
        left = self._left(sender)
        if left <= 0.0:
            raise TooMany(
                f"more than {self._rate:g} labels a second",
                retry_after=max(1.0, (1.0 - left) / self._rate),
                remedy="send the rest later, or ask for a higher --sender-rate of the ledger",
            )
        self._keep(sender, left - 1.0)

    def charge(self, sender: Hashable, labels: int) -> None:
        """Takes what the request held beyond the first label."""
        if self._rate and labels > 1:
            self._keep(sender, self._left(sender) - (labels - 1))

    def _left(self, sender: Hashable) -> float:
        most = self._rate * _BURST_SECONDS
        left, then = self._buckets.get(sender, (most, self._clock()))
        return min(most, left + (self._clock() - then) * self._rate)

    def _keep(self, sender: Hashable, left: float) -> None:
        self._buckets[sender] = (left, self._clock())
        self._buckets.move_to_end(sender)
        if len(self._buckets) > _MOST_SENDERS:
            self._buckets.popitem(last=False)
