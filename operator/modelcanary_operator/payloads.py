"""What is sent to each type of endpoint: a signal as Alertmanager, PagerDuty, Slack or a webhook reads it. Pure.

Called by `post` and `asking`. Webhooks get CloudEvents 1.0 in structured mode; the others what their own API wants.
"""

import json
from collections.abc import Callable

from modelcanary_gate.plan.signals import RECOVERED
from modelcanary_gate.plan.status import Finding, Signal
from modelcanary_gate.vocabulary import Event
from modelcanary_operator.api import Object
from modelcanary_operator.caller import Call
from modelcanary_operator.endpoints import EndpointType
from modelcanary_operator.status_json import moment
from modelcanary_operator.workqueue import Key

#: Seconds for which Alertmanager shows what happened once; a stall until its end, or for at most a day.
_SHOWN, _STALL_SHOWN = 3600.0, 86400.0
_SEVERITIES = {Event.ROLLED_BACK: "error", Event.STALLED: "error", Event.HELD: "warning"}


def identity(key: Key, signal: Signal) -> str:
    """The idempotency key: the same however often a signal is sent, and no other signal's."""
    return f"{key.namespace}/{signal.id}"


def cloud_event(key: Key, signal: Signal) -> Call:
    body = {
        "specversion": "1.0",
        "id": identity(key, signal),
        "source": f"/namespaces/{key.namespace}/modelcanaries/{key.name}",
        "type": f"io.modelcanary.{signal.event}",
        "subject": signal.run or key.name,
        "time": moment(signal.at),
        "datacontenttype": "application/json",
        "data": details(key, signal),
    }
    return _call(key, signal, body, type="application/cloudevents+json")


def details(key: Key, signal: Signal) -> Object:
    """All that is known of it."""
    found: Object = {
        "namespace": key.namespace,
        "name": key.name,
        "event": signal.event,
        "reason": signal.reason,
        "message": signal.message,
        "run": signal.run,
        "baselineTemplate": signal.baseline,
        "candidateTemplate": signal.candidate,
    }
    return {name: value for name, value in found.items() if value} | {"evidence": _numbers(signal.finding)}


def _numbers(finding: Finding) -> Object:
    written = {
        "delta": finding.delta,
        "lower": finding.lower,
        "upper": finding.upper,
        "baselineLoss": finding.baseline_loss,
    }
    numbers: Object = {name: float(value) for name, value in written.items() if value}
    return {"judged": finding.judged, **numbers, "worse": list(finding.worse), "guards": list(finding.guards)}


def slack(key: Key, signal: Signal) -> Call:
    lines = [f"*{_plain(_title(key, signal))}*", _plain(signal.message)]
    finding = signal.finding
    if finding.worse:
        lines.append(f"worse: {_plain(', '.join(finding.worse))}")
    if signal.run:
        lines.append(f"run `{signal.run}`, template `{signal.candidate}` against `{signal.baseline}`")
    return _call(key, signal, {"text": "\n".join(line for line in lines if line)})


def _plain(text: str) -> str:
    """Slack reads three characters as its own; a message may not ping a channel."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def alertmanager(key: Key, signal: Signal) -> Call:
    """The labels of a stall and of its end are the same: the one resolves the other."""
    ended = signal.event == RECOVERED
    event = str(Event.STALLED) if ended else signal.event
    labels = {
        "alertname": f"ModelCanary{event}",
        "namespace": key.namespace,
        "modelcanary": key.name,
        "severity": _severity(event),
    }
    if event != Event.STALLED:
        labels |= {"reason": signal.reason} | ({"run": signal.run} if signal.run else {})
    until = signal.at + (0.0 if ended else _STALL_SHOWN if event == Event.STALLED else _SHOWN)
    alert: Object = {
        "labels": labels,
        "annotations": {"summary": _title(key, signal), "description": signal.message, "reason": signal.reason},
        "endsAt": moment(until),
    }
    if not ended:
        alert["startsAt"] = moment(signal.at)
    return _call(key, signal, [alert], path="/api/v2/alerts")


def pagerduty(key: Key, signal: Signal, routing_key: str) -> Call:
    """A stall is one incident until its end."""
    ended = signal.event == RECOVERED
    lasting = ended or signal.event == Event.STALLED
    body: Object = {
        "routing_key": routing_key,
        "event_action": "resolve" if ended else "trigger",
        "dedup_key": f"{key.namespace}/{key.name}/{Event.STALLED}" if lasting else identity(key, signal),
        "payload": {
            "summary": f"{_title(key, signal)}: {signal.message}"[:1024],
            "source": f"{key.namespace}/{key.name}",
            "severity": _severity(signal.event),
            "timestamp": moment(signal.at),
            "component": key.name,
            "group": key.namespace,
            "class": signal.event,
            "custom_details": details(key, signal),
        },
    }
    return _call(key, signal, body)


def _severity(event: str) -> str:
    return next((severity for of, severity in _SEVERITIES.items() if of == event), "info")


def _title(key: Key, signal: Signal) -> str:
    return f"ModelCanary {key.namespace}/{key.name}: {signal.event}, {signal.reason}"


def _call(key: Key, signal: Signal, body: object, path: str = "", type: str = "application/json") -> Call:
    return Call(json.dumps(body, ensure_ascii=False).encode(), path, type, identity(key, signal))


#: All but PagerDuty, whose message holds a key.
FORMATS: dict[EndpointType, Callable[[Key, Signal], Call]] = {
    EndpointType.WEBHOOK: cloud_event,
    EndpointType.SLACK: slack,
    EndpointType.ALERTMANAGER: alertmanager,
}
