"""A real API server reads the definition as the parser reads the resource, and says what is wrong with it."""

import re
from collections.abc import Mapping
from typing import Any

import pytest
from tests.crds.cases import Case, cases
from tests.crds.conftest import Resources
from tests.crds.limits import FORGIVEN
from tests.crds.schema import (
    REMOVED,
    Node,
    changed,
    definition,
    example,
    resource_schema,
    rules,
    same_place,
    with_defaults,
)

from modelcanary_gate.parse import parse_spec

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(240, func_only=True)]

SCHEMA = resource_schema(definition())
SPEC: Node = SCHEMA["properties"]["spec"]
LEAST = example("minimal.yaml")


def with_spec(changes: Mapping[str, object]) -> dict[str, Any]:
    return changed(LEAST, {f"spec.{place}": value for place, value in changes.items()})


def test_the_definition_is_as_it_should_be(defined: dict[str, Any]) -> None:
    conditions = {condition["type"]: condition["status"] for condition in defined["status"]["conditions"]}
    assert conditions == {"NamesAccepted": "True", "Established": "True"}, "NonStructuralSchema would be another"
    assert defined["status"]["acceptedNames"]["shortNames"] == ["mc"]


@pytest.mark.parametrize("name", ["minimal.yaml", "canary.yaml"])
def test_the_examples_are_accepted_and_defaulted_as_the_parser_does(resources: Resources, name: str) -> None:
    resource = example(name)
    answer = resources.try_to_create(resource)
    assert answer.accepted, answer.message
    assert answer.body["spec"] == with_defaults(SPEC, resource["spec"])
    assert parse_spec(answer.body["spec"]) == parse_spec(resource["spec"])


def differences(resources: Resources, all_cases: list[Case]) -> tuple[list[str], list[str]]:
    """What the API server says otherwise than the case, and all of its messages."""
    found: list[str] = []
    messages: list[str] = []
    for case in all_cases:
        answer = resources.try_to_create(with_spec(case.changes))
        if answer.accepted is not case.accepted:
            found.append(f"{case.name}: {'accepted' if answer.accepted else answer.message}")
        elif not case.accepted:
            messages.append(answer.message)
            if not any(same_place(field, f"spec.{case.field}") for field in answer.fields):
                found.append(f"{case.name}: names {sorted(answer.fields)}: {answer.message}")
    return found, messages


def test_every_limit_is_the_parsers_and_every_rule_refuses_something(resources: Resources) -> None:
    all_cases = list(cases(SPEC))
    found, messages = differences(resources, all_cases)
    assert found == []
    assert len(messages) >= 300
    everything = "\n".join(messages)
    silent = [f"{path}: {rule['message']}" for path, rule in rules(SPEC) if rule["message"].strip() not in everything]
    assert silent == []
    # A rule that cannot be worked out refuses as well, but tells less. One does so by intent: a class that is there
    # twice cannot be put into the rule's set of names.
    assert sorted(set(re.findall(r"[^\n]*evaluating rule: (?!write each class once)[^\n]*", everything))) == []


def test_a_difference_would_be_found(resources: Resources) -> None:
    wrong = [
        Case("a limit", {"mirror.maxInFlight": 0}, True),
        Case("another", {"mirror.maxInFlight": 1}, False, "mirror.maxInFlight"),
        Case("the wrong field", {"mirror.maxInFlight": 0}, False, "mirror.timeout"),
    ]
    assert len(differences(resources, wrong)[0]) == len(wrong)


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"spec": REMOVED}, "spec"),
        ({"spec": 3}, "spec"),
        ({"spec": {}}, "spec.targetRef"),
        ({"spec.targetRef": REMOVED}, "spec.targetRef"),
        ({"spec.targetRef.kind": REMOVED}, "spec.targetRef.kind"),
        ({"spec.targetRef.kind": "StatefulSet"}, "spec.targetRef.kind"),
        ({"spec.targetRef.apiVersion": "v1"}, "spec.targetRef.apiVersion"),
        ({"spec.targetRef.name": REMOVED}, "spec.targetRef.name"),
        ({"spec.service": REMOVED}, "spec.service"),
        ({"spec.service.name": REMOVED}, "spec.service.name"),
        ({"spec.service.port": REMOVED}, "spec.service.port"),
        ({"spec.service.port": 80.5}, "spec.service.port"),
        ({"spec.model": REMOVED}, "spec.model"),
        ({"spec.model.classes": REMOVED}, "spec.model.classes"),
        ({"spec.model.classes": [True, False]}, "spec.model.classes[0]"),  # what YAML makes of yes and no
        ({"spec.autoscalerRef": {}}, "spec.autoscalerRef.name"),
        ({"spec.analysis.margin": 0.02}, "spec.analysis.margin"),
        ({"spec.analysis.interval": 30}, "spec.analysis.interval"),
        ({"spec.analysis.restarts": True}, "spec.analysis.restarts"),
        ({"spec.guards.0": {"type": "nonFinite", "max": "0"}}, "spec.guards[0].name"),
        ({"spec.guards.0": {"name": "x", "max": "0"}}, "spec.guards[0].type"),
        ({"spec.labels.senders.0": {"name": "a"}}, "spec.labels.senders[0]"),
        ({"spec.labels.sources.0": {"kafka": {"endpoint": "a"}}}, "spec.labels.sources[0].kafka.topic"),
        ({"spec.labels.agreement": {}}, "spec.labels.agreement.rollbackAbove"),
        ({"spec.alerts.0": {"endpoint": "a"}}, "spec.alerts[0].events"),
        ({"spec.webhooks.0": {"events": ["Held"]}}, "spec.webhooks[0].endpoint"),
        ({"metadata.name": "a" * 53}, "metadata.name"),
        ({"metadata.name": "Fraud!"}, "metadata.name"),
    ],
)
def test_what_is_refused_names_its_field(resources: Resources, changes: Mapping[str, object], field: str) -> None:
    answer = resources.try_to_create(changed(LEAST, changes))
    assert not answer.accepted
    assert field in answer.message


@pytest.mark.parametrize(
    "place",
    [
        *("spec.modle", "spec.dryrun", "spec.targetRef.namespace", "spec.service.namespace", "spec.model.clases"),
        *("spec.mirror.percentage", "spec.labels.header", "spec.analysis.margn", "spec.analysis.loss.gamma"),
        *("spec.analysis.minSamples.rollBack", "spec.canary.weights", "spec.sidecar.image", "status.fase"),
        *("spec.alerts[0].on", "spec.guards[0].limit"),
    ],
)
def test_an_unknown_field_is_refused_by_its_path(resources: Resources, place: str) -> None:
    given: dict[str, object] = {}
    if "[0]" in place:
        given = {"spec.alerts.0": {"endpoint": "a", "events": ["Held"]}}
        given["spec.guards.0"] = {"name": "a", "type": "nonFinite", "max": "0"}
    answer = resources.try_to_create(changed(LEAST, {**given, place.replace("[0]", ".0"): "x"}))
    assert not answer.accepted
    assert f'unknown field "{place}"' in answer.message


@pytest.mark.parametrize(("place", "value"), FORGIVEN)
def test_what_only_the_parser_forgives(resources: Resources, place: str, value: object) -> None:
    answer = resources.try_to_create(with_spec({place: value}))
    assert not answer.accepted and f"spec.{place}" in answer.fields
