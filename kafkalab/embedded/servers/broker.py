"""Kafka's brokers: those of 3.9, which register with ZooKeeper, and what they share with the current ones."""

import socket
import time
from abc import abstractmethod
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import ClassVar

from confluent_kafka import Consumer, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient

from kafkalab.embedded import HOST, artifacts
from kafkalab.embedded.files import write_properties
from kafkalab.embedded.security import BROKER, Security
from kafkalab.embedded.servers.server import JavaServer
from kafkalab.embedded.servers.zookeeper import ask

SESSION_SECONDS = 3  # after which a broker that is not heard from any more is given up


class KafkaServer(JavaServer):
    """A broker or a controller (Kafka documentation, "Broker Configs").

    Attributes:
        given: Its configuration, where somebody has given it another one than the lab's.
    """

    heap: ClassVar = 512
    given: Mapping[str, object] | None = None

    @property
    def number(self) -> int:
        """The number in its name, and in most stacks its id."""
        return int(self.name.rpartition("-")[2])

    @property
    def config(self) -> Path:
        """Its properties file."""
        return self.layout.folder / "config" / f"{self.name}.properties"

    @abstractmethod
    def properties(self) -> dict[str, object]:
        """Return its configuration."""

    def configure(self) -> None:
        """Write its properties."""
        write_properties(self.config, self.properties() if self.given is None else self.given)

    def arguments(self) -> list[str]:
        """Return class path, main class and file."""
        return ["-cp", artifacts.class_path(self.files), "kafka.Kafka", str(self.config)]

    def serves(self) -> bool:
        """Ask it for the brokers that it knows."""
        return self.number in brokers_known_at(self.port, self.layout.security)

    @property
    def listener(self) -> str:
        """The name and address of the listener for clients; the name is that of its security protocol."""
        return f"{'SASL_SSL' if self.layout.security else 'PLAINTEXT'}://{HOST}:{self.port}"

    def shared_properties(self) -> dict[str, object]:
        """Return what brokers of all modes are told."""
        brokers = len(self.layout.named("broker"))
        replicas, in_sync = min(3, brokers), min(2, brokers)
        return {
            "log.dirs": self.layout.folder / "data" / self.name,
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
            "log.retention.check.interval.ms": 1000,  # old segments go while a lesson looks on, not every five minutes
            "log.initial.task.delay.ms": 1000,
            "log.cleaner.dedupe.buffer.size": 8 * 1024 * 1024,  # bytes; the usual 128 MB are a quarter of the heap here
        }


class Broker(KafkaServer):
    """A broker of Kafka 3.9, which registers with ZooKeeper."""

    kind: ClassVar = "broker"
    files: ClassVar = "kafka"

    @property
    def _zookeeper_port(self) -> int:
        return self.layout.ports["zookeeper"]

    def properties(self) -> dict[str, object]:
        """Return its configuration."""
        security = self.layout.security
        return {
            "broker.id": self.number,
            "listeners": self.listener,
            "advertised.listeners": self.listener,
            **({"security.inter.broker.protocol": "SASL_SSL"} if security else {}),
            "zookeeper.connect": f"{HOST}:{self._zookeeper_port}",
            "zookeeper.session.timeout.ms": SESSION_SECONDS * 1000,
            "zookeeper.connection.timeout.ms": 60_000,  # ZooKeeper starts at the same time, on a busy machine
            **self.shared_properties(),
            **(security.broker("kafka.security.authorizer.AclAuthorizer") if security else {}),
        }

    def may_start(self) -> bool:
        """Ask ZooKeeper whether an earlier session still holds the broker's node: it could not register then."""
        return f"/brokers/ids/{self.number}" not in ask(self._zookeeper_port, "dump").split()

    def starts_after(self) -> list[str]:
        """Name ZooKeeper, which knows the sessions of before a crash only once it serves."""
        return ["zookeeper"]


def wait_for_groups(client: Mapping[str, str], seconds: float) -> None:
    """Ask for an offset of a group until the brokers answer, or for so many seconds.

    The first question of this kind makes the brokers create the topic of the offsets, which takes them a moment. A
    client that finds no coordinator comes back after a second; so a new one asks, each with some more patience.
    """
    patience, end = 0.1, time.monotonic() + seconds
    while time.monotonic() < end:
        with Consumer({**client, "group.id": "kafkalab", "log_level": 0}) as consumer, suppress(KafkaException):
            consumer.committed([TopicPartition("kafkalab", 0)], timeout=patience)
            return
        patience = min(2.0, 1.5 * patience)


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
