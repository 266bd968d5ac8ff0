"""A tap on the wire, and a stranger's knock at the port of who keeps users and permissions."""

import json
import socket
import ssl
import struct
from contextlib import suppress
from socketserver import BaseRequestHandler, ThreadingTCPServer
from threading import Thread
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from kafkalab.waiting import ANSWER_SECONDS

if TYPE_CHECKING:
    from kafkalab.embedded.stack import Stack

HOST = "127.0.0.1"
_CHUNK = 64 * 1024  # bytes
_SECONDS = 10  # for the server to take a connection


class Tap:
    """A TCP relay on a free port of loopback; a context manager.

    It hands on what it gets, both ways, and changes nothing. A chunk is kept before it is handed on, so that all of a
    request is here when its answer has arrived.

    Args:
        target: The server to hand on to, as `host:port`.

    Attributes:
        address: Where the tap itself listens, as `host:port`.
    """

    def __init__(self, target: str) -> None:
        host, _, port = target.rpartition(":")
        self._server = _Server((host, int(port)))
        self.address = f"{HOST}:{self._server.server_address[1]}"
        Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    @property
    def sent(self) -> bytes:
        """What clients sent to the server, one connection after the other."""
        return b"".join(bytes(sent) for sent, _ in list(self._server.kept.values()))

    @property
    def received(self) -> bytes:
        """What clients received from the server, one connection after the other."""
        return b"".join(bytes(received) for _, received in list(self._server.kept.values()))

    def forget(self) -> None:
        """Forget what was kept, and keep only what passes by connections that are new from now on."""
        self._server.kept.clear()

    def close(self) -> None:
        """Take no more connections and end those that there are; what was kept stays."""
        self._server.shutdown()
        self._server.server_close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class _Relay(BaseRequestHandler):
    """One connection: a thread for each way."""

    server: "_Server"

    def handle(self) -> None:
        with suppress(OSError), socket.create_connection(self.server.target, timeout=_SECONDS) as server:
            server.settimeout(None)
            self.server.open += [self.request, server]
            sent, received = self.server.kept[self.request]
            back = Thread(target=_hand_on, args=(server, self.request, received), daemon=True)
            back.start()
            _hand_on(self.request, server, sent)
            back.join()


class _Server(ThreadingTCPServer):
    daemon_threads = True

    def __init__(self, target: tuple[str, int]) -> None:
        super().__init__((HOST, 0), _Relay)
        self.target = target
        self.kept: dict[socket.socket, tuple[bytearray, bytearray]] = {}
        self.open: list[socket.socket] = []

    def process_request(self, request: Any, client_address: Any) -> None:
        self.kept[request] = bytearray(), bytearray()  # here, where connections come one after the other
        super().process_request(request, client_address)

    def server_close(self) -> None:
        for connection in self.open:
            _shut(connection, socket.SHUT_RDWR)
        super().server_close()


def _hand_on(source: socket.socket, target: socket.socket, kept: bytearray) -> None:
    """Hand on until the source has no more, and tell the target so."""
    with suppress(OSError):
        while chunk := source.recv(_CHUNK):
            kept += chunk
            target.sendall(chunk)
    _shut(target, socket.SHUT_WR)


def _shut(connection: socket.socket, how: int) -> None:
    with suppress(OSError):  # it is closed, or the other side was faster
        connection.shutdown(how)


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
