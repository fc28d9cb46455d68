"""NetworkPolicies of ours: what the user's allow the model, for the sidecar's port and for the candidate's pods.

Pure; called by `find`. Policies only ever add: ours select our own pods, or let the candidate reach whom the model may
reach. A pod that no policy of the user's isolates is not isolated by ours, but for `candidate.isolate`.
"""

import copy
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from urllib.parse import urlsplit

from modelcanary_gate.plan.observed import Policies
from modelcanary_operator import facts, names, templates
from modelcanary_operator.api import NETWORK_POLICIES, Object
from modelcanary_operator.manifests import Owner

_NAMESPACE = "kubernetes.io/metadata.name"
#: Where pods ask for names: any DNS server of the cluster, or the node's own cache at its usual address.
_DNS: Object = {
    "to": [{"namespaceSelector": {}}, {"ipBlock": {"cidr": "169.254.20.10/32"}}],
    "ports": [
        {"protocol": protocol, "port": port} for port in (53, 5353) for protocol in ("UDP", "TCP")
    ],
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Pods:
    """What policies can tell pods by: labels of the baseline's, the target's and the candidate's, and ports."""

    baseline: Mapping[str, str]
    target: Mapping[str, str]
    candidate: Mapping[str, str]
    model_ports: frozenset[str | int]  # numbers and names by which the model is allowed
    sidecar_port: int


def wanted(owner: Owner, users: Sequence[Object], pods: Pods) -> tuple[list[Object], list[Object]]:
    """Beside the user's policies: those for the baseline, and those for the candidate."""
    users = sorted(users, key=lambda item: str(item["metadata"]["name"]))
    baseline = _baseline(owner, users, pods)
    candidate = _candidate(owner, users, pods)
    return (
        [baseline] if baseline is not None else [],
        [*([candidate] if candidate is not None else []), *_reach(owner, users, pods)],
    )


def fact(ours: Sequence[Object], asked: Sequence[Object], role: str) -> Policies:
    there = {item["metadata"]["name"]: item for item in ours if facts.label(item, names.ROLE) == role}
    return Policies(
        present={name: facts.version(item) for name, item in there.items()},
        stale=tuple(
            item["metadata"]["name"]
            for item in asked
            if (live := there.get(item["metadata"]["name"])) is None
            or facts.label(live, names.UID) != facts.label(item, names.UID)
            or facts.annotation(live, names.COPY_OF) != facts.annotation(item, names.COPY_OF)
            or not templates.contains(live["spec"], item["spec"])
        ),
        spare=tuple(sorted(there.keys() - {item["metadata"]["name"] for item in asked})),
    )


def _baseline(owner: Owner, users: Sequence[Object], pods: Pods) -> Object | None:
    """Who may reach the model's port may reach the sidecar's, and the operator may, to see that it answers."""
    applying = [item for item in users if _selects(item["spec"].get("podSelector"), pods.baseline)]
    spec: Object = {}
    if any("Ingress" in _types(item) for item in applying):
        port = [{"protocol": "TCP", "port": pods.sidecar_port}]
        rules = [
            {**({"from": copy.deepcopy(rule["from"])} if rule.get("from") else {}), "ports": port}
            for item in applying
            for rule in _rules(item, "Ingress")
            if any(_allows(each, pods.model_ports) for each in rule.get("ports") or [])
        ]
        spec["ingress"] = [*rules, {"from": [_of_namespace(owner.settings.operator_namespace)], "ports": port}]
    if any("Egress" in _types(item) for item in applying):
        spec["egress"] = [{"to": [_role(owner, names.CANDIDATE)]}, _ledger(owner)]
    selected = {"matchLabels": owner.labels(names.BASELINE)}
    return _policy(owner, names.baseline(owner.name), names.BASELINE, selected, spec) if spec else None


def _candidate(owner: Owner, users: Sequence[Object], pods: Pods) -> Object | None:
    """What the user's policies say of the model's pods, for pods whose labels they do not know."""
    isolate = owner.spec.candidate.isolate
    applying = [item for item in users if _selects(item["spec"].get("podSelector"), pods.candidate)]
    lost = [item for item in users if item not in applying and _selects(item["spec"].get("podSelector"), pods.target)]
    spec: Object = {}
    if any("Ingress" in _types(item) for item in (*applying, *lost)):
        rules = [copy.deepcopy(rule) for item in lost for rule in _rules(item, "Ingress")]
        spec["ingress"] = [*rules, {"from": [_role(owner, names.BASELINE)]}]
    if isolate:
        spec["egress"] = [copy.deepcopy(_DNS)]
    elif any("Egress" in _types(item) for item in lost):
        spec["egress"] = [copy.deepcopy(rule) for item in lost for rule in _rules(item, "Egress")]
    selected = {"matchLabels": owner.labels(names.CANDIDATE)}
    return _policy(owner, names.candidate(owner.name), names.CANDIDATE, selected, spec) if spec else None


def _reach(owner: Owner, users: Sequence[Object], pods: Pods) -> list[Object]:
    """Policies of others that admit the model by its labels, for the candidate."""
    if owner.spec.candidate.isolate:
        return []
    found: list[Object] = []
    for item in users:
        rules = [
            {"from": [_role(owner, names.CANDIDATE)], **({"ports": rule["ports"]} if rule.get("ports") else {})}
            for rule in _rules(item, "Ingress")
            if any(_admits(owner, peer, pods.target) for peer in rule.get("from") or [])
            and not any(_admits(owner, peer, pods.candidate) for peer in rule.get("from") or [])
        ]
        if rules:
            digest = hashlib.sha256(item["metadata"]["name"].encode()).hexdigest()[:10]
            selected = copy.deepcopy(item["spec"].get("podSelector") or {})
            found.append(
                _policy(owner, f"{names.candidate(owner.name)}-{digest}", names.CANDIDATE, selected, {"ingress": rules})
            )
    return found


def _policy(owner: Owner, name: str, role: str, selected: Object, spec: Object) -> Object:
    types = [kind for kind, rules in (("Ingress", "ingress"), ("Egress", "egress")) if rules in spec]
    metadata: Object = {
        "name": name,
        "namespace": owner.namespace,
        "labels": {**owner.labels(role), names.UID: owner.uid},
    }
    whole: Object = {"podSelector": selected, "policyTypes": types, **spec}
    # What a rule leaves out means everything: that it is there still does not show by what is asked for alone.
    metadata["annotations"] = {
        names.COPY_OF: hashlib.sha256(json.dumps(whole, sort_keys=True).encode()).hexdigest()[:16]
    }
    if role == names.CANDIDATE:
        metadata["ownerReferences"] = [owner.reference()]
    return {
        "apiVersion": NETWORK_POLICIES.api_version,
        "kind": NETWORK_POLICIES.kind,
        "metadata": metadata,
        "spec": whole,
    }


def _types(policy: Object) -> list[str]:
    """Defaulted by the API server, so that they are always there."""
    return policy["spec"].get("policyTypes") or []


def _rules(policy: Object, kind: str) -> list[Object]:
    """Of a kind that the policy does not name, rules mean nothing."""
    return (policy["spec"].get(kind.lower()) or []) if kind in _types(policy) else []


def _role(owner: Owner, role: str) -> Object:
    return {"podSelector": {"matchLabels": owner.labels(role)}}


def _of_namespace(name: str) -> Object:
    return {"namespaceSelector": {"matchLabels": {_NAMESPACE: name}}}


def _ledger(owner: Owner) -> Object:
    """By its URL: `SERVICE.NAMESPACE…`, a Service of this namespace, or an address."""
    parts = urlsplit(owner.settings.ledger)
    host = parts.hostname or ""
    port = parts.port or (443 if parts.scheme == "https" else 80)
    try:
        address = ip_address(host)
    except ValueError:
        _, _, rest = host.partition(".")
        peer = _of_namespace(rest.partition(".")[0] or owner.namespace)
    else:
        peer = {"ipBlock": {"cidr": f"{address}/{address.max_prefixlen}"}}
    return {"to": [peer], "ports": [{"protocol": "TCP", "port": port}]}


def _allows(port: Object, model_ports: frozenset[str | int]) -> bool:
    """Whether a port of a rule is the model's. One without a port is any, the sidecar's too, by the user's own rule."""
    if port.get("protocol", "TCP") != "TCP" or "port" not in port:
        return False
    first, last = port["port"], port.get("endPort")
    if isinstance(first, int) and last is not None:
        return any(isinstance(number, int) and first <= number <= last for number in model_ports)
    return first in model_ports


def _admits(owner: Owner, peer: Object, labels: Mapping[str, str]) -> bool:
    """Whether a peer is pods with these labels in this namespace. Of a namespace, no label but its name is known."""
    if "podSelector" not in peer:
        return False
    here = {_NAMESPACE: owner.namespace}
    return _selects(peer["podSelector"], labels) and (
        "namespaceSelector" not in peer or _selects(peer["namespaceSelector"], here)
    )


def _selects(selector: Object | None, labels: Mapping[str, str]) -> bool:
    """As Kubernetes has it: an empty selector is everything."""
    selector = selector or {}
    wanted_labels = (selector.get("matchLabels") or {}).items()
    return all(labels.get(key) == value for key, value in wanted_labels) and all(
        _holds(item, labels) for item in selector.get("matchExpressions") or []
    )


def _holds(expression: Object, labels: Mapping[str, str]) -> bool:
    key, values = expression["key"], expression.get("values") or []
    match expression["operator"]:
        case "In":
            return labels.get(key) in values
        case "NotIn":
            return labels.get(key) not in values
        case "Exists":
            return key in labels
        case _:
            return key not in labels
