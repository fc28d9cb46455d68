"""What is measured: cells, in groups of which all members are measured in turns."""

from collections.abc import Iterable
from dataclasses import dataclass, replace

from bench.dataplane.payload import CLASSES

DIRECT, NGINX, HAPROXY, ENVOY, GO, SIDECAR = PROXIES = ("direct", "nginx", "haproxy", "envoy", "go", "sidecar")
MIRRORING = (NGINX, ENVOY, GO, SIDECAR)  # HAProxy can mirror through an agent only, and none comes with it
FAST, SLOW, HUNG, REFUSING, RESET, GARBAGE, ENDLESS = SHADOWS = (
    *("fast", "slow 2 s", "hung", "refusing"),
    *("reset", "garbage", "endless"),
)
FAULTS = SHADOWS[1:]
SMALL, LARGE = 1024, 100 * 1024
MANY_CLASSES = 1000


@dataclass(frozen=True, slots=True)
class Cell:
    proxy: str
    mirror_pct: int = 0
    shadow: str | None = None  # None: nothing is mirrored; FAST: as fast as the model
    upstream_ms: int = 2
    body_bytes: int = SMALL
    rate: int = 1000  # requests per second in an open loop; 0: a closed loop
    classes: int = CLASSES  # of the answers


@dataclass(frozen=True, slots=True)
class Group:
    """`alone`: one at a time runs at all, because a mirror that is stuck goes on when nobody asks any more."""

    name: str
    cells: tuple[Cell, ...]
    rounds: int
    seconds: float  # of a round
    alone: bool = False


def _plain(cell: Cell, proxies: Iterable[str] = PROXIES) -> tuple[Cell, ...]:
    return tuple(replace(cell, proxy=proxy) for proxy in proxies)


def _mirrored(cell: Cell, pct: int, proxies: Iterable[str] = MIRRORING, shadow: str = FAST) -> tuple[Cell, ...]:
    return tuple(replace(cell, proxy=proxy, mirror_pct=pct, shadow=shadow) for proxy in proxies)


_STEADY = Cell(DIRECT)
_BUSY = replace(_STEADY, upstream_ms=0, rate=0)
_MANY = replace(_STEADY, upstream_ms=0, rate=5000)
_WIDE = Group(
    "1,000 classes",
    (replace(_STEADY, proxy=SIDECAR, mirror_pct=100, shadow=FAST, rate=500, classes=MANY_CLASSES),),
    rounds=2,
    seconds=2.5,
)
_RIVALS = (DIRECT, NGINX, ENVOY, SIDECAR)

#: The cells of the goals.
QUICK = (
    Group("steady", _plain(_STEADY, (*_RIVALS, GO)) + _mirrored(_STEADY, 100), rounds=5, seconds=1.7),
    Group("busy", _plain(_BUSY, _RIVALS) + _mirrored(_BUSY, 100, (NGINX, ENVOY, SIDECAR)), rounds=4, seconds=2.0),
    Group("5,000/s", _mirrored(_MANY, 100, (NGINX, ENVOY, SIDECAR)), rounds=3, seconds=2.0),
    Group(
        "faults",
        tuple(cell for fault in FAULTS for cell in _mirrored(_STEADY, 100, (SIDECAR,), fault)),
        rounds=2,
        seconds=3.0,
    ),
    _WIDE,
)


def _whole(name: str, cell: Cell, *percents: int) -> Group:
    cells = _plain(cell)
    for percent in percents:
        cells += _mirrored(cell, percent)
    return Group(name, cells, rounds=3, seconds=2.5)


FULL = (
    _whole("steady", _STEADY, 10, 100),
    _whole("busy", _BUSY, 10, 100),
    _whole("steady, no delay", replace(_STEADY, upstream_ms=0), 100),
    Group("5,000/s", _mirrored(_MANY, 100), rounds=4, seconds=2.5),
    _whole("large, steady", replace(_STEADY, body_bytes=LARGE, rate=500), 100),
    _whole("large, busy", replace(_BUSY, body_bytes=LARGE), 100),
    Group(
        "faults",
        tuple(cell for fault in FAULTS for cell in _mirrored(_STEADY, 100, shadow=fault)),
        rounds=1,
        seconds=6.0,
        alone=True,
    ),
    _WIDE,
)
