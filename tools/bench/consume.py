"""Avro records from a broker: as the lessons teach it, the bare client, not decoded, Kafka's own tool in Java."""

import cProfile
import time
from collections.abc import Iterator, Mapping
from functools import partial
from itertools import cycle, islice

import fastavro
from confluent_kafka import Consumer, KafkaException
from confluent_kafka.schema_registry import SchemaRegistryClient
from confluent_kafka.schema_registry.avro import AvroDeserializer

import kafkalab
from kafkalab.cluster.messages import FRAME
from tools.bench import clients
from tools.bench.measure import Row, in_turns, ratio, row, shares
from tools.bench.produce import PROCESSES, side_by_side

TOPIC = "bench"
SECONDS = 120


def timed(settings, read, messages):
    """Return when a consumer has its first message and when its last, in seconds."""
    with Consumer(settings) as consumer:
        consumer.subscribe([TOPIC])
        if consumer.poll(30) is None:
            raise kafkalab.LabError("timed out after 30 s waiting for the first message")
        start = time.monotonic()
        read(consumer, messages - 1)
        return start, time.monotonic()


def rate(lab, read, messages):
    start, end = timed(clients.reading(lab), read, messages)
    return messages / (end - start)


def bare(deserialize, consumer, messages):
    """Read as the client's own documentation does; only the count is new, for its loop does not end."""
    context = clients.context(TOPIC)
    received = 0
    while received < messages:
        message = consumer.poll(1.0)
        if message is None:
            continue
        if message.error():
            raise KafkaException(message.error())
        deserialize(message.value(), context)
        received += 1


def taught(deserialize, consumer, messages):
    """Read as the lessons do: bounded by a count and a time."""
    context = clients.context(TOPIC)
    received, end = 0, time.monotonic() + SECONDS
    while received < messages and time.monotonic() < end:
        message = consumer.poll(0.2)
        if message is None:
            continue
        if (error := message.error()) is not None:
            raise KafkaException(error)
        deserialize(message.value(), context)
        received += 1


def one_by_one(consumer, messages):
    for _ in range(messages):
        consumer.poll(30).value()


def batches(decode, consumer, messages):
    """Read many messages at a time."""
    received, end = 0, time.monotonic() + SECONDS
    while received < messages and time.monotonic() < end:
        batch = consumer.consume(min(1000, messages - received), 1.0)
        for message in batch:
            if message.error():
                raise KafkaException(message.error())
            decode(message.value())
        received += len(batch)


def decoded(value):
    """Decode by fastavro, with a schema that is parsed once."""
    stream = clients.BytesIO(value)
    stream.seek(FRAME)
    return fastavro.schemaless_reader(stream, clients.PARSED, None)


def decoding(values, messages):
    start = time.monotonic()
    for value in islice(cycle(values), messages):
        decoded(value)
    return messages / (time.monotonic() - start)


def several(lab, decode, messages):
    """Return the rate of several processes of one group, each of which reads a partition."""
    share = partial(one_share, clients.reading(lab), decode, messages // PROCESSES)
    return messages / side_by_side(share)


def one_share(settings, decode, messages):
    return timed(settings, partial(batches, decode), messages)


def of_one_size(lab, registry, size, goal, runs, number):
    """Yield the rows of one size of message; the arguments are those of `produce.of_one_size`."""
    deserialize, frame = AvroDeserializer(registry, conf=clients.STRATEGY), clients.frame(registry, TOPIC)
    framed = [frame + clients.encoded(record) for record in clients.records(size)]
    own, lessons = "the client's own loop", "as the lessons"
    quick, quick_many = "fastavro and batches", f"fastavro and batches, {PROCESSES} processes"
    single, raw = "not decoded, one by one", "not decoded, batches"
    raw_many = f"{raw}, {PROCESSES} processes"
    alone, java = "fastavro alone, no broker", "Kafka's tool in Java, not decoded"
    counts = {own: number, lessons: number, quick: 2 * number, quick_many: 2 * number}
    counts |= {alone: 2 * number} | dict.fromkeys((single, raw, raw_many, java), clients.MORE * number)
    ways = {
        own: partial(rate, lab, partial(bare, deserialize)),
        lessons: partial(rate, lab, partial(taught, deserialize)),
        quick: partial(rate, lab, partial(batches, decoded)),
        quick_many: partial(several, lab, decoded),
        single: partial(rate, lab, one_by_one),
        raw: partial(rate, lab, partial(batches, len)),
        raw_many: partial(several, lab, len),
        alone: partial(decoding, framed),
        java: partial(clients.java_consumer, lab, TOPIC),
    }
    lab.fresh_topic(TOPIC, partitions=PROCESSES)
    clients.fill(lab, TOPIC, islice(cycle(framed), clients.MORE * number))
    ways[raw](counts[raw])  # the broker's Java has compiled what it runs
    rates = in_turns(runs, {name: partial(way, counts[name]) for name, way in ways.items()})
    for name in ways:
        yield row(f"{size} B: {name}", rates[name], "messages/s")
    yield ratio(f"{size} B: time of the lessons' loop / the client's own", rates[own], rates[lessons], at_most=1.05)
    for name in (raw, raw_many, quick, quick_many):
        yield ratio(f"{size} B: {name} / the tool in Java", rates[name], rates[java], at_least=goal)
    for name, read in ((lessons, partial(taught, deserialize)), (quick, partial(batches, decoded))):
        profile = cProfile.Profile()
        rate(lab, partial(profile.runcall, read), number // 4)
        yield from shares(f"{size} B: {name}, time", profile)


def rows(
    lab: kafkalab.Lab, runs: int = 3, messages: int = 100_000, sizes: Mapping[int, tuple[int, float]] = clients.SIZES
) -> Iterator[Row]:
    with SchemaRegistryClient(lab.registry) as registry:
        for size, (fewer, goal) in sizes.items():
            yield from of_one_size(lab, registry, size, goal, runs, messages // fewer)
