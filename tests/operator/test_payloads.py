"""What each kind of receiver is sent."""

import json
from dataclasses import replace
from typing import Any

import pytest

from modelcanary_gate.plan.status import Finding, Signal
from modelcanary_operator.payloads import FORMATS, cloud_event, pagerduty
from modelcanary_operator.workqueue import Key

KEY = Key("risk", "fraud")
SIGNAL = Signal(
    id="fraud-7c9d-1/RollBack/RolledBack",
    event="RolledBack",
    at=1_767_225_600.25,
    reason="LossRegression",
    message="delta +0.0310 [+0.0102, +0.0519] nats <!channel> & more",
    to=("retrain",),
    run="fraud-7c9d-1",
    baseline="5f1a",
    candidate="7c9d",
    finding=Finding(2100, "0.031", "0.0102", "0.0519", "0.214", ("fraud", "legit"), ("classes",)),
)
STALLED = Signal("fraud/Stalled/19", "Stalled", 1_767_225_600.0, "ServiceMissing", "it has gone", ("oncall",))
RECOVERED = replace(STALLED, id="fraud/Recovered/20", event="Recovered", at=1_767_225_700.0, reason="Serving")


def body(call: Any) -> Any:
    return json.loads(call.body)


def test_a_webhook_gets_a_cloud_event_with_all_that_a_retraining_needs() -> None:
    call = cloud_event(KEY, SIGNAL)
    assert call.type == "application/cloudevents+json"
    assert body(call) == {
        "specversion": "1.0",
        "id": "risk/fraud-7c9d-1/RollBack/RolledBack",
        "source": "/namespaces/risk/modelcanaries/fraud",
        "type": "io.modelcanary.RolledBack",
        "subject": "fraud-7c9d-1",
        "time": "2026-01-01T00:00:00.250000Z",
        "datacontenttype": "application/json",
        "data": {
            "namespace": "risk",
            "name": "fraud",
            "event": "RolledBack",
            "reason": "LossRegression",
            "message": SIGNAL.message,
            "run": "fraud-7c9d-1",
            "baselineTemplate": "5f1a",
            "candidateTemplate": "7c9d",
            "evidence": {
                **{"judged": 2100, "delta": 0.031, "lower": 0.0102, "upper": 0.0519, "baselineLoss": 0.214},
                **{"worse": ["fraud", "legit"], "guards": ["classes"]},
            },
        },
    }
    assert call.id == body(call)["id"], "known again however often it is sent"


def test_slack_pings_nobody_on_behalf_of_a_message() -> None:
    text = body(FORMATS["slack"](KEY, SIGNAL))["text"]  # type: ignore[index]
    assert text.splitlines() == [
        "*ModelCanary risk/fraud: RolledBack, LossRegression*",
        "delta +0.0310 [+0.0102, +0.0519] nats &lt;!channel&gt; &amp; more",
        "worse: fraud, legit",
        "run `fraud-7c9d-1`, template `7c9d` against `5f1a`",
    ]


def test_pagerduty_opens_one_incident_for_a_stall_and_ends_it() -> None:
    opened, closed = body(pagerduty(KEY, STALLED, "key")), body(pagerduty(KEY, RECOVERED, "key"))
    assert (opened["event_action"], closed["event_action"]) == ("trigger", "resolve")
    assert opened["dedup_key"] == closed["dedup_key"] == "risk/fraud/Stalled"
    assert opened["routing_key"] == "key"
    assert opened["payload"]["severity"] == "error"
    once = body(pagerduty(KEY, SIGNAL, "key"))
    assert once["dedup_key"] == "risk/fraud-7c9d-1/RollBack/RolledBack"
    assert once["payload"]["custom_details"]["evidence"]["worse"] == ["fraud", "legit"]


@pytest.mark.parametrize("event", ["RunStarted", "CanaryStep", "Held", "Stalled", "Promoted", "RolledBack", "RunEnded"])
def test_pagerduty_takes_only_its_own_severities(event: str) -> None:
    severity = body(pagerduty(KEY, replace(SIGNAL, event=event), "key"))["payload"]["severity"]
    assert severity in ("critical", "error", "warning", "info")


def test_alertmanager_knows_the_end_of_a_stall_by_its_labels() -> None:
    (opened,), (closed,) = (
        body(FORMATS["alertmanager"](KEY, signal))  # type: ignore[index]
        for signal in (STALLED, RECOVERED)
    )
    assert opened["labels"] == closed["labels"]
    assert opened["endsAt"] > opened["startsAt"]
    assert closed["endsAt"] == "2026-01-01T00:01:40.000000Z"
    (once,) = body(FORMATS["alertmanager"](KEY, SIGNAL))  # type: ignore[index]
    assert once["labels"]["alertname"] == "ModelCanaryRolledBack"
    assert once["labels"]["reason"] == "LossRegression"
