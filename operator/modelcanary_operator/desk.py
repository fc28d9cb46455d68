"""What the operator tells and asks the outside, as one look sees it. Called by `reconcile`; blocks no look.

Each look hands over what its status has to tell and to ask, and gets what has been answered so far.
"""

from collections.abc import Mapping
from dataclasses import replace

from modelcanary_gate.decision import Metric
from modelcanary_gate.plan.observed import Observed
from modelcanary_gate.plan.status import Signal, Status
from modelcanary_gate.spec import Spec
from modelcanary_operator.api import Object
from modelcanary_operator.asking import Asking
from modelcanary_operator.post import Outside, Post
from modelcanary_operator.queries import Queries
from modelcanary_operator.workqueue import Key


class Desk:
    def __init__(self, outside: Outside) -> None:
        self._outside = outside
        self._post = Post(outside)
        self._asking = Asking(outside)
        self._queries = Queries(outside)

    def heard(self, key: Key, spec: Spec, status: Status, observed: Observed) -> Observed:
        """What was observed, with what the outside has said."""
        run = status.run.id if status.run is not None else ""
        return replace(
            observed,
            endpoint_problem=self._outside.directory.current.problem(key.namespace, spec),
            confirmations=self._asking.confirmations(key, run),
            delivered=self._post.delivered(key),
        )

    def metrics(self, key: Key, run: str, spec: Spec) -> Mapping[str, Metric]:
        return self._queries.metrics(key, run, spec)

    def attend(self, key: Key, resource: Object, status: Status, question: Signal | None) -> float | None:
        """Tells what the stored status holds and asks the question; seconds until there is more to do."""
        waits = [self._post.send(key, resource, status.signals), self._asking.ask(key, question)]
        return min((wait for wait in waits if wait is not None), default=None)

    def forget(self, key: Key) -> None:
        for part in (self._post, self._asking, self._queries):
            part.forget(key)
