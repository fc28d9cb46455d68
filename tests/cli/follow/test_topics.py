"""`labels follow` of topics on a real broker: what is in them counts once, whatever ends in between."""

import contextlib
import json
import shutil
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from tests.cli.broker import PASSWORD, Broker
from tests.cli.follow.world import World, relay, topic, until
from tests.cluster.pki import Authority

pytestmark = pytest.mark.timeout(900)


@pytest.fixture
def kafka(world: World, broker: Broker) -> World:
    """A ledger whose admin lists the broker as `main`; who is killed is missed after some seconds."""
    file = world.folder / "main.properties"
    file.write_text("session.timeout.ms=6000\nheartbeat.interval.ms=1000\n")
    main: dict[str, object] = {"type": "kafka", "brokers": [broker.address], "propertiesFile": str(file)}
    world.endpoints["main"] = main | {"deadLetterTopics": ["*-dead"]}
    return world


def label(identifier: str, value: object = "cat", **more: object) -> bytes:
    return json.dumps({"id": identifier, "label": value, **more}).encode()


def committed(broker: Broker, name: str, topic: str, partitions: int = 1) -> int:
    group = Consumer({"bootstrap.servers": broker.address, "group.id": f"modelcanary.shop.{name}.{topic}"})
    with contextlib.closing(group):
        found = group.committed([TopicPartition(topic, number) for number in range(partitions)], timeout=60)
        return sum(max(0, each.offset) for each in found)


def test_every_form_twice(kafka: World, broker: Broker) -> None:
    """Once more, and out of order: what is known changes nothing."""
    broker.topic("forms")
    canary = kafka.canary("forms", topic("forms"))
    canary.ask(*(f"f{number}" for number in range(1, 10)))
    bodies = [
        label("f1", "dog"),
        b"[" + label("f2", 2) + b"," + label("f3", [0.0, 1.0, 0.0]) + b"]",
        label("f4", ts=time.time()) + b"\n" + label("f5", source="desk"),
        b'{"groundTruthData": {"data": "2", "encoding": "CSV"}, "eventMetadata": {"eventId": "f6"}}',
        b'{"response": {"meta": {"puid": "f7"}}, "reward": 1, "truth": {"data": {"ndarray": [1]}}}',
        b'{"specversion": "1.0", "id": "1", "type": "t", "source": "/b", "subject": "f8", "data": {"label": "owl"}}',
        None,  # of a compacted topic
    ]
    binary = {"ce_specversion": "1.0", "ce_id": "2", "ce_type": "t", "ce_source": "/b", "ce_subject": "f9"}
    with kafka.follower():
        broker.send("forms", *bodies)
        broker.send("forms", b'"dog"', headers={**binary, "content-type": "application/json"})
        canary.gets({"joined": 9})
        broker.send("forms", *reversed(bodies))
        canary.gets({"joined": 9, "duplicate": 8})
        until(lambda: canary.report()["lag"], lambda lag: lag == 0)
    assert canary.labels() == {
        **{"f1": 1, "f2": 2, "f3": [0.0, 1.0, 0.0], "f4": 0, "f5": 0, "f6": 2, "f7": 1, "f8": 2, "f9": 1}
    }
    assert canary.senders() == ["kafka:main/forms"]
    assert canary.report()["labels"] == 17
    assert canary.report()["poisoned"] == 0


def test_before_their_pair_and_after_the_window(kafka: World, broker: Broker) -> None:
    broker.topic("times")
    canary = kafka.canary("times", topic("times"), max_delay="10m")
    canary.ask("old", age=1200)
    broker.send("times", label("new"), label("old"))
    with kafka.follower():
        canary.gets({"unmatched": 1, "expired": 1})
        assert canary.judged() == 0
        canary.ask("new")
        until(canary.judged, lambda judged: judged == 1)


def test_who_begins_reads_what_may_still_be_joined(kafka: World, broker: Broker) -> None:
    broker.topic("begin")
    canary = kafka.canary("begin", topic("begin"), max_delay="10m")
    canary.ask("a", "b")
    producer = Producer({"bootstrap.servers": broker.address})
    producer.produce("begin", label("a", "owl"), timestamp=int((time.time() - 3 * 3600) * 1000))
    assert producer.flush(60) == 0
    broker.send("begin", label("b"))
    with kafka.follower():
        canary.gets({"joined": 1})
    assert canary.labels() == {"b": 0}


def test_what_is_no_label_stops_nothing(kafka: World, broker: Broker) -> None:
    broker.topic("poison")
    broker.topic("poison-dead")
    canary = kafka.canary("poison", topic("poison", deadLetterTopic="poison-dead"))
    good = [f"g{number}" for number in range(20)]
    canary.ask(*good)
    bad = [
        b"\xff\xfe",
        b"",
        label("x", "secret-emu"),
        label("x", 7),
        label("x", [0.5, 0.4, 0.0]),
        b'{"id": "x"}',
        b'{"truth": {"data": {"ndarray": [1]}}}',
        b'{"groundTruthData": {"data": "secret-emu", "encoding": "CSV"}, "eventMetadata": {"eventId": "x"}}',
    ]
    mixed = [body for number, name in enumerate(good) for body in (label(name), bad[number % len(bad)])]
    with kafka.follower() as follower:
        broker.send("poison", *mixed)
        canary.gets({"joined": 20})
        until(canary.report, lambda report: report.get("poisoned") == 20)
        until(lambda: committed(broker, "poison", "poison"), lambda offset: offset == 40)
    log = follower.log.read_text()
    assert "shop/poison kafka:main/poison: partition 0, offset 1 is no label: " in log
    assert "secret-emu" not in log
    reader = Consumer({"bootstrap.servers": broker.address, "group.id": "t", "auto.offset.reset": "earliest"})
    with contextlib.closing(reader):
        reader.subscribe(["poison-dead"])
        found: list[object] = []
        until(lambda: found.extend(reader.consume(20, 1.0)) or len(found), lambda count: count >= 20)  # type: ignore[func-returns-value]
    assert sorted(each.value() or b"" for each in found) == sorted(mixed[1::2])  # type: ignore[attr-defined]
    headers = dict(found[0].headers())  # type: ignore[attr-defined]
    assert headers["modelcanary-place"].startswith(b"poison/0/")
    assert headers["modelcanary-problem"]


def test_killed_between_join_and_commit(kafka: World, broker: Broker) -> None:
    broker.topic("killed")
    canary = kafka.canary("killed", topic("killed"))
    names = [f"k{number}" for number in range(50)]
    canary.ask(*names)
    broker.send("killed", *(label(name) for name in names))
    joined, gone = threading.Event(), threading.Event()

    def hold(_: bytes, forward: Callable[[], int]) -> int | None:
        assert forward() == 202
        joined.set()
        assert gone.wait(240)
        return None

    with relay(kafka.url, hold) as url, kafka.follower("first", ledger=url) as first:
        assert joined.wait(240)
        first.kill()
        gone.set()
    before = canary.counts()["joined"]
    assert before
    assert committed(broker, "killed", "killed") == 0
    with kafka.follower("second"):
        until(canary.counts, lambda counts: counts == {"joined": 50, "duplicate": counts.get("duplicate", 0)})
        assert canary.counts()["duplicate"] >= before
        until(lambda: committed(broker, "killed", "killed"), lambda offset: offset == 50)
    assert canary.labels() == dict.fromkeys(names, 0)


def test_two_share_a_topic_and_one_is_killed(kafka: World, broker: Broker) -> None:
    broker.topic("shared", partitions=4)
    canary = kafka.canary("shared", topic("shared"))
    names = [f"s{number}" for number in range(2000)]
    canary.ask(*names)

    def send(part: list[str]) -> None:
        for partition in range(4):
            broker.send("shared", *(label(name) for name in part[partition::4]), partition=partition)

    with kafka.follower("first") as first:
        send(names[:500])
        canary.gets({"joined": 500})
        with kafka.follower("second") as second:
            until(lambda: "shop/shared kafka:main/shared: it is read" in second.log.read_text())
            send(names[500:1500])
            first.kill()
            send(names[1500:])
            until(canary.counts, lambda counts: counts["joined"] == 2000, seconds=240)
            until(lambda: committed(broker, "shared", "shared", 4), lambda offset: offset == 2000)
    assert canary.labels() == dict.fromkeys(names, 0)
    assert set(canary.counts()) <= {"joined", "duplicate"}


def test_a_ledger_that_refuses_is_waited_for(kafka: World, broker: Broker) -> None:
    """Nothing is skipped, and nothing is committed that the ledger does not have."""
    broker.topic("busy")
    canary = kafka.canary("busy", topic("busy"))
    canary.ask("b1", "b2", "b3")
    broker.send("busy", label("b1"), b"no label", label("b2"))
    answers = [429, 503, 507, 503]
    refused = []

    def refuse(_: bytes, __: Callable[[], int]) -> int | None:
        refused.append(committed(broker, "busy", "busy"))
        return answers[len(refused) - 1] if len(refused) <= len(answers) else None

    with relay(kafka.url, refuse) as url, kafka.follower(ledger=url):
        assert "the ledger cannot take them now: 50" in canary.problem("the ledger cannot take them now")
        canary.gets({"joined": 2})
        broker.send("busy", label("b3"))
        canary.gets({"joined": 3})
        until(canary.report, lambda report: report["problem"] == "")
    assert refused[: len(answers) + 1] == [0] * (len(answers) + 1)


class TestTls:
    """A listener that has a certificate and asks for one."""

    @pytest.fixture
    def file(self, kafka: World, broker: Broker) -> Path:
        """The properties of the endpoint `main`, which the test writes."""
        file = kafka.folder / "tls.properties"
        kafka.endpoints["main"] = {
            **{"type": "kafka", "brokers": [broker.tls], "propertiesFile": str(file)},
            "deadLetterTopics": ["*-dead"],
        }
        return file

    def settings(self, authority: Authority, certificate: Path | None = None, key: Path | None = None) -> str:
        lines = ["security.protocol=SSL", f"ssl.ca.location={authority.certificate}"]
        if certificate is not None:
            lines += [f"ssl.certificate.location={certificate}", f"ssl.key.location={key}"]
        return "\n".join(lines)

    def test_labels_and_dead_letters_by_certificate(self, kafka: World, broker: Broker, file: Path) -> None:
        file.write_text(self.settings(broker.authority, *broker.authority.issue("labels", "/CN=labels")))
        broker.topic("tls")
        broker.topic("tls-dead")
        canary = kafka.canary("tls", topic("tls", deadLetterTopic="tls-dead"))
        canary.ask("t1", "t2")
        broker.send("tls", label("t1"), b"no label", label("t2", "owl"))
        with kafka.follower():
            canary.gets({"joined": 2})
            until(lambda: committed(broker, "tls", "tls"), lambda offset: offset == 3)
            until(canary.report, lambda report: report.get("poisoned") == 1 and not report["problem"])
        assert canary.labels() == {"t1": 0, "t2": 2}
        dead = Consumer({"bootstrap.servers": broker.address, "group.id": "tls", "auto.offset.reset": "earliest"})
        with contextlib.closing(dead):
            dead.subscribe(["tls-dead"])
            found = until(lambda: dead.poll(1.0))
        assert found.value() == b"no label"

    def test_a_certificate_that_is_renewed_is_taken_up(self, kafka: World, broker: Broker, file: Path) -> None:
        """The first one is of somebody who may do nothing; its file is replaced, and the properties are not."""
        certificate, key = (kafka.folder / name for name in ("tls.crt", "tls.key"))

        def install(name: str) -> None:
            for new, place in zip(broker.authority.issue(name, f"/CN={name}"), (certificate, key), strict=True):
                shutil.copy(new, place)

        install("nobody")
        file.write_text(self.settings(broker.authority, certificate, key))
        broker.topic("renewed")
        canary = kafka.canary("renewed", topic("renewed"))
        canary.ask("r")
        broker.send("renewed", label("r"))
        with kafka.follower():
            canary.problem("let its user read")
            install("labels")
            canary.gets({"joined": 1})

    @pytest.mark.parametrize(
        ("wrong", "part"),
        [
            ("no certificate", "alert bad certificate"),
            ("another authority", "certificate verify failed"),
            ("no such file", "ssl.ca.location failed"),
            ("no tls there", "connecting to a PLAINTEXT broker listener?"),
        ],
    )
    def test_what_is_wrong_is_said(self, kafka: World, broker: Broker, file: Path, wrong: str, part: str) -> None:
        if wrong == "no certificate":
            file.write_text(self.settings(broker.authority))
        elif wrong == "another authority":
            other = Authority(kafka.folder / "other")
            file.write_text(self.settings(other, *broker.authority.issue("labels", "/CN=labels")))
        elif wrong == "no such file":
            file.write_text("security.protocol=SSL\nssl.ca.location=/nowhere/ca.crt\n")
        else:
            file.write_text(self.settings(broker.authority))
            kafka.endpoints["main"] |= {"brokers": [broker.address]}
        name = wrong.replace(" ", "-")
        broker.topic(name)
        canary = kafka.canary(name, topic(name))
        with kafka.follower() as follower:
            problem = canary.problem(part)
        assert problem.startswith(f"the endpoint main: topic {name}: ")
        assert "; check what its propertiesFile says" in problem
        assert len(follower.log.read_text().splitlines()) < 10


class TestProblems:
    """Each names the endpoint and the remedy, where the user looks."""

    def test_a_topic_that_is_not_there_until_it_is(self, kafka: World, broker: Broker) -> None:
        canary = kafka.canary("missing", topic("missing"))
        canary.ask("m")
        with kafka.follower():
            problem = canary.problem("topic missing")
            assert problem.startswith("the endpoint main: topic missing: ")
            assert problem.endswith("; create the topic, or correct its name")
            broker.topic("missing")
            broker.send("missing", label("m"))
            canary.gets({"joined": 1})
            until(canary.report, lambda report: report["problem"] == "")

    def test_no_broker_there(self, kafka: World) -> None:
        kafka.endpoints["main"] = {"type": "kafka", "brokers": ["127.0.0.1:1"]}
        canary = kafka.canary("nowhere", topic("nowhere"))
        with kafka.follower():
            assert canary.problem("brokers can be reached").startswith("the endpoint main: topic nowhere: ")

    @pytest.mark.parametrize(
        ("password", "part"),
        [("wrong", "check the user and the password in its propertiesFile"), (PASSWORD, "let its user read")],
    )
    def test_who_may_not(self, kafka: World, broker: Broker, password: str, part: str) -> None:
        name = f"closed-{len(password)}"
        broker.topic(name)
        file = kafka.folder / "kafka.properties"
        lines = ["# of the team", "security.protocol=SASL_PLAINTEXT", "sasl.mechanism=PLAIN", "sasl.username=reader"]
        file.write_text("\n".join([*lines, f"sasl.password={password}"]))
        kafka.endpoints["main"] = {"type": "kafka", "brokers": [broker.sasl], "propertiesFile": str(file)}
        canary = kafka.canary(name, topic(name))
        with kafka.follower() as follower:
            problem = canary.problem(part)
            assert password not in problem
            assert password not in follower.log.read_text()

    def test_what_the_admin_does_not_list(self, kafka: World, broker: Broker) -> None:
        kafka.endpoints["main"] = {"type": "kafka", "brokers": [broker.address], "topics": ["shop.*"]}
        kafka.endpoints["other"] = {"type": "kafka", "brokers": [broker.address], "namespaces": ["bank"]}
        topics = kafka.canary("topics", topic("bank.labels"))
        namespaces = kafka.canary("namespaces", [{"kind": "kafka", "endpoint": "other", "place": "t"}])
        letters = kafka.canary("letters", topic("shop.labels", deadLetterTopic="shop.dead"))
        with kafka.follower():
            assert "'bank.labels' is not among what the cluster's admin lists: shop.*" in topics.problem("topic")
            assert "is no endpoint of type kafka that is listed for the namespace shop" in namespaces.problem("'other'")
            assert "'shop.dead' is not among what" in letters.problem("deadLetterTopic")


def test_it_ends_when_it_is_asked_to(kafka: World, broker: Broker) -> None:
    broker.topic("ends")
    canary = kafka.canary("ends", topic("ends"))
    with kafka.follower() as follower:
        until(canary.report, lambda report: report.get("problem") == "")
        assert follower.end() == 0
