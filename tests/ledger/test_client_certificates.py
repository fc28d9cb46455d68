"""Label senders who are known by a certificate: real ones, shown to a real ledger."""

import asyncio
import shutil
import ssl
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from tests.cluster.pki import Authority
from tests.ledger.serving import digest, instructions, ledger

from modelcanary_gate.protocol import Instructions, LabelSender
from modelcanary_ledger.auth import Callers
from modelcanary_ledger.client_certificate import ClientCertificate, kind_of
from modelcanary_ledger.errors import BadRequest, SettingsError, Unauthorized
from modelcanary_ledger.model import Standing
from modelcanary_ledger.rights import ANYONE, Call
from modelcanary_ledger.serving_tls import Certificate
from modelcanary_ledger.settings import read_settings
from modelcanary_ledger.transaction import _checked

ADMIN = {"Authorization": "Bearer admin-secret"}
SENDERS = [
    {"name": "billing", "certificateSAN": "spiffe://shop/billing"},
    {"name": "desk", "certificateSAN": "Desk.Shop.example"},
    {"name": "batch", "tokenSHA256": digest("batch-secret")},
]
LABEL = {"id": "i1", "label": 0}
FRAUD = "/v1/feedback?namespace=shop&name=fraud"


class Serving:
    """A ledger, its authority, that of its clients, and another that it does not know."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.own, self.clients, self.others = (Authority(folder / name) for name in ("own", "clients", "others"))
        self.own.issue("ledger", "/CN=ledger", "IP:127.0.0.1")
        self.client_ca = folder / "client-ca.crt"
        shutil.copy(self.clients.certificate, self.client_ca)
        tokens = folder / "tokens"
        tokens.write_text(f"{digest('admin-secret')} * admin\n")
        self.options = (
            *(f"--tls-certificate={self.own.folder / 'ledger.crt'}", f"--tls-key={self.own.folder / 'ledger.key'}"),
            *(f"--tls-client-ca={self.client_ca}", f"--token-file={tokens}", "--sender-rate=10"),
        )
        self.url = ""

    def client(self, authority: Authority | None = None, names: str = "") -> httpx.Client:
        """Who shows a certificate with these subject alternative names; nobody's: none."""
        context = ssl.create_default_context(cafile=str(self.own.certificate))
        if authority is not None:
            context.load_cert_chain(*authority.issue("client", "/CN=billing", names))
        return httpx.Client(base_url=self.url, verify=context, trust_env=False)

    def put(self, name: str, senders: list[dict[str, str]], namespace: str = "shop") -> None:
        with self.client() as admin:
            body = instructions(senders=senders)
            answer = admin.put(f"/v1/runs/{namespace}/{name}/instructions", json=body, headers=ADMIN)
            assert answer.status_code == 200, answer.text


@pytest.fixture(scope="module")
def serving(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    made = Serving(tmp_path_factory.mktemp("clients"))
    with ledger(made.folder / "state", *made.options) as (url, _):
        made.url = url
        made.put("fraud", SENDERS)
        yield made


@pytest.mark.parametrize(
    "names", ["URI:spiffe://shop/billing", "DNS:other,URI:spiffe://shop/billing", "DNS:DESK.shop.example"]
)
def test_a_certificate_that_is_listed_sends_labels_and_nothing_else(serving: Serving, names: str) -> None:
    with serving.client(serving.clients, names) as sender:
        answer = sender.post(FRAUD, json=LABEL)
        assert answer.status_code == 202, answer.text
        assert sender.get("/v1/runs/shop/fraud/evidence").status_code == 403
        assert sender.put("/v1/runs/shop/fraud/instructions", json=instructions()).status_code == 403
        assert sender.post("/v1/feedback?namespace=shop&name=other", json=LABEL).status_code == 403
    with serving.client() as admin:
        counts = admin.get("/v1/runs/shop/fraud/evidence", headers=ADMIN).json()["counts"]
    assert ("desk" if "DESK" in names else "billing") in counts["senders"]


@pytest.mark.parametrize(
    "names",
    ["URI:spiffe://shop/billing2", "DNS:spiffe.shop.billing", "email:desk.shop.example@x", "URI:desk.shop.example"],
)
def test_other_names_are_not_known(serving: Serving, names: str) -> None:
    with serving.client(serving.clients, names) as sender:
        answer = sender.post(FRAUD, json=LABEL)
    assert answer.status_code == 401
    assert "certificateSAN" in answer.json()["remedy"]


def test_another_team_that_lists_the_same_name_changes_nothing_for_who_sends(serving: Serving) -> None:
    """Unlike a token's hash a name is public: so who shows it always says whom the labels are for."""
    names = "URI:spiffe://shop/checkout"
    serving.put("named", [{"name": "checkout", "certificateSAN": "spiffe://shop/checkout"}])
    with serving.client(serving.clients, names) as sender:
        for query, field in (("", "namespace"), ("?name=named", "namespace"), ("?namespace=shop", "name")):
            answer = sender.post(f"/v1/feedback{query}", json=LABEL)
            assert (answer.status_code, answer.json()["field"]) == (400, field)
            assert "namespace=" in answer.json()["remedy"]
        named = "/v1/feedback?namespace=shop&name=named"
        assert sender.post(named, json=LABEL).status_code == 202
        serving.put("named", [{"name": "mine", "certificateSAN": "spiffe://shop/checkout"}], namespace="others")
        assert sender.post(named, json=LABEL).status_code == 202
        assert sender.post("/v1/feedback", json=LABEL).status_code == 400
    with serving.client() as admin:
        text = admin.get("/metrics").text
    assert 'modelcanary_ledger_callers_total{kind="certificate",outcome="allowed"}' in text


def test_a_certificate_of_another_authority_does_not_connect(serving: Serving) -> None:
    with serving.client(serving.others, "URI:spiffe://shop/billing") as sender, pytest.raises(httpx.TransportError):
        sender.post(FRAUD, json=LABEL)


def test_without_a_certificate_a_token_says_who_it_is(serving: Serving) -> None:
    with serving.client() as sender:
        assert sender.post(FRAUD, json=LABEL).status_code == 401
        token = {"Authorization": "Bearer batch-secret"}
        assert sender.post(FRAUD, json=LABEL, headers=token).status_code == 202
        assert sender.get("/healthz").status_code == 200
    # With both, the token does: it is what was given on purpose.
    with serving.client(serving.clients, "URI:spiffe://shop/billing") as sender:
        wrong = {"Authorization": "Bearer nobody"}
        assert sender.post(FRAUD, json=LABEL, headers=wrong).status_code == 401


def test_the_quota_is_that_of_any_sender(serving: Serving) -> None:
    serving.put("quota", [{"name": "billing", "certificateSAN": "quota.shop"}])
    with serving.client(serving.clients, "DNS:quota.shop") as sender:
        many = [{"id": f"i{i}", "label": 0} for i in range(300)]
        assert sender.post("/v1/feedback?namespace=shop&name=quota", json=many).status_code == 202
        answer = sender.post("/v1/feedback?namespace=shop&name=quota", json=many)
    assert answer.status_code == 429
    assert int(answer.headers["Retry-After"]) >= 1


def test_replaced_authorities_hold_from_the_next_connection_on(tmp_path: Path) -> None:
    made = Serving(tmp_path)
    with ledger(tmp_path / "state", *made.options) as (url, _):
        made.url = url
        made.put("fraud", SENDERS)
        with made.client(made.clients, "URI:spiffe://shop/billing") as sender:
            assert sender.post(FRAUD, json=LABEL).status_code == 202
        shutil.copy(made.others.certificate, made.client_ca)
        deadline = time.monotonic() + 20
        while True:
            with made.client(made.others, "URI:spiffe://shop/billing") as sender:
                try:
                    assert sender.post(FRAUD, json=LABEL).status_code == 202
                    break
                except httpx.TransportError:
                    assert time.monotonic() < deadline
                    time.sleep(0.2)
        with made.client(made.clients, "URI:spiffe://shop/billing") as sender, pytest.raises(httpx.TransportError):
            sender.post(FRAUD, json=LABEL)


def _standing(name: str, *senders: LabelSender) -> Standing:
    return Standing(1, "shop", name, 1, 0, Instructions(1), senders=senders)


def test_a_certificate_that_ends_on_a_connection_is_refused() -> None:
    one, two = (
        _standing("a", LabelSender("x", certificateSAN="h")),
        _standing("b", LabelSender("y", certificateSAN="u://v")),
    )
    standings = {("shop", "a"): one, ("shop", "b"): two}
    now = 100.0
    callers = Callers({}, None, lambda: standings, lambda: now)
    shown = ClientCertificate(frozenset({kind_of("H"), kind_of("u://v")}), 200.0)
    caller = asyncio.run(callers.identify(None, shown))
    assert [caller.may(Call.FEEDBACK, "shop", name) for name in ("a", "b", "c")] == [True, True, False]
    assert (caller.sends_as("shop", "a"), caller.sends_as("shop", "b")) == ("x", "y")
    now = 201.0
    with pytest.raises(Unauthorized, match="has ended"):
        asyncio.run(callers.identify(None, shown))
    assert asyncio.run(Callers().identify(None, shown)) is ANYONE


def test_an_authority_that_cannot_be_used_is_said(tmp_path: Path) -> None:
    authority = Authority(tmp_path / "ca")
    certificate, key = authority.issue("ledger", "/CN=ledger")
    (tmp_path / "empty").write_text("nothing")
    with pytest.raises(SettingsError, match="--tls-client-ca"):
        Certificate(certificate, key, tmp_path / "empty")
    with pytest.raises(SettingsError, match="--tls-client-ca without"):
        read_settings(["--state=x", "--tls-client-ca=y"], {})


def test_a_sender_by_both_or_neither_is_refused() -> None:
    for sender in (LabelSender("x"), LabelSender("x", digest("t"), "h")):
        with pytest.raises(BadRequest):
            _checked([sender])
    assert _checked([LabelSender("x", certificateSAN="h")])
