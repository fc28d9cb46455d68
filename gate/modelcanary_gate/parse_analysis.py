"""Reads `spec.analysis` and `spec.guards`: by which numbers a candidate is judged.

Called by `parse.parse_spec` only.
"""

import re
from collections.abc import Mapping

from modelcanary_gate.errors import SpecError
from modelcanary_gate.fields import Fields, between, choice, entry, list_of, positive, text, text_up_to
from modelcanary_gate.parse_model import MOST_CLASSES, class_name, count
from modelcanary_gate.quantities import (
    decimal,
    duration,
    latency_limit,
    margin,
    metric_limit,
    share,
    share_limit,
    show,
)
from modelcanary_gate.spec import (
    Analysis,
    Guard,
    GuardType,
    Hysteresis,
    LimitKind,
    Loss,
    OnTimeout,
    PerVerdict,
    Restarts,
)

ANALYSIS = (
    *("interval", "loss", "margin", "rollbackMargin", "errorRates", "minSamples", "minDuration"),
    *("hysteresis", "maxDuration", "onTimeout", "restarts"),
)
_LOSS = ("clipEpsilon", "labelSmoothing", "classWeights", "focalGamma")
#: What each type of guard reads, beside `name` and `type`: required, optional.
_GUARD_FIELDS: Mapping[GuardType, tuple[tuple[str, ...], tuple[str, ...]]] = {
    GuardType.ERROR_RATE: (("max",), ()),
    GuardType.LATENCY: (("max",), ("quantile",)),
    GuardType.NON_FINITE: (("max",), ()),
    GuardType.CONFIDENT_ERRORS: (("max",), ("threshold",)),
    GuardType.CALIBRATION_ERROR: (("max",), ()),
    GuardType.PER_CLASS: ((), ("margin",)),
    GuardType.PROMETHEUS: (("endpoint", "query"), ("max", "min")),
}
_GUARD = ("name", "type", "max", "min", "quantile", "threshold", "margin", "endpoint", "query")
_ROLE = re.compile(r"\$(role\b|\{role\})")
#: Guards that compare answers with the one class that turned out to be right.
NEEDS_CLASS = frozenset({GuardType.CONFIDENT_ERRORS, GuardType.CALIBRATION_ERROR, GuardType.PER_CLASS})
_LIMITS = {GuardType.LATENCY: latency_limit, GuardType.PROMETHEUS: metric_limit}
_GUARD_REMEDIES = {
    "max": 'write a limit such as "+0.5%", "1%" or "x1.2"',
    "endpoint": "name an endpoint that the cluster's admin lists",
    "query": 'write PromQL with "$role" where the role goes',
}


def analysis(fields: Fields, classes: tuple[str, ...]) -> Analysis:
    default = Analysis()
    positive_duration = positive(duration, "write a time above 0")
    rates = fields.section("errorRates", ("rollback", "promote"))
    error_rate = between(share, 0, 0.5, open_low=True, open_high=True)
    samples = fields.section("minSamples", ("rollback", "promote"))
    hysteresis = fields.section("hysteresis", ("rollbackAfter", "promoteAfter", "cooldown"))
    result = Analysis(
        interval=fields.read("interval", between(duration, 1, 86400), default.interval),
        loss=_loss(fields.section("loss", _LOSS), classes),
        margin=fields.read("margin", margin, default.margin),
        rollback_margin=fields.read("rollbackMargin", margin, default.rollback_margin),
        error_rates=PerVerdict(
            rates.read("rollback", error_rate, default.error_rates.rollback),
            rates.read("promote", error_rate, default.error_rates.promote),
        ),
        min_samples=PerVerdict(
            samples.read("rollback", count, default.min_samples.rollback),
            samples.read("promote", count, default.min_samples.promote),
        ),
        min_duration=fields.read("minDuration", duration, default.min_duration),
        hysteresis=Hysteresis(
            hysteresis.read("rollbackAfter", count, default.hysteresis.rollback_after),
            hysteresis.read("promoteAfter", count, default.hysteresis.promote_after),
            hysteresis.read("cooldown", duration, default.hysteresis.cooldown),
        ),
        max_duration=fields.read("maxDuration", positive_duration, default.max_duration),
        on_timeout=fields.read("onTimeout", choice(OnTimeout), default.on_timeout),
        restarts=fields.read("restarts", choice(Restarts), default.restarts),
    )
    if result.min_duration > result.max_duration:
        shorter = "minDuration" if "minDuration" in fields else "maxDuration"
        raise fields.error(
            shorter,
            f"minDuration, {result.min_duration:g} s, is longer than maxDuration, {result.max_duration:g} s",
            "lengthen maxDuration or shorten minDuration",
        )
    return result


def _loss(fields: Fields, classes: tuple[str, ...]) -> Loss:
    default = Loss()

    def weights(value: object, field: str) -> tuple[float, ...]:
        return _class_weights(value, field, classes)

    return Loss(
        clip_epsilon=fields.read("clipEpsilon", between(decimal, 1e-12, 0.1), default.clip_epsilon),
        label_smoothing=fields.read("labelSmoothing", between(share, 0, 1, open_high=True), default.label_smoothing),
        class_weights=fields.read("classWeights", weights, default.class_weights),
        focal_gamma=fields.read("focalGamma", between(decimal, 0, 10), default.focal_gamma),
    )


def _class_weights(value: object, field: str, classes: tuple[str, ...]) -> tuple[float, ...]:
    remedy = "write one positive weight per class, such as {legit: 1, fraud: 20}"
    weight = positive(decimal, remedy)
    if not isinstance(value, Mapping):
        listed = list_of(weight, remedy, at_most=MOST_CLASSES)(value, field)
        if len(listed) != len(classes):
            raise SpecError(field, f"has {len(listed)} weights for {len(classes)} classes", remedy)
        return listed
    by_name: dict[str, float] = {}
    for key, item in value.items():
        name = class_name(key, f"{field}.{show(key)}")
        if name not in classes:
            raise SpecError(field, f"names {show(name)}, which spec.model.classes has not", remedy)
        by_name[name] = weight(item, entry(field, name))
    for name in classes:
        if name not in by_name:
            raise SpecError(field, f"lacks the class {show(name)}", remedy)
    return tuple(by_name[name] for name in classes)


def guards(value: object, field: str) -> tuple[Guard, ...]:
    """What the user lists replaces the default guards."""
    result = list_of(_guard, 'list guards such as {name: errors, type: errorRate, max: "+0.5%"}', at_most=32)(
        value, field
    )
    names: set[str] = set()
    for index, guard in enumerate(result):
        if guard.name in names:
            raise SpecError(f"{field}[{index}].name", f"{show(guard.name)} is there twice", "name each guard once")
        names.add(guard.name)
    return result


def _guard(value: object, field: str) -> Guard:
    fields = Fields(value, field, _GUARD)
    kind = fields.require("type", choice(GuardType), f"write one of {', '.join(GuardType)}")
    required, optional = _GUARD_FIELDS[kind]
    for name in fields.given():
        if name not in ("name", "type", *required, *optional):
            used = ", ".join((*required, *optional))
            raise fields.error(name, f"is not used by a guard of type {kind}", f"remove it; it reads {used}")
    for name in required:
        if name not in fields:
            raise fields.error(name, f"is missing, and type: {kind} needs it", _GUARD_REMEDIES[name])
    if kind is GuardType.PROMETHEUS and "max" not in fields and "min" not in fields:
        raise fields.error("max", "is missing, and so is min", 'write one of them, such as min: "x0.95"')
    default = Guard("", kind)
    query = fields.read("query", text_up_to(4096), default.query)
    limit = _LIMITS.get(kind, share_limit)
    inside = between(share, 0, 1, open_low=True, open_high=True)
    guard = Guard(
        name=fields.require("name", text, "name the guard: reasons and metrics show it"),
        type=kind,
        max=fields.read("max", limit, default.max),
        min=fields.read("min", limit, default.min),
        quantile=fields.read("quantile", inside, default.quantile),
        threshold=fields.read("threshold", inside, default.threshold),
        margin=fields.read("margin", margin, default.margin),
        endpoint=fields.read("endpoint", text, default.endpoint),
        query=query,
    )
    limits = {"max": guard.max, "min": guard.min}
    relative = next((name for name in limits if (of := limits[name]) and of.kind is not LimitKind.ABSOLUTE), None)
    if query is not None and relative is not None and not _ROLE.search(query):
        raise fields.error(
            "query",
            f'has no "$role", and {relative} compares the candidate with the baseline',
            'write "$role" where the role goes, or a limit as such',
        )
    return guard
