"""A real Kafka broker of the tests' own, in KRaft mode: its jars by Maven, once, into the cache; needs a JDK and Maven.

It listens in the clear, where everybody may do everything; by SASL, where the user `reader` may do nothing but what
a test allows; and by TLS, where whoever has a certificate for `labels` from its authority may do everything.
"""

import contextlib
import shutil
import subprocess
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from confluent_kafka import KafkaException, Producer
from confluent_kafka.admin import AdminClient, NewTopic
from demo.cache import built, cache_root, key_of
from tests.cluster.pki import Authority
from tests.listening import free_ports

_POM = """<project xmlns="http://maven.apache.org/POM/4.0.0"><modelVersion>4.0.0</modelVersion>
<groupId>io.modelcanary</groupId><artifactId>kafka-for-tests</artifactId><version>1</version><dependencies><dependency>
<groupId>org.apache.kafka</groupId><artifactId>kafka_2.13</artifactId><version>3.9.1</version></dependency></dependencies>
</project>
"""
_JAVA = ["java", "-Xmx512m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"]
PASSWORD = "sesame"


@dataclass(frozen=True)
class Broker:
    address: str
    sasl: str  # address of the listener that asks who one is
    tls: str  # address of the one that asks for a certificate, and has one
    authority: Authority  # of both certificates

    def topic(self, name: str, partitions: int = 1) -> str:
        admin = AdminClient({"bootstrap.servers": self.address})
        admin.create_topics([NewTopic(name, partitions, 1)])[name].result(60)
        return name

    def send(
        self, topic: str, *values: bytes | None, partition: int = 0, headers: dict[str, str] | None = None
    ) -> None:
        """In this order; on the broker's disk when it returns."""
        failed = []
        producer = Producer({"bootstrap.servers": self.address, "linger.ms": 0})
        for value in values:
            producer.produce(
                topic,
                value,
                partition=partition,
                headers=list((headers or {}).items()),
                on_delivery=lambda error, _: failed.append(error) if error else None,
            )
            producer.poll(0)
        assert producer.flush(60) == 0
        assert not failed


@contextlib.contextmanager
def broker(folder: Path) -> Iterator[Broker]:
    jars = _jars()
    plain, sasl, tls, controller = free_ports(4)
    authority = Authority(folder / "authority")
    _store(folder / "broker.pem", *authority.issue("broker", "/CN=broker", "IP:127.0.0.1"))
    settings = {
        "process.roles": "broker,controller",
        "node.id": "1",
        "controller.quorum.voters": f"1@127.0.0.1:{controller}",
        "listeners": ",".join(
            f"{name}://127.0.0.1:{port}"
            for name, port in (("PLAINTEXT", plain), ("SASL_PLAINTEXT", sasl), ("SSL", tls), ("CONTROLLER", controller))
        ),
        "listener.security.protocol.map": (
            "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,SASL_PLAINTEXT:SASL_PLAINTEXT,SSL:SSL"
        ),
        "ssl.keystore.type": "PEM",
        "ssl.keystore.location": str(folder / "broker.pem"),
        "ssl.truststore.type": "PEM",
        "ssl.truststore.location": str(authority.certificate),
        "ssl.client.auth": "required",
        "controller.listener.names": "CONTROLLER",
        "inter.broker.listener.name": "PLAINTEXT",
        "sasl.enabled.mechanisms": "PLAIN",
        "listener.name.sasl_plaintext.plain.sasl.jaas.config": (
            f'org.apache.kafka.common.security.plain.PlainLoginModule required user_reader="{PASSWORD}";'
        ),
        "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
        "super.users": "User:ANONYMOUS;User:CN=labels",
        "log.dirs": str(folder / "data"),
        "auto.create.topics.enable": "false",
        "offsets.topic.replication.factor": "1",
        "offsets.topic.num.partitions": "4",
        "transaction.state.log.replication.factor": "1",
        "transaction.state.log.min.isr": "1",
        "group.initial.rebalance.delay.ms": "0",
        "group.min.session.timeout.ms": "1000",
    }
    file = folder / "server.properties"
    file.write_text("".join(f"{name}={value}\n" for name, value in settings.items()))
    java = [*_JAVA, "-cp", f"{jars}/*"]
    identity = uuid.uuid4().hex[:22]
    subprocess.run(
        [*java, "kafka.tools.StorageTool", "format", "-t", identity, "-c", str(file)],
        check=True,
        capture_output=True,
        timeout=240,
    )
    log = folder / "broker.log"
    with (
        log.open("w") as into,
        subprocess.Popen([*java, "kafka.Kafka", str(file)], stdout=into, stderr=into) as started,
    ):
        try:
            _await(f"127.0.0.1:{plain}", started, log)
            yield Broker(f"127.0.0.1:{plain}", f"127.0.0.1:{sasl}", f"127.0.0.1:{tls}", authority)
        finally:
            started.kill()


def _store(path: Path, certificate: Path, key: Path) -> None:
    path.write_text(key.read_text() + certificate.read_text())


def _await(address: str, started: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 240
    admin = AdminClient({"bootstrap.servers": address, "log_level": 0})
    while time.monotonic() < deadline:
        assert started.poll() is None, log.read_text()[-3000:]
        with contextlib.suppress(KafkaException):
            if admin.list_topics(timeout=1).brokers:
                return
    raise AssertionError(log.read_text()[-3000:])


def _jars() -> Path:
    """Made once for all tests at a time, by whoever comes first."""
    for command, package in (("mvn", "maven"), ("java", "openjdk-17-jdk-headless")):
        if shutil.which(command) is None:
            pytest.fail(f"the tests of Kafka need {command}: apt-get install {package}")
    return built(cache_root() / "kafka" / key_of(_POM), _fetch) / "jars"


def _fetch(folder: Path) -> None:
    (folder / "pom.xml").write_text(_POM)
    command = ["mvn", "-q", "-B", "-f", str(folder / "pom.xml"), "dependency:copy-dependencies"]
    done = subprocess.run(
        [*command, f"-DoutputDirectory={folder}/jars"], capture_output=True, text=True, timeout=600, check=False
    )
    assert done.returncode == 0, done.stdout[-3000:]
