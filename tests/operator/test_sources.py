"""`labels.sources`: the list of places, what of it may be named, what the ledger is told, what the status says."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.operator.fake_api import FakeApi
from tests.operator.fake_ledger import FakeLedger
from tests.operator.harness import Cluster
from tests.operator.outside import play
from tests.operator.receiver import Receiver
from tests.operator.test_endpoints import spec

from modelcanary_gate.plan.phases import Phase
from modelcanary_gate.protocol import LabelSource, SourceReport
from modelcanary_gate.vocabulary import SourceKind
from modelcanary_operator.api import CANARIES
from modelcanary_operator.endpoints import parse_endpoints
from modelcanary_operator.errors import EndpointsInvalid
from modelcanary_operator.label_places import LabelPlace

LIST = """
main: {type: kafka, brokers: ["a:9092", "[::1]:9093"], propertiesFile: /secrets/kafka, topics: ["shop.*", outcomes],
       deadLetterTopics: ["*.dead"], groupPrefix: mc, namespaces: [risk]}
lake: {type: files, url: "s3://lake-1/labels/", paths: ["risk/*"]}
share: {type: files, url: "file:///share"}
prom: {type: prometheus, url: "http://p"}
"""
KAFKA = {"type": "kafka", "brokers": ["a:9092"]}
FILES = {"type": "files", "url": "s3://lake"}


def test_it_is_read() -> None:
    found = {name: each.labels for name, each in parse_endpoints(yaml.safe_load(LIST)).by_name.items()}
    assert found["main"] == LabelPlace(
        SourceKind.KAFKA,
        brokers=("a:9092", "[::1]:9093"),
        properties_file=Path("/secrets/kafka"),
        group_prefix="mc",
        places=("shop.*", "outcomes"),
        dead_letter_topics=("*.dead",),
    )
    assert found["lake"] == LabelPlace(SourceKind.FILES, url="s3://lake-1/labels", places=("risk/*",))
    assert found["share"] is not None and found["share"].url == "file:///share"
    assert found["prom"] is None


@pytest.mark.parametrize(
    ("written", "field", "words"),
    [
        ({"type": "kafka"}, "a.brokers", "is missing"),
        ({**KAFKA, "brokers": "a:9092"}, "a.brokers", "is no list"),
        ({**KAFKA, "brokers": ["kafka"]}, "a.brokers", "'kafka' is no host:port"),
        ({**KAFKA, "url": "http://x"}, "a.url", "unknown field"),
        ({**KAFKA, "topics": [1]}, "a.topics", "is no list of texts"),
        ({**KAFKA, "groupPrefix": "a b"}, "a.groupPrefix", "is no name"),
        ({**KAFKA, "propertiesFile": "x"}, "a.propertiesFile", "no absolute path"),
        ({**KAFKA, "namespaces": "risk"}, "a.namespaces", "is no list"),
        ({"type": "files"}, "a.url", "is no root of files"),
        ({**FILES, "url": "http://x"}, "a.url", "is no root of files"),
        ({**FILES, "url": "s3://key:hidden@lake"}, "a.url", "is no root of files"),
        ({**FILES, "url": "s3://lake?x=hidden"}, "a.url", "is no root of files"),
        ({**FILES, "url": "file:///a/../etc"}, "a.url", "is no root of files"),
        ({**FILES, "brokers": ["a:1"]}, "a.brokers", "unknown field"),
    ],
)
def test_what_is_wrong_is_named_with_its_remedy(written: Any, field: str, words: str) -> None:
    with pytest.raises(EndpointsInvalid) as caught:
        parse_endpoints({"a": written})
    message = str(caught.value)
    assert message.startswith(f"endpoints: {field} ") and words in message and "; " in message
    assert "hidden" not in message


@pytest.mark.parametrize(
    ("source", "problem"),
    [
        ({"kafka": {"endpoint": "main", "topic": "shop.fraud"}}, ""),
        ({"kafka": {"endpoint": "main", "topic": "outcomes", "deadLetterTopic": "risk.dead"}}, ""),
        ({"files": {"endpoint": "lake", "path": "risk/fraud"}}, ""),
        ({"files": {"endpoint": "share", "path": "."}}, ""),
        (
            {"kafka": {"endpoint": "main", "topic": "bank"}},
            "spec.labels.sources[0].kafka.topic: 'bank' is not among what the cluster's admin lists: shop.*, outcomes",
        ),
        (
            {"kafka": {"endpoint": "main", "topic": "outcomes", "deadLetterTopic": "bank"}},
            "spec.labels.sources[0].kafka.deadLetterTopic: 'bank' is not among what the cluster's admin lists to be "
            "written: *.dead; leave it out, and what is no label is counted",
        ),
        (
            {"files": {"endpoint": "lake", "path": "bank"}},
            "spec.labels.sources[0].files.path: 'bank' is not among what the cluster's admin lists: risk/*",
        ),
        (
            {"files": {"endpoint": "main", "path": "x"}},
            "spec.labels.sources[0].files.endpoint: 'main' is of type kafka, and this needs files; "
            "there are: lake, share",
        ),
        (
            {"kafka": {"endpoint": "other", "topic": "x"}},
            "spec.labels.sources[0].kafka.endpoint: 'other' is no endpoint that the cluster's admin lists for this "
            "namespace; there are: main",
        ),
    ],
)
def test_what_may_not_be_named_is_said(source: dict[str, Any], problem: str) -> None:
    listed = parse_endpoints(yaml.safe_load(LIST))
    assert listed.problem("risk", spec(labels={"sources": [source]})) == problem
    if "kafka" in source:
        assert listed.problem("ads", spec(labels={"sources": [source]})).endswith("for this namespace; there is none")


def test_the_ledger_is_told_and_the_status_says_how_it_goes(tmp_path: Path) -> None:
    source = LabelSource(SourceKind.FILES, "lake", "fraud")
    listed = {"sources": [{"files": {"endpoint": "lake", "path": "fraud"}}]}

    async def story(cluster: Cluster, api: FakeApi, ledger: FakeLedger, _: Receiver) -> None:
        async def edit(**more: Any) -> None:
            found = await api.get(CANARIES, "team", "fraud")
            found["spec"]["labels"] = {"maturity": "0s", **more}
            await api.replace(CANARIES, "team", "fraud", found)
            await cluster.settle()

        assert ledger.followed == [source]
        assert (await cluster.condition("SourcesHealthy"))["reason"] == "SourceUnread"
        ledger.reports = [SourceReport("team", "fraud", source, "no such bucket; make it")]
        await cluster.settle()
        found = await cluster.condition("SourcesHealthy")
        assert (found["status"], found["message"]) == ("False", "spec.labels.sources[0]: no such bucket; make it")
        ledger.reports = [SourceReport("team", "fraud", source)]
        await cluster.settle()
        assert (await cluster.condition("SourcesHealthy"))["status"] == "True"
        await edit(sources=[{"files": {"endpoint": "pond", "path": "fraud"}}])
        stalled = await cluster.condition("Stalled")
        assert (stalled["status"], stalled["reason"]) == ("True", "EndpointUnknown")
        assert stalled["message"].startswith("spec.labels.sources[0].files.endpoint: 'pond' is no endpoint")
        await edit(**listed)
        assert (await cluster.condition("Stalled"))["status"] == "False"
        await api.delete(CANARIES, "team", "fraud")
        await cluster.settle()
        assert ledger.followed == []

    endpoints = {"lake": {"type": "files", "url": "s3://lake"}}
    play(tmp_path, story, {"labels": {"maturity": "0s", **listed}}, endpoints)


def test_a_ledger_that_knows_no_sources_is_a_ledger(tmp_path: Path) -> None:
    """An older one, or one that has not heard of the model yet: what it says else is believed."""

    async def story(cluster: Cluster, _: FakeApi, ledger: FakeLedger, __: Receiver) -> None:
        ledger.knows_sources, ledger.delta = False, -0.1
        await cluster.push("model:2")
        await cluster.phase(Phase.SHADOWING)
        for _ in range(3):
            await cluster.look()
        assert ledger.instructions.run
        found = await cluster.condition("SourcesHealthy")
        assert (found["status"], found["reason"]) == ("Unknown", "LedgerUnavailable")
        await cluster.phase(Phase.PROMOTING)

    listed = {"sources": [{"files": {"endpoint": "lake", "path": "fraud"}}]}
    play(
        tmp_path,
        story,
        {"labels": {"maturity": "0s", **listed}},
        {"lake": {"type": "files", "url": "s3://lake"}},
    )
