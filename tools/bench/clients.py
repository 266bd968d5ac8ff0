"""What several parts do with the clients: records of a size, a topic filled, Kafka's own performance tools."""

import json
import re
import struct
import time
from collections.abc import Iterable
from io import BytesIO
from pathlib import Path
from random import Random
from string import ascii_letters

import fastavro
from confluent_kafka import KafkaException, Producer
from confluent_kafka.schema_registry import Schema, topic_subject_name_strategy
from confluent_kafka.serialization import MessageField, SerializationContext

import kafkalab

SCHEMA = (kafkalab.SCHEMAS / "reading.avsc").read_text(encoding="utf-8")
PARSED = fastavro.parse_schema(json.loads(SCHEMA))
STRATEGY = {"subject.name.strategy": topic_subject_name_strategy}
SENDING = {  # one set of settings, for the client and for Kafka's tool
    "acks": "all", "enable.idempotence": "true", "linger.ms": "20", "batch.size": "131072", "compression.type": "none",
}  # fmt: skip
# bytes of a message: one in so many of the messages, the share of the rate of Kafka's tool that Python has to reach
SIZES = {100: (1, 0.6), 1000: (4, 0.8)}
PARTITIONS = 2
QUIET = {"log_level": 3}  # a new broker's transaction coordinator is waited for
MORE = 10  # times as many messages where nothing is encoded or decoded: Java compiles what it runs often
WARM = 4  # one in so many of the tool's records comes before it measures, for Java compiles what it runs often


def encoded(record) -> bytes:
    """Return the body of a record: fastavro alone, its schema parsed once."""
    stream = BytesIO()
    fastavro.schemaless_writer(stream, PARSED, record)
    return stream.getvalue()


def records(size: int, count: int = 1000) -> list[dict[str, object]]:
    """Return readings whose framed messages have so many bytes."""
    letters, made = Random(1), []
    for number in range(count):
        reading = {
            "sensor": f"sensor {number % 10}",
            "number": number,
            "celsius": number / 3,
            "note": "x" * (size - 40),
        }
        short = size - 5 - len(encoded(reading))
        made.append({**reading, "note": "".join(letters.choices(ascii_letters, k=size - 40 + short))})
    return made


def frame(registry, topic: str) -> bytes:
    """Register the schema for a topic and return what stands before each body."""
    return struct.pack(">bI", 0, registry.register_schema(f"{topic}-value", Schema(SCHEMA, "AVRO")))


def context(topic: str) -> SerializationContext:
    return SerializationContext(topic, MessageField.VALUE)


def stored(error, _message):
    """Refuse a message that was not stored, as the lessons do."""
    if error:
        raise KafkaException(error)


def reading(lab, **own):
    """Return the settings of a consumer in a new group."""
    return {**lab.client, "group.id": f"bench-{time.time_ns()}", "auto.offset.reset": "earliest", **own}


def fill(lab, topic: str, values: Iterable[bytes]) -> None:
    """Send values, spread over the partitions one after another."""
    partitions = len(lab.describe(topic).partitions)
    with Producer({**lab.client, **SENDING, **QUIET}) as producer:
        for number, value in enumerate(values):
            while True:
                try:
                    producer.produce(topic, value, partition=number % partitions, on_delivery=stored)
                    break
                except BufferError:
                    producer.poll(0.1)
            producer.poll(0)
        producer.flush(60)


def java_producer(lab, topic: str, size: int, folder: Path, messages: int) -> float:
    """Return the messages per second of Kafka's own tool, when Java has compiled it."""
    payloads = folder / f"payloads-{size}"
    letters = Random(1)
    payloads.write_text("\n".join("".join(letters.choices(ascii_letters, k=size)) for _ in range(1000)))
    told = lab.stack.tool(
        "kafka-producer-perf-test", "--bootstrap-server", lab.client["bootstrap.servers"], "--topic", topic,
        "--num-records", str(messages), "--warmup-records", str(messages // WARM), "--throughput", "-1",
        "--payload-file", str(payloads), "--command-property", *(f"{name}={value}" for name, value in SENDING.items()),
    )  # fmt: skip
    return float(re.findall(r"([\d.]+) records/sec", told)[-1])


def java_consumer(lab, topic: str, messages: int) -> float:
    """Return the messages per second of Kafka's own tool, from when it has its partitions."""
    told = lab.stack.tool(
        "kafka-consumer-perf-test", "--bootstrap-server", lab.client["bootstrap.servers"], "--topic", topic,
        "--num-records", str(messages),
    )  # fmt: skip
    lines = told.splitlines()
    names, figures = (line.split(", ") for line in lines[-2:])
    return float(dict(zip(names, figures, strict=True))["fetch.nMsg.sec"])
