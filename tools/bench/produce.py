"""Avro records to a broker: as the lessons teach it, the bare client, encoded before, Kafka's own tool in Java."""

import cProfile
import multiprocessing
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from functools import partial
from itertools import cycle, islice
from pathlib import Path
from tempfile import TemporaryDirectory

import psutil
from confluent_kafka import Producer
from confluent_kafka.schema_registry import SchemaRegistryClient
from confluent_kafka.schema_registry.avro import AvroSerializer

import kafkalab
from kafkalab.programs.avro_producer import queue
from tools.bench import clients
from tools.bench.measure import Row, in_turns, ratio, row, shares

TOPIC = "bench"
PROCESSES = 2


def timed(lab, send, messages):
    """Return when a producer begins and when the last of its messages is acknowledged, in seconds."""
    with Producer({**lab.client, **clients.SENDING, **clients.QUIET}) as producer:
        producer.produce(TOPIC, None)  # it has connected, and what reads the topic decodes nothing here
        producer.flush(30)
        start = time.monotonic()
        send(producer, messages)
        if producer.flush(120):
            raise kafkalab.LabError("timed out after 120 s waiting for the brokers to acknowledge the messages")
        return start, time.monotonic()


def rate(lab, send, messages):
    start, end = timed(lab, send, messages)
    return messages / (end - start)


def bare(serialize, values, producer, messages):
    """Send as the client's own documentation does."""
    context = clients.context(TOPIC)
    for record in islice(cycle(values), messages):
        producer.poll(0)
        producer.produce(TOPIC, serialize(record, context), on_delivery=clients.stored)


def taught(serialize, values, producer, messages):
    """Send as the lessons' programs do: a full queue is waited for."""
    context = clients.context(TOPIC)
    for record in islice(cycle(values), messages):
        queue(producer, TOPIC, serialize(record, context), None, clients.stored)


def ready(values, producer, messages):
    """Send bytes that are encoded already."""
    for value in islice(cycle(values), messages):
        queue(producer, TOPIC, value, None, clients.stored)


def by_fastavro(frame, values, producer, messages):
    """Encode with a schema that is parsed and registered once, and give the client many messages at a time."""
    following = islice(cycle(values), messages)
    while batch := [{"value": frame + clients.encoded(record)} for record in islice(following, 1000)]:
        while batch:
            with suppress(BufferError):
                producer.produce_batch(TOPIC, batch, on_delivery=clients.stored)
            producer.poll(0)
            if batch := [message for message in batch if message.pop("_error", None)]:
                producer.poll(0.1)


def by_program(lab, values, messages):
    """Return the rate of `AvroProducer`, which checks each record against the schema and names what is wrong."""
    with kafkalab.AvroProducer(lab, TOPIC, kafkalab.SCHEMAS / "reading.avsc") as producer:
        producer.send(values[0])
        producer._producer.flush(30)  # it has connected
        start = time.monotonic()
        for record in islice(cycle(values), messages):
            producer.send(record)
    return messages / (time.monotonic() - start)


def side_by_side(work, processes=PROCESSES):
    """Return the seconds from the first beginning to the last end of the same work in several processes."""
    with ProcessPoolExecutor(processes, multiprocessing.get_context("spawn")) as pool:
        list(pool.map(time.sleep, [0.2] * processes))  # each has started
        spans = [future.result() for future in [pool.submit(work) for _ in range(processes)]]
    return max(end for _, end in spans) - min(start for start, _ in spans)


def encoding(values, messages):
    start = time.monotonic()
    for record in islice(cycle(values), messages):
        clients.encoded(record)
    return messages / (time.monotonic() - start)


def processor_time(pid):
    used = psutil.Process(pid).cpu_times()
    return used.user + used.system


def measured(lab, way):
    """Return a rate, and the seconds of processor that it took the first broker."""
    broker = int(lab.status().loc["broker-0", "process"])
    before = processor_time(broker)
    return way(), processor_time(broker) - before


def of_one_size(lab, registry, size, goal, runs, number, folder):
    """Yield the rows of one size of message.

    Args:
        lab: The cluster.
        registry: The registry's client.
        size: Bytes of a message, with the frame.
        goal: The share of the rate of Kafka's tool that Python has to reach.
        runs: How often.
        number: How many messages, where each is encoded by the official serializer.
        folder: For the tool's payloads.
    """
    serialize = AvroSerializer(registry, clients.SCHEMA, conf=clients.STRATEGY)
    frame, named, values = clients.frame(registry, TOPIC), kafkalab.Lab(lab.client, lab.registry), clients.records(size)
    framed = [frame + clients.encoded(record) for record in values]
    own, lessons, program = (
        "the client's own loop",
        "as the lessons' programs",
        "AvroProducer, which checks each record",
    )
    quick, quick_many = "fastavro and batches", f"fastavro and batches, {PROCESSES} processes"
    before, before_many = "encoded before", f"encoded before, {PROCESSES} processes"
    alone, java = "fastavro alone, no broker", "Kafka's tool in Java, encoded before"
    counts = {own: number, lessons: number, program: number // 4, quick: 2 * number, quick_many: 2 * number}
    counts |= {alone: 2 * number} | dict.fromkeys((before, before_many, java), clients.MORE * number)

    def several(send, count):
        return count / side_by_side(partial(timed, named, send, count // PROCESSES))

    ways = {
        own: partial(rate, lab, partial(bare, serialize, values)),
        lessons: partial(rate, lab, partial(taught, serialize, values)),
        program: partial(by_program, lab, values),
        quick: partial(rate, lab, partial(by_fastavro, frame, values)),
        quick_many: partial(several, partial(by_fastavro, frame, values)),
        before: partial(rate, lab, partial(ready, framed)),
        before_many: partial(several, partial(ready, framed)),
        alone: partial(encoding, values),
        java: partial(clients.java_producer, lab, TOPIC, size, folder),
    }
    lab.fresh_topic(TOPIC, partitions=clients.PARTITIONS)
    ways[before](counts[before])  # the broker's Java has compiled what it runs
    took = in_turns(runs, {name: partial(measured, lab, partial(way, counts[name])) for name, way in ways.items()})
    rates = {name: [rate for rate, _ in pairs] for name, pairs in took.items()}
    for name in ways:
        yield row(f"{size} B: {name}", rates[name], "messages/s")
    yield ratio(f"{size} B: time of the lessons' loop / the client's own", rates[own], rates[lessons], at_most=1.05)
    for name in (before, before_many, quick, quick_many):
        yield ratio(f"{size} B: {name} / the tool in Java", rates[name], rates[java], at_least=goal)
    for name in (own, before, java):
        yield row(f"{size} B: the broker's processor, {name}", (1e6 * s / counts[name] for _, s in took[name]), "µs")
    for name, send in ((lessons, partial(taught, serialize, values)), (quick, partial(by_fastavro, frame, values))):
        profile = cProfile.Profile()
        rate(lab, partial(profile.runcall, send), number // 4)
        yield from shares(f"{size} B: {name}, time", profile)


def rows(
    lab: kafkalab.Lab, runs: int = 3, messages: int = 100_000, sizes: Mapping[int, tuple[int, float]] = clients.SIZES
) -> Iterator[Row]:
    with SchemaRegistryClient(lab.registry) as registry, TemporaryDirectory() as folder:
        for size, (fewer, goal) in sizes.items():
            yield from of_one_size(lab, registry, size, goal, runs, messages // fewer, Path(folder))
