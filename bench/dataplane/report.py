"""Tables of a run, and the goals, as Markdown. Pure; `__main__` writes them."""

from collections.abc import Sequence
from itertools import groupby
from typing import Any

from bench.dataplane.goals import Goal, Results
from bench.dataplane.payload import CLASSES

Row = dict[str, Any]


def table(heads: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    lines = ["| " + " | ".join(heads) + " |", "|" + "---|" * len(heads)]
    lines += ["| " + " | ".join(map(str, row)) + " |" for row in rows]
    return "\n".join(lines)


def goals_table(goals: Sequence[Goal]) -> str:
    rows = [(goal.what, goal.limit, goal.found, "met" if goal.met else "**missed**") for goal in goals]
    why = "Where the time goes, and what was tried for what is missed: [Cost](../docs/design/live-path.md#cost)."
    return f"{table(('goal', 'limit', 'found', ''), rows)}\n\n{why}"


def cell_tables(results: Results) -> str:
    def setting(detail: Row) -> tuple[int, int, int, int]:
        cell = detail["cell"]
        return detail["classes"], cell["upstream_ms"], cell["body_bytes"], cell["rate"]

    parts = []
    for (classes, delay, size, rate), group in groupby(sorted(results.details, key=setting), setting):
        load = f"{rate:,} requests/s" if rate else "a closed loop of 32 connections"
        parts.append(f"### {load}, model of {delay} ms, bodies of {_size(size)}{_of(classes)}\n\n{_cells(list(group))}")
    return "\n\n".join(parts)


def _of(classes: int) -> str:
    return "" if classes == CLASSES else f", {classes:,} classes"


def _size(count: int) -> str:
    return f"{count // 1024} KiB"


def _cells(details: Sequence[Row]) -> str:
    heads = ("proxy", "mirrored", "shadow", "served/s", "CPU µs", "p50 µs", "p99 µs", "MiB", "errors", "scored")
    order = {proxy: index for index, proxy in enumerate(dict.fromkeys(d["cell"]["proxy"] for d in details))}
    rows = []
    for detail in sorted(details, key=lambda d: (d["cell"]["mirror_pct"], order[d["cell"]["proxy"]])):
        cell = detail["cell"]
        numbers = (cell["cpu_us_per_request"], cell["p50_us"], cell["p99_us"], cell["memory_mb"])
        shares = f"{detail['scored_share']:.1%}" if "scored_share" in detail else ""
        rows.append(
            (
                f"**{cell['proxy']}**" if cell["proxy"] == "sidecar" else cell["proxy"],
                f"{cell['mirror_pct']}%",
                cell["shadow"] or "",
                f"{cell['served_rps']:,.0f}",
                *("" if number is None else f"{number:,.1f}" for number in numbers),
                f"{cell['errors']:,}",
                shares,
            )
        )
    return table(heads, rows)
