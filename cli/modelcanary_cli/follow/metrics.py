"""What Prometheus scrapes of a follower. Called by `command`; reads tallies, which other threads write."""

from collections.abc import Callable, Iterator

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from modelcanary_cli.follow.delivery import Tally
from modelcanary_gate.protocol import Followed

_PREFIX = "modelcanary_labels_source"
_LABELS = ("namespace", "name", "kind", "endpoint", "place")


class Collector:
    """`tallies`: of all that is followed now."""

    def __init__(self, tallies: Callable[[], Iterator[tuple[Followed, Tally]]]) -> None:
        self._tallies = tallies
        self.registry = CollectorRegistry()
        self.registry.register(self)

    def collect(self) -> Iterator[Metric]:
        working = GaugeMetricFamily(
            f"{_PREFIX}_working", "1 where it is read, 0 where something is wrong", labels=_LABELS
        )
        lag = GaugeMetricFamily(f"{_PREFIX}_lag", "Messages or files that are known to wait", labels=_LABELS)
        taken = CounterMetricFamily(
            f"{_PREFIX}_labels", "What became of the labels that were read", labels=(*_LABELS, "outcome")
        )
        poisoned = CounterMetricFamily(
            f"{_PREFIX}_poisoned", "Messages, lines or files that are no labels", labels=_LABELS
        )
        for followed, tally in self._tallies():
            source = followed.source
            of = (followed.namespace, followed.name, str(source.kind), source.endpoint, source.place)
            working.add_metric(of, 0.0 if tally.problem else 1.0)
            if tally.lag is not None:
                lag.add_metric(of, tally.lag)
            for outcome, count in list(tally.counts.items()):
                taken.add_metric((*of, outcome), count)
            poisoned.add_metric(of, tally.poisoned)
        yield from (working, lag, taken, poisoned)
