"""ZooKeeper: where the brokers of Kafka 3.9 register and agree on a controller."""

import socket
from pathlib import Path

from kafkalab.embedded import artifacts
from kafkalab.embedded.server import HOST, Server, write_properties


def zookeeper(folder: Path, port: int) -> Server:
    """Return the ZooKeeper of a stack (ZooKeeper Administrator's Guide, "Configuration Parameters")."""
    config = write_properties(folder / "config" / "zookeeper.properties", {
        "clientPort": port,
        "clientPortAddress": HOST,
        "dataDir": folder / "data" / "zookeeper",
        "tickTime": 1000,  # milliseconds; session time-outs lie between 2 and 20 of them
        "maxClientCnxns": 0,
        "admin.enableServer": "false",
        "4lw.commands.whitelist": "*",
    })  # fmt: skip
    return Server(
        name="zookeeper", port=port, folder=folder, heap=256, kind="zookeeper",
        arguments=["-cp", artifacts.class_path(), "org.apache.zookeeper.server.quorum.QuorumPeerMain", str(config)],
        serves=lambda: "Mode:" in ask(port, "srvr"),  # ruok is answered before the data is loaded
    )  # fmt: skip


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
