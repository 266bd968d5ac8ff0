"""Connect and change data capture: the stack's database, what connectors have written, a new start for an exercise."""

from pathlib import Path
from typing import Any

import psycopg
from confluent_kafka import Producer
from confluent_kafka.schema_registry import SchemaRegistryClient
from confluent_kafka.schema_registry.avro import AvroDeserializer
from confluent_kafka.serialization import MessageField, SerializationContext
from psycopg import sql

from kafkalab.cluster.connectors import ask
from kafkalab.cluster.lab import Lab
from kafkalab.cluster.messages import MAGIC, all_messages
from kafkalab.cluster.topics import Topics
from kafkalab.embedded.servers import postgres
from kafkalab.embedded.stack import Stack
from kafkalab.errors import LabError
from kafkalab.waiting import wait_until

_OFFSETS = "connect-offsets"  # the topic in which the worker keeps how far each source came
_SECONDS = 60


def account(stack: Stack) -> Path:
    """Return the properties file with the database's `user` and `password`."""
    return postgres.account(stack.folder)


def database(stack: Stack) -> dict[str, Any]:
    """Return what `psycopg.connect` takes to reach the stack's PostgreSQL: host, port, user and password."""
    return postgres.client(stack.folder, stack.options.ports["postgres"])


def events(lab: Lab, topic: str) -> list[tuple[Any, Any]]:
    """Return key and value of each committed message of a topic, as far as it is now.

    Args:
        lab: The cluster.
        topic: The topic; one that does not exist has no messages.

    Returns:
        Avro as records, anything else as text, and None where there is none, as in a tombstone.

    Raises:
        LabError: The brokers do not answer in time.
    """
    if not lab.describe(topic):
        return []
    with SchemaRegistryClient(lab.registry) as registry:
        decode = AvroDeserializer(registry)

        def part(data: bytes | None, field: MessageField) -> Any:
            if data is None or data[:1] != MAGIC:
                return None if data is None else data.decode(errors="replace")
            return decode(data, SerializationContext(topic, field))

        return [
            (part(message.key(), MessageField.KEY), part(message.value(), MessageField.VALUE))
            for message in all_messages(lab.client, topic)
        ]


def start_over(stack: Stack, name: str) -> None:
    """Put an empty database in place of the old one, without any connector, and without what sources have written.

    The offsets of a source outlive the connector, and the next one of its name goes on from there. So they get
    tombstones. (The REST interface resets only those of a connector that is there, KIP-875, and Kafka 4.3.1 answers 500
    for one that never had a task.)

    Args:
        stack: A stack of one's own, with Connect and PostgreSQL.
        name: The database. Its tables, publications and replication slots go with it.

    Raises:
        LabError: One of the servers does not answer in time.
    """
    stack.start("connect")
    for connector in ask(stack, "GET", "/connectors").json():
        ask(stack, "DELETE", f"/connectors/{connector}")
    wait_until(lambda: not ask(stack, "GET", "/connectors?expand=status").json(), "the end of the connectors", _SECONDS)
    busy = "SELECT count(*) FROM pg_replication_slots WHERE active"
    with psycopg.connect(**database(stack), autocommit=True) as server:
        wait_until(lambda: server.execute(busy).fetchone() == (0,), "the end of the connectors' sessions", _SECONDS)
        identifier = sql.Identifier(name)
        server.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(identifier))
        server.execute(sql.SQL("CREATE DATABASE {}").format(identifier))
    with Producer(stack.client) as producer:
        for key in {message.key() for message in all_messages(stack.client, _OFFSETS)}:
            producer.produce(_OFFSETS, None, key)
        if producer.flush(_SECONDS):
            raise LabError(f"timed out after {_SECONDS} s waiting for the broker to take the tombstones of {_OFFSETS}")
    with SchemaRegistryClient(stack.registry_client) as registry:
        subjects = registry.get_subjects()
        for subject in subjects:
            registry.delete_subject(subject)
            registry.delete_subject(subject, permanent=True)
    topics = Topics(stack.client, None, private=True)
    for topic in {subject.rpartition("-")[0] for subject in subjects}:
        topics.drop(topic)
