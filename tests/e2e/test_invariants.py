"""The invariants find what they are for, in histories that are made up."""

from typing import Any

import pytest
from tests.e2e.history import History
from tests.e2e.invariants import broken

from modelcanary_operator import names
from modelcanary_operator.api import CANARIES, DEPLOYMENTS, ENDPOINT_SLICES, PODS, Kind


class Story:
    """Changes, one revision after the other."""

    def __init__(self) -> None:
        self.history = History()
        self._revision = 0

    def add(self, kind: Kind, name: str, body: dict[str, Any] | None = None, *, what: str = "ADDED") -> "Story":
        self._revision += 1
        found = dict(body or {})
        metadata = {**found.pop("metadata", {}), "name": name, "resourceVersion": str(self._revision)}
        self.history.add(what, kind, {"metadata": metadata, **found})
        return self

    def pod(self, name: str, version: str) -> "Story":
        return self.add(PODS, name, {"spec": _pod(version)})

    def serving(self, *pods: str) -> "Story":
        endpoints = [{"targetRef": {"name": pod}, "conditions": {"ready": True}} for pod in pods]
        labels = {"kubernetes.io/service-name": "colours"}
        return self.add(ENDPOINT_SLICES, "colours-1", {"metadata": {"labels": labels}, "endpoints": endpoints})

    def baseline(self, template: str, version: str) -> "Story":
        metadata = {"labels": {names.ROLE: names.BASELINE}, "annotations": {names.TEMPLATE: template}}
        return self.add(
            DEPLOYMENTS,
            names.baseline("colours"),
            {"metadata": metadata, "spec": {"template": {"spec": _pod(version)}}},
        )

    def phase(self, phase: str, **status: Any) -> "Story":
        return self.add(CANARIES, "colours", {"status": {"phase": phase, "baseline": {"template": "t1"}, **status}})

    def promoting(self, template: str, decision: str) -> "Story":
        return self.phase("Promoting", run={"candidateTemplate": template}, decided={"id": decision})


def _pod(version: str) -> dict[str, Any]:
    return {"containers": [{"env": [{"name": "MODEL_VERSION", "value": version}]}]}


def _adopted() -> Story:
    story = Story().pod("a", "v1").pod("b", "v2").serving("a").phase("Adopting")
    return story.baseline("t1", "v1").phase("Serving")


def test_a_promotion_by_a_decision_is_as_it_must_be() -> None:
    story = _adopted().promoting("t2", "run/Promote").baseline("t2", "v2").serving("a", "b").serving("b")
    assert broken(story.history, "colours") == []


def test_a_promotion_may_be_taken_back_once() -> None:
    taken = _adopted().promoting("t2", "run/Promote").baseline("t2", "v2").serving("b")
    taken = taken.phase("RollingBack", run={"baselineTemplate": "t1"}, decided={"id": "run/RollBack"})
    taken = taken.baseline("t1", "v1").serving("a")
    assert broken(taken.history, "colours") == []
    again = taken.baseline("t2", "v2").baseline("t1", "v1")
    assert any("without a decision" in found for found in broken(again.history, "colours"))


@pytest.mark.parametrize(
    ("story", "words"),
    [
        (_adopted().serving(), "no ready endpoint"),
        (_adopted().serving("a", "b"), "'v2', which nothing judged"),
        (_adopted().serving("b").promoting("t2", "run/Promote"), "'v2', which nothing judged"),
        (_adopted().baseline("t2", "v2"), "without a decision"),
        (
            _adopted().promoting("t2", "x").baseline("t2", "v2").baseline("t1", "v1").baseline("t2", "v2"),
            "without a decision",
        ),
    ],
)
def test_what_must_not_be_is_found(story: Story, words: str) -> None:
    assert any(words in found for found in broken(story.history, "colours"))


def test_what_happens_after_the_end_does_not_count() -> None:
    story = _adopted().serving()
    assert broken(story.history, "colours", until=7) == []
