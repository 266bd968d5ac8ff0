"""What several tests ask a cluster for, with the real clients; and where a stack of theirs may listen."""

import json
import re
import secrets
import socket
import threading
from contextlib import contextmanager, suppress

import nbformat
import papermill
from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic
from confluent_kafka.schema_registry import Schema, SchemaRegistryClient

from kafkalab.settings import NOTEBOOKS


def produce(bootstrap_servers, topic, values, key=None):
    """Send the values and return how many of them were acknowledged."""
    acknowledged = []
    producer = Producer({"bootstrap.servers": bootstrap_servers, "acks": "all"})
    for value in values:
        producer.produce(topic, value, key, on_delivery=lambda error, message: error or acknowledged.append(message))
    producer.flush(30)
    return len(acknowledged)


def read(bootstrap_servers, topic, count, group="reader", seconds=20):
    """Return the values of `count` messages as a group gets them, and commit them."""
    own = {"group.id": group, "auto.offset.reset": "earliest", "enable.auto.commit": False}
    with Consumer({"bootstrap.servers": bootstrap_servers, **own}) as consumer:
        consumer.subscribe([topic])
        values = []
        while len(values) < count and (message := consumer.poll(seconds)) is not None:
            if not message.error():
                values.append(message.value())
        if values:
            consumer.commit(asynchronous=False)
        return values


def committed(bootstrap_servers, topic, group="reader"):
    """Return a group's committed offset in partition 0."""
    with Consumer({"bootstrap.servers": bootstrap_servers, "group.id": group}) as consumer:
        return consumer.committed([TopicPartition(topic, 0)], timeout=20)[0].offset


def create(bootstrap_servers, topic):
    """Make a topic with the client's own call, as somebody else would."""
    admin = AdminClient({"bootstrap.servers": bootstrap_servers})
    admin.create_topics([NewTopic(topic, 1)])[topic].result(20)


def topics(bootstrap_servers):
    """Return the topics' names, without Kafka's own."""
    names = AdminClient({"bootstrap.servers": bootstrap_servers}).list_topics(timeout=20).topics
    return sorted(name for name in names if not name.startswith("__"))


def end_offset(bootstrap_servers, topic, partition=0):
    """Return the offset that the next message of a partition gets."""
    with Consumer({"bootstrap.servers": bootstrap_servers, "group.id": "asks"}) as consumer:
        return consumer.get_watermark_offsets(TopicPartition(topic, partition), timeout=20)[1]


def register(url, subject, text='{"type": "string"}'):
    """Register an Avro schema and return its id."""
    with SchemaRegistryClient({"url": url}) as registry:
        return registry.register_schema(subject, Schema(text, "AVRO"))


def subjects(url):
    """Return the registry's subjects."""
    with SchemaRegistryClient({"url": url}) as registry:
        return registry.get_subjects()


def told(client):
    """Return the addresses that a new client is told; none while it is not let in."""
    try:
        brokers = AdminClient({**client, "log_level": 0}).list_topics(timeout=5).brokers
    except KafkaException:
        return []
    return [f"{broker.host}:{broker.port}" for broker in brokers.values()]


@contextmanager
def served(server):
    """Serve in a thread, and yield the port."""
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def named(lab):
    """Return the variables that name a cluster, once its registry serves too."""
    lab.check()
    return {"KAFKA_BROKER_URL": lab.client["bootstrap.servers"], "KAFKA_SCHEMA_REGISTRY_URL": lab.registry["url"]}


def printed_by(notebook, parameters, folder):
    """Return what the cells of a lesson print, in this environment."""
    out = folder / "out.ipynb"
    papermill.execute_notebook(NOTEBOOKS / notebook, out, parameters, progress_bar=False, cwd=NOTEBOOKS)
    outputs = [output for cell in nbformat.read(out, 4).cells for output in cell.get("outputs", ())]
    return "".join(output.get("text", "") for output in outputs)


def behind(stack):
    """Return the address of Apicurio itself, behind the front of a stack's registry."""
    _, front = stack._servers["registry"].processes()
    return json.loads(front.cmdline()[3])["behind"]


SERVERS = ("ZOOKEEPER", "CONTROLLER", "BROKER", "REGISTRY")


def ports_of(worker):
    """Return ports for a shared stack of a worker, by server, that no other worker takes while it does not run."""
    first = 15_000 + 500 * int(re.sub(r"\D", "", worker) or 9)  # stacks of their own are above 20,000
    free = []
    for port in range(first + secrets.randbelow(300), first + 500):
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            free.append(port)
        if len(free) == len(SERVERS) * 5:  # five apart, for a stack's brokers have ports side by side
            return dict(zip(SERVERS, free[::5], strict=True))
    raise RuntimeError(f"no four free ports between {first} and {first + 500}")
