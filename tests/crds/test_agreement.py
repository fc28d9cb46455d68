"""The resource's definition and the parser read the same resource: each field, default and limit.

`make crds` runs this; it needs no cluster. That a real API server reads the definition so is in `test_invalid`.
"""

import copy
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.crds.cases import Case, cases, needs
from tests.crds.limits import AGREEMENT, FORGIVEN, METRIC, TABLE
from tests.crds.schema import (
    PROJECT,
    REMOVED,
    Node,
    as_kubernetes_writes,
    changed,
    definition,
    example,
    node_at,
    nodes,
    resource_schema,
    same_place,
    with_defaults,
    written_as,
)

from modelcanary_gate.errors import SpecError
from modelcanary_gate.parse import API_VERSION, KIND, parse_resource, parse_spec
from modelcanary_gate.spec import Spec

DEFINITION = definition()
SPEC: Node = resource_schema(DEFINITION)["properties"]["spec"]
LEAST: dict[str, Any] = example("minimal.yaml")["spec"]
#: Sections that are only read when something in them is required, or within a list: a place in a document for each.
SECTIONS: Mapping[str, Mapping[str, object]] = {
    "labels.senders[]": {},
    "labels.sources[]": {},
    "labels.agreement": AGREEMENT,
    "guards[]": METRIC,
    "alerts[]": {},
    "webhooks[]": {},
}
#: Fields that may be left out and then say nothing.
WITHOUT_DEFAULT = {
    *("model.candidateClasses", "model.output", "model.pointer", "model.paths", "model.requestPatch"),
    *("model.classes", "model.lossPer"),
    *("autoscalerRef", "candidate.labels", "labels.senders", "labels.sources", "labels.agreement"),
    *("labels.agreement.promoteBelow", "labels.sources[].kafka", "labels.sources[].files"),
    "labels.sources[].kafka.deadLetterTopic",
    *("analysis.loss.classWeights", "canary.steps", "alerts", "webhooks"),
    *("sidecar.workers", "sidecar.resources", "sidecar.resources.requests", "sidecar.resources.limits"),
    # A guard's own: which of them are read depends on its type.
    *("guards[].max", "guards[].min", "guards[].quantile", "guards[].threshold", "guards[].margin"),
    *("guards[].endpoint", "guards[].query"),
    *("labels.senders[].tokenSHA256", "labels.senders[].certificateSAN"),
}


def test_the_chart_brings_this_definition() -> None:
    source, copied = (
        PROJECT / "crds" / "modelcanary.yaml",
        PROJECT / "charts" / "modelcanary" / "files" / "modelcanary.yaml",
    )
    assert copied.read_text() == source.read_text(), f"cp {source} {copied}"


def refusal(specification: object) -> SpecError | None:
    try:
        assert isinstance(parse_spec(specification), Spec)
    except SpecError as error:
        return error
    return None


def fields_of_definition(spec: Node) -> dict[str, set[str]]:
    """The names in each mapping whose names are ours."""
    return {path: set(node["properties"]) for path, node in nodes(spec) if "properties" in node}


def fields_of_parser(path: str) -> set[str]:
    """The names that the parser says it knows in a mapping of the specification."""
    place = f"{path}.zzzz".removeprefix(".").replace("[]", ".0")
    error = refusal(changed(LEAST, {**SECTIONS.get(path, {}), place: 1}))
    assert error is not None and error.problem == "unknown field", f"{path}: {error}"
    assert error.field == as_kubernetes_writes(f"spec.{place}")
    return set(error.remedy.removeprefix("known here: ").split(", "))


def test_it_is_the_resource_that_the_parser_reads() -> None:
    names, (version,) = DEFINITION["spec"]["names"], DEFINITION["spec"]["versions"]
    assert f"{DEFINITION['spec']['group']}/{version['name']}" == API_VERSION
    assert names["kind"] == KIND
    assert DEFINITION["metadata"]["name"] == f"{names['plural']}.{DEFINITION['spec']['group']}"


def field_differences(spec: Node) -> list[str]:
    found = []
    for path, names in fields_of_definition(spec).items():
        known = fields_of_parser(path)
        found += [f"the parser has {path}.{name}, the definition has not" for name in sorted(known - names)]
        found += [f"the definition has {path}.{name}, the parser has not" for name in sorted(names - known)]
    return found


def test_the_fields_are_the_same() -> None:
    assert field_differences(SPEC) == []


def default_differences(spec: Node) -> list[str]:
    """Whatever sections the user leaves out, filling in the defaults changes nothing of what is read."""
    found = []
    documents = [LEAST, example("canary.yaml")["spec"]]
    documents += [{**LEAST, name: {}} for name, node in spec["properties"].items() if node.get("default") == {}]
    documents.append(changed(LEAST, AGREEMENT))
    for document in documents:
        filled = with_defaults(spec, document)
        if parse_spec(filled) != parse_spec(document):
            found.append(f"filling in {document} changes what is read")
    for path, node in nodes(spec):
        if "default" in node and "[]" not in path:
            alone = changed(LEAST, {path: node["default"]})
            if parse_spec(alone) != parse_spec(LEAST):
                found.append(f"{path}: the definition's default is {node['default']!r}, the parser has another")
    return found


def test_the_defaults_are_the_same() -> None:
    assert default_differences(SPEC) == []


def test_what_has_no_default_is_listed() -> None:
    required = {f"{path}.{name}".removeprefix(".") for path, node in nodes(SPEC) for name in node.get("required", ())}
    optional = {
        f"{path}.{name}".removeprefix(".")
        for path, node in nodes(SPEC)
        for name, inner in node.get("properties", {}).items()
        if "default" not in inner
    }
    assert optional - required == WITHOUT_DEFAULT


def limit_differences(spec: Node) -> list[str]:
    found = []
    for case in cases(spec):
        error = refusal(changed(LEAST, case.changes))
        if (error is None) is not case.accepted:
            found.append(f"{case.name}: the parser {'takes it' if error is None else f'says {error}'}")
        elif error is not None and not same_place(error.field, f"spec.{case.field}"):
            found.append(f"{case.name}: the parser names {error.field}")
    return found


def test_the_limits_are_the_same() -> None:
    assert limit_differences(SPEC) == []


def test_every_field_has_its_limits_tested() -> None:
    """A field is a flag, a count or a word of a list, whose limits are keywords, or it is in the table."""
    in_table = {node_at(SPEC, limits.place)[0] for limits in TABLE}
    left_out = [
        path
        for path, node in nodes(SPEC)
        if path not in in_table
        and not node.get("enum")
        and not (node.get("type") == "integer" and {"minimum", "maximum"} <= set(node))
        and node.get("type") != "boolean"
        and "properties" not in node  # a section: its fields are tested
    ]
    assert left_out == []


def test_whatever_is_unbounded_in_the_definition() -> None:
    """The cost of the rules is bounded only where every text, list and mapping is."""
    unbounded = []
    for path, node in nodes(SPEC):
        kind = written_as(node)
        keyword = {"string": "maxLength", "int-or-string": "maxLength", "array": "maxItems"}.get(kind)
        if kind == "object" and "properties" not in node:
            keyword = "maxProperties"
        if keyword and keyword not in node and "enum" not in node:
            unbounded.append(f"{path} has no {keyword}")
        assert kind != "number", f"{path}: no floats"
    assert unbounded == []


def test_every_field_says_what_it_is() -> None:
    silent = [
        path
        for path, node in nodes(resource_schema(DEFINITION))
        if path and not path.endswith(("[]", "{}")) and not str(node.get("description", "")).endswith(".")
    ]
    assert silent == []


@pytest.mark.parametrize(
    "section",
    ["", "targetRef", "service", "model", "labels.senders.0", "guards.0", "alerts.0", "webhooks.0", "autoscalerRef"],
)
def test_what_is_required_is_the_same(section: str) -> None:
    whole = changed(LEAST, {"autoscalerRef.name": "a", "labels.senders.0": {"name": "a", "tokenSHA256": "0" * 64}})
    whole = changed(whole, {f"{kind}.0": {"endpoint": "a", "events": ["Held"]} for kind in ("alerts", "webhooks")})
    whole = changed(whole, METRIC)
    assert refusal(whole) is None
    node = node_at(SPEC, section)[1] if section else SPEC
    optional = set()
    for name in node["properties"]:
        place = f"{section}.{name}".removeprefix(".")
        if _is_written(whole, place) and refusal(changed(whole, {place: REMOVED})) is None:
            optional.add(name)
    # What a guard needs beyond its name and type depends on the type.
    known = {"endpoint", "query", "min"} if section == "guards.0" else set()
    if section == "labels.senders.0":
        known = {"tokenSHA256"}  # or a name in a certificate
    required = {name for name in node["properties"] if _is_written(whole, f"{section}.{name}".removeprefix("."))}
    # By a rule, where the protocol has classes.
    ruled = {"classes"} if section == "model" else set()
    assert required - optional - known == set(node.get("required", ruled))


def _is_written(document: object, place: str) -> bool:
    for name in place.split("."):
        if isinstance(document, list):
            document = document[int(name)]
        elif isinstance(document, dict) and name in document:
            document = document[name]
        else:
            return False
    return True


@pytest.mark.parametrize(("place", "value"), FORGIVEN)
def test_what_the_parser_forgives(place: str, value: object) -> None:
    assert refusal(changed(LEAST, {place: value})) is None


def test_words_are_the_parsers_own() -> None:
    for path, node in nodes(SPEC):
        if "enum" not in node:
            continue
        place = path.replace("[]", ".0")
        error = refusal(changed(LEAST, {**needs(place, None), place: "other"}))
        assert error is not None
        assert set(re.findall(r"write one of ([^;]*)", error.remedy)[0].split(", ")) == set(node["enum"]), path


def test_the_name_has_the_same_limit() -> None:
    rule, _ = resource_schema(DEFINITION)["x-kubernetes-validations"]
    most = int(re.findall(r"size\(self\.metadata\.name\) <= (\d+)", rule["rule"])[0])
    resource = example("minimal.yaml")
    assert parse_resource(changed(resource, {"metadata.name": "a" * most}))
    with pytest.raises(SpecError, match=f"at most {most}"):
        parse_resource(changed(resource, {"metadata.name": "a" * (most + 1)}))


def copies(folder: Path) -> dict[Path, Any]:
    """Every copy of the definition in a chart, without what only a chart says: Helm's lines and annotations."""
    found = {}
    for path in sorted(folder.rglob("*.yaml")):
        text = path.read_text()
        if "kind: CustomResourceDefinition" not in text:
            continue
        document = yaml.safe_load("\n".join(line for line in text.splitlines() if not line.strip().startswith("{{")))
        for name in ("annotations", "labels"):
            written = document["metadata"].pop(name, None) or {}
            ours = {key: value for key, value in written.items() if not key.startswith("helm.sh/") and name != "labels"}
            if ours:
                document["metadata"][name] = ours
        found[path] = document
    return found


def test_the_charts_copy_is_the_same() -> None:
    for path, document in copies(PROJECT / "charts").items():
        assert document == DEFINITION, f"{path.relative_to(PROJECT)} is not crds/modelcanary.yaml"


# That each of these checks finds what it is for.


def altered(path: str, keyword: str, value: object) -> Node:
    """The specification's schema with one keyword of one field changed."""
    spec = copy.deepcopy(dict(SPEC))
    (node,) = [node for found, node in nodes(spec) if found == path]
    assert isinstance(node, dict)
    if value is REMOVED:
        del node[keyword]
    else:
        node[keyword] = value
    return spec


@pytest.mark.parametrize(
    ("path", "keyword", "value"),
    [("mirror.timeout", "default", "3s"), ("analysis.minSamples.promote", "default", 999), ("guards", "default", [])],
)
def test_another_default_is_found(path: str, keyword: str, value: object) -> None:
    assert any(path in found for found in default_differences(altered(path, keyword, value)))


@pytest.mark.parametrize(
    ("path", "keyword", "value"),
    [
        *(("model.classes", "maxItems", 999), ("model.classes", "maxItems", 1001), ("model.output", "maxLength", 254)),
        *(("mirror.maxInFlight", "minimum", 2), ("sidecar.workers", "minimum", 0), ("guards", "maxItems", 33)),
        *(("mirror.percent", "maxLength", 33), ("deletion", "enum", ["RestoreTarget", "KeepBaseline", "Drop"])),
    ],
)
def test_another_limit_is_found(path: str, keyword: str, value: object) -> None:
    found = limit_differences(altered(path, keyword, value))
    assert found and all(path in line for line in found)


def test_another_field_is_found() -> None:
    more = {**SPEC["properties"], "margin": {"type": "string"}}
    assert field_differences({**SPEC, "properties": more}) == ["the definition has .margin, the parser has not"]
    less = {name: node for name, node in SPEC["properties"].items() if name != "dryRun"}
    assert field_differences({**SPEC, "properties": less}) == ["the parser has .dryRun, the definition has not"]


def test_another_copy_is_found(tmp_path: Path) -> None:
    text = (PROJECT / "crds" / "modelcanary.yaml").read_text()
    template = tmp_path / "templates" / "crd.yaml"
    template.parent.mkdir()
    name = "  name: modelcanaries.modelcanary.io\n"
    kept = f"{name}  annotations:\n    helm.sh/resource-policy: keep\n"
    template.write_text("{{- if .Values.crds.install }}\n" + text.replace(name, kept) + "{{- end }}\n")
    assert copies(tmp_path) == {template: DEFINITION}
    template.write_text(template.read_text().replace("default: 2s", "default: 3s"))
    assert copies(tmp_path) != {template: DEFINITION}


def test_cases_are_of_both_kinds() -> None:
    kinds: dict[bool, list[Case]] = {True: [], False: []}
    for case in cases(SPEC):
        kinds[case.accepted].append(case)
    assert len(kinds[True]) >= 150 and len(kinds[False]) >= 300
