"""docs/metrics.md has every metric that is exported, with its type, labels and meaning, and none that is not."""

import re
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import prometheus_client
from prometheus_client.parser import text_string_to_metric_families

from modelcanary_cli.follow.metrics import Collector
from modelcanary_ledger.metrics import Metrics as LedgerMetrics
from modelcanary_operator.metrics import Metrics as OperatorMetrics
from modelcanary_sidecar.figures import CELLS, Cells, figures
from modelcanary_sidecar.metrics import Exporter

PAGE = Path(__file__).parents[2] / "docs" / "metrics.md"


@dataclass(frozen=True, slots=True)
class Row:
    type: str
    labels: tuple[str, ...]
    meaning: str


class Nothing:
    """Numbers that are all 0, and mappings that are empty."""

    reviews: dict[str, int] = {}  # noqa: RUF012
    tallies = SimpleNamespace(
        **dict.fromkeys(
            ("pairs", "commits", "commit_seconds", "refused_full", "failures", "segments", "held", "behind"), 0
        )
    )
    rows_waiting = 0


def exported() -> dict[str, Row]:
    nothing: Any = Nothing()
    ledger = LedgerMetrics(nothing, nothing)._registry
    operator = OperatorMetrics().registry
    follower = Collector(lambda: iter(())).registry
    found = {name: row for registry in (operator, ledger, follower) for name, row in _rows(registry).items()}
    return found | _sidecar()


def _sidecar() -> dict[str, Row]:
    """Read from its page, when all that can happen has happened once."""
    once = figures([Cells([1.0] * len(CELLS))])
    page = Exporter("team", "fraud", lambda: once, lambda: {"pairs:ok": 1.0}).text().decode()
    found = {}
    for family in text_string_to_metric_families(page):
        labels = sorted(set(family.samples[0].labels) - {"namespace", "name", "le"})
        name = f"{family.name}_total" if family.type == "counter" else family.name
        found[name] = Row(family.type, ("namespace", "name", *labels), family.documentation.rstrip("."))
    return found


def _rows(registry: prometheus_client.CollectorRegistry) -> dict[str, Row]:
    found = {}
    for collector in list(registry._collector_to_names):
        for family in collector.collect():
            labels = getattr(collector, "_labelnames", None) or getattr(family, "_labelnames", ())
            name = f"{family.name}_total" if family.type == "counter" else family.name
            found[name] = Row(family.type, tuple(labels), family.documentation.rstrip("."))
    return found


def documented(text: str) -> dict[str, Row]:
    rows = re.findall(r"^\| `(\w+)` \| (\w+) \| ([^|]*) \| ([^|]*) \|$", text, re.MULTILINE)
    return {
        name: Row(kind, tuple(re.findall(r"`(\w+)`", labels)), meaning.strip().rstrip("."))
        for name, kind, labels, meaning in rows
    }


def test_the_page_says_what_is_exported() -> None:
    assert documented(PAGE.read_text()) == exported(), "python tests/docs/test_metrics.py prints the rows"


def test_a_metric_that_is_missing_or_otherwise_is_found() -> None:
    text = PAGE.read_text()
    line = next(line for line in text.splitlines() if line.startswith("| `modelcanary_signals_total`"))
    for change in ("", line.replace("| counter |", "| gauge |"), line.replace("`event`", "")):
        assert documented(text.replace(line, change)) != exported()


if __name__ == "__main__":
    for name, row in exported().items():
        shown = ", ".join(f"`{label}`" for label in row.labels)
        print(f"| `{name}` | {row.type} | {shown} | {row.meaning} |")
