"""The messages of a topic: all of them, and what is in one."""

from collections import defaultdict
from collections.abc import Mapping
from typing import Any

import httpx2
from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, Message, TopicPartition
from confluent_kafka.schema_registry import SchemaRegistryClient
from confluent_kafka.schema_registry.avro import AvroDeserializer
from confluent_kafka.schema_registry.error import SchemaRegistryError
from confluent_kafka.serialization import MessageField, SerializationContext

from kafkalab.errors import LabError
from kafkalab.waiting import ANSWER_SECONDS

MAGIC = b"\x00"  # the first byte of a message with a schema id
FRAME = 5  # bytes before the body: the magic byte and the schema id


def all_messages(client: Mapping[str, str], topic: str) -> list[Message]:
    """Return every message of a topic that a reader of committed ones gets, partition by partition.

    Args:
        client: What a client of the cluster takes.
        topic: The topic, which exists.

    Raises:
        LabError: The brokers did not answer in time.
        KafkaException: They refuse it.
    """
    own = {"group.id": "kafkalab-reads", "enable.auto.commit": False, "enable.partition.eof": True, "log_level": 0}
    own |= {"fetch.wait.max.ms": 10}  # the end of a partition is told only after the broker has waited so long
    found: dict[int | None, list[Message]] = defaultdict(list)
    ended: set[int | None] = set()
    with Consumer({**client, **own}) as consumer:
        partitions = consumer.list_topics(topic, ANSWER_SECONDS).topics[topic].partitions
        consumer.assign([TopicPartition(topic, partition, OFFSET_BEGINNING) for partition in partitions])
        while len(ended) < len(partitions):
            message = consumer.poll(ANSWER_SECONDS)
            if message is None:
                raise LabError(f"timed out after {ANSWER_SECONDS} s waiting for the messages of {topic!r}")
            error = message.error()
            if error is None:
                found[message.partition()].append(message)
            elif error.code() == KafkaError._PARTITION_EOF:  # noqa: SLF001 - so the client calls it
                ended.add(message.partition())
            else:
                raise KafkaException(error)
    return [message for partition in partitions for message in found[partition]]


def decode(message: Message, deserialize: AvroDeserializer | None, registry: SchemaRegistryClient | None) -> Any:
    """Return the record of a message with a schema id, the text of one without, None for a tombstone.

    Args:
        message: The message.
        deserialize: What decodes Avro; None without a registry.
        registry: The registry that it asks; it keeps each schema that it was asked for. None on a stack without one.

    Raises:
        ValueError: The message is neither Avro nor text.
        LabError: The registry does not answer, which is no fault of the message.
    """
    value = message.value()
    if value is None or value[:1] != MAGIC:
        return None if value is None else value.decode()
    if deserialize is None or registry is None:
        raise ValueError("it has a schema id, and this stack has no registry")
    kind: str | None = "AVRO"
    try:
        if len(value) >= FRAME:
            kind = registry.get_schema(int.from_bytes(value[1:FRAME], "big")).schema_type
        if kind == "AVRO":
            return deserialize(value, SerializationContext(message.topic() or "", MessageField.VALUE))
    except Exception as error:
        refused = isinstance(error, SchemaRegistryError) and error.http_status_code != 404
        if refused or isinstance(error, httpx2.TransportError):
            raise LabError(f"the registry does not answer ({error}): `kafkalab status` tells whether it runs") from None
        raise ValueError(f"{type(error).__name__}: {error}") from error
    raise ValueError(f"its schema is {kind}, not Avro")


def printable(text: str) -> str:
    """Return a text of somebody else's in one line; what would command a terminal is escaped."""
    return "".join(sign if sign.isprintable() else sign.encode("unicode_escape").decode() for sign in text)
