"""Kafka 4 without ZooKeeper: nodes that are broker and controller in one, or controllers alone (KRaft, KIP-500)."""

import secrets
import shutil
import socket
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import ClassVar

import javaproperties

from kafkalab.embedded import HOST, artifacts, tools
from kafkalab.embedded.files import write_properties
from kafkalab.embedded.servers.broker import SESSION_SECONDS, KafkaServer

_META = "meta.properties"  # the ids of a cluster, a server and its folder
_ELR = "eligible.leader.replicas.version"
_FIRST_CONTROLLER = 100  # the id of the first controller that is no broker
_QUORUM = {  # in milliseconds; on one machine a vote need not wait as long as across a network
    "controller.quorum.election.timeout.ms": 300,
    "controller.quorum.fetch.timeout.ms": 600,
    "controller.quorum.election.backoff.max.ms": 200,
}
_SHORTEST = {  # in milliseconds: what a group may ask for, so that nobody waits in a lesson; the defaults stay
    "group.consumer.min.heartbeat.interval.ms": 100,
    "group.share.min.heartbeat.interval.ms": 100,
    "group.share.min.record.lock.duration.ms": 1000,
}


class KRaftServer(KafkaServer):
    """What nodes and controllers share: the quorum, and the folder that is formatted before the first start."""

    files: ClassVar = "kraft"

    @property
    def _folder(self) -> Path:
        return self.layout.folder / "data" / self.name

    def configure(self) -> None:
        """Write its properties, and format its folder unless it was."""
        super().configure()
        if not (self._folder / _META).exists():
            self._format()

    def quorum_properties(self) -> dict[str, object]:
        """Return what every member of the cluster is told of the controllers."""
        voters = [f"{_id(name)}@{HOST}:{port}" for name, port in self.layout.quorum.items()]
        security = self.layout.security
        return {
            "node.id": _id(self.name),
            "controller.quorum.voters": ",".join(voters),
            "controller.listener.names": "CONTROLLER",
            "listener.security.protocol.map": (
                f"PLAINTEXT:PLAINTEXT,SSL:SSL,SASL_SSL:SASL_SSL,CONTROLLER:{'SASL_SSL' if security else 'PLAINTEXT'}"
            ),
            **_QUORUM,
            **self.shared_properties(),
            **(security.broker("org.apache.kafka.metadata.authorizer.StandardAuthorizer") if security else {}),
            **(security.controller() if security else {}),
        }

    def _format(self) -> None:
        """Format the folder: by a copy of what Kafka's tool makes, in which only the ids are of this cluster."""
        made = artifacts.archives(self.files) / "formatted"
        if not made.exists():
            self._make_formatted(made)
        others = (self.layout.folder / "data").glob(f"*/{_META}")
        cluster = next((ids["cluster.id"] for ids in map(_read, others)), _random_id())
        shutil.rmtree(self._folder, ignore_errors=True)
        new = self._folder.with_name(f"{self.name}.new")
        shutil.rmtree(new, ignore_errors=True)
        shutil.copytree(made, new)
        ids = {"cluster.id": cluster, "node.id": str(_id(self.name)), "directory.id": _random_id()}
        write_properties(new / _META, {**_read(made / _META), **ids})
        new.replace(self._folder)

    def _make_formatted(self, made: Path) -> None:
        """Let Kafka's tool format a folder, once for each release: a start of Java less for every cluster."""
        made.parent.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(dir=made.parent) as folder:
            new, config = Path(folder, made.name), Path(folder, "format.properties")
            write_properties(config, {**self.properties(), "log.dirs": new})
            # with that feature a cluster would begin with min.insync.replicas=1, whatever the properties say (KIP-966)
            told = [f"--cluster-id={_random_id()}", "--config", str(config), "--feature", f"{_ELR}=0"]
            tools.run(self.files, "kafka-storage", "format", *told)
            with suppress(OSError):  # another process was sooner
                new.replace(made)


class Node(KRaftServer):
    """A broker of Kafka 4, which is a controller too where the stack has no controllers of their own."""

    kind: ClassVar = "node"

    def properties(self) -> dict[str, object]:
        """Return its configuration."""
        controls = self.name in self.layout.quorum
        listeners = [self.listener, *([f"CONTROLLER://{HOST}:{self.layout.quorum[self.name]}"] if controls else [])]
        replicas = min(3, len(self.layout.named("broker")))
        return {
            **self.quorum_properties(),
            "process.roles": "broker,controller" if controls else "broker",
            "listeners": ",".join(listeners),
            "advertised.listeners": self.listener,
            "inter.broker.listener.name": "SASL_SSL" if self.layout.security else "PLAINTEXT",
            "broker.session.timeout.ms": SESSION_SECONDS * 1000,
            "broker.heartbeat.interval.ms": 500,
            "share.coordinator.state.topic.replication.factor": replicas,
            "share.coordinator.state.topic.min.isr": min(2, replicas),
            "share.coordinator.state.topic.num.partitions": 8,
            **_SHORTEST,
        }

    def starts_after(self) -> list[str]:
        """Name the controllers, unless it is one: without them it can neither register nor sign off."""
        return [] if self.name in self.layout.quorum else list(self.layout.quorum)


class Controller(KRaftServer):
    """A controller that is no broker."""

    kind: ClassVar = "controller"
    heap: ClassVar = 256

    def properties(self) -> dict[str, object]:
        """Return its configuration."""
        return {
            **self.quorum_properties(),
            "process.roles": "controller",
            "listeners": f"CONTROLLER://{HOST}:{self.port}",
        }

    def serves(self) -> bool:
        """Ask for a connection; that the quorum has a leader, the brokers tell."""
        try:
            socket.create_connection((HOST, self.port), timeout=0.5).close()
        except OSError:
            return False
        return True


class BridgeController(Controller):
    """A controller of Kafka 3.9, to which a cluster with ZooKeeper can move (KIP-866)."""

    files: ClassVar = "kafka"
    late: ClassVar = True

    def configure(self) -> None:
        """Write its properties; who moves a cluster formats the folder with that cluster's id."""
        KafkaServer.configure(self)


def _id(name: str) -> int:
    kind, _, number = name.rpartition("-")
    return int(number) + (_FIRST_CONTROLLER if kind == "controller" else 0)


def _read(file: Path) -> dict[str, str]:
    return javaproperties.loads(file.read_text(encoding="ascii"))


def _random_id() -> str:
    """Return a random id in Kafka's own form: sixteen bytes in base64 for addresses."""
    return secrets.token_urlsafe(16)
