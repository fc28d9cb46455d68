"""What the API server keeps and shows of a ModelCanary: its status, `kubectl get`, `wait` and `explain`."""

import re
import subprocess
from dataclasses import fields
from typing import Any

import pytest
from tests.cluster.control_plane import ControlPlane
from tests.crds.conftest import Resources
from tests.crds.schema import Node, changed, definition, example, resource_schema

from modelcanary_gate.plan.phases import Phase
from modelcanary_gate.plan.status import Decided, Ended, Finding, Rejected, Run, Signal, Status
from modelcanary_operator import status_json

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(240, func_only=True)]

SCHEMA = resource_schema(definition())
SPEC: Node = SCHEMA["properties"]["spec"]
LEAST = example("minimal.yaml")
FINDING = Finding(900, "-0.1", "-0.2", "-0.05", "0.2", ("fraud",), ("p99",))
#: As much as the plan can have to find again.
PLANNED = Status(
    phase=Phase.CANARY,
    reason="EvidenceBelowThreshold",
    message="promotion evidence 12 of 200",
    stalled=True,
    verdict="Continue",
    baseline="5f1a",
    replicas=3,
    run=Run("fraud-7c9d-1", "5f1a", "7c9d", "6f" * 8, 1.0, 1, 2.5, 1, 3.000001, ("GuardVeto",), 3.5),
    decided=Decided("fraud-7c9d-1/promote", "CandidateNoWorse", "the upper bound is below the margin", FINDING),
    signals=(
        Signal("fraud-7c9d-1/Held/GuardVeto", "Held", 7.0, "GuardVeto", "p99", ("oncall",), "r", "a", "b", FINDING),
    ),
    rejected=Rejected("1a2b", "run-1", 4.0, 1, "LossRegression", "worse by 0.1 nats", True),
    last=Ended("fraud-1a2b-1", "fraud-1a2b-1/rollback", "LossRegression", 5.0),
    handover_since=6.0,
)
CONDITION = {
    "type": "Stalled",
    "status": "True",
    "reason": "Canary",
    "message": "promotion evidence 12 of 200",
    "observedGeneration": 1,
    "lastTransitionTime": "2026-01-01T00:00:00Z",
}
STATUS: dict[str, Any] = {
    "observedGeneration": 1,
    "operatorVersion": "0.1.0",
    **status_json.write(PLANNED),
    "target": {"observedGeneration": 7},
    "evidence": {
        **{"pairs": 50110, "labelled": 30066, "dropped": 90, "coverage": "0.60", "delta": "0.0031"},
        **{"lower": "-0.0008", "upper": "0.0070", "margin": "0.0043", "baselineLoss": "0.2140"},
        **{"run": "fraud-7c9d-1", "judged": 29000, "candidateLoss": "0.2171", "secondsToVerdict": 7200},
        "rollback": {"evidence": "0.1", "threshold": "2000", "blocksInARow": 0},
        "promotion": {"evidence": "12", "threshold": "200", "blocksInARow": 1, "pairsToGo": 90000},
        "guards": [
            {
                **{"name": "errors", "type": "errorRate", "state": "veto", "limit": "max +0.5%", "baseline": "0.01"},
                **{"candidate": "0.02", "evidence": "3", "threshold": "8000", "detail": "legit"},
            }
        ],
    },
    "weight": "5",
    "conditions": [CONDITION],
}


def test_all_that_the_plan_knows_is_tried_here() -> None:
    for value in (PLANNED, PLANNED.run, PLANNED.rejected, PLANNED.decided, *PLANNED.signals, FINDING):
        assert value is not None
        empty = [field.name for field in fields(value) if getattr(value, field.name) in (None, "", 0, False)]
        assert empty == [], f"give each field of {type(value).__name__} a value of its own"


def test_status_is_a_subresource(apiserver: ControlPlane, resources: Resources) -> None:
    created = resources.create(changed(LEAST, {"metadata.name": "status", "status": {"phase": "Mine"}}))
    try:
        assert "status" not in created, "a status that users write is dropped"
        written = resources.put({**created, "status": STATUS, "spec": {**created["spec"], "suspend": True}}, "/status")
        assert written.accepted, written.message
        kept = resources.get("status")
        assert kept["status"] == STATUS
        assert status_json.read(kept["status"]) == PLANNED
        assert kept["spec"] == created["spec"], "and the status's writer cannot change the specification"
        assert kept["metadata"]["generation"] == 1, "a status is no new generation"

        twice = resources.put({**kept, "status": {**STATUS, "conditions": [CONDITION, CONDITION]}}, "/status")
        assert "status.conditions[1]" in twice.message and "Duplicate" in twice.message

        seen = kubectl(apiserver, "get", "mc", "status")
        heads, row = (line.split() for line in seen.splitlines())
        assert heads == ["NAME", "PHASE", "REASON", "VERDICT", "DELTA", "LABELLED", "WEIGHT", "AGE"]
        assert row[:-1] == ["status", "Canary", "EvidenceBelowThreshold", "Continue", "0.0031", "30066", "5"]
        assert all(len(line) <= 100 for line in seen.splitlines()), "it fits a terminal"
        waited = kubectl(apiserver, "wait", "mc/status", "--for=condition=Stalled", "--timeout=20s")
        assert "condition met" in waited
    finally:
        resources.delete("status")


def test_what_is_adopted_cannot_be_exchanged_for_another(resources: Resources) -> None:
    """The operator would take the new target's pods away, and leave the old one as it is."""
    exchanges = {
        "spec.targetRef.name": "other",
        "spec.service.name": "other",
        "spec.service.port": "grpc",
    }
    created = resources.create(changed(LEAST, {"metadata.name": "exchanged"}))
    try:
        for phase, free in (
            (None, False),  # its status may have been lost
            ("Stalled", True),
            ("Pending", True),
            ("Adopting", False),
            ("Serving", False),
        ):
            kept = resources.get("exchanged")
            if phase is not None:
                written = resources.put({**kept, "status": {**STATUS, "phase": phase}}, "/status")
                assert written.accepted, written.message
            for place, value in exchanges.items():
                answer = resources.put(changed(resources.get("exchanged"), {place: value}))
                assert answer.accepted is free, (phase, place, answer.message)
                if free:  # and back
                    again = {**resources.get("exchanged"), "spec": created["spec"]}
                    assert resources.put(again).accepted
                else:
                    assert "spec.targetRef" in answer.fields and "delete the ModelCanary" in answer.message
            # All else may be edited.
            assert resources.put(changed(resources.get("exchanged"), {"spec.suspend": phase == "Serving"})).accepted
    finally:
        resources.delete("exchanged")


def test_explain_says_what_each_field_is(apiserver: ControlPlane, defined: dict[str, Any]) -> None:
    overview = kubectl(apiserver, "explain", "modelcanary.spec")
    for name, node in SPEC["properties"].items():
        assert re.search(rf"^  {name}\t<", overview, re.MULTILINE), name
        explained = " ".join(kubectl(apiserver, "explain", f"mc.spec.{name}").split())
        assert " ".join(node["description"].split()) in explained
    for name, node in SCHEMA["properties"]["status"]["properties"].items():
        assert " ".join(node["description"].split()) in " ".join(
            kubectl(apiserver, "explain", f"mc.status.{name}").split()
        )


def kubectl(apiserver: ControlPlane, *arguments: str) -> str:
    run = subprocess.run(apiserver.kubectl(*arguments), capture_output=True, text=True, timeout=60, check=False)
    assert run.returncode == 0, run.stderr
    return run.stdout
