"""Reads the resource's definition: its fields, their limits and defaults, as an API server would apply them.

Called by the tests of the definition. It knows the definition's language and nothing of the parser.
"""

import copy
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

PROJECT = Path(__file__).parents[2]
DEFINITION = PROJECT / "crds" / "modelcanary.yaml"
EXAMPLES = PROJECT / "examples"

Node = Mapping[str, Any]


def definition() -> dict[str, Any]:
    document: dict[str, Any] = yaml.safe_load(DEFINITION.read_text())
    return document


def resource_schema(document: Node) -> Node:
    (version,) = document["spec"]["versions"]
    schema: Node = version["schema"]["openAPIV3Schema"]
    return schema


def example(name: str) -> dict[str, Any]:
    document: dict[str, Any] = yaml.safe_load((EXAMPLES / name).read_text())
    return document


def nodes(schema: Node, path: str = "") -> Iterator[tuple[str, Node]]:
    """Every field with its path: items of a list are `[]`, entries of a map of the user's names are `{}`."""
    yield path, schema
    for name, inner in schema.get("properties", {}).items():
        yield from nodes(inner, f"{path}.{name}".removeprefix("."))
    if "items" in schema:
        yield from nodes(schema["items"], f"{path}[]")
    if isinstance(schema.get("additionalProperties"), Mapping):
        yield from nodes(schema["additionalProperties"], f"{path}{{}}")


def node_at(schema: Node, place: str) -> tuple[str, Node]:
    """Path and node of a dotted place in a document, such as `guards.0.max`."""
    path = ""
    for name in place.split("."):
        if "items" in schema:
            path, schema = f"{path}[]", schema["items"]
        elif name in schema.get("properties", {}):
            path, schema = f"{path}.{name}".removeprefix("."), schema["properties"][name]
        else:
            path, schema = f"{path}{{}}", schema["additionalProperties"]
    return path, schema


def with_defaults(schema: Node, value: Any) -> Any:
    """A copy with the defaults filled in, from the outside inwards, as an API server does it."""
    if isinstance(value, dict):
        filled = dict(value)
        for name, inner in schema.get("properties", {}).items():
            if filled.get(name) is None and "default" in inner:
                filled[name] = copy.deepcopy(inner["default"])
            if name in filled:
                filled[name] = with_defaults(inner, filled[name])
        return filled
    if isinstance(value, list) and "items" in schema:
        return [with_defaults(schema["items"], item) for item in value]
    return value


def rules(schema: Node) -> list[tuple[str, Node]]:
    return [(path, rule) for path, node in nodes(schema) for rule in node.get("x-kubernetes-validations", ())]


def written_as(node: Node) -> str:
    """`int-or-string`, or the type."""
    kind: str = "int-or-string" if node.get("x-kubernetes-int-or-string") else node["type"]
    return kind


def changed(document: Mapping[str, Any], changes: Mapping[str, object]) -> dict[str, Any]:
    """A copy with the values at dotted places set; missing lists and mappings on the way are made."""
    result: dict[str, Any] = copy.deepcopy(dict(document))
    for path, value in changes.items():
        *parents, last = path.split(".")
        place: Any = result
        for name, following in zip(parents, [*parents, last][1:], strict=True):
            if isinstance(place, list):
                if int(name) == len(place):
                    place.append([] if following.isdigit() else {})
                place = place[int(name)]
            else:
                place = place.setdefault(name, [] if following.isdigit() else {})
        if value is REMOVED:
            place.pop(last, None)
        elif isinstance(place, list):
            place[int(last) : int(last) + 1] = [value]
        else:
            place[last] = value
    return result


REMOVED = object()


def as_kubernetes_writes(place: str) -> str:
    """`spec.guards.0.max` as errors name it: `spec.guards[0].max`."""
    return re.sub(r"\.(\d+)(?=\.|$)", r"[\1]", place)


def same_place(one: str, other: str) -> bool:
    """Whether two errors are about one field: either may be more exact, by an item or a missing field of a section."""
    first, second = (re.sub(r"\[(\w+)\]", r".\1", place).split(".") for place in (one, other))
    common = min(len(first), len(second))
    return common >= 2 and first[:common] == second[:common]
