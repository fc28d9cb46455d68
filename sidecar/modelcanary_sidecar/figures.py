"""What the live processes count: which number is in which cell of the board, and what they make together.

Each live process writes its own cells; `board` reads them, `admin` exports the sums. It must not know how they are
exported, nor where the cells are.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from modelcanary_sidecar.breaker import BreakerState

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


#: The statuses of what a live process answers by itself.
_REFUSED: Final = (400, 408, 431, 501, 502, 503, 504, 505)
#: Of requests with a canary weight: whose answer the user got, and why.
_CANARY: Final = ("candidate", "error", "malformed", "late", "refused", "timeout", "tooLarge", "unasked", "skipped")
_BREAKER: Final = (BreakerState.CLOSED, BreakerState.OPEN, BreakerState.HALF_OPEN)

#: What a live process writes, in this order: `modelcanary-live --cells` prints the same.
CELLS: Final = (
    "stage",  # that it has acted on
    "clients",  # connections of HTTP/1
    "sides",  # of HTTP/2 connections, which are passed through
    "busy",  # 1: something is under way: a model is asked, or a client has not taken what it was sent
    "arrived",  # when the last client came, by time.monotonic()
    *(f"added.{bucket}" for bucket in range(len(ADDED_BOUNDS) + 1)),
    "added_sum",
    "duration",  # from the request's head received to its answer written, all requests together
    "captured",  # and sent to the candidate or the scorer, but for those that AFTERWARDS counts
    *(f"dropped.{reason}" for reason in Drop),
    *(f"refused.{status}" for status in _REFUSED),
    *(f"canary.{outcome}" for outcome in _CANARY),
    "retries",
    "broken_off",  # answers that ended after they had begun
    "passed_through",  # HTTP/2 connections, unmirrored
    "connections",
    "in_flight",
    "waiting",
    "loop_lag",
    "silence",  # seconds since the scorer said something
    "share",  # of the requests that is mirrored now, after the limit on the rate
    "weight",  # of the users, to be answered by the candidate, as told
    "asks",  # 1: it asks a candidate for mirrored copies, and the cells below say how that goes
    "breaker",
    "queue",
    "held_bytes",
    "asking_in_flight",
    "asking_connections",
)
_INDEX: Final = {name: index for index, name in enumerate(CELLS)}


@dataclass(frozen=True, slots=True)
class Histogram:
    bounds: tuple[float, ...]
    counts: tuple[float, ...]  # not cumulative; the last is beyond every bound
    sum: float


class Cells:
    """One live process's numbers by name, as they were read."""

    __slots__ = ("_values",)

    def __init__(self, values: Sequence[float]) -> None:
        self._values = values

    def __getitem__(self, name: str) -> float:
        return self._values[_INDEX[name]]


@dataclass(frozen=True, slots=True)
class Figures:
    """Counters of all live processes since their start, and their gauges as of the last sweep."""

    added: Histogram = Histogram(ADDED_BOUNDS, (0.0,) * (len(ADDED_BOUNDS) + 1), 0.0)  # by us, per answered request
    duration: float = 0.0
    captured: float = 0.0
    dropped: Mapping[str, float] = field(default_factory=dict)  # those that have happened, as in the next two
    refused: Mapping[str, float] = field(default_factory=dict)
    canary: Mapping[str, float] = field(default_factory=dict)
    asking: Mapping[str, float] = field(default_factory=dict)  # gauges of what the candidate is asked from here
    retries: float = 0.0
    broken_off: float = 0.0
    passed_through: float = 0.0
    clients: float = 0.0
    connections: float = 0.0
    in_flight: float = 0.0
    waiting: float = 0.0
    loop_lag: float = 0.0
    silence: float = 0.0
    share: float = 0.0
    weight: float = 0.0

    @property
    def requests(self) -> float:
        return sum(self.added.counts)


def figures(processes: Iterable[Cells]) -> Figures:
    """Of all live processes together; there is one at least."""
    each = list(processes)

    def total(name: str) -> float:
        return sum(cells[name] for cells in each)

    def most(name: str) -> float:
        return max(cells[name] for cells in each)

    def happened(group: str, labels: Iterable[object]) -> dict[str, float]:
        counts = {str(label): total(f"{group}.{label}") for label in labels}
        return {label: count for label, count in counts.items() if count}

    return Figures(
        added=Histogram(
            ADDED_BOUNDS,
            tuple(total(f"added.{bucket}") for bucket in range(len(ADDED_BOUNDS) + 1)),
            total("added_sum"),
        ),
        duration=total("duration"),
        captured=total("captured"),
        dropped=happened("dropped", Drop),
        refused=happened("refused", _REFUSED),
        canary=happened("canary", _CANARY),
        asking=_asking([cells for cells in each if cells["asks"]]),
        retries=total("retries"),
        broken_off=total("broken_off"),
        passed_through=total("passed_through"),
        clients=total("clients"),
        connections=total("connections"),
        in_flight=total("in_flight"),
        waiting=total("waiting"),
        loop_lag=most("loop_lag"),
        silence=most("silence"),
        share=min(cells["share"] for cells in each),
        weight=most("weight"),
    )


def _asking(asking: Sequence[Cells]) -> dict[str, float]:
    """By the names that the scorer has for its own, where it is the one that asks."""
    if not asking:
        return {}
    states = [_BREAKER[int(cells["breaker"])] for cells in asking]
    return {
        **{f"breaker:{state}": float(states.count(state)) for state in _BREAKER},
        "queue": sum(cells["queue"] for cells in asking),
        "held_bytes": sum(cells["held_bytes"] for cells in asking),
        "in_flight": sum(cells["asking_in_flight"] for cells in asking),
        "connections": sum(cells["asking_connections"] for cells in asking),
    }
