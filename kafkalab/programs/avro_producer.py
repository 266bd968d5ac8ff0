"""A producer that takes nothing without a schema and answers for every message."""

import json
from collections.abc import Callable, Mapping
from io import BytesIO
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import fastavro
import httpx2
from confluent_kafka import KafkaError, Message, Producer
from confluent_kafka.schema_registry import SchemaRegistryClient, topic_subject_name_strategy
from confluent_kafka.schema_registry.avro import AvroSerializer
from confluent_kafka.schema_registry.error import SchemaRegistryError
from confluent_kafka.serialization import MessageField, SerializationContext
from fastavro import schemaless_writer
from fastavro.schema import SchemaParseException
from fastavro.types import Schema
from fastavro.validation import ValidationError, validate

from kafkalab.cluster.lab import Lab
from kafkalab.errors import LabError


class AvroProducer:
    """Sends records to one topic under one Avro schema, which it registers; a context manager.

    The end of the `with` block waits until the brokers have acknowledged every message.

    Raises:
        LabError: The schema file is missing or is not Avro.
    """

    def __init__(self, lab: Lab, topic: str, schema_file: Path) -> None:
        self.topic = topic
        text = _text(schema_file)
        self._schema = _parsed(schema_file, text)
        self._schema_file = schema_file
        self._producer = Producer({**lab.client, "acks": "all", "enable.idempotence": True, "log_level": 3})
        self._context = SerializationContext(topic, MessageField.VALUE)
        self._registry = SchemaRegistryClient(lab.registry)
        self._serialize = AvroSerializer(
            self._registry,
            text,
            conf={"subject.name.strategy": topic_subject_name_strategy},  # the default asks the registry for more
        )
        self._lost: list[str] = []
        self.acknowledged = 0

    def send(self, value: Mapping[str, Any], key: str | None = None) -> None:
        """Queue one record; the key decides the partition.

        Raises:
            LabError: The record does not comply with the schema, or the registry refuses that; nothing was sent.
        """
        try:
            validate(value, self._schema, raise_errors=True)
            schemaless_writer(BytesIO(), self._schema, value, strict_allow_default=True)  # refuses a field too many
        except (ValidationError, ValueError) as error:
            reason = _reason(error) if isinstance(error, ValidationError) else f"{error} in {value!r}"
            raise LabError(f"{reason}; schema {self._schema_file.name}, nothing was sent to {self.topic!r}") from None
        try:
            payload = self._serialize(dict(value), self._context)
        except (SchemaRegistryError, httpx2.HTTPError) as error:
            raise LabError(
                f"the registry did not take {self._schema_file.name} for {self.topic!r} ({error}): nothing was sent"
            ) from None
        queue(self._producer, self.topic, payload, key, self._delivered)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self._registry.close()
        left = self._producer.flush(120 if kind is None else 1)
        if kind is None and (left or self._lost):
            raise LabError(
                f"{left + len(self._lost)} messages to {self.topic!r} were not acknowledged"
                f" ({'; '.join(self._lost[:3]) or 'no answer within 120 s'}): is the cluster up? `kafkalab status`"
            )

    def _delivered(self, error: KafkaError | None, message: Message) -> None:
        if error:
            self._lost.append(f"key {message.key()!r}: {error.str()}")
        else:
            self.acknowledged += 1


def queue(
    producer: Producer,
    topic: str,
    value: bytes | str,
    key: str | None,
    on_delivery: Callable[[KafkaError | None, Message], None],
) -> None:
    """Give a message to a producer, after others have left its queue where that is full."""
    while True:
        try:
            producer.produce(topic, value, key, on_delivery=on_delivery)
        except BufferError:
            producer.poll(0.1)
        else:
            producer.poll(0)
            return


def _text(schema_file: Path) -> str:
    try:
        return schema_file.read_text(encoding="utf-8-sig")  # with or without a byte-order mark
    except OSError as error:
        raise LabError(f"schema file {schema_file} cannot be read ({error.strerror}): check its path") from None
    except UnicodeDecodeError as error:
        raise LabError(f"schema file {schema_file} is not UTF-8 ({error.reason}): save it so") from None


def _parsed(schema_file: Path, text: str) -> Schema:
    try:
        return fastavro.parse_schema(json.loads(text))
    except (ValueError, KeyError, TypeError, SchemaParseException) as error:
        raise LabError(
            f"schema file {schema_file} is not an Avro schema ({type(error).__name__}: {error}): "
            "it should look like schemas/count.avsc"
        ) from None


def _reason(error: ValidationError) -> str:
    first = error.errors[0]
    return f"field {first.field or '(record)'}: {first.datum!r} is not what the schema allows, {first.schema}"
