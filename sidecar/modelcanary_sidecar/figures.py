"""What the live path counts: plain numbers, because a metrics library's call costs more than what it counts.

Every part of the live path writes here; `admin` exports. It must not know how they are exported.
"""

from bisect import bisect_left
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final, TypeVar

K = TypeVar("K")
N = TypeVar("N", int, float)

#: Upper bounds of the histograms' buckets, in seconds.
ADDED_BOUNDS: Final = (25e-6, 50e-6, 1e-4, 2.5e-4, 5e-4, 1e-3, 2.5e-3, 5e-3, 0.01, 0.025, 0.1, 0.5, 1.0)


class Drop(StrEnum):
    """Why a request that was to be mirrored was not."""

    RATE = "rate"  # beyond maxPairsPerSecond
    SHED = "shed"  # the scorer, or the candidate, has no room
    QUEUE = "queue"  # no room on the way to the scorer
    TOO_LARGE = "tooLarge"  # request or answer beyond maxBodyBytes
    HELD = "held"  # too many bytes of requests under way and their answers are kept for pairs
    CLIENT_LEFT = "clientLeft"
    NOT_SENT = "notSent"  # failed before the model had the whole request
    SILENCE = "silence"  # the scorer says nothing: it is starved, or it died
    CANDIDATE_QUEUE = "candidateQueue"  # too many wait for the candidate
    CANDIDATE_BYTES = "candidateBytes"  # what waits for it is too large
    CANDIDATE_UNREACHED = "candidateUnreached"  # no connection to it was accepted yet
    BREAKER = "breaker"  # the candidate failed several times in a row
    STOPPED = "stopped"  # asked, for a run that is over
    NO_CANDIDATE = "noCandidate"
    FAULT = "fault"  # of ours, and logged
    ID = "id"  # the client's id is longer than 256 bytes, or no text


#: Why what was captured makes no pair after all.
AFTERWARDS: Final = frozenset(
    {
        Drop.QUEUE,
        Drop.CANDIDATE_QUEUE,
        Drop.CANDIDATE_BYTES,
        Drop.CANDIDATE_UNREACHED,
        Drop.BREAKER,
        Drop.STOPPED,
        Drop.NO_CANDIDATE,
    }
)


@dataclass(slots=True)
class Histogram:
    bounds: tuple[float, ...]
    counts: list[int] = field(default_factory=list)  # not cumulative; the last is beyond every bound
    sum: float = 0.0

    def __post_init__(self) -> None:
        self.counts = self.counts or [0] * (len(self.bounds) + 1)

    def add(self, other: "Histogram") -> None:
        self.counts = [mine + theirs for mine, theirs in zip(self.counts, other.counts, strict=True)]
        self.sum += other.sum


def _add_counts(mine: dict[K, N], theirs: dict[K, N]) -> None:
    for key, count in theirs.items():
        mine[key] = mine[key] + count if key in mine else count


@dataclass(slots=True)
class Figures:
    """Counters of one live process since its start, and its gauges as of the last sweep."""

    added: Histogram = field(default_factory=lambda: Histogram(ADDED_BOUNDS))  # by us, per answered request
    duration: float = 0.0  # from the request's head received to its answer written, all requests together
    captured: int = 0  # and sent to the candidate or the scorer, but for those that AFTERWARDS counts
    dropped: dict[Drop, int] = field(default_factory=dict)
    refused: dict[int, int] = field(default_factory=dict)  # answered by ourselves, by status
    asking: dict[str, float] = field(default_factory=dict)  # gauges of what the candidate is asked from here
    canary: dict[str, int] = field(default_factory=dict)  # with a weight: whose answer the user got, and why
    retries: int = 0
    broken_off: int = 0  # answers that ended after they had begun
    passed_through: int = 0  # HTTP/2 connections, unmirrored
    clients: int = 0
    connections: int = 0
    in_flight: int = 0
    waiting: int = 0
    loop_lag: float = 0.0
    collections: int = 0  # looks of the garbage collector
    collector_pause: float = 0.0  # seconds, of the longest of them
    silence: float = 0.0  # seconds since the scorer said something
    share: float = 0.0  # of the requests that is mirrored now, after the limit on the rate
    weight: float = 0.0  # of the users, to be answered by the candidate, as told

    def answered(self, added: float, duration: float) -> None:
        """A request, answered by a model."""
        histogram = self.added
        histogram.counts[bisect_left(ADDED_BOUNDS, added)] += 1
        histogram.sum += added
        self.duration += duration

    @property
    def requests(self) -> int:
        return sum(self.added.counts)

    def drop(self, reason: Drop, count: int = 1) -> None:
        self.dropped[reason] = self.dropped.get(reason, 0) + count

    def count_canary(self, given: str) -> None:
        self.canary[given] = self.canary.get(given, 0) + 1

    def refuse(self, status: int) -> None:
        self.refused[status] = self.refused.get(status, 0) + 1

    def add(self, other: "Figures") -> None:
        """Another live process's, to export one sum."""
        self.added.add(other.added)
        self.duration += other.duration
        _add_counts(self.dropped, other.dropped)
        _add_counts(self.asking, other.asking)
        _add_counts(self.canary, other.canary)
        _add_counts(self.refused, other.refused)
        self.captured += other.captured
        self.retries += other.retries
        self.broken_off += other.broken_off
        self.passed_through += other.passed_through
        self.clients += other.clients
        self.connections += other.connections
        self.in_flight += other.in_flight
        self.waiting += other.waiting
        self.loop_lag = max(self.loop_lag, other.loop_lag)
        self.collections += other.collections
        self.collector_pause = max(self.collector_pause, other.collector_pause)
        self.silence = max(self.silence, other.silence)
        self.share = min(self.share, other.share)
        self.weight = max(self.weight, other.weight)
