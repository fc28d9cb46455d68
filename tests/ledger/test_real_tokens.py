"""Tokens of real ServiceAccounts, reviewed by a real API server through RBAC; and what holds when it is away."""

import asyncio
import hashlib
import json
import re
import shlex
import socket
import ssl
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
from tests.cluster.pki import Authority
from tests.ledger.serving import digest, instructions, ledger
from tests.operator.relay import Relay

from modelcanary_gate.protocol import Heartbeat, Instructions, PutInstructions
from modelcanary_operator.errors import LedgerRefused
from modelcanary_operator.ledger_client import HttpLedger
from modelcanary_sidecar.ledger_client import LedgerClient, LedgerUnavailable

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


@pytest.fixture(scope="module")
def secured(
    apiserver: ControlPlane, tokens: Tokens, account: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[str, Path]]:
    """A ledger as the chart runs it, and the file of its certificate's authority."""
    folder = tmp_path_factory.mktemp("secured")
    authority = Authority(folder / "pki")
    names = "DNS:modelcanary-ledger.modelcanary,DNS:localhost"
    certificate, key = authority.issue("ledger", "/CN=modelcanary-ledger", names)
    tls = (f"--tls-certificate={certificate}", f"--tls-key={key}")
    with (
        Relay(apiserver.network, apiserver.address) as relay,
        ledger(folder / "state", *options(relay, account), *tls) as (address, _),
    ):
        yield address.replace("127.0.0.1", "localhost"), authority.certificate


def test_operator_and_sidecar_by_their_mounted_tokens(
    secured: tuple[str, Path], tokens: Tokens, tmp_path: Path
) -> None:
    url, authority = secured
    pod = tokens.pod(A, generateName="mounted-baseline-7d9c6b5f4-")
    operators, sidecars = tmp_path / "operator", tmp_path / "sidecar"
    operators.write_text(tokens.of(OWN, "operator") + "\n")
    sidecars.write_text(tokens.of(A, "default", pod=pod))
    put_them = PutInstructions(1, Instructions(version=1000, run="r1", share=0.5), {"model": {"classes": ["a", "b"]}})

    async def story() -> None:
        async with HttpLedger(url, operators, authority) as operator:
            await operator.put(A, "mounted", put_them)
            assert (await operator.standing(B, "mounted")).run == ""
            async with LedgerClient(url, A, "mounted", str(sidecars), authority) as sidecar:
                assert (await sidecar.send_heartbeat(Heartbeat(pod, 0))).share == 0.5
                sidecars.write_text("expired")
                with pytest.raises(LedgerUnavailable, match="401"):
                    await sidecar.send_heartbeat(Heartbeat(pod, 0))
                # The kubelet renews it: the next call shows the new one.
                sidecars.write_text(tokens.of(A, "default", pod=pod))
                assert (await sidecar.send_heartbeat(Heartbeat(pod, 0))).run == "r1"
            async with LedgerClient(url, B, "mounted", str(sidecars), authority) as elsewhere:
                with pytest.raises(LedgerUnavailable, match="403"):
                    await elsewhere.send_heartbeat(Heartbeat(pod, 0))
            operators.write_text(tokens.of(A, "job"))
            with pytest.raises(LedgerRefused, match="instructions come from the operator alone"):
                await operator.put(A, "mounted", put_them)

    asyncio.run(story())


PAGE = Path(__file__).parents[2] / "docs" / "labels.md"


def test_the_commands_of_the_page_about_tokens(
    secured: tuple[str, Path], tokens: Tokens, apiserver: ControlPlane, tmp_path: Path
) -> None:
    """docs/labels.md, 'With a token', run as it is; what is not there is the cluster's network."""
    url, authority = secured
    section = PAGE.read_text().partition("## With a token")[2].partition("\n## ")[0]
    blocks = re.findall(r"^```sh\n(.*?)^```", section, re.MULTILINE | re.DOTALL)
    create, _tunnel, make, by_hash, _certificate = blocks  # certificates: test_client_certificates
    (tmp_path / "ca.crt").write_bytes(authority.read_bytes())
    port = url.rpartition(":")[2]
    kubectl = shlex.join(apiserver.kubectl())
    here = f"""
        kubectl() {{ {kubectl} "$@"; }}
        curl() {{ command curl -sS --connect-to modelcanary-ledger.modelcanary:8071:127.0.0.1:{port} "$@"; }}
        cd {shlex.quote(str(tmp_path))}
    """
    for path in ("/api/v1/namespaces", "/api/v1/namespaces/team/serviceaccounts"):
        tokens.client.request("POST", path, {"metadata": {"name": "billing" if "team" in path else "team"}})

    def run(text: str) -> list[str]:
        ended = subprocess.run(["bash", "-ec", here + text], capture_output=True, text=True, timeout=60, check=True)
        return ended.stdout.splitlines()

    operator = tmp_path / "token"
    operator.write_text(tokens.of(OWN, "operator"))

    def instruct(*senders: dict[str, str]) -> None:
        body = {**instructions(senders=list(senders)), "spec": {"model": {"classes": ["no", "yes"]}}}
        put = f"{url}/v1/runs/team/fraud/instructions"
        with httpx.Client(
            verify=ssl.create_default_context(cafile=str(authority)),
            headers=bearer(operator.read_text()),
            trust_env=False,
        ) as client:
            client.put(put, json=body).raise_for_status()

    instruct()
    assert json.loads(run(create)[-1])["unmatched"] == 1
    token, line = run(make + 'echo "$TOKEN"')[::-1]
    assert line.split()[0] == hashlib.sha256(token.encode()).hexdigest()
    instruct({"name": "billing", "tokenSHA256": line.split()[0]})
    assert json.loads(run(f"TOKEN={token}\n{by_hash}")[-1])["duplicate"] == 1
    assert json.loads(run(create)[-1])["status"] == 403  # with a list, nobody else may
