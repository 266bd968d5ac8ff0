"""A topic as a table, against a loop over the official deserializer; the memory of a large one."""

import cProfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from itertools import cycle, islice

import pandas as pd
from confluent_kafka import Consumer, TopicPartition
from confluent_kafka.schema_registry import SchemaRegistryClient
from confluent_kafka.schema_registry.avro import AvroDeserializer

import kafkalab
from kafkalab.cluster import tables
from kafkalab.cluster.messages import FRAME
from tools.bench import clients
from tools.bench.measure import Row, alone, in_turns, ratio, row, shares

TOPIC = "bench"
DECODING, WHOLE = {"fastavro": 6, "polars": 25}, {"fastavro": 3, "polars": 6}  # the goals, times the official loop
MEMORY = """
import kafkalab, pandas, polars
lab = kafkalab.Lab(given["client"], given["registry"])
kafkalab.table(lab, given["topic"], end=1000)
grown, table = peak(lambda: kafkalab.table(lab, given["topic"]))
print(json.dumps([grown / 1e6, int(table.memory_usage(deep=True).sum()) / 1e6]))
"""


def seconds(work):
    start = time.monotonic()
    work()
    return time.monotonic() - start


@contextmanager
def decoder(name):
    """Have tables decoded without polars where another decoder is named."""
    installed = tables.find_spec
    tables.find_spec = installed if name == "polars" else lambda _name: None
    try:
        yield
    finally:
        tables.find_spec = installed


def official(lab, deserialize, messages):
    """Read and decode one by one, then make the table."""
    context, records = clients.context(TOPIC), []
    with Consumer(clients.reading(lab)) as consumer:
        consumer.assign([TopicPartition(TOPIC, 0, 0)])
        while len(records) < messages:
            records.append(deserialize(consumer.poll(30).value(), context))
    return pd.DataFrame(records)


def ours(lab, name):
    with decoder(name):
        return kafkalab.table(lab, TOPIC)


def compared(what, count, runs, goals, ways):
    """Yield the rate of the official loop, and how many times faster the other ways are."""
    in_turns(1, ways)  # what is imported once is imported now
    took = in_turns(runs, {name: partial(seconds, way) for name, way in ways.items()})
    yield row(f"{what}, the official loop", (count / s for s in took["official"]), "messages/s")
    for name, goal in goals.items():
        yield ratio(f"{what}, {name}: faster", took["official"], took[name], at_least=goal)


def rows(lab: kafkalab.Lab, runs: int = 3, messages: int = 200_000, memory: int = 1_000_000) -> Iterator[Row]:
    with SchemaRegistryClient(lab.registry) as registry:
        deserialize, frame = AvroDeserializer(registry, conf=clients.STRATEGY), clients.frame(registry, TOPIC)
        readings = (
            {"sensor": f"sensor {n}", "number": n, "celsius": n / 3, "note": None if n % 2 else "open"}
            for n in range(messages)
        )
        framed = [frame + clients.encoded(record) for record in readings]
        bodies, context = [value[FRAME:] for value in framed], clients.context(TOPIC)
        ways = {"official": lambda: [deserialize(value, context) for value in framed]}
        for name in DECODING:
            with decoder(name):
                ways[name] = partial(tables._Values(registry, TOPIC, None)._layout(frame).columns, bodies)
        yield from compared("decoding alone", messages, runs, DECODING, ways)

        lab.fresh_topic(TOPIC)
        clients.fill(lab, TOPIC, framed)
        ways = {"official": partial(official, lab, deserialize, messages)}
        ways |= {name: partial(ours, lab, name) for name in WHOLE}
        yield from compared("from broker to table", messages, runs, WHOLE, ways)
        for name in WHOLE:
            profile = cProfile.Profile()
            profile.runcall(ours, lab, name)
            yield from shares(f"from broker to table, {name}, time", profile)

    clients.fill(lab, TOPIC, islice(cycle(framed), max(memory - messages, 0)))
    given = {"client": lab.client, "registry": lab.registry, "topic": TOPIC}
    grown, size = zip(*(alone(MEMORY, **given) for _ in range(runs)), strict=True)
    yield row(f"{memory:,} messages: memory grows by", grown, "MB")
    yield row(f"{memory:,} messages: the table", size, "MB")
    yield ratio(f"{memory:,} messages: growth / table", grown, size, at_most=1)
