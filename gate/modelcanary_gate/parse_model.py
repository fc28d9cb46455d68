"""Reads `spec.model`, `spec.mirror` and `spec.labels`: how answers are read, copied and judged.

Called by `parse.parse_spec` only.
"""

import re
from collections.abc import Mapping

from modelcanary_gate.errors import SpecError
from modelcanary_gate.fields import (
    Fields,
    between,
    choice,
    flag,
    json_mapping,
    list_of,
    positive,
    text,
    unique,
)
from modelcanary_gate.protocol import LabelSource, MirrorLimits
from modelcanary_gate.quantities import decimal, duration, percent, share, show, size, whole
from modelcanary_gate.spec import (
    AgreementLimits,
    LabelMode,
    Labels,
    LossPer,
    Mirror,
    Model,
    ProtocolName,
    Sender,
    Task,
    Values,
)
from modelcanary_gate.vocabulary import SourceKind

MODEL = (
    *("protocol", "classes", "candidateClasses", "output", "pointer", "values", "task", "paths"),
    *("requestPatch", "lossPer"),
)
MIRROR = (
    *("percent", "maxPairsPerSecond", "timeout", "maxInFlight", "maxBodyBytes", "forwardCredentials"),
    *("scoringCopy", "maxTokensPerSecond"),
)
LABELS = (
    *("mode", "idHeader", "senders", "sources", "agreement", "selective", "maxDelay", "maturity"),
    *("minCoverage", "maxConflictShare"),
)
#: As many as the resource's definition allows: candidateClasses are compared with classes there.
MOST_CLASSES = 1000
#: Of every count that is a field of its own: what 32 bits hold.
_MOST = (1 << 31) - 1
_HEADER = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_SHA256 = re.compile(r"[0-9a-fA-F]{64}")
_TOPIC = re.compile(r"[a-zA-Z0-9._-]+")
#: What says where labels are, and what else may be said.
_SOURCES: Mapping[SourceKind, tuple[str, tuple[str, ...]]] = {
    SourceKind.KAFKA: ("topic", ("deadLetterTopic",)),
    SourceKind.FILES: ("path", ()),
}
_SAN = re.compile(
    r"[A-Za-z][A-Za-z0-9+.-]*://[!-~]+"  # a URI
    r"|[A-Za-z0-9._%+-]+@[A-Za-z0-9.-]+"  # an e-mail address
    r"|[A-Za-z0-9_]([A-Za-z0-9_.-]*[A-Za-z0-9_])?"
)
_SAN_REMEDY = 'write a URI, a host or an e-mail address of the certificate, such as "spiffe://shop/billing"'
_CLASSES_REMEDY = "list the names in the order of the baseline's output, such as [legit, fraud]"


def model(fields: Fields, *, require_classes: bool) -> Model:
    default = Model()
    read_classes = list_of(class_name, _CLASSES_REMEDY, at_most=MOST_CLASSES)
    protocol = fields.read("protocol", choice(ProtocolName), default.protocol)
    if require_classes and protocol is not ProtocolName.OPENAI:
        classes = fields.require("classes", read_classes, _CLASSES_REMEDY)
    else:
        classes = fields.read("classes", read_classes, default.classes)
    result = Model(
        protocol=protocol,
        classes=classes,
        candidate_classes=fields.read("candidateClasses", read_classes, default.candidate_classes),
        output=fields.read("output", text, default.output),
        pointer=fields.read("pointer", _pointer, default.pointer),
        values=fields.read("values", choice(Values), default.values),
        task=fields.read("task", choice(Task), default.task),
        paths=fields.read("paths", list_of(_path, "list paths such as [/v1/models/fraud:predict]", at_most=64), ()),
        request_patch=fields.read("requestPatch", json_mapping, default.request_patch),
        loss_per=fields.read("lossPer", choice(LossPer), default.loss_per),
    )
    if result.generates:
        _check_language_model(fields, result)
    elif "classes" in fields:
        _check_classes(fields, result)
    if "lossPer" in fields and not result.generates:
        raise fields.error("lossPer", "is read with protocol: openai only", "set that, or remove it")
    unique(result.paths, fields.at("paths"), "the path")
    custom = result.protocol is ProtocolName.CUSTOM
    if custom and result.pointer is None:
        raise fields.error(
            "pointer", "is missing, and protocol: custom needs it", "write a JSON Pointer such as /predictions"
        )
    if not custom and result.pointer is not None:
        raise fields.error(
            "pointer", f"is not used by protocol: {result.protocol}", "set protocol: custom, or remove it"
        )
    return result


def _check_language_model(fields: Fields, result: Model) -> None:
    """What says how probabilities of classes are read says nothing of a text."""
    default = Model()
    for name, used in (
        ("classes", "classes" in fields),
        ("candidateClasses", "candidateClasses" in fields),
        ("output", "output" in fields),
        ("values", result.values is not default.values),
        ("task", result.task is not default.task),
    ):
        if used:
            raise fields.error(name, "is not used by protocol: openai, which has no classes", "remove it")


def class_name(value: object, field: str) -> str:
    """A class; integers are names too, but what YAML makes of `no` or `1.0` is not what was written."""
    if isinstance(value, int) and not isinstance(value, bool):
        try:
            return str(value)
        except ValueError as error:  # thousands of digits
            raise SpecError(field, f"{show(value)} is not a name", "put it in quotes") from error
    if isinstance(value, bool):
        raise SpecError(
            field, f"{show(value)} is not a name", "put it in quotes: YAML reads bare yes, no, on, off as booleans"
        )
    return text(value, field)


def _check_classes(fields: Fields, result: Model) -> None:
    count = len(result.classes)
    unique(result.classes, fields.at("classes"), "the class")
    if result.task is Task.BINARY and count != 2:
        raise fields.error("classes", f"has {count} names, and task: binary has two", _CLASSES_REMEDY)
    if result.task is Task.MULTICLASS and count < 2:
        raise fields.error("classes", f"has {count} names where there is a choice of two or more", _CLASSES_REMEDY)
    if count == 0:
        raise fields.error("classes", "is empty", _CLASSES_REMEDY)
    if result.values is Values.BINARY_SCORE and (count != 2 or result.task is Task.MULTILABEL):
        raise fields.error(
            "values",
            f"binaryScore is one number for two classes, not for {count} with task: {result.task}",
            "write values: probabilities, logits or logProbabilities",
        )
    if "candidateClasses" in fields:
        unique(result.candidate_classes, fields.at("candidateClasses"), "the class")
        missing = [name for name in result.classes if name not in result.candidate_classes]
        more = [name for name in result.candidate_classes if name not in result.classes]
        if missing or more:
            problem = f"lacks {show(missing[0])}" if missing else f"has {show(more[0])}, which classes has not"
            raise fields.error(
                "candidateClasses", problem, "list the same classes, in the order of the candidate's output"
            )


def _pointer(value: object, field: str) -> str:
    pointer = text(value, field, 1024)
    if not pointer.startswith(("/", "jmespath:")):
        raise SpecError(
            field, f"{show(value)} is no JSON Pointer", 'start it with "/", or with "jmespath:" for an expression'
        )
    if pointer == "jmespath:":
        raise SpecError(field, "has no expression", 'write one after "jmespath:"')
    return pointer


def _path(value: object, field: str) -> str:
    path = text(value, field, 1024)
    if not path.startswith("/"):
        raise SpecError(field, f"{show(value)} is no path", 'start it with "/", without scheme and host')
    return path


def mirror(fields: Fields) -> Mirror:
    default = Mirror()
    limits = default.limits
    return Mirror(
        share=fields.read("percent", percent, default.share),
        limits=MirrorLimits(
            timeout=fields.read("timeout", positive(duration, 'write a time such as "2s"'), limits.timeout),
            maxInFlight=fields.read("maxInFlight", count, limits.maxInFlight),
            maxBodyBytes=fields.read("maxBodyBytes", size, limits.maxBodyBytes),
            maxPairsPerSecond=fields.read(
                "maxPairsPerSecond",
                positive(decimal, "write a rate such as 200; percent: 0 mirrors nothing"),
                limits.maxPairsPerSecond,
            ),
            forwardCredentials=fields.read("forwardCredentials", flag, limits.forwardCredentials),
            scoringCopy=fields.read("scoringCopy", flag, limits.scoringCopy),
            maxTokensPerSecond=fields.read(
                "maxTokensPerSecond",
                positive(decimal, "write a rate such as 2000; percent: 0 scores nothing"),
                limits.maxTokensPerSecond,
            ),
        ),
    )


def count(value: object, field: str) -> int:
    return whole(value, field, at_least=1, at_most=_MOST)


def labels(fields: Fields) -> Labels:
    default = Labels()
    mode = fields.read("mode", choice(LabelMode), default.mode)
    max_delay = fields.read("maxDelay", positive(duration, 'write a time such as "24h"'), default.max_delay)
    maturity = fields.read("maturity", _maturity, default.maturity)
    if maturity is not None and maturity > max_delay:
        raise fields.error(
            "maturity",
            f"{maturity:g} s is longer than maxDelay, {max_delay:g} s, after which no label is taken",
            "shorten maturity or lengthen maxDelay",
        )
    senders = fields.read(
        "senders", list_of(_sender, "list {name, tokenSHA256} or {name, certificateSAN}", at_most=64), default.senders
    )
    unique(tuple(sender.name for sender in senders), fields.at("senders"), "the sender")
    return Labels(
        mode=mode,
        id_header=fields.read("idHeader", _header, default.id_header),
        senders=senders,
        sources=fields.read("sources", list_of(_source, "list {kafka: …} or {files: …}", at_most=16), default.sources),
        agreement=_agreement(fields, mode),
        selective=fields.read("selective", flag, default.selective),
        max_delay=max_delay,
        maturity=maturity,
        min_coverage=fields.read("minCoverage", between(share, 0, 1, open_low=True), default.min_coverage),
        max_conflict_share=fields.read("maxConflictShare", between(share, 0, 1), default.max_conflict_share),
    )


def _maturity(value: object, field: str) -> float | None:
    return None if value == "auto" else duration(value, field)


def _agreement(fields: Fields, mode: LabelMode) -> AgreementLimits | None:
    limits = fields.section("agreement", ("rollbackAbove", "promoteBelow"))
    if mode is LabelMode.FEEDBACK:
        if "agreement" in fields:
            raise fields.error("agreement", "is not used with mode: Feedback", "set mode: Agreement, or remove it")
        return None
    nats = positive(decimal, 'write nats of KL(baseline‖candidate) such as "0.5"')
    above = limits.require(
        "rollbackAbove", nats, 'mode: Agreement has no default for it; write nats of KL such as "0.5"'
    )
    below = limits.read("promoteBelow", nats, None)
    if below is not None and below >= above:
        raise limits.error(
            "promoteBelow", f"{below:g} is not below rollbackAbove, {above:g}", "leave a gap between the two"
        )
    return AgreementLimits(rollback_above=above, promote_below=below)


def _header(value: object, field: str) -> str:
    header = text(value, field)
    if not _HEADER.fullmatch(header):
        raise SpecError(field, f"{show(value)} is no name of an HTTP header", "write one such as X-Request-Id")
    return header


def _sender(value: object, field: str) -> Sender:
    fields = Fields(value, field, ("name", "tokenSHA256", "certificateSAN"))
    name = "name who sends the labels"
    if "certificateSAN" in fields:
        if "tokenSHA256" in fields:
            raise fields.error("certificateSAN", "is given beside tokenSHA256", "list two senders, or remove one")
        san = fields.require("certificateSAN", text, _SAN_REMEDY)
        if not _SAN.fullmatch(san):
            raise fields.error("certificateSAN", f"{show(san)} is no name of a certificate", _SAN_REMEDY)
        return Sender(fields.require("name", text, name), certificate_san=san)
    remedy = "write the 64 hexadecimal digits of the token's SHA-256, never the token"
    digest = fields.require("tokenSHA256", text, remedy)
    if not _SHA256.fullmatch(digest):
        raise fields.error("tokenSHA256", "is not a SHA-256", remedy)  # not shown: it may be the token
    return Sender(fields.require("name", text, name), digest.lower())


def _source(value: object, field: str) -> LabelSource:
    fields = Fields(value, field, ("kafka", "files"))
    if len(fields.given()) != 1:
        raise SpecError(field, "is not one source", "write either kafka or files, one per item of the list")
    kind = SourceKind(fields.given()[0])
    place, more = _SOURCES[kind]
    source = fields.section(kind, ("endpoint", place, *more))
    found = LabelSource(
        kind,
        source.require("endpoint", text, "name an endpoint that the cluster's admin lists"),
        source.require(
            place, _below if kind is SourceKind.FILES else _topic, f"write the {place} that holds the labels"
        ),
        source.read("deadLetterTopic", _topic, ""),
    )
    if found.deadLetterTopic == found.place:
        raise source.error("deadLetterTopic", "is the topic that is read", "name another, or leave it out")
    return found


def _topic(value: object, field: str) -> str:
    topic = text(value, field, 249)
    if not _TOPIC.fullmatch(topic) or topic in (".", ".."):
        raise SpecError(field, f"{show(value)} is no name of a topic", 'use letters, digits, ".", "_" and "-"')
    return topic


def _below(value: object, field: str) -> str:
    path = text(value, field, 1024)
    if path.startswith("/") or ".." in path.split("/"):
        raise SpecError(
            field, f"{show(value)} leaves the endpoint's folder", "write a path below it, such as labels/fraud"
        )
    return path
