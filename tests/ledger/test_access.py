"""Callers over HTTP, without a cluster: hashes in a file, senders that a ModelCanary lists, quotas, other machines."""

import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import msgspec
import pytest
from tests.ledger.serving import digest, instructions, ledger

from modelcanary_gate.protocol import Pair, PairBatch

MODEL = "/v1/runs/shop/fraud"
SENDERS = {"senders": [{"name": "billing", "tokenSHA256": digest("billing-secret")}]}


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def options(folder: Path) -> tuple[str, ...]:
    folder.mkdir(exist_ok=True)
    (folder / "tokens").write_text(f"{digest('admin-secret')} * admin\n{digest('desk-secret')} bank desk\n")
    return (f"--token-file={folder / 'tokens'}",)


@pytest.fixture
def client(tmp_path: Path) -> Iterator[httpx.Client]:
    log = tmp_path / "log"
    with ledger(tmp_path / "state", *options(tmp_path), log=log) as (url, _), httpx.Client(base_url=url) as made:
        put = made.put(f"{MODEL}/instructions", json=instructions(**SENDERS), headers=bearer("admin-secret"))
        put.raise_for_status()
        yield made
    assert "secret" not in log.read_text()


def refused(answer: httpx.Response, status: int) -> dict[str, object]:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    found: dict[str, object] = answer.json()
    assert found["remedy"]
    return found


def test_a_sender_sends_labels_of_its_canary_and_does_nothing_else(client: httpx.Client) -> None:
    client.put("/v1/runs/bank/churn/instructions", json=instructions(), headers=bearer("admin-secret"))
    label, own = {"id": "a", "label": "cat"}, bearer("billing-secret")
    # It need not say which: there is one that it may send to.
    assert client.post("/v1/feedback", json=label, headers=own).json()["unmatched"] == 1
    assert client.post("/v1/feedback?namespace=shop&name=fraud", json=label, headers=own).json()["duplicate"] == 1
    refused(client.post("/v1/feedback?namespace=bank&name=churn", json=label, headers=own), 403)
    refused(client.post("/v1/feedback?namespace=shop&name=none", json=label, headers=own), 403)
    for method, what in (("GET", "evidence"), ("GET", "pairs"), ("PUT", "instructions"), ("POST", "pairs")):
        answer = client.request(method, f"{MODEL}/{what}", json=instructions(), headers=own)
        assert "labels.senders" in str(refused(answer, 403)["remedy"])
    refused(client.post(f"{MODEL}/heartbeat", json={"sidecar": "s", "version": 1}, headers=own), 403)
    senders = client.get(f"{MODEL}/evidence", headers=bearer("admin-secret")).json()["counts"]["senders"]
    assert {name: (counts["unmatched"], counts["duplicate"]) for name, counts in senders.items()} == {"billing": (1, 1)}


def test_a_list_without_a_sender_ends_its_token(client: httpx.Client) -> None:
    label, own = {"id": "a", "label": "cat"}, bearer("billing-secret")
    assert client.post("/v1/feedback", json=label, headers=own).status_code == 202
    client.put(f"{MODEL}/instructions", json=instructions(), headers=bearer("admin-secret")).raise_for_status()
    refused(client.post("/v1/feedback", json=label, headers=own), 401)


def test_a_deleted_canary_ends_the_tokens_of_its_senders(client: httpx.Client) -> None:
    label, own, admin = {"id": "a", "label": "cat"}, bearer("billing-secret"), bearer("admin-secret")
    refused(client.delete(f"{MODEL}?epoch=1", headers=own), 403)
    for wrong in ("", "?epoch=", "?epoch=x"):
        refused(client.delete(f"{MODEL}{wrong}", headers=admin), 400)
    refused(client.delete(f"{MODEL}?epoch=0", headers=admin), 409)
    assert client.post("/v1/feedback", json=label, headers=own).status_code == 202
    assert client.delete(f"{MODEL}?epoch=1", headers=admin).json()["version"] == 0
    refused(client.post("/v1/feedback", json=label, headers=own), 401)


@pytest.mark.parametrize("headers", [{}, bearer("other"), {"Authorization": "Basic YTpi"}, bearer("x" * 20_000)])
def test_who_is_not_known_is_told_nothing(client: httpx.Client, headers: dict[str, str]) -> None:
    for method, path in (
        ("POST", "/v1/feedback"),
        ("GET", f"{MODEL}/evidence"),
        ("GET", "/v1/runs/none/none/evidence"),
        ("PUT", f"{MODEL}/instructions"),
        ("POST", f"{MODEL}/pairs"),
    ):
        answer = client.request(method, path, json={"id": "a", "label": 1}, headers=headers)
        found = refused(answer, 401)
        assert answer.headers["www-authenticate"] == "Bearer"
        assert "fraud" not in str(found)


def test_another_namespace_answers_alike_whether_it_has_such_a_canary_or_not(client: httpx.Client) -> None:
    desk = bearer("desk-secret")
    for path in ("evidence", "pairs"):
        there = refused(client.get(f"/v1/runs/shop/fraud/{path}", headers=desk), 403)
        not_there = refused(client.get(f"/v1/runs/shop/nones/{path}", headers=desk), 403)
        assert str(there).replace("fraud", "nones") == str(not_there)
    for name in ("fraud", "nones"):
        refused(
            client.post(f"/v1/feedback?namespace=shop&name={name}", json={"id": "a", "label": 1}, headers=desk), 403
        )
    # Models of others are not counted either.
    assert "no models" in str(refused(client.post("/v1/feedback", json={"id": "a", "label": 1}, headers=desk), 404))


def test_callers_are_counted_by_what_became_of_them(client: httpx.Client) -> None:
    label = {"id": "a", "label": "cat"}
    client.post("/v1/feedback", json=label, headers=bearer("billing-secret"))
    client.post("/v1/feedback", json=label, headers=bearer("other"))
    client.get(f"{MODEL}/evidence", headers=bearer("billing-secret"))
    client.get(f"{MODEL}/evidence", headers=bearer("billing-secret"))
    text = client.get("/metrics").text
    for kind, outcome, count in (("sender", "allowed", 1), ("none", "unknown", 1), ("sender", "forbidden", 2)):
        assert f'modelcanary_ledger_callers_total{{kind="{kind}",outcome="{outcome}"}} {count}.0' in text
    assert "fraud" not in text
    assert "billing" not in text


def test_a_sender_has_a_quota(tmp_path: Path) -> None:
    with (
        ledger(tmp_path / "state", *options(tmp_path), "--sender-rate=10") as (url, _),
        httpx.Client(base_url=url) as client,
    ):
        admin, own = bearer("admin-secret"), bearer("billing-secret")
        client.put(f"{MODEL}/instructions", json=instructions(**SENDERS), headers=admin).raise_for_status()
        many = [{"id": f"i{number}", "label": 0} for number in range(2000)]
        assert client.post("/v1/feedback", json=many, headers=own).status_code == 202
        answer = client.post("/v1/feedback", json=many, headers=own)
        assert "10 labels a second" in str(refused(answer, 429)["detail"])
        assert 150 <= int(answer.headers["retry-after"]) <= 181  # it owes 1,800 labels
        assert client.post("/v1/feedback?namespace=shop", json=many, headers=admin).status_code == 202
        senders = client.get(f"{MODEL}/evidence", headers=admin).json()["counts"]["senders"]
        assert senders["billing"]["unmatched"] == 2000


def test_a_ledger_that_is_killed_goes_on_elsewhere(tmp_path: Path, make_pair: Callable[..., Pair]) -> None:
    """Its volume moves to another node, with the lock file of the process that was killed."""
    admin, own = bearer("admin-secret"), bearer("billing-secret")
    with ledger(tmp_path / "state", *options(tmp_path)) as (url, killed), httpx.Client(base_url=url) as client:
        client.put(f"{MODEL}/instructions", json=instructions(**SENDERS), headers=admin).raise_for_status()
        pairs = [make_pair(f"i{number}", time.time()) for number in range(9)]
        batch = msgspec.msgpack.encode(PairBatch("b", "s", "r1", pairs))
        headers = {"Content-Type": "application/vnd.msgpack", **admin}
        client.post(f"{MODEL}/pairs", content=batch, headers=headers).raise_for_status()
        labels = [{"id": identifier, "label": 0} for identifier in ("i0", "i1", "i2", "i3", "i4", "late")]
        client.post("/v1/feedback", json=labels, headers=own).raise_for_status()
        before = client.get(f"{MODEL}/evidence", headers=admin).json()
        killed.kill()
        killed.wait(10)
    assert (tmp_path / "state" / "lock").exists()
    elsewhere = tmp_path / "elsewhere"
    shutil.copytree(tmp_path / "state", elsewhere)
    (elsewhere / "lost+found").mkdir()  # what a new volume's file system has
    with ledger(elsewhere, *options(tmp_path)) as (url, _), httpx.Client(base_url=url) as client:
        after = client.get(f"{MODEL}/evidence", headers=admin).json()
        assert {**after, "now": 0} == {**before, "now": 0}
        assert after["counts"]["senders"]["billing"]["joined"] == 5
        again = client.post("/v1/feedback", json=[{"id": "i0", "label": 0}, {"id": "late", "label": 0}], headers=own)
        assert again.json()["duplicate"] == 2
        refused(client.get(f"{MODEL}/evidence", headers=own), 403)
