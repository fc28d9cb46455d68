"""A topic for messages that are no labels: copied there as they are, with where they stood and why.

Called by `topics`. The user names it and the admin allows it; without one, they are counted alone.
"""

from collections.abc import Mapping

from confluent_kafka import KafkaError, KafkaException, Message, Producer

_PATIENCE = 30.0


class DeadLetters:
    """`config`: of the connection."""

    def __init__(self, config: Mapping[str, str], topic: str) -> None:
        self._topic = topic
        settings = {"client.id": "modelcanary-labels", "acks": "all", "message.timeout.ms": int(1000 * _PATIENCE)}
        self._config = {**config, **settings}
        self._producer: Producer | None = None

    def write(self, message: Message, problem: str) -> str:
        """Why it is not there; empty when it is, on all brokers that keep it."""
        outcome: list[str] = []

        def told(error: KafkaError | None, _: Message) -> None:
            outcome.append("" if error is None else error.str())

        headers = [
            *(message.headers() or []),
            ("modelcanary-problem", problem.encode()),
            ("modelcanary-place", f"{message.topic()}/{message.partition()}/{message.offset()}".encode()),
        ]
        try:
            if self._producer is None:
                self._producer = Producer(self._config)
            self._producer.produce(self._topic, message.value(), message.key(), headers=headers, on_delivery=told)
        except (KafkaException, BufferError) as error:
            return str(error)
        self._producer.flush(_PATIENCE + 5.0)
        return outcome[0] if outcome else "no broker has answered"
