"""What is added to the user's NetworkPolicies: for the sidecar's port, and for the candidate's pods."""

from dataclasses import replace
from typing import Any

import pytest
from tests.operator.harness import SPEC, settings

from modelcanary_gate.parse import parse_spec
from modelcanary_operator import names, policies
from modelcanary_operator.manifests import Owner
from modelcanary_operator.policies import Pods

OWNER = Owner("team", "fraud", "uid-1", parse_spec(SPEC), settings("--ledger", "http://l.mc:8071").sidecar)
TARGET = {"app": "fraud", "team": "risk"}
CANDIDATE = {**TARGET, "app": "fraud-candidate", **OWNER.labels(names.CANDIDATE)}
PODS = Pods({**TARGET, **OWNER.labels(names.BASELINE)}, TARGET, CANDIDATE, frozenset({"http", 8080}), 18080)
WEB = {"podSelector": {"matchLabels": {"app": "web"}}}
FROM_BASELINE = {"from": [{"podSelector": {"matchLabels": OWNER.labels(names.BASELINE)}}]}
OPERATOR = {
    "from": [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "modelcanary"}}}],
    "ports": [{"protocol": "TCP", "port": 18080}],
}


def policy(spec: Any, name: str = "users") -> Any:
    return {"metadata": {"name": name}, "spec": spec}


def ingress(*rules: Any, selector: Any = None) -> Any:
    wanted = {"matchLabels": {"app": "fraud"}} if selector is None else selector
    return policy({"podSelector": wanted, "policyTypes": ["Ingress"], "ingress": list(rules)})


def allowed(port: Any) -> Any:
    return {"from": [WEB], "ports": [{"protocol": "TCP", **port}]}


def baseline(*users: Any) -> Any:
    found = policies.wanted(OWNER, users, PODS)[0]
    return found[0]["spec"] if found else None


def candidate(*users: Any, owner: Owner = OWNER) -> Any:
    return {item["metadata"]["name"]: item["spec"] for item in policies.wanted(owner, users, PODS)[1]}


@pytest.mark.parametrize("port", [{"port": 8080}, {"port": "http"}, {"port": 8000, "endPort": 8100}])
def test_who_may_reach_the_model_may_reach_the_sidecar(port: Any) -> None:
    added = baseline(ingress(allowed(port)))
    assert added["podSelector"] == {"matchLabels": OWNER.labels(names.BASELINE)}
    assert added["policyTypes"] == ["Ingress"]
    assert added["ingress"] == [{"from": [WEB], "ports": [{"protocol": "TCP", "port": 18080}]}, OPERATOR]


@pytest.mark.parametrize(
    "rule",
    [
        allowed({"port": 9090}),
        allowed({"port": "metrics"}),
        allowed({"port": 8081, "endPort": 8100}),
        {"from": [WEB], "ports": [{"protocol": "UDP", "port": 8080}]},
        {"from": [WEB]},  # every port: the sidecar's as well, by the user's own rule
    ],
)
def test_another_port_of_the_model_opens_nothing(rule: Any) -> None:
    assert baseline(ingress(rule))["ingress"] == [OPERATOR]


def test_pods_that_no_policy_isolates_are_not_isolated_by_ours() -> None:
    others = ingress(allowed({"port": 8080}), selector={"matchLabels": {"app": "web"}})
    assert baseline() is None and baseline(others) is None
    assert candidate() == {} and candidate(others) == {}
    dormant = policy(
        {"podSelector": {}, "policyTypes": ["Egress"], "ingress": [allowed({"port": 8080})], "egress": [{}]}
    )
    assert "ingress" not in baseline(dormant)


@pytest.mark.parametrize(
    ("selector", "found"),
    [
        ({}, True),
        ({"matchExpressions": [{"key": "app", "operator": "In", "values": ["fraud"]}]}, True),
        ({"matchExpressions": [{"key": "app", "operator": "NotIn", "values": ["fraud"]}]}, False),
        ({"matchExpressions": [{"key": "team", "operator": "Exists"}]}, True),
        ({"matchExpressions": [{"key": "team", "operator": "DoesNotExist"}]}, False),
        ({"matchLabels": {"team": "risk", "app": "web"}}, False),
    ],
)
def test_selectors_mean_what_they_mean_to_kubernetes(selector: Any, found: bool) -> None:
    assert (baseline(ingress(allowed({"port": 8080}), selector=selector)) is not None) is found


def test_an_isolated_baseline_may_mirror_and_report() -> None:
    closed = policy({"podSelector": {}, "policyTypes": ["Egress"]})
    candidates, ledger = baseline(closed)["egress"]
    assert candidates == {"to": [{"podSelector": {"matchLabels": OWNER.labels(names.CANDIDATE)}}]}
    assert ledger["to"] == [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "mc"}}}]
    assert ledger["ports"] == [{"protocol": "TCP", "port": 8071}]
    addressed = replace(OWNER, settings=replace(OWNER.settings, ledger="https://10.1.2.3"))
    rule = policies.wanted(addressed, [closed], PODS)[0][0]["spec"]["egress"][1]
    assert rule == {"to": [{"ipBlock": {"cidr": "10.1.2.3/32"}}], "ports": [{"protocol": "TCP", "port": 443}]}


def test_the_candidate_is_as_isolated_as_the_model_and_hears_the_baseline() -> None:
    both = policy(
        {
            "podSelector": {"matchLabels": {"app": "fraud"}},
            "policyTypes": ["Ingress", "Egress"],
            "ingress": [allowed({"port": 9090})],
            "egress": [{"to": [{"podSelector": {"matchLabels": {"app": "features"}}}]}],
        }
    )
    added = candidate(both)["fraud-candidate"]
    assert added["podSelector"] == {"matchLabels": OWNER.labels(names.CANDIDATE)}
    assert added["policyTypes"] == ["Ingress", "Egress"]
    assert added["ingress"] == [allowed({"port": 9090}), FROM_BASELINE]
    assert added["egress"] == both["spec"]["egress"]
    assert added["ingress"][0] is not both["spec"]["ingress"][0]


def test_what_a_policy_still_says_of_the_candidate_is_not_said_twice() -> None:
    everybody = ingress(allowed({"port": 8080}), selector={})
    assert candidate(everybody)["fraud-candidate"]["ingress"] == [FROM_BASELINE]
    assert candidate(policy({"podSelector": {}, "policyTypes": ["Egress"], "egress": [{}]})) == {}


def test_others_that_admit_the_model_by_its_labels_admit_the_candidate() -> None:
    model = {"podSelector": {"matchLabels": {"app": "fraud"}}}
    here = {**model, "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "team"}}}
    features = {"matchLabels": {"app": "features"}}
    ports = [{"protocol": "TCP", "port": 6379}]
    for peer in (model, here):
        added = candidate(ingress({"from": [WEB, peer], "ports": ports}, selector=features))
        (name, spec), *more = added.items()
        assert not more and name.startswith("fraud-candidate-")
        assert spec["podSelector"] == features
        assert spec["ingress"] == [
            {"from": [{"podSelector": {"matchLabels": OWNER.labels(names.CANDIDATE)}}], "ports": ports}
        ]
    elsewhere = {**model, "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "other"}}}
    by_team = {"podSelector": {"matchLabels": {"team": "risk"}}}
    assert candidate(ingress({"from": [elsewhere]}, {"from": [by_team]}, selector=features)) == {}


def test_an_isolated_candidate_asks_for_names_and_answers_the_baseline_alone() -> None:
    spec = parse_spec({**SPEC, "candidate": {"isolate": True}})
    features = ingress(
        {"from": [{"podSelector": {"matchLabels": {"app": "fraud"}}}]}, selector={"matchLabels": {"a": "b"}}
    )
    open_egress = policy({"podSelector": {"matchLabels": {"app": "fraud"}}, "policyTypes": ["Egress"], "egress": [{}]})
    added = candidate(features, open_egress, owner=replace(OWNER, spec=spec))
    assert list(added) == ["fraud-candidate"]
    (rule,) = added["fraud-candidate"]["egress"]
    assert {port["port"] for port in rule["ports"]} == {53, 5353}
    assert {"namespaceSelector": {}} in rule["to"]
    assert candidate(owner=replace(OWNER, spec=spec))["fraud-candidate"]["policyTypes"] == ["Egress"]


def test_what_was_edited_or_is_missing_is_stale_and_what_nobody_asks_for_is_spare() -> None:
    asked = policies.wanted(OWNER, [ingress(allowed({"port": 8080}))], PODS)[0]
    live = {**asked[0], "metadata": {**asked[0]["metadata"], "resourceVersion": "7"}}
    assert policies.fact([live], asked, names.BASELINE).stale == ()
    assert policies.fact([], asked, names.BASELINE).stale == ("fraud-baseline",)
    edited = {**live, "spec": {**live["spec"], "ingress": []}}
    found = policies.fact([edited], asked, names.BASELINE)
    assert (found.stale, found.present) == (("fraud-baseline",), {"fraud-baseline": "7"})
    assert policies.fact([live], [], names.BASELINE).spare == ("fraud-baseline",)
    assert policies.fact([live], asked, names.CANDIDATE).present == {}
