"""What the demo prints at its end: what was asked, what happened, and whether it is what should have happened."""

from demo.models import Digits
from demo.rounds import Result


def table(results: list[Result]) -> str:
    """One column per round."""
    rows = [("", *(result.round.title for result in results))]
    rows += [(name, *(cell(result) for result in results)) for name, cell in _ROWS]
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    lines.insert(1, "-" * max(map(len, lines)))
    return "\n".join(lines)


def offline(digits: Digits) -> str:
    """What each model's loss is on the kept rows, computed without any of ModelCanary's code."""
    baseline = digits.offline["baseline"]
    return "\n".join(
        f"  {name:9} loss {row['loss']:.3f} nats ({row['loss'] - baseline['loss']:+.3f}), "
        f"accuracy {row['accuracy']:.1%}"
        for name, row in digits.offline.items()
    )


def _delta(result: Result) -> str:
    verdict = result.verdict
    if verdict.get("delta") is None:
        return "unknown"
    return f"{verdict['delta']:+.4f} [{verdict['lower']:+.4f}, {verdict['upper']:+.4f}] nats"


_ROWS = (
    ("verdict", lambda r: f"{r.verdict['verdict']} ({r.verdict['reason']})"),
    ("expected", lambda r: r.round.expected + ("" if r.right else "   <-- WRONG")),
    ("delta", _delta),
    ("time to verdict", lambda r: f"{r.seconds:.0f} s"),
    ("user requests", lambda r: f"{r.tally.requests} ({r.tally.rows} rows)"),
    ("  failed", lambda r: str(r.tally.failures)),
    ("  latency p50 / p99", lambda r: f"{r.tally.latency(0.5) * 1e3:.1f} / {r.tally.latency(0.99) * 1e3:.1f} ms"),
    ("pairs recorded", lambda r: str(r.verdict["pairs"])),
    ("labels sent", lambda r: f"{r.tally.labels_sent} ({r.tally.labels_withheld} never)"),
    ("  joined", lambda r: str(r.tally.counts["joined"])),
    ("  duplicate", lambda r: str(r.tally.counts["duplicate"])),
    ("  before their pair", lambda r: str(r.tally.counts["unmatched"])),
    ("  refused", lambda r: str(r.tally.labels_refused)),
)
