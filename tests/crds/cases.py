"""Resources just inside and just outside of each limit, made from the table and from the definition's keywords.

Both readers of the resource are held to them: the parser in `test_agreement`, a real API server in `test_invalid`.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from tests.crds.limits import AGREEMENT, BETWEEN, GUARD, LANGUAGE_MODEL, METRIC, TABLE, Limits
from tests.crds.schema import REMOVED, Node, as_kubernetes_writes, node_at, nodes, written_as


@dataclass(frozen=True, slots=True)
class Case:
    """Changes to the least that works, and what becomes of them. `field` is what a refusal must name."""

    name: str
    changes: Mapping[str, object]
    accepted: bool
    field: str = ""


def cases(schema: Node) -> Iterator[Case]:
    """Every case of the table, of the keywords of `spec`'s schema, and of what lies between fields."""
    for limits in TABLE:
        yield from _of_table(schema, limits)
    seen: set[str] = set()
    for limits in TABLE:
        path, node = node_at(schema, limits.place)
        if path not in seen:
            seen.add(path)
            yield from _of_type(limits.place, node, limits.given)
    for path, node in nodes(schema):
        if path and path not in seen and written_as(node) not in ("array", "object"):
            yield from _of_keywords(path.replace("[]", ".0"), node)
    for index, (changes, named_field) in enumerate(BETWEEN):
        yield Case(f"between {index} {named_field or 'accepted'}", changes, not named_field, named_field)


def _of_table(schema: Node, limits: Limits) -> Iterator[Case]:
    place, named_field = limits.place, as_kubernetes_writes(limits.place)
    for accepted, values in ((True, limits.inside), (False, limits.outside)):
        for value in values:
            name = f"{named_field} {'takes' if accepted else 'refuses'} {value!r}"
            yield Case(name[:120], {**limits.given, place: value}, accepted, "" if accepted else named_field)
    if limits.fill is None:
        return
    node = node_at(schema, place)[1]
    for keyword in ("maxLength", "maxItems", "maxProperties"):
        if keyword in node:
            most = node[keyword]
            yield Case(f"{named_field} takes {most}", {**limits.given, place: limits.fill(most)}, True)
            more = {**limits.given, place: limits.fill(most + 1)}
            yield Case(f"{named_field} refuses {most + 1}", more, False, named_field)


def _of_type(place: str, node: Node, given: Mapping[str, object]) -> Iterator[Case]:
    wrong: dict[str, tuple[object, ...]] = {
        "string": (3, True, ["a"]),
        "int-or-string": (True, [], {}, 1.5),
        "array": ("a", 3, {}),
        "object": ("a", 3, []),
    }
    if node.get("enum"):
        return
    named_field = as_kubernetes_writes(place)
    for value in wrong[written_as(node)]:
        # A number with a fraction is one for the parser, whose files may have floats.
        if value != 1.5 or isinstance(value, bool):
            yield Case(f"{named_field} refuses {value!r}", {**given, place: value}, False, named_field)


def _of_keywords(place: str, node: Node) -> Iterator[Case]:
    """Flags, counts and closed lists of words."""
    named_field = as_kubernetes_writes(place)
    good: tuple[object, ...]
    bad: tuple[object, ...]
    if node.get("enum"):
        good, bad = tuple(node["enum"]), ("", "other", 3, True)
    elif node["type"] == "boolean":
        good, bad = (True, False), ("true", 1, "yes")
    else:
        good = (node["minimum"], node["maximum"])
        bad = (node["minimum"] - 1, node["maximum"] + 1, "many", True)
    for value in good:
        yield Case(f"{named_field} takes {value!r}", {**needs(place, value), place: value}, True)
    for value in bad:
        yield Case(f"{named_field} refuses {value!r}", {**needs(place, None), place: value}, False, named_field)


def needs(place: str, value: object) -> Mapping[str, object]:
    """What must be written beside a word so that it is the only thing in question."""
    if place == "guards.0.type":
        more: dict[object, Mapping[str, object]] = {
            "perClass": {},
            "prometheus": METRIC,
            "latency": {"guards.0.max": "1s"},
        }
        return {**GUARD, **more.get(value, {"guards.0.max": "1%"})}
    if place.endswith(".events.0"):
        return {place.replace("events.0", "endpoint"): "a"}
    if (place, value) == ("labels.mode", "Agreement"):
        return AGREEMENT
    if (place, value) == ("model.protocol", "custom"):
        return {"model.pointer": "/a"}
    if (place, value) == ("model.protocol", "openai"):
        return {"model.classes": REMOVED}
    if place == "model.lossPer":
        return LANGUAGE_MODEL
    if (place, value) == ("mirror.scoringCopy", True):
        return {"model.requestPatch": {"a": 1}}
    return {}
