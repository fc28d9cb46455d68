"""What the chart installs: how its pods run, what they are told, and who may reach them."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.chart.helm import CHART, VARIANTS, Manifest, of_kind, render, template

from modelcanary_ledger import settings as ledger_settings
from modelcanary_operator import settings as operator_settings
from modelcanary_operator.endpoints import parse_endpoints
from modelcanary_operator.lease import NAME as LEASE

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(3600)]
PARTS = ("operator", "ledger")


@pytest.fixture(scope="module", params=VARIANTS)
def manifests(request: pytest.FixtureRequest) -> list[Manifest]:
    return render(VARIANTS[request.param])


def pods(manifests: list[Manifest]) -> Iterator[tuple[str, dict[str, Any]]]:
    for item in manifests:
        if item["kind"] in ("Deployment", "StatefulSet"):
            yield item["metadata"]["name"], item["spec"]["template"]["spec"]
        elif item["kind"] == "Pod":
            yield item["metadata"]["name"], item["spec"]


def container(manifests: list[Manifest], name: str) -> dict[str, Any]:
    (found,) = dict(pods(manifests))[f"modelcanary-{name}"]["containers"]
    return dict(found)


def test_pods_are_restricted_and_more(manifests: list[Manifest]) -> None:
    found = dict(pods(manifests))
    follows = {"modelcanary-labels"} if "modelcanary-label-endpoints" in of_kind(manifests, "ConfigMap") else set()
    assert set(found) == {"modelcanary-operator", "modelcanary-ledger", "modelcanary-test", *follows}
    for name, spec in found.items():
        assert spec["securityContext"]["runAsNonRoot"] is True, name
        assert spec["securityContext"]["runAsUser"] == 65532, name
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}, name
        (only,) = spec["containers"]
        assert only["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "readOnlyRootFilesystem": True,
        }
        assert {"cpu", "memory"} <= set(only["resources"]["requests"]) and "memory" in only["resources"]["limits"]


def test_each_part_understands_what_it_is_told(manifests: list[Manifest]) -> None:
    operator = operator_settings.read_settings(container(manifests, "operator")["args"], {})
    inside = {"KUBERNETES_SERVICE_HOST": "10.96.0.1"}
    ledger = ledger_settings.read_settings(container(manifests, "ledger")["args"], inside)
    assert operator.own_namespace == "canaries"
    assert operator.ledger == operator.sidecar.ledger
    assert operator.ledger.startswith("https://" if ledger.tls else "http://")
    assert operator.ledger.endswith("://modelcanary-ledger.canaries.svc:8071")
    assert operator.token_file is not None
    assert ledger.review is not None
    assert ledger.review.operators == {"system:serviceaccount:canaries:modelcanary-operator"}
    assert (operator.port, ledger.port) == (8070, 8071)


def test_files_that_they_are_told_of_are_mounted(manifests: list[Manifest]) -> None:
    for part in PARTS:
        only = container(manifests, part)
        mounted = [Path(mount["mountPath"]) for mount in only["volumeMounts"]]
        volumes = {volume["name"] for volume in dict(pods(manifests))[f"modelcanary-{part}"].get("volumes") or []}
        for stateful in of_kind(manifests, "StatefulSet").values():
            claims = stateful["spec"].get("volumeClaimTemplates", [])
            volumes |= {claim["metadata"]["name"] for claim in claims if part == "ledger"}
        assert {mount["name"] for mount in only["volumeMounts"]} == volumes
        for argument in only["args"]:
            _, _, value = argument.partition("=")
            if value.startswith("/"):
                assert any(Path(value).is_relative_to(folder) for folder in mounted), argument


def test_probes_and_services_name_ports_that_there_are(manifests: list[Manifest]) -> None:
    for part, number in (("operator", 8070), ("ledger", 8071)):
        only = container(manifests, part)
        assert [(port["name"], port["containerPort"]) for port in only["ports"]] == [("http", number)]
        for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
            assert only[probe]["httpGet"]["port"] == "http"
        service = of_kind(manifests, "Service")[f"modelcanary-{part}"]["spec"]
        assert (service["ports"][0]["port"], service["ports"][0]["targetPort"]) == (number, "http")


def test_selectors_find_the_parts_pods_only(manifests: list[Manifest]) -> None:
    labels = {
        item["metadata"]["name"]: item["spec"]["template"]["metadata"]["labels"]
        for item in manifests
        if item["kind"] in ("Deployment", "StatefulSet")
    }
    for item in manifests:
        if item["kind"] not in ("Deployment", "StatefulSet", "Service", "PodDisruptionBudget", "NetworkPolicy"):
            continue
        selector = item["spec"].get("selector") or item["spec"]["podSelector"]
        wanted = (selector.get("matchLabels", selector)).items()
        assert [name for name, has in labels.items() if wanted <= has.items()] == [item["metadata"]["name"]]


def test_everything_is_labelled_and_in_its_namespace(manifests: list[Manifest]) -> None:
    for item in manifests:
        if item["kind"] == "CustomResourceDefinition":
            continue
        assert item["metadata"]["labels"]["app.kubernetes.io/name"] == "modelcanary"
        namespaced = item["kind"] not in ("ClusterRole", "ClusterRoleBinding")
        assert ("namespace" in item["metadata"]) is namespaced, item["metadata"]


def test_the_definition_comes_along_and_stays() -> None:
    (definition,) = of_kind(render(), "CustomResourceDefinition").values()
    assert definition["metadata"].pop("annotations") == {"helm.sh/resource-policy": "keep"}
    assert definition == yaml.safe_load((CHART.parents[1] / "crds" / "modelcanary.yaml").read_text())
    assert of_kind(render({"crds": {"install": False}}), "CustomResourceDefinition") == {}


def test_images_go_by_registry_and_tag_or_whole() -> None:
    made = render({"image": {"registry": "reg.example/team", "tag": "9"}, "ledger": {"image": "own/ledger:1"}})
    assert container(made, "operator")["image"] == "reg.example/team/modelcanary-operator:9"
    assert container(made, "ledger")["image"] == "own/ledger:1"
    assert "--sidecar-image=reg.example/team/modelcanary-sidecar:9" in container(made, "operator")["args"]
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    assert container(render(), "ledger")["image"].endswith(f"modelcanary-ledger:{chart['appVersion']}")


def test_the_lease_is_the_charts_so_that_it_goes_with_it() -> None:
    assert list(of_kind(render(), "Lease")) == [LEASE]


def test_evidence_is_kept_unless_told_otherwise() -> None:
    def policy(**storage: Any) -> Any:
        made = of_kind(render({"ledger": {"storage": storage}}), "StatefulSet")["modelcanary-ledger"]["spec"]
        return made.get("persistentVolumeClaimRetentionPolicy", {}).get("whenDeleted"), len(
            made.get("volumeClaimTemplates", [])
        )

    assert policy() == ("Retain", 1)
    assert policy(deleteWithRelease=True) == ("Delete", 1)
    assert policy(existingClaim="mine") == (None, 0)
    assert policy(ephemeral=True) == (None, 0)


def test_several_ledgers_share_a_database_and_keep_nothing_themselves() -> None:
    made = render(VARIANTS["several ledgers"])
    assert "modelcanary-ledger" not in of_kind(made, "StatefulSet")
    spec = of_kind(made, "Deployment")["modelcanary-ledger"]["spec"]
    assert spec["replicas"] == 2
    assert not {"serviceName", "podManagementPolicy", "volumeClaimTemplates"} & set(spec)
    given = ledger_settings.read_settings(container(made, "ledger")["args"], {"KUBERNETES_SERVICE_HOST": "10.0.0.1"})
    assert (str(given.store_url_file), given.state) == ("/etc/modelcanary/store/uri", None)
    volumes = {volume["name"]: volume for volume in spec["template"]["spec"]["volumes"]}
    assert volumes["store"]["secret"] == {"secretName": "database"}
    egress = of_kind(made, "NetworkPolicy")["modelcanary-ledger"]["spec"]["egress"]
    assert {"ports": [{"port": 5433, "protocol": "TCP"}], "to": [{"namespaceSelector": {}}]} in egress


def test_a_database_without_a_url_is_refused() -> None:
    done = template({"ledger": {"store": "postgresql"}})
    assert done.returncode != 0
    assert "ledger.postgresql.secret" in done.stderr


def test_tls_reaches_all_who_ask_the_ledger() -> None:
    made = render({"tls": {"enabled": True}})
    secret = of_kind(made, "Secret")["modelcanary-ledger-tls"]
    assert set(secret["data"]) == {"ca.crt", "tls.crt", "tls.key"}
    bundle = of_kind(made, "ConfigMap")["modelcanary-ca"]["data"]["ca.crt"]
    assert bundle.startswith("-----BEGIN CERTIFICATE-----") and "PRIVATE" not in bundle
    for name, spec in pods(made):
        (volume,) = [item for item in spec["volumes"] if item["name"] == "tls"]
        assert volume["secret"]["secretName"] == "modelcanary-ledger-tls"
        whole = "items" not in volume["secret"]
        assert whole is (name == "modelcanary-ledger"), "the key is the ledger's alone"
    theirs = render({"tls": {"enabled": True, "existingSecret": "theirs"}})
    assert of_kind(theirs, "Secret") == {}
    assert all(item["secret"]["secretName"] == "theirs" for _, spec in pods(theirs) for item in spec["volumes"][-1:])


def test_the_authorities_of_clients_reach_the_ledger_alone() -> None:
    pem = "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n"
    made = render({"tls": {"enabled": True, "clientCA": pem}})
    assert of_kind(made, "ConfigMap")["modelcanary-client-ca"]["data"] == {"ca.crt": pem}
    specs = dict(pods(made))
    (volume,) = [item for item in specs["modelcanary-ledger"]["volumes"] if item["name"] == "clients"]
    assert volume["configMap"]["name"] == "modelcanary-client-ca"
    (container,) = specs["modelcanary-ledger"]["containers"]
    (mount,) = [item for item in container["volumeMounts"] if item["name"] == "clients"]
    assert f"--tls-client-ca={mount['mountPath']}/ca.crt" in container["args"]
    assert "modelcanary-client-ca" not in str(specs["modelcanary-operator"])
    without = render({"tls": {"enabled": True}})
    assert "modelcanary-client-ca" not in of_kind(without, "ConfigMap")
    assert "tls-client-ca" not in str(dict(pods(without)))


def test_the_operator_reads_the_endpoints_as_they_are_listed() -> None:
    values = VARIANTS["everything"]["endpoints"]
    made = render(VARIANTS["everything"])
    written = of_kind(made, "ConfigMap")["modelcanary-endpoints"]["data"]["endpoints.yaml"]
    found = parse_endpoints(yaml.safe_load(written))
    assert set(found.by_name) == set(values)
    assert found.by_name["gate"].namespaces == frozenset({"team-a"})
    told = operator_settings.read_settings(container(made, "operator")["args"], {}).endpoints_file
    assert told == Path("/etc/modelcanary/endpoints/endpoints.yaml")
    mounts = {item["mountPath"]: item["name"] for item in container(made, "operator")["volumeMounts"]}
    volumes = {item["name"]: item for item in dict(pods(made))["modelcanary-operator"]["volumes"]}
    assert volumes[mounts["/etc/modelcanary/endpoints"]]["configMap"]["name"] == "modelcanary-endpoints"
    assert volumes[mounts["/etc/modelcanary/secrets"]]["secret"]["secretName"] == "endpoints"


def test_policies_let_through_what_the_parts_need() -> None:
    narrow = {"metricsFrom": [{"namespaceSelector": {"matchLabels": {"team": "metrics"}}}], "restrictEgress": True}
    made = render({"networkPolicies": narrow, "sidecar": {"port": 15000}})
    policies = of_kind(made, "NetworkPolicy")
    tests = next(item["metadata"]["labels"] for item in made if item["metadata"]["name"] == "modelcanary-test")
    (ingress,) = policies["modelcanary-operator"]["spec"]["ingress"]
    admitted = [peer["podSelector"]["matchLabels"].items() <= tests.items() for peer in ingress["from"][:1]]
    assert admitted == [True] and ingress["from"][1:] == narrow["metricsFrom"], "helm test, and who scrapes"
    for policy in policies.values():
        names, _ = policy["spec"]["egress"][:2]
        assert [(port["port"], port["protocol"]) for port in names["ports"]] == [
            *((53, "UDP"), (53, "TCP"), (5353, "UDP"), (5353, "TCP"))
        ]
    probes = policies["modelcanary-operator"]["spec"]["egress"][-1]
    assert "ports" not in probes, "a baseline keeps the port that it was made with"
    assert probes["to"][0]["podSelector"] == {"matchLabels": {"modelcanary.io/role": "baseline"}}


def test_monitoring_is_asked_for() -> None:
    assert not [item for item in render() if item["apiVersion"].startswith("monitoring")]
    made = render({"monitoring": {"podMonitors": True, "prometheusRule": True, "labels": {"release": "prometheus"}}})
    monitors = of_kind(made, "PodMonitor")
    assert set(monitors) == {"modelcanary-operator", "modelcanary-ledger", "modelcanary-sidecars"}
    (rule,) = of_kind(made, "PrometheusRule").values()
    for item in (*monitors.values(), rule):
        assert item["metadata"]["labels"]["release"] == "prometheus"
    summaries = [alert["annotations"]["summary"] for alert in rule["spec"]["groups"][0]["rules"]]
    assert any("{{ $labels.namespace }}/{{ $labels.name }}" in text for text in summaries)


def test_alerts_name_metrics_that_are_documented() -> None:
    documented = set(re.findall(r"^\| `(\w+)` \|", (CHART.parents[1] / "docs/metrics.md").read_text(), re.MULTILINE))
    (rule,) = of_kind(render({"monitoring": {"prometheusRule": True}}), "PrometheusRule").values()
    named = {
        word for alert in rule["spec"]["groups"][0]["rules"] for word in re.findall(r"modelcanary_\w+", alert["expr"])
    }
    assert named and named - documented == set()
