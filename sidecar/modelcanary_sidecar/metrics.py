"""The sidecar's figures as a page of metrics, in Prometheus' text format 0.0.4.

`admin` serves it. Written here because the client library took 4 MiB of every sidecar, most of it for servers and
gateways that it could push to; the ledger and the operator, which have the room, use it. It must not know how the live
path does what it counts.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping

from modelcanary_sidecar.figures import Figures, Histogram

_PREFIX = "modelcanary_sidecar_"
_IN_VALUES = str.maketrans({"\\": r"\\", "\n": r"\n", '"': r"\""})

Labels = dict[str, str]


def _sample(name: str, labels: Labels, value: float) -> str:
    listed = ",".join(f'{key}="{said.translate(_IN_VALUES)}"' for key, said in sorted(labels.items()))
    return f"{name}{{{listed}}} {float(value)!r}\n"


class Exporter:
    """Turns figures into metrics when somebody scrapes; between scrapes it costs nothing."""

    def __init__(
        self,
        namespace: str,
        name: str,
        figures: Callable[[], Figures],
        scorer_figures: Callable[[], dict[str, float]],
    ) -> None:
        self._labels = {"namespace": namespace, "name": name}
        self._figures = figures
        self._scorer_figures = scorer_figures

    def _family(self, name: str, kind: str, help: str, samples: Iterable[tuple[Labels, float]]) -> str:
        whole = _PREFIX + name
        lines = [_sample(whole, {**self._labels, **labels}, value) for labels, value in samples]
        return f"# HELP {whole} {help}\n# TYPE {whole} {kind}\n{''.join(lines)}"

    def _counter(self, name: str, help: str, label: str, counts: Mapping[str, float]) -> str:
        samples = (({label: key} if label else {}, count) for key, count in counts.items())
        return self._family(f"{name}_total", "counter", help, samples)

    def _gauge(self, name: str, help: str, value: float) -> str:
        return self._family(name, "gauge", help, [({}, value)])

    def _histogram(self, name: str, help: str, histogram: Histogram) -> str:
        page = self._family(name, "histogram", help, [])
        total = 0.0
        for bound, count in zip((*map(str, histogram.bounds), "+Inf"), histogram.counts, strict=True):
            total += count
            page += _sample(f"{_PREFIX}{name}_bucket", {**self._labels, "le": bound}, total)
        page += _sample(f"{_PREFIX}{name}_count", self._labels, total)
        return page + _sample(f"{_PREFIX}{name}_sum", self._labels, histogram.sum)

    def _families(self) -> Iterator[str]:
        figures = self._figures()
        yield self._counter("requests", "Requests answered by a model.", "", {"": figures.requests})
        yield self._counter("refused", "Requests answered by the sidecar itself, by status.", "status", figures.refused)
        yield self._counter("captured", "Requests captured for the scorer.", "", {"": figures.captured})
        yield self._counter(
            "dropped", "Requests that were to be mirrored and were not, by reason.", "reason", figures.dropped
        )
        yield self._counter(
            "canary", "Requests with a canary weight, by whose answer was given.", "outcome", figures.canary
        )
        yield self._counter("retries", "Requests sent again on a fresh connection.", "", {"": figures.retries})
        yield self._counter("broken_off", "Answers that ended after they had begun.", "", {"": figures.broken_off})
        yield self._counter("passed_through", "HTTP/2 connections, never mirrored.", "", {"": figures.passed_through})
        yield self._histogram("added_seconds", "Latency added by the sidecar.", figures.added)
        yield self._counter("request_seconds", "Request's head to answer's end, in sum.", "", {"": figures.duration})
        yield self._gauge("clients", "Connections of clients.", figures.clients)
        yield self._gauge("model_connections", "Connections to the model.", figures.connections)
        yield self._gauge("in_flight", "Requests at the model.", figures.in_flight)
        yield self._gauge("waiting", "Requests waiting for a connection to the model.", figures.waiting)
        yield self._gauge("loop_lag_seconds", "How late the event loop last was.", figures.loop_lag)
        yield self._gauge(
            "scorer_silence_seconds", "Since the scorer's last word; above 5 nothing is mirrored.", figures.silence
        )
        yield self._gauge(
            "share", "Of the requests, mirrored now: the run's share, or less at a high rate.", figures.share
        )
        yield self._gauge(
            "weight",
            "Of the users, to be answered by the candidate, as told; 0 without a canary step.",
            figures.weight,
        )
        # Where the live processes ask the candidate, the scorer has nothing to say about it.
        said = sorted({**self._scorer_figures(), **figures.asking}.items())
        yield self._family(
            "scorer",
            "gauge",
            "What the scorer counts, by figure and outcome.",
            (({"figure": key.partition(":")[0], "outcome": key.partition(":")[2]}, value) for key, value in said),
        )

    def text(self) -> bytes:
        return "".join(self._families()).encode()
