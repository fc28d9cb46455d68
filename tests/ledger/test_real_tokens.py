"""Tokens of real ServiceAccounts, reviewed by a real API server through RBAC; and what holds when it is away."""

import json
import socket
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.cluster.api import ApiClient
from tests.cluster.control_plane import ControlPlane
from tests.ledger.serving import digest, instructions, ledger
from tests.operator.relay import Relay

pytestmark = pytest.mark.cluster

OWN, A, B = "ledger-home", "tenant-a", "tenant-b"
OPERATOR = f"system:serviceaccount:{OWN}:operator"
LABEL = {"id": "x", "label": "cat"}
BEAT = {"sidecar": "s", "version": 1}
#: A name so long that Kubernetes cuts what it makes the pods' names of.
LONG = "a-canary-with-as-many-characters-as-a-name-may-hold1"


@dataclass(frozen=True)
class Tokens:
    client: ApiClient

    def of(self, namespace: str, account: str, *, audience: str = "modelcanary-ledger", pod: str = "") -> str:
        spec: dict[str, Any] = {"audiences": [audience], "expirationSeconds": 600}
        if pod:
            spec["boundObjectRef"] = {"apiVersion": "v1", "kind": "Pod", "name": pod}
        path = f"/api/v1/namespaces/{namespace}/serviceaccounts/{account}/token"
        body = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": spec}
        return str(self.client.expect("POST", path, body)["status"]["token"])

    def pod(self, namespace: str, **metadata: object) -> str:
        """A pod's name, as the API server makes it."""
        body = {
            "metadata": metadata,
            "spec": {"containers": [{"name": "model", "image": "model:1"}], "serviceAccountName": "default"},
        }
        return str(self.client.expect("POST", f"/api/v1/namespaces/{namespace}/pods", body)["metadata"]["name"])


@pytest.fixture(scope="module")
def tokens(apiserver: ControlPlane) -> Iterator[Tokens]:
    client = apiserver.client()
    accounts = ((OWN, "ledger"), (OWN, "operator"), (A, "default"), (A, "job"), (B, "default"), (B, "job"))
    for namespace in (OWN, A, B):
        client.request("POST", "/api/v1/namespaces", {"metadata": {"name": namespace}})
    for namespace, name in accounts:
        client.expect("POST", f"/api/v1/namespaces/{namespace}/serviceaccounts", {"metadata": {"name": name}})
    role = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "system:auth-delegator"}
    subject = {"kind": "ServiceAccount", "namespace": OWN, "name": "ledger"}
    binding = {"metadata": {"name": "ledger-home"}, "roleRef": role, "subjects": [subject]}
    client.expect("POST", "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings", binding)
    yield Tokens(client)
    client.close()


@pytest.fixture(scope="module")
def account(apiserver: ControlPlane, tokens: Tokens, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a pod of the ledger's has mounted."""
    folder = tmp_path_factory.mktemp("account")
    (folder / "ca.crt").write_bytes(apiserver.authority.certificate.read_bytes())
    own = tokens.of(OWN, "ledger", audience="https://kubernetes.default.svc")
    (folder / "token").write_text(own)
    return folder


def options(relay: Relay, account: Path) -> tuple[str, ...]:
    api = f"--kubernetes-api=https://127.0.0.1:{relay.port}"
    return "--token-review", f"--operator-account={OPERATOR}", api, f"--kubernetes-account={account}"


@pytest.fixture(scope="module")
def url(
    apiserver: ControlPlane, tokens: Tokens, account: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("ledger")
    with (
        Relay(apiserver.network, apiserver.address) as relay,
        ledger(folder / "state", *options(relay, account), log=folder / "log") as (address, _),
    ):
        for namespace, name in ((A, "fraud"), (A, "other"), (A, LONG), (B, "fraud")):
            put(address, tokens, namespace, name)
        yield address
    assert "eyJ" not in (folder / "log").read_text()  # what every such token begins with


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def put(url: str, tokens: Tokens, namespace: str, name: str, **more: object) -> None:
    path = f"{url}/v1/runs/{namespace}/{name}/instructions"
    httpx.put(path, json=instructions(**more), headers=bearer(tokens.of(OWN, "operator"))).raise_for_status()  # type: ignore[arg-type]


def calls(url: str, namespace: str, name: str, token: str) -> dict[str, int]:
    """Every call of the interface for one canary, and the status of each."""
    model, headers = f"{url}/v1/runs/{namespace}/{name}", bearer(token)
    batch = {"batch": "b", "sidecar": "s", "run": "r1", "pairs": []}
    feedback = f"{url}/v1/feedback?namespace={namespace}&name={name}"
    return {
        "pairs": httpx.post(f"{model}/pairs", json=batch, headers=headers).status_code,
        "heartbeat": httpx.post(f"{model}/heartbeat", json=BEAT, headers=headers).status_code,
        "evidence": httpx.get(f"{model}/evidence", headers=headers).status_code,
        "export": httpx.get(f"{model}/pairs", headers=headers).status_code,
        "feedback": httpx.post(feedback, json=LABEL, headers=headers).status_code,
        # Of an older leader, so that nothing is replaced where it is allowed.
        "instructions": httpx.put(f"{model}/instructions", json=instructions(epoch=0), headers=headers).status_code,
    }


NOTHING = dict.fromkeys(("pairs", "heartbeat", "evidence", "export", "feedback", "instructions"), 403)
READS = {**NOTHING, "evidence": 200, "export": 200, "feedback": 202}
SENDS = {**READS, "pairs": 200, "heartbeat": 200}
EVERY = {**SENDS, "instructions": 409}


def test_a_tenant_reaches_its_own_namespace_and_nothing_of_another(url: str, tokens: Tokens) -> None:
    job = tokens.of(A, "job")
    assert calls(url, A, "fraud", job) == READS
    assert calls(url, A, "other", job) == READS
    assert calls(url, B, "fraud", job) == NOTHING
    assert calls(url, B, "none", job) == NOTHING
    assert calls(url, OWN, "none", job) == NOTHING


def test_a_sidecar_sends_pairs_of_its_own_canary(url: str, tokens: Tokens) -> None:
    baseline = tokens.pod(A, generateName="fraud-baseline-7d9c6b5f4-")
    sidecar = tokens.of(A, "default", pod=baseline)
    assert calls(url, A, "fraud", sidecar) == SENDS
    assert calls(url, A, "other", sidecar) == READS
    assert calls(url, B, "fraud", sidecar) == NOTHING
    candidate = tokens.of(A, "default", pod=tokens.pod(A, generateName="fraud-candidate-7d9c6b5f4-"))
    assert calls(url, A, "fraud", candidate) == READS
    assert calls(url, A, "fraud", tokens.of(A, "default")) == READS


def test_a_name_that_kubernetes_cuts_is_known(url: str, tokens: Tokens) -> None:
    assert len(LONG) == 52
    pod = tokens.pod(A, generateName=f"{LONG}-baseline-7d9c6b5f4-")
    assert len(pod) == 63
    assert calls(url, A, LONG, tokens.of(A, "default", pod=pod)) == SENDS


def test_the_operator_reaches_all(url: str, tokens: Tokens) -> None:
    token = tokens.of(OWN, "operator")
    assert calls(url, A, "fraud", token) == EVERY
    assert calls(url, B, "fraud", token) == EVERY
    assert calls(url, A, "fraud", tokens.of(OWN, "ledger")) == NOTHING  # its neighbour does not


def test_a_token_of_another_audience_or_another_cluster_is_none(
    url: str, tokens: Tokens, apiserver: ControlPlane
) -> None:
    other = tokens.of(A, "job", audience="https://kubernetes.default.svc")
    answer = httpx.get(f"{url}/v1/runs/{A}/fraud/evidence", headers=bearer(other))
    assert answer.status_code == 401
    assert "--audience modelcanary-ledger" in answer.json()["remedy"]
    good = tokens.of(A, "job")
    head, claims, signature = good.split(".")
    for forged in (f"{head}.{claims}.{signature[::-1]}", f"{head}.{claims}.", good[:-2]):
        assert set(calls(url, A, "fraud", forged).values()) == {401}
    by_hand = ["create", "token", "job", "--namespace", A, "--audience", "modelcanary-ledger"]
    made = subprocess.run(apiserver.kubectl(*by_hand), capture_output=True, text=True, check=True, timeout=60)
    assert calls(url, A, "fraud", made.stdout.strip()) == READS


def test_a_token_that_was_accepted_is_not_believed_with_another_signature(url: str, tokens: Tokens) -> None:
    good = tokens.of(A, "job")
    assert calls(url, A, "fraud", good)["evidence"] == 200
    assert set(calls(url, A, "fraud", good[:-4] + "AAAA").values()) == {401}


def test_listed_senders_are_the_only_ones(url: str, tokens: Tokens) -> None:
    listed = [{"name": "billing", "tokenSHA256": digest("billing-secret")}]
    put(url, tokens, B, "listed", senders=listed)
    assert calls(url, B, "listed", tokens.of(B, "job")) == {**READS, "feedback": 403}
    assert calls(url, B, "listed", "billing-secret") == {**NOTHING, "feedback": 202}
    assert calls(url, B, "fraud", "billing-secret") == NOTHING
    assert calls(url, A, "fraud", "billing-secret") == NOTHING
    evidence = httpx.get(f"{url}/v1/runs/{B}/listed/evidence", headers=bearer(tokens.of(B, "job"))).json()
    assert set(evidence["counts"]["senders"]) == {"billing"}


def test_without_the_right_to_review_nobody_is_let_in(
    apiserver: ControlPlane, tokens: Tokens, account: Path, tmp_path: Path
) -> None:
    (tmp_path / "ca.crt").write_bytes((account / "ca.crt").read_bytes())
    (tmp_path / "token").write_text(tokens.of(A, "job", audience="https://kubernetes.default.svc"))
    with (
        Relay(apiserver.network, apiserver.address) as relay,
        ledger(tmp_path / "state", *options(relay, tmp_path), log=tmp_path / "log") as (url, _),
    ):
        operator = bearer(tokens.of(OWN, "operator"))
        answer = httpx.put(f"{url}/v1/runs/{A}/m/instructions", json=instructions(), headers=operator)
        assert answer.status_code == 503
        assert "tokenreviews" in answer.json()["remedy"]
        # Its own token is replaced, as the kubelet does it: the next one is read.
        (tmp_path / "token").write_text((account / "token").read_text())
        deadline = time.monotonic() + 20
        while httpx.put(f"{url}/v1/runs/{A}/m/instructions", json=instructions(), headers=operator).status_code != 200:
            assert time.monotonic() < deadline
            time.sleep(0.1)
    assert (tmp_path / "log").read_text().count("it answers 403") == 1


def test_while_the_api_is_away_who_is_known_goes_on_and_who_is_not_waits(
    apiserver: ControlPlane, tokens: Tokens, account: Path, tmp_path: Path
) -> None:
    known, unknown, operator = tokens.of(A, "job"), tokens.of(A, "job"), tokens.of(OWN, "operator")
    assert known != unknown
    with Relay(apiserver.network, apiserver.address) as relay:
        away = options(relay, account)
        with ledger(tmp_path / "state", *away) as (url, _):
            path = f"{url}/v1/runs/{A}/fraud"
            httpx.put(f"{path}/instructions", json=instructions(), headers=bearer(operator)).raise_for_status()
            assert calls(url, A, "fraud", known) == READS
            relay.__exit__()
            assert calls(url, A, "fraud", known) == READS
            assert calls(url, B, "fraud", known) == NOTHING
            answer = httpx.get(f"{path}/evidence", headers=bearer(unknown))
            assert answer.status_code == 503
            assert int(answer.headers["retry-after"]) >= 1
            assert set(calls(url, A, "fraud", unknown).values()) == {503}
            metrics = httpx.get(f"{url}/metrics").text
    assert 'modelcanary_ledger_token_reviews_total{result="known"} 2.0' in metrics
    assert 'outcome="unreviewed"' in metrics


def test_an_api_that_does_not_answer_holds_nobody_up_for_long(tokens: Tokens, account: Path, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        api = f"--kubernetes-api=https://127.0.0.1:{silent.getsockname()[1]}"
        rest = ("--token-review", f"--operator-account={OPERATOR}", f"--kubernetes-account={account}")
        with ledger(tmp_path / "state", api, *rest) as (url, _):
            token = bearer(tokens.of(A, "job"))
            answer = httpx.get(f"{url}/v1/runs/{A}/fraud/evidence", headers=token, timeout=60)
            assert answer.status_code == 503
            assert json.loads(answer.content)["title"] == "The caller cannot be known at the moment"


def test_a_deleted_pods_token_ends(apiserver: ControlPlane, tokens: Tokens, account: Path, tmp_path: Path) -> None:
    pod = tokens.pod(A, generateName="fraud-baseline-7d9c6b5f4-")
    token = tokens.of(A, "default", pod=pod)
    grace = {"gracePeriodSeconds": 0}
    tokens.client.expect("DELETE", f"/api/v1/namespaces/{A}/pods/{pod}", grace)
    with (
        Relay(apiserver.network, apiserver.address) as relay,
        ledger(tmp_path / "state", *options(relay, account)) as (url, _),
    ):
        answer = httpx.post(f"{url}/v1/runs/{A}/fraud/heartbeat", json=BEAT, headers=bearer(token))
        assert answer.status_code == 401
