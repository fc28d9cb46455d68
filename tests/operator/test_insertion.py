"""What the baseline's and the candidate's pods are, from what the user wrote."""

import copy
from typing import Any

import pytest
from tests.operator.harness import SPEC, settings, template

from modelcanary_gate.parse import parse_spec
from modelcanary_operator import manifests, names
from modelcanary_operator.insertion import Sidecar, clashes
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


PATH = "/drain/0282c5e8833b70bc920d02251ef9d33d"  # sha256 of modelcanary-drain:uid-1
DRAIN = {"httpGet": {"path": PATH, "port": 18090, "scheme": "HTTP"}}


def option(pod: Any, name: str) -> str:
    (found,) = (arg for arg in pod["initContainers"][-1]["args"] if arg.startswith(f"--{name}="))
    return str(found).partition("=")[2]


def test_the_models_end_waits_for_the_drain() -> None:
    pod = baseline(template())["spec"]
    assert pod["containers"][0]["lifecycle"]["preStop"] == DRAIN
    assert pod["initContainers"][-1]["lifecycle"]["preStop"] == DRAIN
    assert option(pod, "drain-path") == PATH


@pytest.mark.parametrize(("users", "ours"), [(None, 30), (5, 5), (3600, 3600), (0, 0)])
def test_requests_in_flight_have_the_users_grace_and_the_end_ten_seconds_more(users: int | None, ours: int) -> None:
    written = template()
    if users is not None:
        written["spec"]["terminationGracePeriodSeconds"] = users
    pod = baseline(written)["spec"]
    assert option(pod, "drain-time") == f"{ours}s"
    assert option(pod, "drain-delay") == "5s"
    assert pod["terminationGracePeriodSeconds"] == 5 + ours + 10


def test_a_hook_of_the_users_stays() -> None:
    own = {"preStop": {"exec": {"command": ["/bin/sync"]}}, "stopSignal": "SIGINT"}
    pod = baseline(template(lifecycle=own))["spec"]
    assert pod["containers"][0]["lifecycle"] == own
    assert pod["initContainers"][-1]["lifecycle"]["preStop"] == DRAIN  # the drain begins all the same
    started = {"postStart": {"exec": {"command": ["/bin/warm"]}}}
    pod = baseline(template(lifecycle=started))["spec"]
    assert pod["containers"][0]["lifecycle"] == {**started, "preStop": DRAIN}


def test_a_probe_with_a_grace_of_its_own_has_the_time_for_the_drain_too() -> None:
    probe = {"tcpSocket": {"port": 8080}, "terminationGracePeriodSeconds": 20}
    (model,) = baseline(template(livenessProbe=probe))["spec"]["containers"]
    assert model["livenessProbe"]["terminationGracePeriodSeconds"] == 35
    assert "terminationGracePeriodSeconds" not in model["readinessProbe"]


def test_what_the_model_may_need_beside_it_does_not_end_before_it() -> None:
    written = template()
    written["spec"]["containers"] += [
        {"name": "features", "image": "features:1"},
        {"name": "istio-proxy", "image": "proxy:1", "lifecycle": {"preStop": {"sleep": {"seconds": 9}}}},
    ]
    written["spec"]["initContainers"] = [{"name": "proxy", "image": "proxy:1", "restartPolicy": "Always"}]
    pod = baseline(written)["spec"]
    hooks = [container.get("lifecycle", {}).get("preStop") for container in pod["containers"]]
    assert hooks == [DRAIN, DRAIN, {"sleep": {"seconds": 9}}]
    # A native sidecar that starts before ours ends after it.
    assert pod["initContainers"][0] == written["spec"]["initContainers"][0]


def test_no_other_container_is_found_by_the_ports_name() -> None:
    """The Service finds the first port of its name, native sidecars' after those of containers."""
    written = template()
    health = {"httpGet": {"path": "/", "port": "http"}}
    written["spec"]["containers"].append(
        {"name": "metrics", "ports": [{"name": "http", "containerPort": 9000}], "livenessProbe": health}
    )
    native = {"name": "proxy", "restartPolicy": "Always", "ports": [{"name": "http", "containerPort": 7000}]}
    written["spec"]["initContainers"] = [native]
    pod = baseline(written)["spec"]
    found = [
        container["name"]
        for container in [*pod["containers"], *pod["initContainers"]]
        for port in container.get("ports", [])
        if port["name"] == "http"
    ]
    assert found == ["modelcanary"]
    assert option(pod, "upstream") == "http://127.0.0.1:8080"
    assert pod["containers"][1]["livenessProbe"]["httpGet"]["port"] == 9000


@pytest.mark.parametrize(
    ("name", "others", "new"),
    [
        ("http", [], "http-model"),
        ("http", ["http-model"], "http-model2"),
        ("ab-cdefg-hi", [], "ab-cdefg-model"),  # two hyphens in a row are no name
        ("abcdefghijklmno", [], "abcdefghi-model"),
        ("abcdefghijklmno", ["abcdefghi-model"], "abcdefgh-model2"),
    ],
)
def test_the_models_port_has_a_name_that_it_may_have(name: str, others: list[str], new: str) -> None:
    written = template()
    (model,) = written["spec"]["containers"]
    model["ports"] = [{"name": each, "containerPort": 8080 + n} for n, each in enumerate([name, *others])]
    ports = baseline(written, name)["spec"]["containers"][0]["ports"]
    assert [port["name"] for port in ports] == [new, *others]


def test_names_that_the_sidecar_needs_are_found() -> None:
    written = template()
    assert clashes(written) == ()
    written["spec"]["initContainers"] = [{"name": "modelcanary"}]
    written["spec"]["volumes"] = [{"name": "data"}, {"name": "modelcanary-token"}]
    assert clashes(written) == ("the container modelcanary", "the volume modelcanary-token")


def test_the_sidecar_does_not_depend_on_the_model_to_start() -> None:
    sidecar = baseline(template())["spec"]["initContainers"][-1]
    assert sidecar["startupProbe"]["httpGet"]["path"] == "/healthz"
    assert sidecar["livenessProbe"]["httpGet"]["path"] == "/healthz"
    assert sidecar["readinessProbe"]["httpGet"]["path"] == "/readyz"


def test_what_the_pod_says_of_users_and_groups_is_the_models_alone() -> None:
    written = template()
    context = {"runAsUser": 0, "runAsGroup": 0, "runAsNonRoot": False, "fsGroup": 2000, "supplementalGroups": [7]}
    written["spec"]["securityContext"] = context
    pod = baseline(written)["spec"]
    assert pod["securityContext"] == context
    ours = pod["initContainers"][-1]["securityContext"]
    assert (ours["runAsUser"], ours["runAsGroup"], ours["runAsNonRoot"]) == (65532, 65532, True)


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
    (container,) = built["spec"]["template"]["spec"]["containers"]
    assert container.pop("terminationMessagePolicy") == "FallbackToLogsOnError", "its last words are kept"
    assert "terminationMessagePolicy" not in written["spec"]["containers"][0]
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
