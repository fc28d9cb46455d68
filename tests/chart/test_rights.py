"""What the chart lets its parts do: what they call, by name, and nothing more."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.chart.helm import Manifest, of_kind, render
from tests.operator.granted import Right, chart_rules, rights

from modelcanary_operator import api, events
from modelcanary_operator.names import AUTHORITY

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(3600)]

OPERATOR = Path(api.__file__).parent
VERBS = {
    "get": "get",
    "maybe": "get",  # of find.py: GET, where it may be missing
    "list": "list",
    "list_metadata": "list",
    "create": "create",
    "replace": "update",
    "merge": "patch",
    "delete": "delete",
    "_delete": "delete",  # of apply.py: DELETE, where it may be gone
}
KINDS = {name: kind for name, kind in vars(api).items() if isinstance(kind, api.Kind)}


def right(kind: api.Kind, verb: str, subresource: str = "") -> Right:
    resource = "/".join([kind.plural, *([subresource] if subresource else [])])
    return kind.api_version.rpartition("/")[0], resource, verb


def called() -> Iterator[Right]:
    """Calls in the operator's sources that name their kind, and what it watches. Others hand kinds on: `kinds_used`."""
    for path in OPERATOR.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.Call) or not node.args or not isinstance(node.args[0], ast.Name):
                continue
            kind = KINDS.get(node.args[0].id)
            name = getattr(node.func, "attr", getattr(node.func, "id", ""))
            if kind is not None and name in VERBS:
                last = node.args[-1]
                status = isinstance(last, ast.Constant) and last.value == "status"
                yield right(kind, VERBS[name], "status" if status else "")
    for name, kind in KINDS.items():
        if hasattr(events, name):
            yield right(kind, "list")
            yield right(kind, "watch")


def kinds_used() -> set[tuple[str, str]]:
    """Every kind that a module beside the list of kinds makes use of."""
    sources = "".join(path.read_text() for path in OPERATOR.glob("*.py") if path.name != "api.py")
    return {right(kind, "")[:2] for name, kind in KINDS.items() if re.search(rf"\b{name}\b", sources)}


def test_the_operator_may_do_what_it_does_and_touches_nothing_more() -> None:
    granted = set(rights(chart_rules()))
    (lease,) = of_kind(render(), "Role").values()
    does = set(called())
    lease_rights = {(group, resource, verb) for group, resource, verb in does if resource == "leases"}
    assert does - lease_rights <= granted
    resources = {(group, resource.partition("/")[0]) for group, resource, _ in granted}
    assert resources == kinds_used() - {right(api.LEASES, "")[:2]}
    # Creating cannot be granted by name, and need not be: the Lease is the chart's.
    assert set(rights(lease["rules"])) == lease_rights - {right(api.LEASES, "create")}
    assert [rule["resourceNames"] for rule in lease["rules"]] == [["modelcanary-operator"]]


def test_of_config_maps_it_reads_and_changes_one_alone() -> None:
    """Clusters keep settings in them that give rights: nodes' and people's among them."""
    named = {rule["verbs"][0]: rule.get("resourceNames") for rule in chart_rules() if "configmaps" in rule["resources"]}
    granted = {verb for _, resource, verb in rights(chart_rules()) if resource == "configmaps"}
    assert named == {"list": None, "get": [AUTHORITY]}
    assert granted == {"list", "create", "delete", "get", "patch"}


def roles(manifests: list[Manifest]) -> list[Any]:
    return [item for item in manifests if item["kind"] in ("Role", "ClusterRole")]


@pytest.mark.parametrize("namespaces", [[], ["team-a", "team-b"]])
def test_no_wildcard_no_secret_and_no_rights_over_rights(namespaces: list[str]) -> None:
    for role in roles(render({"namespaces": namespaces})):
        for group, resource, verb in rights(role["rules"]):
            assert "*" not in (group, resource, verb)
            assert resource.partition("/")[0] not in ("secrets", "serviceaccounts", "nodes", "namespaces")
            assert group != "rbac.authorization.k8s.io"
            assert verb not in ("escalate", "bind", "impersonate", "deletecollection")
            assert resource not in ("pods/exec", "pods/ephemeralcontainers")


def test_with_namespaces_there_is_a_role_in_each_and_nothing_beyond() -> None:
    made = render({"namespaces": ["team-a", "team-b"], "rbac": {"tokenReview": False}})
    assert not [item for item in made if item["kind"].startswith("ClusterRole")]
    assert set(of_kind(made, "Role")) == {
        "canaries/modelcanary-operator-lease",
        "team-a/modelcanary-operator",
        "team-b/modelcanary-operator",
    } or set(of_kind(made, "Role")) == {"modelcanary-operator-lease", "modelcanary-operator"}
    for binding in [item for item in made if item["kind"] == "RoleBinding"]:
        (subject,) = binding["subjects"]
        assert (subject["name"], subject["namespace"]) == ("modelcanary-operator", "canaries")


def test_the_ledger_may_ask_whose_a_token_is_and_no_more() -> None:
    bindings = of_kind(render(), "ClusterRoleBinding")
    ledger = bindings["modelcanary:canaries:ledger"]
    assert ledger["roleRef"]["name"] == "system:auth-delegator"
    bound = [subject["name"] for item in bindings.values() for subject in item["subjects"]]
    assert sorted(bound) == ["modelcanary-ledger", "modelcanary-operator"]
    assert "modelcanary:canaries:ledger" not in of_kind(render({"rbac": {"tokenReview": False}}), "ClusterRoleBinding")
