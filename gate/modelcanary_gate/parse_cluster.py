"""Reads what only a cluster has: the target, its service, the candidate's pods, canary steps, notifications.

Called by `parse.parse_spec` only.
"""

import re
from collections.abc import Callable, Mapping

from modelcanary_gate.errors import SpecError
from modelcanary_gate.fields import Fields, Reader, entry, flag, list_of, mapping, one_of, positive, text, unique
from modelcanary_gate.parse_model import count
from modelcanary_gate.quantities import duration, percent, show, whole
from modelcanary_gate.spec import (
    Adoption,
    Canary,
    Candidate,
    Notification,
    Promotion,
    ServiceRef,
    TargetRef,
)
from modelcanary_gate.vocabulary import Event

CANDIDATE = ("replicas", "readyDeadline", "labels", "isolate")
_NAME = re.compile(r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?")
_PORT_NAME = re.compile(r"(?=.*[a-z])[a-z0-9](-?[a-z0-9])*")
_LABEL_KEY = re.compile(r"([a-z0-9]([-a-z0-9.]*[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?")
_LABEL_VALUE = re.compile(r"[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?")
_NUMBER = r"([0-9]+(\.[0-9]*)?|\.[0-9]+)"
_QUANTITY = re.compile(rf"[+-]?{_NUMBER}([KMGTPE]i|[numkMGTPE]|[eE][+-]?{_NUMBER})?")
_above_zero = positive(duration, "write a time above 0")


def object_name(value: object, field: str) -> str:
    name = text(value, field)
    if not _NAME.fullmatch(name):
        raise SpecError(
            field, f"{show(value)} is no name of a Kubernetes object", 'use a-z, 0-9, "-" and ".", such as fraud'
        )
    return name


def resource_name(value: object, field: str) -> str:
    """A ModelCanary's own name: what is made for it is named after it, and labels hold at most 63 characters."""
    name = object_name(value, field)
    if len(name) > 52:
        raise SpecError(field, f"has {len(name)} characters", "write at most 52: other objects are named after it")
    return name


def target(fields: Fields, *, required: bool) -> TargetRef | None:
    reference = fields.section("targetRef", ("apiVersion", "kind", "name"))
    if "targetRef" not in fields:
        if required:
            raise fields.error(
                "targetRef",
                "is missing",
                "name the Deployment that your pipeline deploys: {apiVersion: apps/v1, kind: Deployment, name: …}",
            )
        return None
    return TargetRef(
        api_version=reference.require("apiVersion", one_of(("apps/v1",)), "write apps/v1"),
        kind=reference.require("kind", one_of(("Deployment",)), "write Deployment"),
        name=reference.require("name", object_name, "name the Deployment that your pipeline deploys"),
    )


def service(fields: Fields, *, required: bool) -> ServiceRef | None:
    reference = fields.section("service", ("name", "port"))
    if "service" not in fields:
        if required:
            raise fields.error("service", "is missing", "name what clients call: {name: …, port: http}")
        return None
    return ServiceRef(
        name=reference.require("name", object_name, "name the Service that clients call"),
        port=reference.require("port", _port, "name the Service's port, or give its number"),
    )


def _port(value: object, field: str) -> str:
    if isinstance(value, str) and not value.isdecimal():
        if len(value) > 15 or not _PORT_NAME.fullmatch(value):
            raise SpecError(
                field, f"{show(value)} is no name of a port", 'use a-z, 0-9 and "-", at most 15, such as http'
            )
        return value
    return str(whole(value, field, at_least=1, at_most=65535))


def autoscaler(fields: Fields) -> str | None:
    reference = fields.section("autoscalerRef", ("name",))
    if "autoscalerRef" not in fields:
        return None
    return reference.require("name", object_name, "name the autoscaler of the target")


def adoption(fields: Fields) -> Adoption:
    default = Adoption()
    read = Adoption(
        scale_target=fields.read("scaleTarget", flag, default.scale_target),
        service=fields.read("service", one_of(("Managed", "Untouched")), default.service),
    )
    if read.service == "Untouched" and not read.scale_target:
        raise fields.error(
            "scaleTarget",
            "needs service: Managed, or the target's own pods would go on answering users",
            "let the Service be Managed, or the target be scaled",
        )
    return read


def candidate(fields: Fields) -> Candidate:
    default = Candidate()
    return Candidate(
        replicas=fields.read("replicas", _replicas, default.replicas),
        ready_deadline=fields.read("readyDeadline", _above_zero, default.ready_deadline),
        labels=fields.read("labels", _labels, default.labels),
        isolate=fields.read("isolate", flag, default.isolate),
    )


def _replicas(value: object, field: str) -> int | None:
    if value == "auto":
        return None
    return count(value, field)


def _labels(value: object, field: str) -> dict[str, str]:
    read = _matching(_LABEL_VALUE, 63, "label of Kubernetes, such as team: risk")
    return {name: read(name, item, entry(field, name)) for name, item in mapping(value, field, 64).items()}


def _matching(pattern: re.Pattern[str], at_most: int, what: str) -> Callable[[str, object, str], str]:
    """Reads an entry of a mapping of Kubernetes' own, whose names and values have a form each."""

    def read(name: str, value: object, field: str) -> str:
        content = text(value, field, at_most)
        if not (_LABEL_KEY.fullmatch(name) and pattern.fullmatch(content)):
            raise SpecError(field, f"{show(content)} is no {what}", f"write a {what}")
        return content

    return read


def canary(fields: Fields) -> Canary:
    default = Canary()
    steps = fields.read("steps", list_of(percent, "list percentages such as [1, 5, 25]", at_most=20), default.steps)
    for index, (before, step) in enumerate(zip((0.0, *steps), steps, strict=False)):
        if step <= before:
            raise SpecError(
                f"{fields.at('steps')}[{index}]",
                f"{step * 100:g} is not above {before * 100:g}",
                "let each step be above 0 and above the one before it",
            )
    return Canary(
        steps=steps,
        step_duration=fields.read("stepDuration", _above_zero, default.step_duration),
        candidate_grace=fields.read("candidateGrace", duration, default.candidate_grace),
    )


def promotion(fields: Fields) -> Promotion:
    default = Promotion()
    return Promotion(
        mode=fields.read("mode", one_of(("Automatic", "Manual")), default.mode),
        observe_for=fields.read("observeFor", duration, default.observe_for),
    )


def alerts(value: object, field: str) -> tuple[Notification, ...]:
    return _notifications(tuple(event for event in Event if event is not Event.CONFIRM_PROMOTION))(value, field)


def webhooks(value: object, field: str) -> tuple[Notification, ...]:
    return _notifications(tuple(Event))(value, field)


def _notifications(known: tuple[Event, ...]) -> Reader[tuple[Notification, ...]]:
    def read(value: object, field: str) -> Notification:
        return _notification(value, field, known)

    return list_of(read, "list {endpoint: …, events: [RolledBack]}", at_most=16)


def _notification(value: object, field: str, known: tuple[Event, ...]) -> Notification:
    fields = Fields(value, field, ("endpoint", "events"))
    remedy = "list events such as [RolledBack, Held]"
    words = fields.require("events", list_of(one_of(known), remedy, at_most=len(known)), remedy)
    events = tuple(Event(word) for word in words)
    if not events:
        raise fields.error("events", "is empty", remedy)
    unique(events, fields.at("events"), "the event")
    endpoint = fields.require("endpoint", text, "name an endpoint that the cluster's admin lists, not a URL")
    if "://" in endpoint:
        raise fields.error("endpoint", f"{show(endpoint)} is a URL", "name an endpoint that the cluster's admin lists")
    return Notification(endpoint, events)


def sidecar(fields: Fields) -> Mapping[str, object]:
    result: dict[str, object] = {}
    if "workers" in fields:
        result["workers"] = fields.require("workers", count, "write how many processes answer")
    if "resources" in fields:
        resources = fields.section("resources", ("requests", "limits"))
        result["resources"] = {name: resources.require(name, _quantities, "") for name in resources.given()}
    return result


def _quantities(value: object, field: str) -> dict[str, str]:
    """Kubernetes' own quantities; numbers are such too."""
    read = _matching(_QUANTITY, 32, "quantity of Kubernetes, such as 100m or 64Mi")
    result: dict[str, str] = {}
    for name, item in mapping(value, field, 16).items():
        number = type(item) is int
        written = str(whole(item, entry(field, name), at_least=0, at_most=1 << 53)) if number else item
        result[name] = read(name, written, entry(field, name))
    return result
