"""ZooKeeper: where the brokers of Kafka 3.9 register and agree on a controller."""

import socket
from pathlib import Path
from typing import ClassVar

from kafkalab.embedded import HOST, artifacts
from kafkalab.embedded.files import write_properties
from kafkalab.embedded.servers.server import JavaServer


class ZooKeeper(JavaServer):
    """The ZooKeeper of a stack (ZooKeeper Administrator's Guide, "Configuration Parameters")."""

    kind: ClassVar = "zookeeper"
    files: ClassVar = "kafka"
    heap: ClassVar = 256

    @property
    def _config(self) -> Path:
        return self.layout.folder / "config" / "zookeeper.properties"

    def configure(self) -> None:
        """Write zookeeper.properties."""
        write_properties(self._config, {
            "clientPort": self.port,
            "clientPortAddress": HOST,
            "dataDir": self.layout.folder / "data" / self.name,
            "tickTime": 1000,  # milliseconds; session time-outs lie between 2 and 20 of them
            "maxClientCnxns": 0,
            "admin.enableServer": "false",
            "4lw.commands.whitelist": "*",
        })  # fmt: skip

    def arguments(self) -> list[str]:
        """Return class path, main class and file."""
        main = "org.apache.zookeeper.server.quorum.QuorumPeerMain"
        return ["-cp", artifacts.class_path(self.files), main, str(self._config)]

    def serves(self) -> bool:
        """Ask for its mode; `ruok` is answered before the data is loaded."""
        return "Mode:" in ask(self.port, "srvr")


def ask(port: int, word: str) -> str:
    """Send one of ZooKeeper's four-letter words to loopback and return its answer.

    The words stand outside of ZooKeeper's protocol: four bytes, answered without a session, and so before a client
    could have one (ZooKeeper Administrator's Guide, "The Four Letter Words").

    Returns:
        The answer, empty while nobody answers.
    """
    try:
        with socket.create_connection((HOST, port), timeout=0.5) as connection:
            connection.sendall(word.encode())
            return b"".join(iter(lambda: connection.recv(4096), b"")).decode()
    except OSError:
        return ""
