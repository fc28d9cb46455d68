"""The examples parse to what they say, and every error names its field, its value and the remedy."""

import copy
import math
from collections.abc import Mapping
from datetime import date
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from modelcanary_gate.errors import SpecError
from modelcanary_gate.parse import parse_resource, parse_spec, to_reading
from modelcanary_gate.protocol import LabelSource, MirrorLimits, ModelReading
from modelcanary_gate.spec import (
    Adoption,
    AgreementLimits,
    Analysis,
    Canary,
    Candidate,
    Guard,
    GuardType,
    LabelMode,
    Labels,
    Limit,
    LimitKind,
    Loss,
    Margin,
    Mirror,
    Model,
    Notification,
    PerVerdict,
    Promotion,
    ProtocolName,
    Restarts,
    Sender,
    ServiceRef,
    Spec,
    TargetRef,
    Task,
    Values,
)
from modelcanary_gate.vocabulary import SourceKind

EXAMPLES = Path(__file__).parents[2] / "examples"
TARGET = TargetRef("apps/v1", "Deployment", "fraud")
SERVICE = ServiceRef("fraud", "http")
REMOVE = object()


def example(name: str) -> dict[str, Any]:
    document: dict[str, Any] = yaml.safe_load((EXAMPLES / name).read_text())
    return document


def least(**sections: object) -> dict[str, Any]:
    return {"model": {"classes": ["legit", "fraud"]}, **sections}


def changed(document: Mapping[str, Any], path: str, value: object) -> dict[str, Any]:
    """A copy with the value at a dotted path (a number is an index of a list) set, or removed."""
    result = copy.deepcopy(dict(document))
    *parents, last = path.split(".")
    place: Any = result
    for name in parents:
        place = place[int(name)] if isinstance(place, list) else place.setdefault(name, {})
    if value is REMOVE:
        del place[last]
    elif isinstance(place, list):
        place[int(last)] = value
    else:
        place[last] = value
    return result


def test_the_least_that_works_has_every_default() -> None:
    text = (EXAMPLES / "minimal.yaml").read_text()
    assert len(text.splitlines()) <= 12
    expected = Spec(model=Model(classes=("legit", "fraud")), target=TARGET, service=SERVICE)
    assert parse_resource(yaml.safe_load(text)) == ("default", "fraud", expected)


def test_the_whole_example() -> None:
    namespace, name, spec = parse_resource(example("canary.yaml"))
    assert (namespace, name) == ("default", "fraud")
    assert spec == Spec(
        model=Model(
            protocol=ProtocolName.AUTO,
            classes=("legit", "fraud"),
            values=Values.PROBABILITIES,
            task=Task.MULTICLASS,
            paths=("/v2/models/fraud/infer",),
        ),
        target=TARGET,
        service=SERVICE,
        adoption=Adoption(scale_target=True, service="Managed"),
        candidate=Candidate(replicas=None, ready_deadline=600.0),
        mirror=Mirror(share=1.0, limits=MirrorLimits(2.0, 64, 1 << 20, 200.0, False, False)),
        labels=Labels(
            mode=LabelMode.FEEDBACK,
            id_header="X-Request-Id",
            max_delay=86400.0,
            maturity=None,
            min_coverage=0.8,
        ),
        analysis=Analysis(
            interval=30.0,
            loss=Loss(clip_epsilon=1e-4, label_smoothing=0.0),
            margin=Margin(relative=0.02),
            rollback_margin=Margin(),
            error_rates=PerVerdict(0.001, 0.005),
            min_samples=PerVerdict(300, 1000),
            min_duration=900.0,
            max_duration=259200.0,
            restarts=Restarts.ENABLED,
        ),
        guards=(
            Guard("errors", GuardType.ERROR_RATE, max=Limit(LimitKind.OVER_BASELINE, 0.005)),
            Guard("p99", GuardType.LATENCY, quantile=0.99, max=Limit(LimitKind.TIMES_BASELINE, 1.2)),
            Guard("invalid", GuardType.NON_FINITE, max=Limit(LimitKind.ABSOLUTE, 0.0)),
            Guard(
                "overconfident",
                GuardType.CONFIDENT_ERRORS,
                threshold=0.9,
                max=Limit(LimitKind.OVER_BASELINE, 0.01),
            ),
            Guard("calibration", GuardType.CALIBRATION_ERROR, max=Limit(LimitKind.OVER_BASELINE, 0.02)),
            Guard("classes", GuardType.PER_CLASS, margin=Margin(relative=0.10)),
            Guard(
                "conversions",
                GuardType.PROMETHEUS,
                endpoint="main",
                query='sum(rate(checkout_total{model="$role"}[5m]))',
                min=Limit(LimitKind.TIMES_BASELINE, 0.95),
            ),
        ),
        canary=Canary(steps=(0.01, 0.05, 0.25, 0.5), step_duration=600.0, candidate_grace=0.05),
        promotion=Promotion("Automatic", 0.0),
        alerts=(Notification("oncall", ("RolledBack", "Held")),),
        webhooks=(Notification("retrain", ("RolledBack",)), Notification("gate", ("ConfirmPromotion",))),
        sidecar={
            "workers": 1,
            "resources": {"requests": {"cpu": "100m", "memory": "64Mi"}, "limits": {"memory": "128Mi"}},
        },
        deletion="RestoreTarget",
    )


def test_the_example_differs_from_the_defaults_only_where_it_says() -> None:
    spec = parse_resource(example("canary.yaml"))[2]
    least_spec = parse_resource(example("minimal.yaml"))[2]
    different = {name for name in Spec.__slots__ if getattr(spec, name) != getattr(least_spec, name)}
    assert different == {"model", "guards", "canary", "alerts", "webhooks", "sidecar"}


def test_what_the_example_leaves_out() -> None:
    spec = parse_spec(
        {
            "model": {
                "protocol": "custom",
                "pointer": "jmespath:a.b",
                "classes": ["a", 7],
                "candidateClasses": ["7", "a"],
                "output": "predict_proba",
                "values": "logits",
                "task": "binary",
                "requestPatch": {"outputs": [{"name": "predict_proba"}]},
            },
            "autoscalerRef": {"name": "fraud-hpa"},
            "service": {"name": "fraud", "port": 8080},
            "candidate": {"replicas": 3, "labels": {"team": "risk"}, "isolate": True},
            "mirror": {"percent": 25, "scoringCopy": True, "forwardCredentials": True},
            "labels": {
                "mode": "Agreement",
                "agreement": {"rollbackAbove": "0.5", "promoteBelow": "0.02"},
                "senders": [
                    {"name": "billing", "tokenSHA256": "AB" * 32},
                    {"name": "desk", "certificateSAN": "spiffe://shop/desk"},
                ],
                "sources": [
                    {"kafka": {"endpoint": "main", "topic": "outcomes", "deadLetterTopic": "outcomes.dead"}},
                    {"files": {"endpoint": "lake", "path": "labels/"}},
                ],
                "selective": True,
                "maturity": "3h",
            },
            "analysis": {"margin": "2% + 0.01", "onTimeout": "Rollback", "restarts": "Disabled"},
            "guards": [],
            "promotion": {"mode": "Manual", "observeFor": "1h"},
            "suspend": True,
            "dryRun": True,
            "deletion": "KeepBaseline",
        },
        require_target=False,
    )
    assert spec.model.candidate_classes == ("7", "a")
    assert (spec.target, spec.service, spec.autoscaler) == (None, ServiceRef("fraud", "8080"), "fraud-hpa")
    assert spec.candidate == Candidate(replicas=3, labels={"team": "risk"}, isolate=True)
    assert (spec.mirror.share, spec.mirror.limits.scoringCopy, spec.mirror.limits.forwardCredentials) == (
        0.25,
        True,
        True,
    )
    assert spec.labels.agreement == AgreementLimits(0.5, 0.02)
    assert spec.labels.senders == (Sender("billing", "ab" * 32), Sender("desk", certificate_san="spiffe://shop/desk"))
    assert spec.labels.sources == (
        LabelSource(SourceKind.KAFKA, "main", "outcomes", "outcomes.dead"),
        LabelSource(SourceKind.FILES, "lake", "labels/"),
    )
    assert (spec.labels.selective, spec.labels.maturity) == (True, 10800.0)
    assert spec.analysis.margin == Margin(0.02, 0.01)
    assert (spec.analysis.on_timeout, spec.analysis.restarts) == ("Rollback", Restarts.DISABLED)
    assert (spec.guards, spec.suspend, spec.dry_run, spec.deletion) == ((), True, True, "KeepBaseline")
    assert spec.promotion == Promotion("Manual", 3600.0)
    assert to_reading(spec) == ModelReading(
        protocol="custom",
        classes=["a", "7"],
        candidateClasses=["7", "a"],
        output="predict_proba",
        pointer="jmespath:a.b",
        values="logits",
        task="binary",
        paths=[],
        requestPatch={"outputs": [{"name": "predict_proba"}]},
    )


def test_a_class_may_be_a_long_number() -> None:
    document = {"model": {"classes": [10**70, -1]}}
    assert parse_spec(document, require_target=False).model.classes == ("1" + "0" * 70, "-1")


@pytest.mark.parametrize("weights", [{"fraud": "20", "legit": 1}, [1, 20.0]])
def test_class_weights_come_in_the_order_of_the_classes(weights: object) -> None:
    spec = parse_spec(least(analysis={"loss": {"classWeights": weights}}), require_target=False)
    assert spec.analysis.loss.class_weights == (1.0, 20.0)


def test_null_is_absent() -> None:
    document = least(labels=None, analysis={"margin": None}, guards=None, canary={"steps": None})
    assert parse_spec(document, require_target=False) == parse_spec(least(), require_target=False)


def test_no_field_or_word_of_ours_is_one_that_yaml_reads_as_a_boolean() -> None:
    document = yaml.safe_load(
        "{model: {classes: ['yes', 'no']}, analysis: {restarts: Disabled},"
        " alerts: [{endpoint: oncall, events: [Held]}], webhooks: [{endpoint: x, events: [Held]}]}"
    )
    spec = parse_spec(document, require_target=False)
    assert spec.analysis.restarts is Restarts.DISABLED
    assert spec.alerts == (Notification("oncall", ("Held",)),)
    assert spec.webhooks == (Notification("x", ("Held",)),)


def test_files_of_losses_need_no_classes() -> None:
    assert parse_spec({}, require_target=False, require_classes=False) == Spec(model=Model())
    resource = changed(example("minimal.yaml"), "spec.model.classes", REMOVE)
    assert parse_resource(resource, require_classes=False)[2].model.classes == ()


def test_metadata_of_kubernetes_is_let_pass() -> None:
    resource = changed(example("minimal.yaml"), "metadata.uid", "x")
    resource = changed(resource, "metadata.namespace", "payments")
    resource = changed(resource, "metadata.creationTimestamp", date(2026, 1, 1))  # as YAML reads it
    resource["status"] = {"phase": "Shadowing"}
    assert parse_resource(resource)[:2] == ("payments", "fraud")


RESOURCE_ERRORS = [
    ("apiVersion", "v1", "apiVersion", '"v1" is not a value', "modelcanary.io/v1alpha1"),
    ("apiVersion", REMOVE, "apiVersion", "is missing", "write apiVersion: modelcanary.io/v1alpha1"),
    ("kind", "Deployment", "kind", '"Deployment" is not a value', "write one of ModelCanary"),
    ("metadata", REMOVE, "metadata.name", "is missing", "name the ModelCanary"),
    ("metadata.name", "Fraud!", "metadata.name", '"Fraud!" is no name', "use a-z, 0-9"),
    ("metadata.name", "a" * 53, "metadata.name", "has 53 characters", "at most 52"),
    ("metadata.name", 7, "metadata.name", "7 is not text", "put it in quotes"),
    ("spec", REMOVE, "spec", "is missing", "write the specification"),
    ("spec", 3, "spec", "3 is not a mapping", "write a mapping"),
    ("specs", {}, "specs", "unknown field", 'did you mean "spec"?'),
    ("spec.targetRef", REMOVE, "spec.targetRef", "is missing", "name the Deployment"),
    ("spec.targetRef.kind", "StatefulSet", "spec.targetRef.kind", '"StatefulSet"', "write one of Deployment"),
    ("spec.targetRef.name", REMOVE, "spec.targetRef.name", "is missing", "name the Deployment"),
    ("spec.targetRef.namespace", "x", "spec.targetRef.namespace", "unknown field", "known here: apiVersion, kind"),
    ("spec.service", REMOVE, "spec.service", "is missing", "name what clients call"),
    ("spec.service.port", REMOVE, "spec.service.port", "is missing", "name the Service's port"),
    ("spec.service.port", 0, "spec.service.port", "0 is out of range", "at most 65535"),
    ("spec.service.port", "70000", "spec.service.port", '"70000" is out of range', "at most 65535"),
    ("spec.modle", {}, "spec.modle", "unknown field", 'did you mean "model"?'),
    ("spec.dryrun", True, "spec.dryrun", "unknown field", 'did you mean "dryRun"?'),
    ("spec.autoscalerRef", "hpa", "spec.autoscalerRef", '"hpa" is not a mapping', "write fields: name"),
    ("spec.autoscalerRef", {}, "spec.autoscalerRef.name", "is missing", "name the autoscaler"),
    ("spec.adoption.service", "None", "spec.adoption.service", '"None"', "write one of Managed, Untouched"),
    ("spec.candidate.replicas", 0, "spec.candidate.replicas", "0 is out of range", "at least 1"),
    ("spec.candidate.replicas", "many", "spec.candidate.replicas", '"many" is not a number', "whole number"),
    ("spec.candidate.readyDeadline", "0s", "spec.candidate.readyDeadline", "not above 0", "a time above 0"),
    ("spec.service.port", "a" * 16, "spec.service.port", "is no name of a port", "at most 15"),
    ("spec.service.port", "80-", "spec.service.port", '"80-" is no name of a port', "such as http"),
    ("spec.candidate.labels", {"a": "b c"}, "spec.candidate.labels.a", "is no label of Kubernetes", "team: risk"),
    ("spec.candidate.labels", {"a\n": "b"}, "spec.candidate.labels.a\\n", "is no label of Kubernetes", "team: risk"),
    (
        *("spec.sidecar.resources", {"limits": {"memory": "much"}}, "spec.sidecar.resources.limits.memory"),
        *('"much" is no quantity of Kubernetes', "64Mi"),
    ),
    ("spec.sidecar.resources", {"limits": {"cpu": 10**5000}}, "spec.sidecar.resources.limits.cpu", "huge", "whole"),
    ("spec.candidate.labels", {"a": 1}, "spec.candidate.labels.a", "1 is not text", "put it in quotes"),
    ("spec.canary.steps", [5, 5], "spec.canary.steps[1]", "5 is not above 5", "above the one before it"),
    ("spec.canary.steps", [0], "spec.canary.steps[0]", "0 is not above 0", "above 0"),
    ("spec.canary.steps", [150], "spec.canary.steps[0]", "150 is out of range", "from 0 to 100"),
    ("spec.canary.steps", 5, "spec.canary.steps", "5 is not a list", "[1, 5, 25]"),
    ("spec.promotion.mode", "manual", "spec.promotion.mode", '"manual"', 'did you mean "Manual"?'),
    ("spec.alerts", [{"endpoint": "a"}], "spec.alerts[0].events", "is missing", "list events such as"),
    ("spec.alerts", [{"endpoint": "a", "events": []}], "spec.alerts[0].events", "is empty", "list events such as"),
    (
        "spec.alerts",
        [{"endpoint": "a", "events": ["x y"]}],
        "spec.alerts[0].events[0]",
        '"x y" is not a value',
        "RolledBack",
    ),
    (
        *("spec.webhooks", [{"endpoint": "http://evil/", "events": ["Held"]}], "spec.webhooks[0].endpoint"),
        *('"http://evil/" is a URL', "the cluster's admin lists"),
    ),
    ("spec.sidecar.workers", 0, "spec.sidecar.workers", "0 is out of range", "at least 1"),
    (
        *("spec.sidecar.resources", {"request": {}}, "spec.sidecar.resources.request"),
        *("unknown field", 'did you mean "requests"?'),
    ),
    ("spec.deletion", "Drop", "spec.deletion", '"Drop"', "write one of RestoreTarget, KeepBaseline"),
    ("spec.suspend", "true", "spec.suspend", '"true" is neither true nor false', "write true or false"),
]


@pytest.mark.parametrize(("path", "value", "field", "problem", "remedy"), RESOURCE_ERRORS)
def test_errors_of_the_resource(path: str, value: object, field: str, problem: str, remedy: str) -> None:
    with pytest.raises(SpecError) as caught:
        parse_resource(changed(example("minimal.yaml"), path, value))
    assert caught.value.field == field
    assert problem in caught.value.problem
    assert remedy in caught.value.remedy
    assert str(caught.value) == f"{field}: {caught.value.problem}; {caught.value.remedy}"
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("path", "most", "item"),
    [
        ("model.classes", 1000, "c{}"),
        ("model.paths", 64, "/{}"),
        ("labels.senders", 64, {"name": "n{}", "tokenSHA256": "0" * 64}),
        ("labels.sources", 16, {"files": {"endpoint": "e{}", "path": "p"}}),
        ("guards", 32, {"name": "g{}", "type": "nonFinite", "max": "0"}),
        ("alerts", 16, {"endpoint": "e{}", "events": ["Held"]}),
        ("canary.steps", 20, "{}.5"),
    ],
)
def test_lists_have_a_most(path: str, most: int, item: object) -> None:
    def filled(count: int) -> dict[str, Any]:
        def numbered(index: int) -> object:
            if isinstance(item, str):
                return item.format(index)
            assert isinstance(item, dict)
            return {key: value.format(index) if isinstance(value, str) else value for key, value in item.items()}

        return changed(least(), path, [numbered(index) for index in range(count)])

    assert isinstance(parse_spec(filled(most), require_target=False), Spec)
    with pytest.raises(SpecError) as caught:
        parse_spec(filled(most + 1), require_target=False)
    assert str(caught.value) == f"spec.{path}: has {most + 1} items; list at most {most}"


@pytest.mark.parametrize(
    ("path", "most"),
    [("model.output", 253), ("model.paths", 1024), ("labels.idHeader", 253), ("guards", 4096)],
)
def test_text_has_a_most(path: str, most: int) -> None:
    def filled(length: int) -> dict[str, Any]:
        word = "a" * length
        value: object = word
        if path == "model.paths":
            value = ["/" + word[1:]]
        if path == "guards":
            value = [{"name": "x", "type": "prometheus", "endpoint": "e", "query": word, "max": 1}]
        return changed(least(), path, value)

    assert isinstance(parse_spec(filled(most), require_target=False), Spec)
    with pytest.raises(SpecError, match=f"has {most + 1} characters; write at most {most}"):
        parse_spec(filled(most + 1), require_target=False)


AGREEMENT = {"mode": "Agreement", "agreement": {"rollbackAbove": "0.5"}}
SHA = "0" * 64
SPEC_ERRORS = [
    # model
    ({"model": REMOVE}, "model.classes", "is missing", "list the names in the order"),
    ({"model.classes": "legit"}, "model.classes", '"legit" is not a list', "[legit, fraud]"),
    ({"model.classes": []}, "model.classes", "has 0 names", "list the names"),
    ({"model.classes": [], "model.task": "multilabel"}, "model.classes", "is empty", "list the names"),
    ({"model.classes": ["legit"]}, "model.classes", "has 1 names where there is a choice", "list the names"),
    ({"model.classes": ["a", "a"]}, "model.classes", 'the class "a" is there twice', "name each once"),
    ({"model.classes": ["a", False]}, "model.classes[1]", "false is not a name", "YAML reads bare yes, no"),
    ({"model.classes": ["a", 1.5]}, "model.classes[1]", "1.5 is not text", "put it in quotes"),
    ({"model.classes": ["a", 10**5000]}, "model.classes[1]", "a huge int is not a name", "put it in quotes"),
    ({"model.classes": ["a", None]}, "model.classes[1]", "null is not text", "put it in quotes"),
    ({"model.classes": ["a", " "]}, "model.classes[1]", "is empty", "write a name"),
    (
        *({"model.classes": ["a", "b", "c"], "model.task": "binary"}, "model.classes"),
        *("has 3 names, and task: binary has two", "list the names"),
    ),
    (
        *({"model.candidateClasses": ["fraud"]}, "model.candidateClasses"),
        *('lacks "legit"', "list the same classes"),
    ),
    (
        *({"model.candidateClasses": ["fraud", "legit", "x"]}, "model.candidateClasses"),
        *('has "x", which classes has not', "list the same classes"),
    ),
    (
        *({"model.candidateClasses": ["fraud", "fraud"]}, "model.candidateClasses"),
        *('"fraud" is there twice', "name each once"),
    ),
    ({"model.protocol": "kserve"}, "model.protocol", '"kserve"', 'did you mean "kserve-v1"?'),
    ({"model.task": "regression"}, "model.task", '"regression"', "write one of binary, multiclass, multilabel"),
    ({"model.values": "probs"}, "model.values", '"probs"', "write one of probabilities, logits"),
    (
        *({"model.values": "binaryScore", "model.classes": ["a", "b", "c"]}, "model.values"),
        *("not for 3 with task: multiclass", "write values: probabilities"),
    ),
    (
        *({"model.values": "binaryScore", "model.task": "multilabel"}, "model.values"),
        *("not for 2 with task: multilabel", "write values: probabilities"),
    ),
    ({"model.protocol": "custom"}, "model.pointer", "protocol: custom needs it", "JSON Pointer such as"),
    ({"model.pointer": "/p"}, "model.pointer", "is not used by protocol: auto", "set protocol: custom"),
    (
        *({"model.protocol": "custom", "model.pointer": "p"}, "model.pointer"),
        *('"p" is no JSON Pointer', 'start it with "/"'),
    ),
    (
        *({"model.protocol": "custom", "model.pointer": "jmespath:"}, "model.pointer"),
        *("has no expression", 'write one after "jmespath:"'),
    ),
    ({"mirror.scoringCopy": True}, "mirror.scoringCopy", "the same again", "set model.requestPatch"),
    ({"model.paths": ["v1"]}, "model.paths[0]", '"v1" is no path', 'start it with "/"'),
    ({"model.paths": "/v1"}, "model.paths", '"/v1" is not a list', "list paths such as"),
    ({"model.paths": ["/a", "/a"]}, "model.paths", '"/a" is there twice', "name each once"),
    ({"model.requestPatch": []}, "model.requestPatch", "[] is not a mapping", "write a mapping"),
    ({"model.requestPatch": {1: 2}}, "model.requestPatch", "the name 1 is not text", "put it in quotes"),
    (
        *({"model.requestPatch": {"a": [{"b": {True: 1}}]}}, "model.requestPatch"),
        *("the name true is not text", "put it in quotes"),
    ),
    (
        *({"model.requestPatch": {"a": [date(2026, 1, 1)]}}, "model.requestPatch"),
        *("cannot be sent as JSON", "put it in quotes"),
    ),
    ({"model.requestPatch": yaml.safe_load("a: &a [*a]")}, "model.requestPatch", "more than 10000", "write less"),
    ({"model.requestPatch": {"a": math.nan}}, "model.requestPatch", "nan cannot be sent as JSON", "quotes"),
    ({"model.clases": []}, "model.clases", "unknown field", 'did you mean "classes"?'),
    ({"model": "fraud"}, "model", '"fraud" is not a mapping', "write fields: protocol, classes"),
    # mirror
    ({"mirror.percent": "101"}, "mirror.percent", '"101" is out of range', "from 0 to 100"),
    ({"mirror.percent": -1}, "mirror.percent", "-1 is out of range", "from 0 to 100"),
    ({"mirror.percent": "all"}, "mirror.percent", '"all" is not a percentage', "from 0 to 100"),
    ({"mirror.maxPairsPerSecond": 0}, "mirror.maxPairsPerSecond", "0 is not above 0", "percent: 0 mirrors nothing"),
    ({"mirror.timeout": 2}, "mirror.timeout", "2 has no unit", 'seconds end in "s"'),
    ({"mirror.timeout": "0s"}, "mirror.timeout", '"0s" is not above 0', 'write a time such as "2s"'),
    ({"mirror.maxInFlight": 1.5}, "mirror.maxInFlight", "1.5 is not a whole number", "at least 1"),
    ({"mirror.maxBodyBytes": "1MB"}, "mirror.maxBodyBytes", '"1MB" is not a size', '"1Mi"'),
    ({"mirror.forwardCredentials": 1}, "mirror.forwardCredentials", "1 is neither", "write true or false"),
    # labels
    ({"labels.mode": "feedback"}, "labels.mode", '"feedback"', 'did you mean "Feedback"?'),
    ({"labels.idHeader": "X Id"}, "labels.idHeader", '"X Id" is no name of an HTTP header', "X-Request-Id"),
    ({"labels.minCoverage": 0}, "labels.minCoverage", "0 is out of range", "above 0 and at most 1"),
    ({"labels.minCoverage": "120%"}, "labels.minCoverage", '"120%" is out of range', "at most 1"),
    ({"labels.maxDelay": "0s"}, "labels.maxDelay", "not above 0", 'write a time such as "24h"'),
    ({"labels.maturity": "soon"}, "labels.maturity", '"soon" is not a duration', '"30s"'),
    ({"labels.maturity": "25h"}, "labels.maturity", "longer than maxDelay", "shorten maturity"),
    ({"labels.mode": "Agreement"}, "labels.agreement.rollbackAbove", "is missing", "has no default for it"),
    ({"labels.agreement": {"rollbackAbove": 1}}, "labels.agreement", "mode: Feedback", "set mode: Agreement"),
    (
        *({"labels": {"mode": "Agreement", "agreement": {"rollbackAbove": "0.1", "promoteBelow": "0.1"}}},),
        *("labels.agreement.promoteBelow", "0.1 is not below rollbackAbove", "leave a gap"),
    ),
    (
        *({"labels": {"mode": "Agreement", "agreement": {"rollbackAbove": 0}}},),
        *("labels.agreement.rollbackAbove", "0 is not above 0", "write nats"),
    ),
    ({"labels.senders": [{"name": "x"}]}, "labels.senders[0].tokenSHA256", "is missing", "never the token"),
    (
        *({"labels.senders": [{"name": "x", "tokenSHA256": "hunter2"}]}, "labels.senders[0].tokenSHA256"),
        *("is not a SHA-256", "never the token"),
    ),
    (
        *({"labels.senders": [{"name": "x", "certificateSAN": "*.shop"}]}, "labels.senders[0].certificateSAN"),
        *('"*.shop" is no name of a certificate', "spiffe://"),
    ),
    (
        *({"labels.senders": [{"name": "x", "certificateSAN": "a", "tokenSHA256": SHA}]},),
        *("labels.senders[0].certificateSAN", "is given beside tokenSHA256", "list two senders"),
    ),
    (
        *({"labels.senders": [{"name": "x", "tokenSHA256": SHA}] * 2}, "labels.senders"),
        *('the sender "x" is there twice', "name each once"),
    ),
    ({"labels.sources": [{}]}, "labels.sources[0]", "is not one source", "either kafka or files"),
    (
        *({"labels.sources": [{"kafka": {"endpoint": "m"}}]}, "labels.sources[0].kafka.topic"),
        *("is missing", "write the topic that holds the labels"),
    ),
    (
        *({"labels.sources": [{"kafka": {"endpoint": "m", "topic": "a b"}}]}, "labels.sources[0].kafka.topic"),
        *('"a b" is no name of a topic', "use letters, digits"),
    ),
    (
        {"labels.sources": [{"kafka": {"endpoint": "m", "topic": "a", "deadLetterTopic": "a"}}]},
        *("labels.sources[0].kafka.deadLetterTopic", "is the topic that is read", "name another"),
    ),
    (
        *({"labels.sources": [{"files": {"endpoint": "m", "path": "a/../../b"}}]}, "labels.sources[0].files.path"),
        *("leaves the endpoint's folder", "write a path below it"),
    ),
    # analysis
    ({"analysis.margin": "2x"}, "analysis.margin", '"2x" is not a margin', 'write "2%"'),
    ({"analysis.margin": 2}, "analysis.margin", "2 is 2 nats", 'write "2%"'),
    ({"analysis.rollbackMargin": "-1%"}, "analysis.rollbackMargin", '"-1%" is negative', 'write "2%"'),
    ({"analysis.margn": "2%"}, "analysis.margn", "unknown field", 'did you mean "margin"?'),
    ({"analysis.interval": "0s"}, "analysis.interval", '"0s" is out of range', "at least 1"),
    ({"analysis.loss.clipEpsilon": "0.2"}, "analysis.loss.clipEpsilon", '"0.2" is out of range', "at most 0.1"),
    ({"analysis.loss.clipEpsilon": 0}, "analysis.loss.clipEpsilon", "0 is out of range", "at least 1e-12"),
    ({"analysis.loss.labelSmoothing": 1}, "analysis.loss.labelSmoothing", "1 is out of range", "below 1"),
    ({"analysis.loss.focalGamma": -1}, "analysis.loss.focalGamma", "-1 is out of range", "at least 0"),
    ({"analysis.loss.classWeights": [1]}, "analysis.loss.classWeights", "has 1 weights for 2 classes", "per class"),
    (
        *({"analysis.loss.classWeights": {"legit": 1}}, "analysis.loss.classWeights"),
        *('lacks the class "fraud"', "one positive weight per class"),
    ),
    (
        *({"analysis.loss.classWeights": {"fruad": 1}}, "analysis.loss.classWeights"),
        *('names "fruad", which spec.model.classes has not', "one positive weight per class"),
    ),
    (
        *({"analysis.loss.classWeights": {"legit": 1, "fraud": 0}}, "analysis.loss.classWeights.fraud"),
        *("0 is not above 0", "one positive weight per class"),
    ),
    ({"analysis.errorRates.rollback": "0.5"}, "analysis.errorRates.rollback", "out of range", "below 0.5"),
    ({"analysis.errorRates.promote": 0}, "analysis.errorRates.promote", "0 is out of range", "above 0"),
    ({"analysis.minSamples.promote": 0}, "analysis.minSamples.promote", "0 is out of range", "at least 1"),
    ({"analysis.minSamples": 300}, "analysis.minSamples", "300 is not a mapping", "write fields: rollback, promote"),
    ({"analysis.hysteresis.rollbackAfter": 0}, "analysis.hysteresis.rollbackAfter", "0 is out", "at least 1"),
    ({"analysis.hysteresis.cooldown": 6}, "analysis.hysteresis.cooldown", "6 has no unit", '"30s"'),
    (
        *({"analysis.minDuration": "73h"}, "analysis.minDuration"),
        *("is longer than maxDuration", "lengthen maxDuration or shorten minDuration"),
    ),
    ({"analysis.maxDuration": "5m"}, "analysis.maxDuration", "minDuration, 900 s, is longer", "lengthen"),
    ({"analysis.onTimeout": "Promote"}, "analysis.onTimeout", '"Promote"', "write one of Hold, Rollback"),
    ({"analysis.restarts": True}, "analysis.restarts", "true is not a value", "write one of Enabled, Disabled"),
    # guards
    ({"guards": {}}, "guards", "{} is not a list", "list guards such as"),
    ({"guards": [{"name": "x"}]}, "guards[0].type", "is missing", "write one of errorRate, latency"),
    ({"guards": [{"type": "nonFinite", "max": 0}]}, "guards[0].name", "is missing", "name the guard"),
    ({"guards": [{"name": "x", "type": "latencies"}]}, "guards[0].type", '"latencies"', 'mean "latency"?'),
    ({"guards": [{"name": "x", "type": "latency"}]}, "guards[0].max", "type: latency needs it", "write a limit"),
    (
        *({"guards": [{"name": "x", "type": "latency", "max": "+5%"}]}, "guards[0].max"),
        *('"+5%" is not a limit', '"+20ms"'),
    ),
    (
        *({"guards": [{"name": "x", "type": "errorRate", "max": "1%", "quantile": "0.9"}]},),
        *("guards[0].quantile", "is not used by a guard of type errorRate", "remove it; it reads max"),
    ),
    (
        *({"guards": [{"name": "x", "type": "latency", "max": "x2", "quantile": 1}]}, "guards[0].quantile"),
        *("1 is out of range", "above 0 and below 1"),
    ),
    (
        *({"guards": [{"name": "x", "type": "nonFinite", "max": 0}] * 3}, "guards[1].name"),
        *('"x" is there twice', "name each guard once"),
    ),
    (
        *({"guards": [{"name": "x", "type": "prometheus", "query": "up", "max": 1}]}, "guards[0].endpoint"),
        *("is missing, and type: prometheus needs it", "the cluster's admin lists"),
    ),
    (
        *({"guards": [{"name": "x", "type": "prometheus", "query": "up", "endpoint": "m"}]}, "guards[0].max"),
        *("is missing, and so is min", "write one of them"),
    ),
    (
        *({"guards": [{"name": "x", "type": "nonFinite", "max": 0}, {"nmae": 1}]}, "guards[1].nmae"),
        *("unknown field", 'did you mean "name"?'),
    ),
    ({"guards": [3]}, "guards[0]", "3 is not a mapping", "write fields: name, type"),
    # between sections
    (
        *({"labels": AGREEMENT, "guards": [{"name": "x", "type": "perClass"}]}, "guards[0].type"),
        *("which labels.mode: Agreement does not give", "remove the guard"),
    ),
    (
        *({"model.task": "multilabel", "guards": [{"name": "x", "type": "calibrationError", "max": "1%"}]},),
        *("guards[0].type", "which model.task: multilabel does not give", "remove the guard"),
    ),
    (
        *({"labels": AGREEMENT, "analysis.loss.classWeights": [1, 2]}, "analysis.loss.classWeights"),
        *("is not used by labels.mode: Agreement", "remove it"),
    ),
]


@pytest.mark.parametrize(("changes", "field", "problem", "remedy"), SPEC_ERRORS)
def test_errors_of_the_specification(changes: dict[str, object], field: str, problem: str, remedy: str) -> None:
    document = least()
    for path, value in changes.items():
        document = changed(document, path, value)
    with pytest.raises(SpecError) as caught:
        parse_spec(document, require_target=False)
    assert caught.value.field == f"spec.{field}"
    assert problem in caught.value.problem
    assert remedy in caught.value.remedy
    assert "hunter2" not in str(caught.value)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


def _places(value: object, path: tuple[object, ...] = ()) -> list[tuple[object, ...]]:
    items: list[tuple[object, object]] = []
    if isinstance(value, dict):
        items = list(value.items())
    elif isinstance(value, list):
        items = list(enumerate(value))
    return [path, *(place for key, item in items for place in _places(item, (*path, key)))]


@given(json_values)
def test_whatever_it_is_only_a_spec_error_is_raised(document: object) -> None:
    for read in (parse_resource, parse_spec):
        with pytest.raises(SpecError):
            read(document)


WHOLE = example("canary.yaml")
NUMBERS_AND_TEXT = st.sampled_from(
    [
        *("", "0", "5%", "x1.2", "+1%", "1h", "1e999", "-1", "auto", "On", "jmespath:", b"bytes"),
        *(-1, 0, 1, 2, 0.5, 10**400, 10**5000, float("nan"), float("inf"), True, None),
        *([], {}, [[]], {"a": 1}, {True: 1}, {None: {}}),
    ]
)


@settings(max_examples=600, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.tuples(st.sampled_from(_places(WHOLE["spec"])), json_values | NUMBERS_AND_TEXT), max_size=3))
def test_whatever_a_field_holds_only_a_spec_error_is_raised(
    changes: list[tuple[tuple[object, ...], object]],
) -> None:
    document: Any = copy.deepcopy(WHOLE["spec"])
    for place, value in changes:
        if not place:
            continue
        parent = document
        try:
            for key in place[:-1]:
                parent = parent[key]
            parent[place[-1]] = value
        except (KeyError, IndexError, TypeError):  # an earlier change took the place away
            continue
    try:
        assert isinstance(parse_spec(document), Spec)
    except SpecError as error:
        assert error.field.startswith("spec")
        assert "\n" not in str(error)
        assert len(str(error)) < 1000
