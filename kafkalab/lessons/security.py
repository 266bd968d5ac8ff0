"""A tap on the wire: a relay between a client and a server that keeps the bytes that pass."""

import socket
from contextlib import suppress
from socketserver import BaseRequestHandler, ThreadingTCPServer
from threading import Thread
from types import TracebackType
from typing import Any, Self

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
