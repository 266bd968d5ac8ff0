"""print: a consumer that shows what both sources send, whichever was started first."""

import threading
import time
from collections.abc import Callable, Iterator

from confluent_kafka import Consumer, KafkaError, Message
from confluent_kafka.schema_registry import SchemaRegistryClient, topic_subject_name_strategy
from confluent_kafka.schema_registry.avro import AvroDeserializer

from kafkalab.cluster.lab import Lab
from kafkalab.cluster.messages import decode, printable
from kafkalab.errors import LabError
from kafkalab.settings import ClusterSettings

_SESSION_MS = 45_000  # librdkafka's session.timeout.ms
_REBALANCE_SECONDS = 15  # for the group to give out partitions, when all its members are there
_ASK_SECONDS = 0.1


def print_messages(lab: Lab, show: Callable[[object], None] = print) -> tuple[int, int]:
    """Print the messages of IN_TOPIC as group IN_GROUP, until none has come for KAFKA_CONSUMER_TIMEOUT_MS.

    A message that cannot be decoded is shown with its place and the reason, and the next one follows.

    Args:
        lab: The cluster.
        show: Called with each record, raw value or remark.

    Returns:
        How many messages were decoded, and how many could not be.

    Raises:
        LabError: The registry does not answer, and the message at hand is not committed; or the group waits for a
            member that is gone.
    """
    settings = ClusterSettings.read()
    topics = settings.in_topic.split(",") if settings.in_topic else [lab.name("count"), lab.name("multiples")]
    for topic in topics:
        lab.topic(topic)
    group = settings.in_group or lab.name("count")
    own = {"group.id": group, "auto.offset.reset": "earliest", "enable.auto.offset.store": False}
    own |= {"enable.auto.commit": True}  # whatever the client file says: what was printed is not printed again
    session_seconds = int(lab.client.get("session.timeout.ms", _SESSION_MS)) / 1000
    decoded = failed = 0
    with SchemaRegistryClient(lab.registry) as registry, Consumer({**lab.client, **own}) as consumer:
        deserialize = AvroDeserializer(registry, conf={"subject.name.strategy": topic_subject_name_strategy})
        for message in _messages(consumer, topics, group, settings.consumer_timeout_ms / 1000, session_seconds):
            if refused := message.error():
                if refused.code() != KafkaError.UNKNOWN_TOPIC_OR_PART:  # a topic that was just made
                    raise LabError(f"the brokers answered: {refused.str()}")
                continue
            place = f"{message.topic()} [{message.partition()}] at offset {message.offset()}"
            try:
                value = decode(message, deserialize, registry)
                decoded += 1
            except ValueError as error:
                value = f"{place} was not decoded: {error}"
                failed += 1
            if value is None:
                value = f"{place} is a tombstone of key {message.key()!r}"
            show(printable(value) if isinstance(value, str) else value)
            consumer.store_offsets(message)
    return decoded, failed


def _messages(
    consumer: Consumer, topics: list[str], group: str, idle_seconds: float, session_seconds: float
) -> Iterator[Message]:
    """Yield messages until none has come for a while, which counts from the time when the group gives out partitions.

    A member that was killed keeps the group waiting until its session time-out is over (KIP-62).

    Raises:
        LabError: The group still waits then.
    """
    assigned = threading.Event()
    consumer.subscribe(topics, on_assign=lambda *_: assigned.set())
    end = time.monotonic() + session_seconds + _REBALANCE_SECONDS
    while True:
        ready = assigned.is_set()
        message = consumer.poll(idle_seconds if ready else _ASK_SECONDS)
        if message is not None:
            yield message
        elif ready:
            return
        elif time.monotonic() > end:
            raise LabError(
                f"timed out after {session_seconds + _REBALANCE_SECONDS:.0f} s waiting for partitions: group {group!r} "
                "waits for a member that vanished or does not poll; wait, or name another group in IN_GROUP"
            )
