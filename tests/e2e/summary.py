"""The table at the end: each scenario, its users, its verdict, and how fast the operator was. Pure; for `__main__`."""

from collections import defaultdict
from collections.abc import Sequence

from tests.e2e.runner import Result


def table(results: Sequence[Result]) -> str:
    rows = [("scenario", "seconds", "requests", "failed", "verdict")]
    for each in results:
        sent, failed = each.report.get("sent", 0), each.report.get("failed", 0)
        rows.append((each.name, f"{each.seconds:.0f}", str(sent), str(failed), "FAILED" if each.error else "passed"))
    sent, failed = (sum(int(each.report.get(name, 0)) for each in results) for name in ("sent", "failed"))
    bad = sum(bool(each.error) for each in results)
    rows.append((f"{len(results)} scenarios", "", str(sent), str(failed), f"{bad} FAILED" if bad else "passed"))
    return _aligned(rows)


def speeds(results: Sequence[Result]) -> str:
    """Each number that scenarios measured: how often, the median, the most."""
    found: dict[str, list[float]] = defaultdict(list)
    for each in results:
        for name, value in each.measured.items():
            found[name].append(value)
    rows = [("measured", "times", "median", "most")]
    for name, values in sorted(found.items()):
        ordered = sorted(values)
        rows.append((name, str(len(ordered)), f"{ordered[len(ordered) // 2]:.2f} s", f"{ordered[-1]:.2f} s"))
    return _aligned(rows) if found else ""


def _aligned(rows: Sequence[Sequence[str]]) -> str:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = []
    for row in rows:
        numbers = [cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)]
        lines.append("  ".join([row[0].ljust(widths[0]), *numbers]).rstrip())
    return "\n".join(lines)
