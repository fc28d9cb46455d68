"""Is the delta getting worse? The slope of the block deltas, by weighted least squares over the pairs' time.

Shown to people; in `gate` it can only veto a promotion.
"""

import math
from dataclasses import dataclass


@dataclass(slots=True)
class Trend:
    """Running sums; weights are the blocks' pairs, times are relative to the first block."""

    origin: float | None = None
    w: float = 0.0
    wt: float = 0.0
    wtt: float = 0.0
    wd: float = 0.0
    wtd: float = 0.0
    blocks: int = 0
    last: float = 0.0

    def push(self, time: float, n: float, delta: float) -> None:
        """Adds a block of `n` pairs with mean delta `delta` (nats), at `time` in the caller's unit."""
        if self.origin is None:
            self.origin = time
        t = time - self.origin
        self.w += n
        self.wt += n * t
        self.wtt += n * t * t
        self.wd += n * delta
        self.wtd += n * t * delta
        self.blocks += 1
        self.last = t

    def slope(self, variance: float, phi: float) -> tuple[float, float] | None:
        """(slope, standard error) in nats per unit of time, or None where the times do not differ.

        `variance` is a pair's; the standard error is inflated by √φ for autocorrelation.
        """
        if self.blocks < 3:
            return None
        spread = self.wtt - self.wt * self.wt / self.w
        if spread <= 0:
            return None
        slope = (self.wtd - self.wt * self.wd / self.w) / spread
        return slope, math.sqrt(max(variance, 0.0) * phi / spread)

    def ahead(self, slope: float) -> float:
        """The delta, in nats, that the fitted line reaches in as much time again as has passed so far."""
        mean_time, mean_delta = self.wt / self.w, self.wd / self.w
        return mean_delta + slope * (2 * self.last - mean_time)
