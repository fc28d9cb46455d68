"""What the baseline's and the candidate's pods are, from what the user wrote."""

import copy
from typing import Any

import pytest
from tests.operator.harness import SPEC, settings, template

from modelcanary_gate.parse import parse_spec
from modelcanary_operator import manifests, names
from modelcanary_operator.insertion import Sidecar
from modelcanary_operator.manifests import Owner, Source
from modelcanary_operator.templates import contains, find_port, template_hash

OWNER = Owner("team", "fraud", "uid-1", parse_spec(SPEC), settings().sidecar)


def baseline(written: Any, target_port: str | int = "http") -> Any:
    port = find_port(written, target_port)
    assert port is not None
    source = Source(template_hash(written), written, port, target_port)
    return manifests.baseline(OWNER, source, 2, None, OWNER.sidecar())["spec"]["template"]


def test_the_sidecar_takes_the_port_name_and_the_probe_keeps_its_port() -> None:
    written = template()
    before = copy.deepcopy(written)
    pod = baseline(written)["spec"]
    assert written == before
    model, sidecar = pod["containers"][0], pod["initContainers"][-1]
    assert model["ports"] == [{"name": "http-model", "containerPort": 8080, "protocol": "TCP"}]
    assert model["readinessProbe"]["httpGet"]["port"] == 8080
    assert sidecar["ports"][0] == {"name": "http", "containerPort": 18080, "protocol": "TCP"}
    assert sidecar["restartPolicy"] == "Always"
    assert {"--upstream=http://127.0.0.1:8080", "--namespace=team", "--name=fraud"} <= set(sidecar["args"])
    assert sidecar["resources"]["requests"] == {"cpu": "100m", "memory": "64Mi"}


def test_named_ports_of_every_probe_and_hook_are_resolved() -> None:
    probe = {"httpGet": {"path": "/", "port": "http"}}
    tcp = {"tcpSocket": {"port": "http"}}
    pod = baseline(template(livenessProbe=tcp, startupProbe=probe, lifecycle={"postStart": probe}))["spec"]
    model = pod["containers"][0]
    assert model["livenessProbe"]["tcpSocket"]["port"] == 8080
    assert model["startupProbe"]["httpGet"]["port"] == 8080
    assert model["lifecycle"]["postStart"]["httpGet"]["port"] == 8080


def test_a_numeric_port_leaves_the_models_port_as_it_is() -> None:
    written = template()
    pod = baseline(written, 8080)["spec"]
    assert pod["containers"][0]["ports"] == written["spec"]["containers"][0]["ports"]
    assert pod["initContainers"][-1]["ports"][0]["containerPort"] == 18080


def test_the_models_end_waits_for_the_drain_and_a_hook_of_the_users_stays() -> None:
    pod = baseline(template())["spec"]
    drain = {"httpGet": {"path": "/drain", "port": 18090, "scheme": "HTTP"}}
    assert pod["containers"][0]["lifecycle"]["preStop"] == drain
    assert pod["initContainers"][-1]["lifecycle"]["preStop"] == drain
    assert pod["terminationGracePeriodSeconds"] == 60
    own = {"preStop": {"exec": {"command": ["/bin/sync"]}}}
    written = template(lifecycle=own)
    written["spec"]["terminationGracePeriodSeconds"] = 5
    pod = baseline(written)["spec"]
    assert pod["containers"][0]["lifecycle"] == own
    assert pod["terminationGracePeriodSeconds"] == 35


def test_the_token_is_in_the_sidecar_only() -> None:
    written = template()
    written["spec"]["automountServiceAccountToken"] = False
    written["spec"]["initContainers"] = [{"name": "fetch", "image": "fetch:1"}]
    pod = baseline(written)["spec"]
    assert pod["automountServiceAccountToken"] is False
    assert [container["name"] for container in pod["initContainers"]] == ["fetch", "modelcanary"]
    assert [volume["name"] for volume in pod["volumes"]] == ["modelcanary-token"]
    mounting = [
        container["name"] for container in [*pod["containers"], *pod["initContainers"]] if container.get("volumeMounts")
    ]
    assert mounting == ["modelcanary"]
    token = pod["volumes"][0]["projected"]["sources"][0]["serviceAccountToken"]
    assert token["audience"] == "modelcanary-ledger"


def test_the_sidecar_may_run_where_pod_security_is_restricted() -> None:
    context = baseline(template())["spec"]["initContainers"][-1]["securityContext"]
    assert context["runAsNonRoot"] and context["readOnlyRootFilesystem"] and not context["allowPrivilegeEscalation"]
    assert context["capabilities"] == {"drop": ["ALL"]}
    assert context["seccompProfile"] == {"type": "RuntimeDefault"}


@pytest.mark.parametrize("overrides", [{}, {"app": "shadow", "more": "yes"}])
def test_the_candidate_is_found_by_no_service(overrides: dict[str, str]) -> None:
    written = template()
    owner = Owner("team", "fraud", "u", parse_spec({**SPEC, "candidate": {"labels": overrides}}), settings().sidecar)
    port = find_port(written, "http")
    assert port is not None
    source = Source("abc", written, port, "http")
    built = manifests.candidate(owner, source, 1, "run-1", {"app": "fraud"})
    labels = built["spec"]["template"]["metadata"]["labels"]
    assert labels["app"] == (overrides.get("app") or "fraud-candidate")
    assert labels["team"] == "risk"
    assert names.SERVING not in labels
    assert built["spec"]["template"]["spec"] == written["spec"]
    assert built["metadata"]["ownerReferences"][0]["uid"] == "u"


def test_the_hash_is_of_what_was_written_however_it_is_ordered() -> None:
    one, other = template(), template()
    other["spec"]["containers"][0] = dict(reversed(other["spec"]["containers"][0].items()))
    other["metadata"]["creationTimestamp"] = None
    assert template_hash(one) == template_hash(other)
    assert template_hash(one) != template_hash(template("model:2"))


def test_a_baseline_of_another_version_says_nothing_about_its_sidecar() -> None:
    sidecar = OWNER.sidecar()
    assert Sidecar.from_json(sidecar.to_json()) == sidecar
    assert Sidecar.from_json('{"image": "a", "unknown": 1}') is None
    assert Sidecar.from_json("") is None


@pytest.mark.parametrize(
    ("live", "wanted", "same"),
    [
        ({"a": 1, "default": 2}, {"a": 1}, True),
        ({"a": 1}, {"a": 2}, False),
        ({}, {"a": 1}, False),
        (None, {}, True),
        ([{"name": "x", "more": 1}], [{"name": "x"}], True),
        ([{"name": "x"}, {"name": "y"}], [{"name": "x"}], False),
        ({"cpu": "500m"}, {"cpu": "0.5"}, True),
        ({"memory": "1Gi"}, {"memory": "1024Mi"}, True),
        ({"memory": "1G"}, {"memory": "1Gi"}, False),
        ({"cpu": "1"}, {"cpu": "2"}, False),
    ],
)
def test_defaults_and_spellings_are_no_difference(live: object, wanted: object, same: bool) -> None:
    assert contains(live, wanted) is same
