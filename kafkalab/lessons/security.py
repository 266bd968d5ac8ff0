"""A tap on the wire, and a stranger's knock at the port of who keeps users and permissions."""

import json
import socket
import ssl
import struct
from typing import TYPE_CHECKING

from kafkalab.embedded import HOST
from kafkalab.embedded.relay import Relay, Witness
from kafkalab.waiting import ANSWER_SECONDS

if TYPE_CHECKING:
    from kafkalab.embedded.stack import Stack

_SECONDS = 10  # for the server to take a connection


class Tap(Relay):
    """A relay that keeps what passes by; a context manager.

    It changes nothing. What it gets is kept before it is handed on, so that all of a request is here when its answer
    has arrived. What was kept stays when it is closed.

    Args:
        target: The server to hand on to, as `host:port`.

    Attributes:
        address: Where the tap itself listens, as `host:port`.
    """

    def __init__(self, target: str) -> None:
        self._kept: list[tuple[bytearray, bytearray]] = []
        host, _, port = target.rpartition(":")
        super().__init__(int(port), host)
        self.address = f"{HOST}:{self.port}"

    @property
    def sent(self) -> bytes:
        """What clients sent to the server, one connection after the other."""
        return b"".join(bytes(sent) for sent, _ in list(self._kept))

    @property
    def received(self) -> bytes:
        """What clients received from the server, one connection after the other."""
        return b"".join(bytes(received) for _, received in list(self._kept))

    def forget(self) -> None:
        """Forget what was kept, and keep only what passes by connections that are new from now on."""
        self._kept.clear()

    def witnesses(self) -> tuple[Witness, Witness]:
        """Return who keeps what one connection sends and receives."""
        sent, received = bytearray(), bytearray()
        self._kept.append((sent, received))
        return sent.extend, received.extend


def told_to_a_stranger(stack: "Stack", user: str) -> list[tuple[str, str]]:
    """Ask as nobody in particular for a user and for permissions, at the port of who keeps them.

    Args:
        stack: A stack that runs.
        user: A user with a SCRAM password.

    Returns:
        Questions and answers: what ZooKeeper tells or, without it, whether a controller answers at all.
    """
    return _told_by_zookeeper(stack.zookeeper, user) if stack.zookeeper else _told_by_controller(stack)


def _told_by_zookeeper(address: str, user: str) -> list[tuple[str, str]]:
    from kazoo.client import KazooClient  # noqa: PLC0415 - where there is a ZooKeeper

    zookeeper = KazooClient(address)
    zookeeper.start(ANSWER_SECONDS)
    try:
        topics = "/kafka-acl-extended/prefixed/Topic"
        rows = [
            (f"permissions for topics {prefix}…", zookeeper.get(f"{topics}/{prefix}")[0].decode())
            for prefix in sorted(zookeeper.get_children(topics))
        ]
        (scram,) = json.loads(zookeeper.get(f"/config/users/{user}")[0])["config"].values()
        stored = ", ".join(part.split("=")[0] for part in scram.split(","))
        [rule] = zookeeper.get_acls(f"/config/users/{user}")[0]
        return [*rows, (f"stored for {user}", stored), (f"{rule.id.id} may here do", ", ".join(rule.acl_list))]
    finally:
        zookeeper.stop()
        zookeeper.close()


def _told_by_controller(stack: "Stack") -> list[tuple[str, str]]:
    name, port = next(iter(stack.options.quorum.items()))
    rows = [("who keeps users and permissions", f"{name}, as a controller")]
    for how, secured in (("without TLS", False), ("with TLS, without a password", True)):
        rows.append((f"a question {how}", "answered" if _answers(port, secured=secured) else "it hung up"))
    return rows


def _answers(port: int, *, secured: bool) -> bool:
    """Tell whether who listens on this port of loopback answers Kafka's request DescribeCluster (KIP-700, KIP-919)."""
    key, version, number, nobody, controllers = 60, 1, 4711, -1, 2
    request = struct.pack(">hhihbbbb", key, version, number, nobody, 0, 0, controllers, 0)
    anybody = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    anybody.check_hostname, anybody.verify_mode = False, ssl.CERT_NONE
    try:
        connection = socket.create_connection((HOST, port), timeout=_SECONDS)
        with connection, anybody.wrap_socket(connection) if secured else connection as asking:
            asking.sendall(struct.pack(">i", len(request)) + request)
            answer = asking.recv(8)
    except OSError:  # those of TLS are such too
        return False
    return len(answer) == 8 and struct.unpack(">ii", answer)[1] == number
