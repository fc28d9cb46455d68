"""A Schmitt trigger in evidence: it turns on above one level, and off only below its square root.

Used by `gate` for each contrast, so that a verdict does not flicker with the evidence around its threshold.
"""

import math
from dataclasses import dataclass


@dataclass(slots=True)
class Trigger:
    """On at `log M ≥ threshold`, off below half of it; confirmed after a number of blocks on in a row.

    `fired` stays: what was proved once is not unproved by later evidence, and whoever folds many blocks before asking
    must be told what someone who asks after each would have been told.
    """

    threshold: float  # ln(1/α)
    confirm_after: int
    on: bool = False
    streak: int = 0
    fired: bool = False  # it was confirmed, now or before

    def push(self, log_evidence: float, *, allowed: bool) -> None:
        """Takes one block's evidence. It turns on only where `allowed`, and turns off in any case."""
        rises = allowed and log_evidence >= self.threshold
        self.on = (self.on or rises) and log_evidence >= self.threshold / 2
        self.streak = self.streak + 1 if self.on else 0
        self.fired = self.fired or self.confirmed

    @property
    def confirmed(self) -> bool:
        return self.streak >= self.confirm_after


def log_threshold(alpha: float) -> float:
    """ln(1/α): Ville's inequality bounds the chance that the evidence ever reaches it by α."""
    return -math.log(alpha)
