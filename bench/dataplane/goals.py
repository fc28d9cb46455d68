"""The goals of the data plane, each as a ratio of cells of one run. Pure: rows and details in, judged goals out."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from bench.dataplane.cells import DIRECT, ENVOY, FAST, GO, MANY_CLASSES, NGINX, SIDECAR, SMALL
from bench.dataplane.payload import CLASSES

Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Goal:
    what: str
    limit: str
    found: str
    met: bool


class Results:
    """`details`: as `measuring.details` gives them."""

    def __init__(self, details: Sequence[Row]) -> None:
        self.details = details

    def find(
        self, proxy: str, mirror_pct: int = 0, shadow: str | None = FAST, upstream_ms: int = 2, rate: int = 1000
    ) -> Row | None:
        for detail in self.usual:
            cell = detail["cell"]
            wanted = (proxy, mirror_pct, shadow if mirror_pct else None, upstream_ms, SMALL, rate)
            if (
                tuple(cell[key] for key in ("proxy", "mirror_pct", "shadow", "upstream_ms", "body_bytes", "rate"))
                == wanted
            ):
                return detail
        return None

    @property
    def usual(self) -> list[Row]:
        """Those of ten classes."""
        return [detail for detail in self.details if detail["classes"] == CLASSES]

    def of(self, proxies: Iterable[str]) -> list[Row]:
        return [detail for detail in self.usual if detail["cell"]["proxy"] in proxies]


def _ratio(what: str, ours: float, theirs: float, limit: float, *, more: bool = False, note: str = "") -> Goal:
    ratio = ours / theirs
    met = ratio >= limit if more else ratio <= limit
    return Goal(what, f"{'≥' if more else '≤'} {limit}", f"{ratio:.2f} ({ours:,.0f} / {theirs:,.0f}{note})", met)


def judged(results: Results) -> list[Goal]:
    goals: list[Goal] = []
    ours = results.find(SIDECAR, 100)
    for rival, limit in ((NGINX, 1.0), (ENVOY, 0.8), (GO, 0.6)):
        theirs = results.find(rival, 100)
        if ours and theirs:
            note = f" µs; {ours['scored_share']:.1%} scored"
            pair = (ours["cell"]["cpu_us_per_request"], theirs["cell"]["cpu_us_per_request"])
            goals.append(
                _ratio(f"CPU per request at 1,000/s, all mirrored and scored, to {rival}", *pair, limit, note=note)
            )
    for percent, limits in ((0, ((NGINX, 0.8), (ENVOY, 1.5))), (100, ((NGINX, 1.8), (ENVOY, 1.6)))):
        ours = results.find(SIDECAR, percent, upstream_ms=0, rate=0)
        for rival, limit in limits:
            theirs = results.find(rival, percent, upstream_ms=0, rate=0)
            if ours and theirs:
                note = f" per s; {ours['scored_share']:.1%} scored" if percent else " per s"
                pair = (ours["cell"]["served_rps"], theirs["cell"]["served_rps"])
                what = f"Throughput, {'all mirrored' if percent else 'nothing mirrored'}, to {rival}"
                goals.append(_ratio(what, *pair, limit, more=True, note=note))
    goals += _whole_throughput(results)
    goals += _added(results)
    goals += _scoring(results)
    goals += _memory(results)
    return goals


def _whole_throughput(results: Results) -> list[Goal]:
    """What one core could serve if it scored everything, too: at saturation the scorer yields, and sheds."""
    ours = results.find(SIDECAR, 100, upstream_ms=0, rate=5000)
    goals = []
    for rival, limit in ((NGINX, 1.8), (ENVOY, 1.6)):
        theirs = results.find(rival, 100, upstream_ms=0, rate=0)
        if ours and theirs:
            what = f"Throughput if every pair is scored (1 s over the CPU per request at 5,000/s), to {rival}"
            note = f" per s; {ours['scored_share']:.1%} scored"
            pair = (1e6 / ours["cell"]["cpu_us_per_request"], theirs["cell"]["served_rps"])
            goals.append(_ratio(what, *pair, limit, more=True, note=note))
    return goals


def _scoring(results: Results) -> list[Goal]:
    """The scorer's CPU, from the captured request to the ledger's acknowledgement."""
    found = [
        (f"{CLASSES} classes at {rate:,}/s", results.find(SIDECAR, 100, upstream_ms=delay, rate=rate), 20.0)
        for rate, delay in ((1000, 2), (5000, 0))
    ]
    wide = [detail for detail in results.details if detail["classes"] == MANY_CLASSES]
    found += [(f"{MANY_CLASSES:,} classes at {detail['cell']['rate']}/s", detail, 150.0) for detail in wide]
    return [
        Goal(
            f"Scoring a pair, {what}",
            f"≤ {limit:.0f} µs",
            f"{took['scorer_cpu_us']:.1f}",
            took["scorer_cpu_us"] <= limit,
        )
        for what, took, limit in found
        if took
    ]


def _added(results: Results) -> list[Goal]:
    direct, ours, theirs = (results.find(proxy) for proxy in (DIRECT, SIDECAR, NGINX))
    if not (direct and ours and theirs):
        return []
    return [
        _ratio(
            f"Added {name} at 1,000/s, to {NGINX}",
            ours["cell"][key] - direct["cell"][key],
            theirs["cell"][key] - direct["cell"][key],
            limit,
            note=" µs",
        )
        for name, key, limit in (("p50", "p50_us", 1.15), ("p99", "p99_us", 1.3))
    ]


def _memory(results: Results) -> list[Goal]:
    ours = results.of([SIDECAR])
    if not ours:
        return []
    most = max(ours, key=lambda detail: detail["cell"]["memory_mb"])
    goals = [Goal("Memory, most of all cells", "≤ 64 MiB", f"{_where(most)}", most["cell"]["memory_mb"] <= 64)]
    faults = [detail for detail in ours if detail["cell"]["shadow"] not in (None, FAST)]
    if faults:
        grown = max(faults, key=lambda detail: detail["growth_mb"])
        found = f"{grown['growth_mb']:.1f} MiB ({grown['cell']['shadow']})"
        goals.append(Goal("Growth of memory, most of all faults", "≤ 20 MiB", found, grown["growth_mb"] <= 20))
    return goals


def _where(detail: Row) -> str:
    cell = detail["cell"]
    rate = f"{cell['rate']:,}/s" if cell["rate"] else "busy"
    return (
        f"{cell['memory_mb']:.1f} MiB ({cell['mirror_pct']}% {cell['shadow'] or ''}, {cell['body_bytes']:,} B, {rate})"
    )
