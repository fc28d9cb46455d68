"""The admin port: /healthz, /readyz, /metrics, and a drain on a path of its own. For probes, scrapers and hooks.

`supervisor` starts it. A request at a time per connection, each closed behind its answer; so many connections at a time
that whoever calls cannot make it large. It must not know how the live path does what it counts.
"""

import asyncio
import hmac
import logging
import socket
from collections.abc import Awaitable, Callable, Iterator, Mapping

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric

from modelcanary_sidecar.figures import Figures, Histogram

_log = logging.getLogger(__name__)
_TIME_LIMIT = 5.0
_AT_A_TIME = 64  # connections; who comes when they are taken is cut off
_LONGEST_HEAD = 8 << 10
_REASONS = {200: "OK", 404: "Not Found", 405: "Method Not Allowed", 503: "Service Unavailable"}


def _buckets(histogram: Histogram) -> list[tuple[str, float]]:
    total = 0.0
    buckets: list[tuple[str, float]] = []
    for bound, count in zip((*map(str, histogram.bounds), "+Inf"), histogram.counts, strict=True):
        total += count
        buckets.append((bound, total))
    return buckets


class Exporter:
    """Turns figures into metrics when somebody scrapes; between scrapes it costs nothing."""

    def __init__(
        self,
        namespace: str,
        name: str,
        figures: Callable[[], Figures],
        scorer_figures: Callable[[], dict[str, float]],
    ) -> None:
        self._labels = [namespace, name]
        self._figures = figures
        self._scorer_figures = scorer_figures
        self.registry = CollectorRegistry(auto_describe=False)
        self.registry.register(self)

    def _counter(self, name: str, help: str, label: str, counts: Mapping[str, float]) -> Metric:
        family = CounterMetricFamily(
            f"modelcanary_sidecar_{name}", help, labels=["namespace", "name", *([label] if label else [])]
        )
        for key, count in counts.items():
            family.add_metric([*self._labels, *([key] if label else [])], count)
        return family

    def _gauge(self, name: str, help: str, value: float) -> Metric:
        family = GaugeMetricFamily(f"modelcanary_sidecar_{name}", help, labels=["namespace", "name"])
        family.add_metric(self._labels, value)
        return family

    def _histogram(self, name: str, help: str, histogram: Histogram) -> Metric:
        family = HistogramMetricFamily(f"modelcanary_sidecar_{name}", help, labels=["namespace", "name"])
        family.add_metric(self._labels, _buckets(histogram), histogram.sum)
        return family

    def collect(self) -> Iterator[Metric]:
        figures = self._figures()
        yield self._counter("requests", "Requests answered by a model.", "", {"": figures.requests})
        yield self._counter(
            "refused",
            "Requests answered by the sidecar itself, by status.",
            "status",
            figures.refused,
        )
        yield self._counter("captured", "Requests captured for the scorer.", "", {"": figures.captured})
        yield self._counter(
            "dropped",
            "Requests that were to be mirrored and were not, by reason.",
            "reason",
            figures.dropped,
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
        scorer = GaugeMetricFamily(
            "modelcanary_sidecar_scorer",
            "What the scorer counts, by figure and outcome.",
            labels=["namespace", "name", "figure", "outcome"],
        )
        # Where the live processes ask the candidate, the scorer has nothing to say about it.
        for key, value in sorted({**self._scorer_figures(), **figures.asking}.items()):
            figure, _, outcome = key.partition(":")
            scorer.add_metric([*self._labels, figure, outcome], value)
        yield scorer

    def text(self) -> bytes:
        return generate_latest(self.registry)


class Admin:
    """Answers on the admin port."""

    def __init__(
        self,
        metrics: Callable[[], bytes],
        ready: Callable[[], Awaitable[str | None]],
        drain_path: str,
        drain: Callable[[], Awaitable[str]],
    ) -> None:
        self._metrics = metrics
        self._ready = ready  # None, or why not
        self._drain_path = drain_path.encode("latin-1")
        self._drain = drain  # ends when the clients have left, or their time is up; says which
        self._answering = 0

    async def serve(self, listener: socket.socket) -> asyncio.Server:
        return await asyncio.start_server(self._meet, sock=listener, limit=_LONGEST_HEAD)

    async def _meet(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._answering >= _AT_A_TIME:
            writer.transport.abort()
            return
        self._answering += 1
        try:
            await self._answer(reader, writer)
            writer.close()
            async with asyncio.timeout(_TIME_LIMIT):  # who does not read what is left has had it
                await writer.wait_closed()
        except (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError) as error:
            _log.debug("admin: no request, or nobody to answer: %r", error)
        finally:
            self._answering -= 1
            writer.transport.abort()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        async with asyncio.timeout(_TIME_LIMIT):
            head = await reader.readuntil(b"\r\n\r\n")
        method, _, rest = head.partition(b" ")
        path = rest.partition(b" ")[0].partition(b"?")[0]
        status, body = await self._route(method.decode("latin-1"), path)
        kind = "text/plain; version=0.0.4; charset=utf-8"
        writer.write(
            f"HTTP/1.1 {status} {_REASONS[status]}\r\ncontent-type: {kind}\r\n"
            f"content-length: {len(body)}\r\nconnection: close\r\n\r\n".encode()
        )
        writer.write(b"" if method == b"HEAD" else body)

    async def _route(self, method: str, path: bytes) -> tuple[int, bytes]:
        if self._drain_path and hmac.compare_digest(path, self._drain_path):
            if method not in ("GET", "POST"):  # GET: Kubernetes' httpGet hooks can do no other
                return 405, b"use GET or POST\n"
            return 200, (await self._drain()).encode() + b"\n"
        if path not in (b"/healthz", b"/readyz", b"/metrics"):
            return 404, b"there are /healthz, /readyz and /metrics\n"
        if method not in ("GET", "HEAD"):
            return 405, b"use GET\n"
        if path == b"/metrics":
            return 200, self._metrics()
        if path == b"/readyz":
            reason = await self._ready()
            if reason is not None:
                return 503, reason.encode() + b"\n"
        return 200, b"ok\n"
