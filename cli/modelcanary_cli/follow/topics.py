"""One topic of labels, read as a member of a consumer group: what the ledger has taken is committed, and nothing else.

Run by `worker` in a thread of its own. Whatever ends it in between, the brokers hand the rest to who is left, and what
was taken and not committed comes again, which changes nothing. It must not know what a label is.
"""

import logging
import re
import threading
import time
from collections.abc import Mapping

from confluent_kafka import OFFSET_INVALID, Consumer, KafkaError, KafkaException, Message, TopicPartition

from modelcanary_cli.errors import CliError
from modelcanary_cli.feedback import FIRST_PAUSE, LONGEST_PAUSE
from modelcanary_cli.follow.dead_letters import DeadLetters
from modelcanary_cli.follow.delivery import Delivery, Post, Stopped, Tally
from modelcanary_cli.follow.properties import read_properties
from modelcanary_cli.follow.records import Record, Unusable, read_record
from modelcanary_gate.protocol import Followed
from modelcanary_operator.label_places import LabelPlace

log = logging.getLogger(__name__)

_MOST_MESSAGES, _MOST_BYTES = 500, 4 << 20  # of one batch
#: Seconds for which brokers are waited for.
_PATIENCE = 10.0
#: Seconds between two looks at whether the topic is there, and how much waits.
_PROBE = 5.0
#: Seconds that clocks of producers may be wrong by.
_SLACK = 3600.0
_SSL = "check what its propertiesFile says of ssl"
_REMEDIES = {
    KafkaError._AUTHENTICATION: "check the user and the password in its propertiesFile",
    KafkaError.SASL_AUTHENTICATION_FAILED: "check the user and the password in its propertiesFile",
    KafkaError._SSL: _SSL,
    KafkaError._INVALID_ARG: "check what its propertiesFile says",
    KafkaError.TOPIC_AUTHORIZATION_FAILED: "let its user read the topic",
    KafkaError.GROUP_AUTHORIZATION_FAILED: "let its user read the consumer group {group}",
    KafkaError.UNKNOWN_TOPIC_OR_PART: "create the topic, or correct its name",
    KafkaError._UNKNOWN_TOPIC: "create the topic, or correct its name",
}
_AFTER = re.compile(r" \(after \d+ms in state \w+\)")
_UNREACHED = frozenset({KafkaError._ALL_BROKERS_DOWN, KafkaError._TRANSPORT, KafkaError._TIMED_OUT})
#: Of every client of a broker, unless the admin says otherwise. Errors come as such and are said once, not as a line of
#: the log at each attempt; a broker that refuses a certificate lets in first, so attempts would not grow rarer.
CALM = {"log_level": "2", "reconnect.backoff.ms": "1000"}


class BrokerError(CliError):
    """Brokers do not answer, or refuse; they may not the next time."""


class TopicFollower:
    def __init__(self, followed: Followed, place: LabelPlace, post: Post, tally: Tally, stop: threading.Event) -> None:
        self._topic = followed.source.place
        self._max_delay = followed.maxDelay
        self._endpoint = followed.source.endpoint
        self._group = group_of(followed, place)
        self._tally = tally
        self._stop = stop
        self._delivery = Delivery(post, tally, self._wait, self._set_aside)
        self._config: dict[str, str] = {
            **CALM,
            **read_properties(place.properties_file),
            "bootstrap.servers": ",".join(place.brokers),
        }
        letters = followed.source.deadLetterTopic
        self._dead_letters = DeadLetters(self._config, letters) if letters else None
        self._batch: list[Message] = []
        self._by_place: Mapping[str, Message] = {}
        self._starts: dict[int, int] = {}
        self._generation = 0  # of the assignment
        self._joined = self._waiting = False
        self._probed = float("-inf")
        self._complained = False

    def run(self) -> None:
        """Until it is stopped. Raises CliError where brokers or settings do not allow it."""
        self._consumer = self._connected()
        try:
            self._consumer.subscribe(
                [self._topic], on_assign=self._assigned, on_revoke=self._revoked, on_lost=self._revoked
            )
            while not self._stop.is_set():
                self._probe()
                self._take()
                self._handle()
        except Stopped:
            pass
        except KafkaException as error:
            raise BrokerError(self._words(error.args[0])) from error
        finally:
            self._consumer.close()

    # --- one batch

    def _take(self) -> None:
        """Messages that are there, into `_batch`; what a rebalance takes away in between leaves it."""
        size = sum(map(len, self._batch))
        while len(self._batch) < _MOST_MESSAGES and size < _MOST_BYTES:
            found = self._consumer.consume(100, 0.0 if self._batch else 1.0)
            if not found:
                return
            size += sum(map(self._keep, found))

    def _keep(self, message: Message) -> int:
        error = message.error()
        if error is None:
            self._batch.append(message)
            return len(message)
        self._joined = False
        self._tally.fail(self._words(error))
        return 0

    def _handle(self) -> None:
        if not self._batch:
            return
        batch, self._batch = self._batch, []
        generation = self._generation
        places = map(_place, batch)
        self._by_place = {
            f"partition {at.partition}, offset {at.offset}": each for at, each in zip(places, batch, strict=True)
        }
        records = []
        for place, message in self._by_place.items():
            value = message.value()
            if value is None:
                continue  # of a compacted topic: nothing is said of the key any more
            try:
                records.append(read_record(place, value, _headers(message)))
            except Unusable as error:
                self._aside(message, place, str(error))
        self._delivery.deliver(records)
        if generation != self._generation:
            return  # others have these partitions now, and read again what was not committed
        ends = {at.partition: at.offset + 1 for at in map(_place, batch)}
        try:
            offsets = [TopicPartition(self._topic, partition, offset) for partition, offset in ends.items()]
            self._consumer.commit(offsets=offsets, asynchronous=False)
        except KafkaException as error:  # the next commit says the same; who has taken over reads it again
            log.warning("%s: its place was not kept: %s", self._tally.name, error.args[0].str())

    def _set_aside(self, record: Record, problem: str) -> None:
        self._aside(self._by_place[record.place], record.place, problem)

    def _aside(self, message: Message, place: str, problem: str) -> None:
        """No label: counted, and kept where the user has named a topic for such."""
        pause = FIRST_PAUSE
        while self._dead_letters is not None:
            failure = self._dead_letters.write(message, problem)
            if not failure:
                break
            self._tally.fail(f"deadLetterTopic: {failure}")
            self._wait(pause)
            pause = min(2 * pause, LONGEST_PAUSE)
        self._tally.poison(place, problem)

    def _wait(self, seconds: float) -> None:
        """Nothing is read meanwhile, and the group knows that this member lives. Raises Stopped."""
        until = time.monotonic() + seconds
        self._waiting = True
        self._consumer.pause(self._consumer.assignment())
        try:
            while (left := until - time.monotonic()) > 0:
                if self._stop.is_set():
                    raise Stopped
                message = self._consumer.poll(min(left, 0.5))
                if message is not None:
                    self._keep(message)  # on its way when the partitions were paused
        finally:
            self._waiting = False
            self._consumer.resume(self._consumer.assignment())

    # --- the group

    def _connected(self) -> Consumer:
        ours: dict[str, object] = {
            "group.id": self._group,
            "client.id": "modelcanary-labels",
            "enable.auto.commit": False,
            "enable.auto.offset.store": False,
            "auto.offset.reset": "earliest",
            "queued.max.messages.kbytes": 8192,
            "error_cb": self._failed,
        }
        try:
            return Consumer({**self._config, **ours}, logger=log)
        except KafkaException as error:
            raise BrokerError(self._words(error.args[0])) from error

    def _assigned(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        """Goes on where the group was; who reads a topic for the first time begins with what may still be joined."""
        known = consumer.committed(partitions, timeout=_PATIENCE) if partitions else []
        fresh = [each for each in known if each.offset < 0]
        if fresh:
            since = int((time.time() - self._max_delay - _SLACK) * 1000)
            asked = [TopicPartition(each.topic, each.partition, since) for each in fresh]
            for found in consumer.offsets_for_times(asked, timeout=_PATIENCE):
                # without one so young: the end as it is now, lest what comes meanwhile is passed over
                end = consumer.get_watermark_offsets(found, timeout=_PATIENCE)[1] if found.offset < 0 else found.offset
                next(each for each in known if each.partition == found.partition).offset = end
        self._starts = {each.partition: each.offset for each in known}
        consumer.assign(known)
        if self._waiting:
            consumer.pause(known)
        self._joined = True

    def _revoked(self, _: Consumer, partitions: list[TopicPartition]) -> None:
        self._generation += 1
        gone = {each.partition for each in partitions}
        self._batch = [each for each in self._batch if each.partition() not in gone]

    # --- how it gets on

    def _probe(self) -> None:
        if time.monotonic() - self._probed < _PROBE:
            return
        self._probed = time.monotonic()
        try:
            topic = self._consumer.list_topics(self._topic, timeout=_PATIENCE).topics[self._topic]
        except KafkaException as error:
            if not self._complained:  # why will be said by the connection, when it is polled
                self._tally.fail(self._words(error.args[0]))
            return
        if topic.error is not None:
            self._tally.fail(self._words(topic.error))
        elif self._joined:
            self._complained = False
            self._tally.work()
            self._tally.lag = self._lag()

    def _lag(self) -> int:
        assigned = self._consumer.assignment()
        waiting = 0
        for at in self._consumer.position(assigned):
            ends = self._consumer.get_watermark_offsets(at, cached=True)
            place = self._starts.get(at.partition, OFFSET_INVALID) if at.offset < 0 else at.offset
            if ends is not None and place >= 0:
                waiting += max(0, ends[1] - place)
        return waiting

    def _failed(self, error: KafkaError) -> None:
        """Of the connection. That no broker is left follows from why, which was said before."""
        if error.code() in _UNREACHED and self._tally.problem and self._complained:
            return
        self._complained = True
        self._tally.fail(self._words(error))

    def _words(self, error: KafkaError) -> str:
        remedy = _REMEDIES.get(error.code(), "check that its brokers can be reached").format(group=self._group)
        if error.code() == KafkaError._TRANSPORT and "SSL" in error.str():
            remedy = _SSL  # the broker refuses our certificate, or does not speak TLS
        said = _AFTER.sub("", error.str())  # the same again is no news
        return f"the endpoint {self._endpoint}: topic {self._topic}: {said}; {remedy}"


def group_of(followed: Followed, place: LabelPlace) -> str:
    """One for each topic of each ModelCanary: nobody takes a message away from another."""
    return f"{place.group_prefix}.{followed.namespace}.{followed.name}.{followed.source.place}"


def _place(message: Message) -> TopicPartition:
    """Of one that was read: such have all three."""
    topic, partition, offset = message.topic(), message.partition(), message.offset()
    if topic is None or partition is None or offset is None:
        raise BrokerError("a message without a place was read; check the version of confluent-kafka")
    return TopicPartition(topic, partition, offset)


def _headers(message: Message) -> dict[str, str]:
    """As HTTP would have them: CloudEvents' binding to Kafka writes `ce_id` for `ce-id`."""
    found = {}
    written = message.headers() or []
    for name, value in written.items() if isinstance(written, dict) else written:
        if value is not None:
            text = value.decode("utf-8", "replace") if isinstance(value, bytes) else value
            found[re.sub("^ce_", "ce-", name.lower())] = text
    return found
