"""What Prometheus scrapes. Labels are few and enumerated: never a client's id, a model's name or a path."""

from collections import Counter
from collections.abc import Iterator

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from modelcanary_gate.protocol import FeedbackCounts
from modelcanary_ledger.auth import Callers
from modelcanary_ledger.writer import Writer

_PREFIX = "modelcanary_ledger"


class Metrics:
    """One process's; no global registry. Counted on the event loop, and read there."""

    def __init__(self, writer: Writer, callers: Callers) -> None:
        self._writer = writer
        self._reviews = callers.reviews
        self._callers: Counter[tuple[str, str]] = Counter()
        self._labels: Counter[str] = Counter()
        self._refused: Counter[str] = Counter()
        self._registry = CollectorRegistry()
        self._registry.register(self)

    def labels(self, counts: FeedbackCounts) -> None:
        for name in FeedbackCounts.__dataclass_fields__:
            self._labels[name] += getattr(counts, name)

    def caller(self, kind: str, outcome: str) -> None:
        self._callers[kind, outcome] += 1

    def refused(self, status: int) -> None:
        self._refused[str(status)] += 1

    def text(self) -> bytes:
        return generate_latest(self._registry)

    def collect(self) -> Iterator[Metric]:
        tallies = self._writer.tallies
        for name, text, value in (
            ("pairs", "Pairs recorded", tallies.pairs),
            ("commits", "Groups committed", tallies.commits),
            ("commit_seconds", "Time spent in committing groups", tallies.commit_seconds),
            ("refused_batches", "Batches refused because the disk was full", tallies.refused_full),
            ("failures", "Groups that failed for another reason", tallies.failures),
        ):
            yield CounterMetricFamily(f"{_PREFIX}_{name}", text, value)
        for name, text, value in (
            ("segments", "Segments on disk", tallies.segments),
            ("held_labels", "Labels that wait for their pair", tallies.held),
            ("unfolded_pairs", "Pairs recorded and not yet in the evidence", tallies.behind),
            ("waiting_rows", "Rows that wait for a commit", self._writer.rows_waiting),
        ):
            yield GaugeMetricFamily(f"{_PREFIX}_{name}", text, value)
        yield _by("labels", "Labels by what became of them", "result", self._labels)
        yield _by("refused", "Requests refused, by status", "status", self._refused)
        yield _by("token_reviews", "Questions to the Kubernetes API whose a token is", "result", self._reviews)
        callers = CounterMetricFamily(
            f"{_PREFIX}_callers", "Requests by how the caller is known", labels=["kind", "outcome"]
        )
        for (kind, outcome), count in sorted(self._callers.items()):
            callers.add_metric([kind, outcome], count)
        yield callers


def _by(name: str, text: str, label: str, counts: Counter[str]) -> Metric:
    family = CounterMetricFamily(f"{_PREFIX}_{name}", text, labels=[label])
    for key, value in sorted(counts.items()):
        family.add_metric([key], value)
    return family
