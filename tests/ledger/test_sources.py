"""What followers are told, what they say, and who sees it."""

import hashlib

import httpx
import pytest
from tests.ledger.serving import digest, instructions, ledger

from modelcanary_gate.parse import parse_spec
from modelcanary_gate.protocol import Followed, Following, LabelSource, SourceReport
from modelcanary_gate.vocabulary import SourceKind
from modelcanary_ledger.errors import Forbidden
from modelcanary_ledger.model import Standing
from modelcanary_ledger.rights import Call, account, follower
from modelcanary_ledger.sources import SILENCE, Sources

TOPIC = LabelSource(SourceKind.KAFKA, "main", "outcomes")
FOLDER = LabelSource(SourceKind.FILES, "lake", "labels")
SPEC = parse_spec({"model": {"classes": ["a", "b"]}, "labels": {"maxDelay": "2h"}}, require_target=False)
MODEL = Standing(1, "shop", "fraud", spec=SPEC, sources=(TOPIC, FOLDER))


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def sources(clock: Clock) -> Sources:
    return Sources(clock)


def told(
    sources: Sources, name: str, *reports: SourceReport, model: Standing = MODEL, caller: str = "follower"
) -> list[LabelSource]:
    return [each.source for each in sources.exchange(Following(name, list(reports)), [model], caller)]


def test_topics_are_everybodys_and_a_folder_is_one_followers(sources: Sources, clock: Clock) -> None:
    assert sources.exchange(Following("one"), [MODEL], "follower")[0] == Followed("shop", "fraud", TOPIC, 7200.0)
    assert told(sources, "two") == [TOPIC]
    clock.now += SILENCE
    assert told(sources, "one") == [TOPIC, FOLDER]
    clock.now += SILENCE
    assert told(sources, "two") == [TOPIC]
    clock.now += 1
    assert told(sources, "two") == [TOPIC, FOLDER], "the first has said nothing for too long"
    assert told(sources, "one") == [TOPIC]


def test_before_its_first_run_nothing_is_read(sources: Sources) -> None:
    assert told(sources, "one", model=Standing(1, "shop", "fraud", sources=(TOPIC,))) == []


def test_reports_of_several_are_one(sources: Sources, clock: Clock) -> None:
    report = SourceReport("shop", "fraud", TOPIC, lag=3, labels=5, poisoned=1)
    told(sources, "one", report)
    told(sources, "two", SourceReport("shop", "fraud", TOPIC, "no broker", None, 2, 1))
    assert sources.of(MODEL) == [SourceReport("shop", "fraud", TOPIC, "no broker", 3, 7, 2)]
    assert sources.of(Standing(2, "bank", "fraud", sources=(TOPIC,))) == []
    clock.now += SILENCE + 1
    told(sources, "one", report)
    assert sources.of(MODEL) == [report]


def test_followers_are_bounded(sources: Sources) -> None:
    report = SourceReport("shop", "fraud", TOPIC, labels=1)
    for number in range(200):
        told(sources, f"f{number}", report)
    assert sources.of(MODEL)[0].labels == 64


def test_a_caller_speaks_for_its_own_followers_and_models_alone(sources: Sources) -> None:
    other = Standing(2, "bank", "fraud", spec=SPEC, sources=(TOPIC, FOLDER))
    right, wrong = SourceReport("shop", "fraud", TOPIC, labels=5), SourceReport("shop", "fraud", TOPIC, "it is broken")
    assert told(sources, "one", right) == [TOPIC, FOLDER]
    assert told(sources, "one", wrong, model=other, caller="bank") == [TOPIC, FOLDER]
    assert sources.of(MODEL) == [right]
    assert sources.of(other) == []
    for number in range(200):
        told(sources, f"f{number}", model=other, caller="bank")
    assert told(sources, "two", right) == [TOPIC]
    assert sources.of(MODEL)[0].labels == 10, "another caller's followers take no place of its own"
    assert told(sources, "one", right) == [TOPIC, FOLDER], "nor the folder"


def test_a_follower_sends_labels_everywhere_and_does_nothing_else() -> None:
    caller = follower("system:serviceaccount:mc:modelcanary-labels")
    assert [call for call in Call if caller.may(call, "shop", "fraud")] == [Call.FEEDBACK, Call.SOURCES]
    caller.require_some(Call.SOURCES)
    other = account("system:serviceaccount:shop:app", "shop", "")
    assert not other.may(Call.SOURCES, "shop", "fraud")
    with pytest.raises(Forbidden, match="may not call sources"):
        other.require_some(Call.SOURCES)


def test_over_http(tmp_path) -> None:
    """Sources last as long as the instructions, also over a restart; who may not follow may not say so."""
    tokens = tmp_path / "tokens"
    tokens.write_text(f"{digest('root')} * root\n{digest('shop')} shop shop\n")
    listed = [{"kind": "kafka", "endpoint": "main", "place": "outcomes", "deadLetterTopic": ""}]
    sender = {"name": "billing", "tokenSHA256": hashlib.sha256(b"billing").hexdigest()}
    options = (f"--token-file={tokens}",)
    report = {"namespace": "shop", "name": "fraud", "source": listed[0], "problem": "no broker"}

    def client(url: str, token: str) -> httpx.Client:
        return httpx.Client(base_url=url, headers={"Authorization": f"Bearer {token}"}, timeout=60)

    with ledger(tmp_path / "state", *options) as (url, _), client(url, "root") as root:
        for namespace in ("shop", "bank"):
            put = instructions(sources=listed, senders=[sender])
            root.put(f"/v1/runs/{namespace}/fraud/instructions", json=put).raise_for_status()
    with ledger(tmp_path / "state", *options) as (url, _), client(url, "root") as root:
        orders = root.post("/v1/sources", json={"follower": "one", "reports": [report]}).json()
        assert [each["namespace"] for each in orders["sources"]] == ["shop", "bank"]
        assert orders["sources"][0]["source"] == listed[0]
        with client(url, "shop") as shop:
            orders = shop.post("/v1/sources", json={"follower": "two", "reports": []}).json()
            assert [each["namespace"] for each in orders["sources"]] == ["shop"]
            (seen,) = shop.get("/v1/runs/shop/fraud/sources").json()["reports"]
            assert seen["problem"] == "no broker"
            assert shop.get("/v1/runs/bank/fraud/sources").status_code == 403
            lie = {**report, "namespace": "bank"}
            for follower in ("one", "two"):
                shop.post("/v1/sources", json={"follower": follower, "reports": [lie]}).raise_for_status()
            assert root.get("/v1/runs/bank/fraud/sources").json()["reports"] == []
            (seen,) = root.get("/v1/runs/shop/fraud/sources").json()["reports"]
            assert seen["problem"] == "no broker", "the other's follower of that name has said so"
        where = {"namespace": "shop", "name": "fraud", "source": "kafka:main/outcomes"}
        assert root.post("/v1/feedback", params=where, json={"id": "x", "label": "cat"}).status_code == 202
        assert list(root.get("/v1/runs/shop/fraud/evidence").json()["counts"]["senders"]) == ["kafka:main/outcomes"]
        with client(url, "billing") as billing:
            assert billing.post("/v1/feedback", params=where, json={"id": "x", "label": "cat"}).status_code == 403
            answer = billing.post("/v1/sources", json={"follower": "three", "reports": []})
            assert answer.status_code == 403
        root.put("/v1/runs/shop/fraud/instructions", json=instructions(sources=[])).raise_for_status()
        orders = root.post("/v1/sources", json={"follower": "one", "reports": []}).json()
        assert [each["namespace"] for each in orders["sources"]] == ["bank"]
        root.delete("/v1/runs/bank/fraud", params={"epoch": 1}).raise_for_status()
        assert root.post("/v1/sources", json={"follower": "one", "reports": []}).json()["sources"] == []
