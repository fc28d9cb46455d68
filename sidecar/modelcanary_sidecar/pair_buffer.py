"""Pairs on their way to the ledger: a bounded buffer, cut into batches that can be sent again unchanged.

The sender fills and empties it. Pure: it knows neither the ledger nor the time. Beyond its bounds the oldest
pairs go, because the newest say more about the candidate that is being judged now; each one is counted.
"""

from collections import deque
from dataclasses import dataclass

from modelcanary_gate.protocol import Pair, PairBatch

#: A pair without its id and log-probabilities, encoded.
_PAIR_OVERHEAD = 120


@dataclass(frozen=True, slots=True)
class BufferLimits:
    pairs: int = 20_000
    bytes: int = 16 << 20
    batch_pairs: int = 500
    batch_bytes: int = 1 << 20


def size_of(pair: Pair) -> int:
    """About the bytes that a pair takes, here and on the wire."""
    baseline, candidate = pair.baseline.log_probabilities, pair.candidate.log_probabilities
    return _PAIR_OVERHEAD + len(pair.id) + len(baseline or b"") + len(candidate or b"")


class PairBuffer:
    def __init__(self, sidecar: str, limits: BufferLimits) -> None:
        self._sidecar = sidecar
        self._limits = limits
        self._pairs: deque[tuple[str, Pair, int]] = deque()  # run, pair, size
        self._bytes = 0
        self._dropped: dict[str, dict[str, int]] = {}  # by run and reason
        self._batches = 0

    def __len__(self) -> int:
        return len(self._pairs)

    @property
    def bytes(self) -> int:
        return self._bytes

    @property
    def full_batch(self) -> bool:
        return len(self._pairs) >= self._limits.batch_pairs or self._bytes >= self._limits.batch_bytes

    def add(self, run: str, pair: Pair) -> None:
        size = size_of(pair)
        self._pairs.append((run, pair, size))
        self._bytes += size
        while len(self._pairs) > self._limits.pairs or self._bytes > self._limits.bytes:
            oldest, _, freed = self._pairs.popleft()
            self._bytes -= freed
            self.drop(oldest, "buffer")

    def drop(self, run: str, reason: str, count: int = 1) -> None:
        """Count what is not sent; the counts travel with the next batch of that run."""
        if run:
            counts = self._dropped.setdefault(run, {})
            counts[reason] = counts.get(reason, 0) + count

    def cut(self) -> PairBatch | None:
        """The oldest pairs of one run as a batch with an id of its own; None if there is nothing to say."""
        if self._pairs:
            run = self._pairs[0][0]
        elif self._dropped:
            run = next(iter(self._dropped))
        else:
            return None
        pairs: list[Pair] = []
        taken = 0
        while self._pairs and self._pairs[0][0] == run:
            size = self._pairs[0][2]
            if len(pairs) >= self._limits.batch_pairs or (pairs and taken + size > self._limits.batch_bytes):
                break
            pairs.append(self._pairs.popleft()[1])
            taken += size
        self._bytes -= taken
        self._batches += 1
        batch = f"{self._sidecar}-{self._batches}"
        return PairBatch(batch, self._sidecar, run, pairs, self._dropped.pop(run, {}))
