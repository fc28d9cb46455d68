"""What the scorer counts, and the figures it reports to the process that exports them.

The scorer writes here; `figures()` goes to the board each second. A name may carry a label's value behind
a colon; names that end in `_total` only grow.
"""

import logging
import time
from collections.abc import Callable

from modelcanary_gate.protocol import Pair
from modelcanary_gate.vocabulary import Outcome, Role
from modelcanary_sidecar.decoding import Cause, Unread

logger = logging.getLogger(__name__)

#: The same complaint about a model's answers is logged this often; all are counted.
_COMPLAINT_EVERY = 60.0

# Formatted once: each pair counts twice.
_BASELINE_PAIRS = {outcome: f"baseline_pairs_total:{outcome}" for outcome in Outcome}
_CANDIDATE_PAIRS = {outcome: f"candidate_pairs_total:{outcome}" for outcome in Outcome}


class Tally:
    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._counts: dict[str, int] = {}
        self._complained: dict[tuple[Role, Cause], float] = {}

    def count(self, name: str, by: int = 1) -> None:
        self._counts[name] = self._counts.get(name, 0) + by

    def pairs(self, pairs: list[Pair]) -> None:
        counts = self._counts
        for pair in pairs:
            for name in (_BASELINE_PAIRS[pair.baseline.outcome], _CANDIDATE_PAIRS[pair.candidate.outcome]):
                counts[name] = counts.get(name, 0) + 1

    def unread(self, role: Role, unread: Unread) -> None:
        self.count(f"{role}_unread_total:{unread.cause}")
        now = self._clock()
        if now >= self._complained.get((role, unread.cause), float("-inf")) + _COMPLAINT_EVERY:
            self._complained[role, unread.cause] = now
            logger.warning("the %s's answer has no probabilities (%s): %s", role, unread.outcome, unread.message)

    def dropped(self, reason: str) -> None:
        self.count(f"mirror_dropped_total:{reason}")

    def figures(self, gauges: dict[str, float]) -> dict[str, float]:
        return {**self._counts, **gauges}
