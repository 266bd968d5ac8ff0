"""Ten, a hundred, a thousand thousand messages through the lessons' loops: time per message and memory stay flat."""

from collections.abc import Iterator, Sequence
from functools import partial

import kafkalab
from tools.bench import clients
from tools.bench.measure import Row, alone, in_turns, ratio, row

LOOPS = """
import time
import kafkalab
from confluent_kafka.schema_registry import SchemaRegistryClient
from confluent_kafka.schema_registry.avro import AvroDeserializer, AvroSerializer
from tools.bench import clients, consume, produce
lab = kafkalab.Lab(given["client"], given["registry"])
with SchemaRegistryClient(lab.registry) as registry:
    serialize = AvroSerializer(registry, clients.SCHEMA, conf=clients.STRATEGY)
    deserialize = AvroDeserializer(registry, conf=clients.STRATEGY)
    values = clients.records(100)
    def send(producer, messages):
        produce.taught(serialize, values, producer, messages)
    def read(consumer, messages):
        consume.taught(deserialize, consumer, messages)
    def both(messages):
        sent = messages / produce.rate(lab, send, messages)
        return sent, messages / consume.rate(lab, read, messages)
    grown, (sent, received) = peak(lambda: both(given["messages"]))
print(json.dumps([1e6 * sent / given["messages"], 1e6 * received / given["messages"], grown / 1e6]))
"""


MEASURED = {"sending, per message": "µs", "reading, per message": "µs", "highest memory, beyond the start": "MB"}


def rows(lab: kafkalab.Lab, runs: int = 2, sizes: Sequence[int] = (10_000, 100_000, 1_000_000)) -> Iterator[Row]:
    def both(messages):
        lab.fresh_topic("bench", partitions=clients.PARTITIONS)
        return alone(LOOPS, client=lab.client, registry=lab.registry, messages=messages)

    both(min(sizes))  # the broker's Java has compiled what it runs
    took = in_turns(runs, {size: partial(both, size) for size in sizes})
    _, middle, largest = sizes
    for number, (name, unit) in enumerate(MEASURED.items()):
        values = {size: [measured[number] for measured in took[size]] for size in sizes}
        for size in sizes:
            yield row(f"{name}, {size:,} messages", values[size], unit)
        yield ratio(f"{name}, {largest:,} / {middle:,} messages", values[largest], values[middle], at_most=1.25)
