"""What each field takes and refuses, just inside and just outside of its limits.

Read by `cases`, which makes resources of it. A field of the definition that is missing here fails `test_agreement`.
Limits that the definition has as keywords (`maximum`, `maxItems`, `maxLength`, `enum`) are taken from there; here is
how a value of a given length looks, and what the rules allow. Long, because the resource has many fields.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from tests.crds.schema import REMOVED

EVENTS = (*("RunStarted", "CanaryStep", "Held", "Stalled", "Promoted", "RolledBack", "RunEnded", "ConfirmPromotion"),)
SHA = "0123456789abcdefABCDEF" + "0" * 42
GUARD: Mapping[str, object] = {"guards.0.name": "g"}
ERRORS = {**GUARD, "guards.0.type": "errorRate"}
LATENCY = {**GUARD, "guards.0.type": "latency"}
METRIC = {
    **GUARD,
    "guards.0.type": "prometheus",
    "guards.0.endpoint": "main",
    "guards.0.query": 'up{role="$role"}',
    "guards.0.min": "x0.95",
}
AGREEMENT: Mapping[str, object] = {"labels.mode": "Agreement", "labels.agreement.rollbackAbove": "0.5"}
LANGUAGE_MODEL: Mapping[str, object] = {"model.protocol": "openai", "model.classes": REMOVED}


@dataclass(frozen=True, slots=True)
class Limits:
    """A field by its place below `spec`; `given` is what else must be written for it to be read."""

    place: str
    inside: tuple[object, ...] = ()
    outside: tuple[object, ...] = ()
    fill: Callable[[int], object] | None = None  # a value of that length, or with as many items
    given: Mapping[str, object] = field(default_factory=dict)


def word(length: int) -> str:
    return "a" * length


def padded(end: str) -> Callable[[int], str]:
    return lambda length: end.rjust(length, "0")


def started(start: str) -> Callable[[int], str]:
    return lambda length: start.ljust(length, "a")


def numbered(item: Callable[[int], object]) -> Callable[[int], object]:
    return lambda count: [item(index) for index in range(count)]


def named(count: int) -> object:
    return {f"n{index}": "1" for index in range(count)}


HOURS, TENTH = padded("9h"), padded(".1")
NO_DURATIONS = ("", "10", "10 min", "-5s", "1w", "5m oops", ".5s", "1.s", "auto ")
NO_NUMBERS = ("", "nan", "inf", "0x10", "1_000", "much", "1,5", "--1", "1e", ".")
NO_TIMES = ("x0", "x", "x-1", "x1%", "×0")

TABLE = (
    Limits("targetRef.name", ("a", "fraud-2.b"), ("", "Fraud", "-a", "a-", "a_b", "a/b"), word),
    Limits("service.name", ("a", "fraud-2"), ("", "Fraud", "-a", "a-", "a b"), word),
    Limits(
        *(
            "service.port",
            (1, 65535, "http", "8080", "1", "65535", "h2-c", "8a"),
            (0, 65536, -1, "0", "65536", "", "-a"),
        ),
        word,
    ),
    Limits("service.port", (), ("HTTP", "a-", "a--b", "a b", "8-", "80-90")),
    Limits(
        "model.classes", (["a", "b"], [0, 1], ["a", 1]), (["a"], ["a", "a"], [7, "7"], "a"), numbered(lambda i: f"c{i}")
    ),
    Limits("model.classes", (["a"],), ([],), numbered(lambda i: f"c{i}"), {"model.task": "multilabel"}),
    Limits("model.classes", (["a", "b"],), (["a"], ["a", "b", "c"]), None, {"model.task": "binary"}),
    Limits("model.classes.0", ("a", 7, "yes", " a"), ("", " "), word),
    Limits(
        "model.candidateClasses",
        (["fraud", "legit"], ["legit", "fraud"]),
        (["fraud"], ["fraud", "x"], [], ["fraud", "fraud"]),
    ),
    Limits(
        *("model.candidateClasses", (), (["c0"],), numbered(lambda i: f"c{i}")),
        {"model.classes": [f"c{i}" for i in range(1000)]},
    ),
    Limits(
        "model.candidateClasses.0",
        ("x",),
        ("", "y"),
        None,
        {"model.classes": ["x", "b"], "model.candidateClasses": ["x", "b"]},
    ),
    Limits("model.output", ("predict_proba", "a b"), ("", " "), word),
    Limits(
        "model.pointer",
        ("/", "/a/0", "jmespath:a.b"),
        ("", "a", "jmespath:", "#/a"),
        started("/"),
        {"model.protocol": "custom"},
    ),
    Limits("model.paths", ([], ["/"], ["/a", "/b"]), (["/a", "/a"],), numbered(lambda i: f"/{i}")),
    Limits("model.paths.0", ("/", "/v1/models/fraud:predict"), ("", "v1", "http://a/"), started("/")),
    Limits("model.requestPatch", ({}, {"outputs": [{"name": "p", "n": 1.5}]}), (), named),
    Limits("autoscalerRef.name", ("hpa",), ("", "HPA", "a b"), word),
    Limits("candidate.replicas", ("auto", 1, 2147483647), (0, -1, 2147483648, "many", ""), started("auto")),
    Limits("candidate.readyDeadline", ("1ms", "1h30m", "0.5s"), (*NO_DURATIONS, "0s", "0m0s"), HOURS),
    Limits(
        "candidate.labels",
        ({}, {"a": "b"}, {"team.io/a_b": "R-1"}, {word(63): "b"}),
        ({"": "a"}, {word(64): "b"}, {"a b": "c"}, {"/a": "b"}),
        named,
    ),
    Limits("candidate.labels.team", ("risk", "R.1_a-b"), ("", " ", "-a", "a-", "a b", "ä"), word),
    Limits(
        "mirror.percent",
        ("0", "100", 0, 100, "2.5%", "1e1", ".5"),
        (*NO_NUMBERS, -1, 101, "100.1", "-0.1%", "5 %%"),
        TENTH,
    ),
    Limits("mirror.maxPairsPerSecond", (1, "0.5", "1e3"), (*NO_NUMBERS, 0, -1, "0.0", "5%"), TENTH),
    Limits("mirror.maxTokensPerSecond", (1, "0.5", "1e3"), (*NO_NUMBERS, 0, -1, "0.0", "5%"), TENTH),
    Limits("mirror.timeout", ("1ms", "2s"), (*NO_DURATIONS, "0s"), HOURS),
    Limits(
        *("mirror.maxBodyBytes", (1, "1", "1Mi", "0.5Ki", "1k", "1024Gi", 1 << 40)),
        (0, "0", "0.5", "1MB", "1 Mi", "-1", "", "1025Gi", "1099511627777", (1 << 40) + 1, "Mi", "1T"),
        padded("9"),
    ),
    Limits("labels.idHeader", ("X-Id", "a_b.c~"), ("", "X Id", "a:b", "ä"), word),
    Limits(
        *("labels.senders", ([],), ([{"name": "a", "tokenSHA256": SHA}] * 2,)),
        numbered(lambda i: {"name": f"n{i}", "tokenSHA256": SHA}),
    ),
    Limits("labels.senders.0.name", ("billing",), ("", " "), word, {"labels.senders.0.tokenSHA256": SHA}),
    Limits(
        *("labels.senders.0.tokenSHA256", (SHA,), ("", SHA[:-1], SHA[:-1] + "g"), padded("f")),
        {"labels.senders.0.name": "billing"},
    ),
    Limits(
        *("labels.senders.0.certificateSAN", ("spiffe://shop/billing", "a.b-c", "x", "me+x@shop.org")),
        *(("", " ", "*.shop", "a b", "a.", "-a", "://x", "@x", "1://x", "ä"), padded("a")),
        {"labels.senders.0.name": "billing"},
    ),
    Limits("labels.sources", ([],), ([{}],), numbered(lambda i: {"files": {"endpoint": f"e{i}", "path": "p"}})),
    Limits("labels.sources.0.kafka.endpoint", ("main",), ("", " "), word, {"labels.sources.0.kafka.topic": "t"}),
    Limits(
        *("labels.sources.0.kafka.topic", ("t", "a.b_c-D1"), ("", " ", "a b", "a/b", ".", "..", "ä"), word),
        {"labels.sources.0.kafka.endpoint": "e"},
    ),
    Limits(
        *("labels.sources.0.kafka.deadLetterTopic", ("t",), ("", "a b", "..", "read"), word),
        {"labels.sources.0.kafka.endpoint": "e", "labels.sources.0.kafka.topic": "read"},
    ),
    Limits("labels.sources.0.files.endpoint", ("lake",), ("", " "), word, {"labels.sources.0.files.path": "p"}),
    Limits(
        *("labels.sources.0.files.path", ("p/", "a/b c", "a/..b"), ("", " ", "/p", "..", "a/../b"), word),
        {"labels.sources.0.files.endpoint": "e"},
    ),
    Limits("labels.agreement.rollbackAbove", ("0.5", 1, "1e-4"), (*NO_NUMBERS, 0, "-1", "5%"), TENTH, AGREEMENT),
    Limits(
        *("labels.agreement.promoteBelow", ("0.02", "0.499"), (*NO_NUMBERS, 0, "-1", "0.5", 1)),
        *(TENTH, AGREEMENT),
    ),
    Limits("labels.maxDelay", ("1ms", "7d"), (*NO_DURATIONS, "0s"), HOURS),
    Limits("labels.maturity", ("auto", "0s", "24h", "86400s", "1d"), (*NO_DURATIONS, "25h", "1d1ms"), HOURS),
    Limits("labels.minCoverage", ("0.001", 1, "100%", "1"), (*NO_NUMBERS, 0, "0%", "1.001", "101%", 2), TENTH),
    Limits("labels.maxConflictShare", (0, "5%", "0.05", 1, "100%"), (*NO_NUMBERS, "-0.1", "1.001", "101%", 2), TENTH),
    Limits(
        "analysis.interval",
        ("1s", "1000ms", "1d", "24h", "23h59m60s"),
        (*NO_DURATIONS, "999ms", "0s", "1d1ms", "86401s"),
        HOURS,
    ),
    Limits("analysis.loss.clipEpsilon", ("1e-12", "0.1", ".1"), (*NO_NUMBERS, 0, "9e-13", "0.11", 1, "5%"), TENTH),
    Limits("analysis.loss.labelSmoothing", ("0", 0, "0.999", "99%"), (*NO_NUMBERS, "-0.1", 1, "100%"), TENTH),
    Limits(
        *("analysis.loss.classWeights", ({"legit": 1, "fraud": "20"},)),
        ({}, {"legit": 1}, {"legit": 1, "fruad": 1}, {"legit": 1, "fraud": 1, "x": 1}),
    ),
    Limits(
        *("analysis.loss.classWeights", (), (), lambda count: {f"c{i}": 1 for i in range(count)}),
        {"model.classes": [f"c{i}" for i in range(1000)]},
    ),
    Limits(
        *("analysis.loss.classWeights.legit", (1, "0.1"), (*NO_NUMBERS, 0, "-1", "5%"), TENTH),
        {"analysis.loss.classWeights.fraud": 1},
    ),
    Limits("analysis.loss.focalGamma", ("0", 10, "2.5"), (*NO_NUMBERS, -1, "10.1", 11), TENTH),
    Limits(
        *("analysis.margin", (0, "0", "2%", "100%", "0.01", "0.999", "2% + 0.01", "0.01+2%", "1e-4", "0%")),
        (*NO_NUMBERS, 1, 2, "2x", "-1%", "101%", "1.0", "2% + 2%", "0.1 + 0.1", "2% + 0.01 + 0.01", "+2%"),
        TENTH,
    ),
    Limits("analysis.rollbackMargin", ("0%", "2% + 0.01"), (*NO_NUMBERS, 1, "-0.1", "101%", "1% + 1"), TENTH),
    Limits("analysis.errorRates.rollback", ("1e-9", "0.499", "49%"), (*NO_NUMBERS, 0, "0.5", 1, "50%", "-1%"), TENTH),
    Limits("analysis.errorRates.promote", ("0.001", "0.499"), (*NO_NUMBERS, 0, "0.5", 1), TENTH),
    Limits("analysis.minDuration", ("0s", "72h", "3d"), (*NO_DURATIONS, "73h", "3d1ms"), HOURS),
    Limits("analysis.hysteresis.cooldown", ("0s", "7d"), NO_DURATIONS, HOURS),
    Limits("analysis.maxDuration", ("15m", "30d"), (*NO_DURATIONS, "0s"), HOURS),
    Limits(
        "guards",
        ([],),
        ([{"name": "a", "type": "nonFinite", "max": "0"}] * 2,),
        numbered(lambda i: {"name": f"g{i}", "type": "nonFinite", "max": "0"}),
    ),
    Limits("guards.0.name", ("p99",), ("", " "), word, {"guards.0.type": "nonFinite", "guards.0.max": "0"}),
    Limits(
        "guards.0.max",
        ("1%", "+0.5%", "x1.2", 0, 1, "100%", "+1", "×2"),
        (*NO_NUMBERS, *NO_TIMES, "101%", "1.1", "+2", "-1%", "30ms"),
        TENTH,
        ERRORS,
    ),
    Limits(
        "guards.0.max",
        ("300ms", "+20ms", "x1.2", "1h1m"),
        (*NO_TIMES, "300", 1, "5%", "+5%", "-1s", "x1s", "+"),
        padded("9s"),
        LATENCY,
    ),
    Limits(
        "guards.0.max", ("100", 5000, "+5", "x0.95", "1e9", "5%"), (*NO_NUMBERS, *NO_TIMES, "-1", -1), TENTH, METRIC
    ),
    Limits("guards.0.min", ("100", "+5", "x0.95", 7), (*NO_NUMBERS, *NO_TIMES, "-1"), TENTH, METRIC),
    Limits(
        "guards.0.quantile",
        ("0.5", "99%", "0.999"),
        (*NO_NUMBERS, 0, 1, "1.0", "-1"),
        TENTH,
        {**LATENCY, "guards.0.max": "x2"},
    ),
    Limits(
        *("guards.0.threshold", ("0.5", "90%"), (*NO_NUMBERS, 0, 1, "100%"), TENTH),
        {**GUARD, "guards.0.type": "confidentErrors", "guards.0.max": "1%"},
    ),
    Limits(
        "guards.0.margin",
        ("10%", "0.1", "2% + 0.01"),
        (*NO_NUMBERS, 1, "101%", "-1%"),
        TENTH,
        {**GUARD, "guards.0.type": "perClass"},
    ),
    Limits("guards.0.endpoint", ("main",), ("", " "), word, METRIC),
    Limits("guards.0.query", ("up", 'sum(x{role="$role"})'), ("", " "), word, {**METRIC, "guards.0.min": 1}),
    Limits(
        "canary.steps",
        ([], [1, 5, 25, 50], ["0.5", 1, "100%"], [100]),
        ([5, 5], [5, 1], [1, "1%"], [0], ["0.0", 5]),
        numbered(lambda i: i + 1),
    ),
    Limits("canary.steps.0", (1, 100, "0.1%"), (*NO_NUMBERS, 0, 101, -1, "0"), TENTH),
    Limits("canary.stepDuration", ("1ms", "7d"), (*NO_DURATIONS, "0s"), HOURS),
    Limits("canary.candidateGrace", ("0s", "50ms"), NO_DURATIONS, HOURS),
    Limits("promotion.observeFor", ("0s", "7d"), NO_DURATIONS, HOURS),
    *(
        limits
        for kind in ("alerts", "webhooks")
        for limits in (
            Limits(kind, ([],), (), numbered(lambda i: {"endpoint": f"e{i}", "events": ["Held"]})),
            Limits(
                f"{kind}.0.endpoint",
                ("oncall",),
                ("", " ", "http://evil/", "a://b"),
                word,
                {f"{kind}.0.events": ["Held"]},
            ),
            Limits(
                *(f"{kind}.0.events", (["Held", "RolledBack"],), ([], ["Held", "Held"])),
                # More than there are, and one is there twice.
                *(numbered(lambda i: EVENTS[i % len(EVENTS)]), {f"{kind}.0.endpoint": "a"}),
            ),
        )
    ),
    *(
        limits
        for kind in ("requests", "limits")
        for limits in (
            Limits(f"sidecar.resources.{kind}", ({}, {"cpu": "100m", "memory": "64Mi"}), ({"memory": "much"},), named),
            Limits(
                f"sidecar.resources.{kind}.memory", ("64Mi", 1000, "1e3", "0.5"), ("", "64MB", "x", "1 Gi"), padded("9")
            ),
        )
    ),
)

#: Rules between fields: what is written, and the field that a refusal names (none: it is accepted).
BETWEEN: tuple[tuple[Mapping[str, object], str], ...] = (
    ({"model.classes": ["a", word(253)], "model.candidateClasses": [word(253), "a"]}, ""),
    ({"model.classes": ["a", word(254)], "model.candidateClasses": [word(254), "a"]}, "model"),
    ({"model.values": "binaryScore"}, ""),
    ({"model.values": "binaryScore", "model.classes": ["a", "b", "c"]}, "model.values"),
    ({"model.values": "binaryScore", "model.task": "multilabel"}, "model.values"),
    ({"model.protocol": "custom"}, "model.pointer"),
    ({"model.pointer": "/a"}, "model.pointer"),
    ({"mirror.scoringCopy": True}, "mirror.scoringCopy"),
    ({"mirror.scoringCopy": True, "model.requestPatch": {"a": 1}}, ""),
    ({"labels.senders": [{"name": "a"}]}, "labels.senders[0]"),
    ({"labels.senders": [{"name": "a", "tokenSHA256": SHA, "certificateSAN": "x"}]}, "labels.senders[0]"),
    (LANGUAGE_MODEL, ""),
    ({"model.classes": REMOVED}, "model.classes"),
    ({"model.protocol": "openai"}, "model.classes"),
    ({**LANGUAGE_MODEL, "model.candidateClasses": ["a", "b"]}, "model.candidateClasses"),
    ({**LANGUAGE_MODEL, "model.output": "a"}, "model.output"),
    ({**LANGUAGE_MODEL, "model.values": "logits"}, "model.values"),
    ({**LANGUAGE_MODEL, "model.task": "multilabel"}, "model.task"),
    ({**LANGUAGE_MODEL, "model.lossPer": "byte"}, ""),
    ({"model.lossPer": "byte"}, "model.lossPer"),
    ({**LANGUAGE_MODEL, "model.requestPatch": {"a": 1}, "mirror.scoringCopy": True}, "mirror.scoringCopy"),
    ({**LANGUAGE_MODEL, **AGREEMENT}, ""),
    ({**LANGUAGE_MODEL, **AGREEMENT, "labels.agreement.promoteBelow": "0.1"}, "labels.agreement.promoteBelow"),
    ({**LANGUAGE_MODEL, "canary.steps": [10]}, "canary.steps"),
    ({**LANGUAGE_MODEL, "promotion.observeFor": "1h"}, ""),
    ({**LANGUAGE_MODEL, **AGREEMENT, "promotion.observeFor": "1h"}, "promotion.observeFor"),
    ({**LANGUAGE_MODEL, "analysis.loss.labelSmoothing": "0.1"}, "analysis.loss.labelSmoothing"),
    ({**LANGUAGE_MODEL, "analysis.loss.focalGamma": 1}, "analysis.loss.focalGamma"),
    ({**LANGUAGE_MODEL, "guards.0": {"name": "g", "type": "perClass"}}, "guards"),
    ({"adoption.scaleTarget": False}, ""),
    ({"adoption.service": "Untouched"}, ""),
    ({"adoption.scaleTarget": False, "adoption.service": "Untouched"}, "adoption.scaleTarget"),
    ({"labels.mode": "Agreement"}, "labels.agreement"),
    ({"labels.agreement.rollbackAbove": "0.5"}, "labels.agreement"),
    (AGREEMENT, ""),
    ({**AGREEMENT, "analysis.loss.labelSmoothing": "0.1"}, "analysis.loss.labelSmoothing"),
    ({**AGREEMENT, "analysis.loss.focalGamma": 1}, "analysis.loss.focalGamma"),
    ({**AGREEMENT, "analysis.loss.classWeights": {"legit": 1, "fraud": 2}}, "analysis.loss.classWeights"),
    ({**AGREEMENT, "guards.0": {"name": "g", "type": "perClass"}}, "guards"),
    ({**AGREEMENT, "guards.0": {"name": "g", "type": "calibrationError", "max": "1%"}}, "guards"),
    ({"model.task": "multilabel", "guards.0": {"name": "g", "type": "confidentErrors", "max": "1%"}}, "guards"),
    ({"labels.maturity": "2h", "labels.maxDelay": "90m"}, "labels.maturity"),
    ({"labels.maturity": "90m", "labels.maxDelay": "1h30m"}, ""),
    ({"analysis.maxDuration": "5m"}, "analysis"),
    ({"analysis.maxDuration": "5m", "analysis.minDuration": "300s"}, ""),
    (
        {"labels.sources.0": {"kafka": {"endpoint": "a", "topic": "b"}, "files": {"endpoint": "a", "path": "b"}}},
        "labels.sources[0]",
    ),
    ({**GUARD, "guards.0.type": "errorRate"}, "guards[0].max"),
    ({**GUARD, "guards.0.type": "perClass"}, ""),
    ({**GUARD, "guards.0.type": "perClass", "guards.0.max": "1%"}, "guards[0].max"),
    ({**ERRORS, "guards.0.max": "1%", "guards.0.min": "1%"}, "guards[0].min"),
    ({**ERRORS, "guards.0.max": "1%", "guards.0.quantile": "0.9"}, "guards[0].quantile"),
    ({**ERRORS, "guards.0.max": "1%", "guards.0.threshold": "0.9"}, "guards[0].threshold"),
    ({**ERRORS, "guards.0.max": "1%", "guards.0.margin": "10%"}, "guards[0].margin"),
    ({**ERRORS, "guards.0.max": "1%", "guards.0.endpoint": "a"}, "guards[0].endpoint"),
    ({**ERRORS, "guards.0.max": "1%", "guards.0.query": "a"}, "guards[0].query"),
    ({**METRIC, "guards.0.endpoint": REMOVED}, "guards[0].endpoint"),
    ({**METRIC, "guards.0.query": REMOVED}, "guards[0].query"),
    ({**METRIC, "guards.0.min": REMOVED}, "guards[0].max"),
    ({**METRIC, "guards.0.query": "up"}, "guards[0].query"),
    ({**METRIC, "guards.0.query": "up", "guards.0.min": 1}, ""),
    ({**METRIC, "guards.0.query": "up", "guards.0.min": 1, "guards.0.max": "+1"}, "guards[0].query"),
    ({**METRIC, "guards.0.query": "up{r='${role}'}"}, ""),
    ({**METRIC, "guards.0.query": "up{r='$roles'}"}, "guards[0].query"),
    ({"alerts.0": {"endpoint": "a", "events": ["ConfirmPromotion"]}}, "alerts[0].events[0]"),
)

#: What the parser forgives in files that are edited by hand, and the API server does not.
FORGIVEN: tuple[tuple[str, object], ...] = (
    ("mirror.timeout", " 2s "),
    ("mirror.percent", " 5 % "),
    ("analysis.loss.labelSmoothing", "5 %"),
    ("mirror.maxInFlight", "64"),  # whole numbers as text
    ("analysis.minSamples.rollback", "1e3"),
    ("candidate.replicas", "3"),
    ("analysis.loss.classWeights", [1, 20]),  # a list, in the order of the classes
)
