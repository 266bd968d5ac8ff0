"""print: a consumer that shows what both sources send, whichever was started first."""

from collections.abc import Callable

from confluent_kafka import Consumer, KafkaError
from confluent_kafka.schema_registry import SchemaRegistryClient, topic_subject_name_strategy
from confluent_kafka.schema_registry.avro import AvroDeserializer

from kafkalab.cluster.lab import Lab
from kafkalab.cluster.messages import decode
from kafkalab.errors import LabError
from kafkalab.settings import ClusterSettings


def print_messages(lab: Lab, show: Callable[[object], None] = print) -> tuple[int, int]:
    """Print the messages of IN_TOPIC as group IN_GROUP, until none has come for KAFKA_CONSUMER_TIMEOUT_MS.

    A message that cannot be decoded is shown with its place and the reason, and the next one follows.

    Args:
        lab: The cluster.
        show: Called with each record, raw value or remark.

    Returns:
        How many messages were decoded, and how many could not be.

    Raises:
        LabError: The registry does not answer; the message at hand is not committed.
    """
    settings = ClusterSettings.read()
    topics = settings.in_topic.split(",") if settings.in_topic else [lab.name("count"), lab.name("multiples")]
    for topic in topics:
        lab.topic(topic)
    group = settings.in_group or lab.name("count")
    own = {"group.id": group, "auto.offset.reset": "earliest", "enable.auto.offset.store": False}
    decoded = failed = 0
    with SchemaRegistryClient(lab.registry) as registry, Consumer({**lab.client, **own}) as consumer:
        deserialize = AvroDeserializer(registry, conf={"subject.name.strategy": topic_subject_name_strategy})
        consumer.subscribe(topics)
        while (message := consumer.poll(settings.consumer_timeout_ms / 1000)) is not None:
            if message.error():
                if message.error().code() != KafkaError.UNKNOWN_TOPIC_OR_PART:  # a topic that was just made
                    raise LabError(f"the brokers answered: {message.error().str()}")
                continue
            try:
                text = decode(message, deserialize)
                decoded += 1
            except ValueError as error:
                text = (
                    f"{message.topic()} [{message.partition()}] at offset {message.offset()} was not decoded: {error}"
                )
                failed += 1
            show(text)
            consumer.store_offsets(message)
    return decoded, failed
