"""A Kafka broker in ZooKeeper mode."""

import socket
from pathlib import Path

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from kafkalab.embedded import artifacts
from kafkalab.embedded.security import BROKER, Security
from kafkalab.embedded.server import HOST, Server, write_properties

SESSION_SECONDS = 3  # after which ZooKeeper takes a silent broker for dead


def broker(
    folder: Path, broker_id: int, port: int, brokers: int, zookeeper_port: int, security: Security | None = None
) -> Server:
    """Return broker number `broker_id` of `brokers` (Kafka 3.9 documentation, "Broker Configs")."""
    name = f"broker-{broker_id}"
    replicas, in_sync = min(3, brokers), min(2, brokers)
    listener = f"{'SASL_SSL' if security else 'PLAINTEXT'}://{HOST}:{port}"
    config = write_properties(folder / "config" / f"{name}.properties", {
        "broker.id": broker_id,
        "listeners": listener,
        "advertised.listeners": listener,
        "zookeeper.connect": f"{HOST}:{zookeeper_port}",
        "zookeeper.session.timeout.ms": SESSION_SECONDS * 1000,
        "zookeeper.connection.timeout.ms": 60_000,  # ZooKeeper starts at the same time, on a machine that may be busy
        "log.dirs": folder / "data" / name,
        "default.replication.factor": replicas,
        "min.insync.replicas": in_sync,
        "offsets.topic.replication.factor": replicas,
        "offsets.topic.num.partitions": 8,
        "transaction.state.log.replication.factor": replicas,
        "transaction.state.log.min.isr": in_sync,
        "transaction.state.log.num.partitions": 8,
        "controlled.shutdown.retry.backoff.ms": 500,  # brokers that stop side by side wait for each other no longer
        "auto.leader.rebalance.enable": "false",  # leaders move when a lesson moves them, not every five minutes
        "offsets.retention.minutes": 60 * 24 * 365,  # a group without members keeps its offsets over the holidays
        "group.initial.rebalance.delay.ms": 0,  # a lesson does not wait for members that will not come
        "log.cleaner.dedupe.buffer.size": 8 * 1024 * 1024,  # bytes; the usual 128 MB are a quarter of the heap here
        **(security.broker() if security else {}),
    })  # fmt: skip
    return Server(
        name=name, port=port, folder=folder, heap=512, kind="broker",
        arguments=["-cp", artifacts.class_path(), "kafka.Kafka", str(config)],
        serves=lambda: broker_id in brokers_known_at(port, security),
    )  # fmt: skip


def brokers_known_at(port: int, security: Security | None = None) -> set[int]:
    """Return the ids of the brokers that the broker on this port of loopback knows.

    The set is empty while it does not answer, or knows no controller: who asks for a topic then would wait in vain.
    """
    try:
        socket.create_connection((HOST, port), timeout=0.5).close()
        address = f"{HOST}:{port}"
        client = security.client(address, BROKER) if security else {"bootstrap.servers": address}
        admin = AdminClient({**client, "log_level": 0})
        known = admin.list_topics(timeout=2 if security else 0.5)  # TLS and SASL take some round trips
        return set(known.brokers) if known.controller_id in known.brokers else set()
    except (OSError, KafkaException):
        return set()
