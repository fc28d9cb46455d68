"""What the operator counts about itself and its ModelCanaries. Called by `reconcile` and `main`."""

import time
from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from modelcanary_gate.plan.phases import Phase
from modelcanary_operator.workqueue import Key


class Metrics:
    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self.registry = CollectorRegistry(auto_describe=True)
        self.reconciles = Counter(
            "modelcanary_operator_reconciles",
            "Looks at a ModelCanary, by how they ended.",
            ["result"],
            registry=self.registry,
        )
        self.seconds = Histogram(
            "modelcanary_operator_reconcile_seconds", "How long a look took.", registry=self.registry
        )
        self.writes = Counter(
            "modelcanary_operator_writes",
            "Writes to the API server and the ledger, by action.",
            ["action"],
            registry=self.registry,
        )
        self.queue = Gauge("modelcanary_operator_queue", "ModelCanaries that wait.", registry=self.registry)
        self.watch_failures = Counter(
            "modelcanary_operator_watch_failures",
            "Ends of the watch by an error; while it does not stand, changes are not heard of.",
            registry=self.registry,
        )
        self.leading = Gauge("modelcanary_operator_leading", "1 while this process leads.", registry=self.registry)
        self.phase = Gauge(
            "modelcanary_phase",
            "1 for the phase that a ModelCanary is in.",
            ["namespace", "name", "phase"],
            registry=self.registry,
        )
        self.stalled = Gauge(
            "modelcanary_stalled",
            "1 where nothing goes on before somebody changes something, in whatever phase; else 0.",
            ["namespace", "name"],
            registry=self.registry,
        )
        self.decisions = Counter(
            "modelcanary_decisions",
            "Runs that ended, by how and why.",
            ["namespace", "name", "phase", "reason"],
            registry=self.registry,
        )
        self.signals = Counter(
            "modelcanary_signals",
            "Attempts to tell an endpoint of an event, by how they ended: ok, failed (tried again), givenUp.",
            ["endpoint", "event", "result"],
            registry=self.registry,
        )
        self.signals_lost = Counter(
            "modelcanary_signals_lost",
            "Signals that were never delivered because too many waited in one status.",
            registry=self.registry,
        )
        self.confirmations = Counter(
            "modelcanary_confirmations",
            "Answers of webhooks that were asked before a promotion: yes, no, unanswered.",
            ["endpoint", "result"],
            registry=self.registry,
        )
        self.queries = Counter(
            "modelcanary_metric_queries",
            "Values of guards that a Prometheus was asked for: ok, missing.",
            ["endpoint", "result"],
            registry=self.registry,
        )
        self.calls_shed = Counter(
            "modelcanary_operator_calls_shed",
            "Calls to endpoints that found no room and are asked for again later.",
            registry=self.registry,
        )
        self._endpoints = Gauge("modelcanary_endpoints", "Endpoints that are listed.", registry=self.registry)
        self._endpoints_valid = Gauge(
            "modelcanary_endpoints_valid",
            "1 where the list of endpoints could be read when it was last looked at.",
            registry=self.registry,
        )
        self._phases: dict[Key, Phase] = {}
        self._finished = clock()

    def in_phase(self, key: Key, phase: Phase, *, stalled: bool = False) -> None:
        before = self._phases.get(key)
        if before is not None and before is not phase:
            self.phase.remove(key.namespace, key.name, str(before))
        self._phases[key] = phase
        self.phase.labels(key.namespace, key.name, str(phase)).set(1)
        self.stalled.labels(key.namespace, key.name).set(stalled)

    def forget(self, key: Key) -> None:
        """It is gone, and all that is said of it."""
        self._phases.pop(key, None)
        for series in (self.phase, self.stalled, self.decisions):
            series.remove_by_labels({"namespace": key.namespace, "name": key.name})

    def endpoints(self, count: int, *, valid: bool) -> None:
        """`count` are those that hold, whether the last list could be read or not."""
        self._endpoints.set(count)
        self._endpoints_valid.set(valid)

    def finished(self) -> None:
        """A look came to its end, well or not: the process makes progress."""
        self._finished = self._clock()

    def since_finished(self) -> float:
        return self._clock() - self._finished

    def text(self) -> bytes:
        return generate_latest(self.registry)
