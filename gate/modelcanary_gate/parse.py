"""Reads the resource as a user writes it into the typed `Spec`, once, at the edge.

Called by the operator, the ledger and the cli with what YAML or JSON gave. Every problem is a SpecError that
names the path of the field, what is wrong with its value and what would be right; nothing else is raised.
Defaults are those of `spec`; null and absent are the same.
"""

from modelcanary_gate import parse_analysis, parse_cluster, parse_model
from modelcanary_gate.errors import SpecError
from modelcanary_gate.fields import Fields, flag, mapping, one_of
from modelcanary_gate.protocol import ModelReading
from modelcanary_gate.spec import LabelMode, Model, Spec, Task

API_VERSION = "modelcanary.io/v1alpha1"
KIND = "ModelCanary"
_SPEC = (
    *("targetRef", "service", "model", "autoscalerRef", "adoption", "candidate", "mirror", "labels"),
    *("analysis", "guards", "canary", "promotion", "alerts", "webhooks", "sidecar", "deletion", "suspend"),
    "dryRun",
)


def parse_resource(
    document: object, *, require_target: bool = True, require_classes: bool = True
) -> tuple[str, str, Spec]:
    """Namespace ("default" if it names none), name and specification of a whole document."""
    fields = Fields(document, "", ("apiVersion", "kind", "metadata", "spec", "status"))
    for name, expected in (("apiVersion", API_VERSION), ("kind", KIND)):
        fields.require(name, one_of((expected,)), f"write {name}: {expected}")
    written = fields.read("metadata", mapping, {})
    # The rest of the metadata is Kubernetes' own.
    ours = {key: value for key, value in written.items() if key in ("name", "namespace")}
    metadata = Fields(ours, "metadata", ("name", "namespace"))
    resource_name = metadata.require("name", parse_cluster.resource_name, "name the ModelCanary, such as fraud")
    namespace = metadata.read("namespace", parse_cluster.object_name, "default")
    specification = fields.require("spec", mapping, "write the specification")
    spec = parse_spec(specification, require_target=require_target, require_classes=require_classes)
    return namespace, resource_name, spec


def parse_spec(specification: object, *, require_target: bool = True, require_classes: bool = True) -> Spec:
    """The typed specification. Without a cluster there is no target; files of losses need no classes."""
    fields = Fields(specification, "spec", _SPEC)
    default = Spec(model=Model())
    model = parse_model.model(fields.section("model", parse_model.MODEL), require_classes=require_classes)
    spec = Spec(
        model=model,
        target=parse_cluster.target(fields, required=require_target),
        service=parse_cluster.service(fields, required=require_target),
        autoscaler=parse_cluster.autoscaler(fields),
        adoption=parse_cluster.adoption(fields.section("adoption", ("scaleTarget", "service"))),
        candidate=parse_cluster.candidate(fields.section("candidate", parse_cluster.CANDIDATE)),
        mirror=parse_model.mirror(fields.section("mirror", parse_model.MIRROR)),
        labels=parse_model.labels(fields.section("labels", parse_model.LABELS)),
        analysis=parse_analysis.analysis(fields.section("analysis", parse_analysis.ANALYSIS), model.classes),
        guards=fields.read("guards", parse_analysis.guards, default.guards),
        canary=parse_cluster.canary(fields.section("canary", ("steps", "stepDuration", "candidateGrace"))),
        promotion=parse_cluster.promotion(fields.section("promotion", ("mode", "observeFor"))),
        alerts=fields.read("alerts", parse_cluster.alerts, default.alerts),
        webhooks=fields.read("webhooks", parse_cluster.webhooks, default.webhooks),
        sidecar=parse_cluster.sidecar(fields.section("sidecar", ("workers", "resources"))),
        deletion=fields.read("deletion", one_of(("RestoreTarget", "KeepBaseline")), default.deletion),
        suspend=fields.read("suspend", flag, default.suspend),
        dry_run=fields.read("dryRun", flag, default.dry_run),
    )
    _check_language_model(spec)
    _check_scoring_copy_asks_for_more(spec)
    _check_guards_have_labels(spec)
    _check_agreement_has_plain_loss(spec)
    return spec


def to_reading(spec: Spec) -> ModelReading:
    """How a sidecar reads answers, as it travels in its instructions."""
    reads = spec.model
    return ModelReading(
        protocol=reads.protocol,
        classes=list(reads.classes),
        candidateClasses=list(reads.candidate_classes),
        output=reads.output,
        pointer=reads.pointer,
        values=reads.values,
        task=reads.task,
        paths=list(reads.paths),
        requestPatch=None if reads.request_patch is None else dict(reads.request_patch),
        lossPer=reads.loss_per,
        references=reads.generates and spec.labels.mode is LabelMode.FEEDBACK,
    )


def _check_scoring_copy_asks_for_more(spec: Spec) -> None:
    if spec.mirror.limits.scoringCopy and spec.model.request_patch is None:
        raise SpecError(
            "spec.mirror.scoringCopy",
            "asks the baseline the same again, which answers the same",
            "set model.requestPatch to what asks for probabilities, such as {outputs: [{name: predict_proba}]}",
        )


def _check_guards_have_labels(spec: Spec) -> None:
    generates = spec.model.generates
    agreement, multilabel = spec.labels.mode is LabelMode.AGREEMENT, spec.model.task is Task.MULTILABEL
    for index, guard in enumerate(spec.guards):
        if guard.type in parse_analysis.NEEDS_CLASS and (generates or agreement or multilabel):
            setting = f"labels.mode: {spec.labels.mode}" if agreement else f"model.task: {spec.model.task}"
            setting = "model.protocol: openai" if generates else setting
            raise SpecError(
                f"spec.guards[{index}].type",
                f"{guard.type} needs the one class that was right, which {setting} does not give",
                "remove the guard",
            )


def _check_language_model(spec: Spec) -> None:
    if not spec.model.generates:
        return
    agreement = spec.labels.agreement
    for field, used, problem in (
        (
            "mirror.scoringCopy",
            spec.mirror.limits.scoringCopy,
            "is not needed with model.protocol: openai, where both models are asked to score",
        ),
        (
            "labels.agreement.promoteBelow",
            agreement is not None and agreement.promote_below is not None,
            "promotes by how alike two language models are, which says nothing of which one is better",
        ),
        (
            "canary.steps",
            bool(spec.canary.steps),
            "needs whole answers of both models before the user's, which model.protocol: openai streams",
        ),
        (
            "promotion.observeFor",
            spec.promotion.observe_for > 0 and agreement is not None,
            "has no reference with labels.mode: Agreement: the answers would be those of the model that is observed",
        ),
    ):
        if used:
            raise SpecError(f"spec.{field}", problem, "remove it")


def _check_agreement_has_plain_loss(spec: Spec) -> None:
    loss = spec.analysis.loss
    agreement = spec.labels.mode is LabelMode.AGREEMENT
    if not agreement and not spec.model.generates:
        return
    setting = "labels.mode: Agreement" if agreement else "model.protocol: openai"
    for name, used in (
        ("labelSmoothing", loss.label_smoothing != 0.0),
        ("classWeights", loss.class_weights is not None),
        ("focalGamma", loss.focal_gamma != 0.0),
    ):
        if used:
            raise SpecError(f"spec.analysis.loss.{name}", f"is not used by {setting}", "remove it")
