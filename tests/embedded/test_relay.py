"""The relay, between two sockets of this machine."""

import socket
import threading
from collections.abc import Iterator
from contextlib import suppress

import pytest

from kafkalab.embedded import HOST
from kafkalab.embedded.relay import Relay


@pytest.fixture
def echo() -> Iterator[int]:
    """A server that sends back what it gets, for each connection in a thread of its own."""
    server = socket.create_server((HOST, 0))

    def answer(connection: socket.socket) -> None:
        with connection, suppress(OSError):
            while data := connection.recv(1024):
                connection.sendall(data)

    def serve() -> None:
        with suppress(OSError):
            while True:
                threading.Thread(target=answer, args=server.accept()[:1], daemon=True).start()

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    yield server.getsockname()[1]
    server.shutdown(socket.SHUT_RDWR)
    server.close()
    thread.join(5)


def ask(client: socket.socket, text: bytes) -> bytes:
    """Return what comes back, nothing after half a second."""
    client.settimeout(0.5)
    client.sendall(text)
    with suppress(TimeoutError):
        return client.recv(1024)
    return b""


def test_a_cut_relay_holds_bytes_back_and_passes_them_once_it_is_healed(echo: int) -> None:
    with Relay(echo) as relay, socket.create_connection((HOST, relay.port)) as client:
        assert ask(client, b"one") == b"one"
        relay.cut()
        assert ask(client, b"two") == b""
        with socket.create_connection((HOST, relay.port)) as late:  # accepted, and hears nothing
            assert ask(late, b"late") == b""
            relay.heal()
            assert late.recv(1024) == b"late"
        assert client.recv(1024) == b"two"


def test_the_end_of_the_target_ends_the_connection() -> None:
    with (
        socket.create_server((HOST, 0)) as server,
        Relay(server.getsockname()[1]) as relay,
        socket.create_connection((HOST, relay.port)) as client,
    ):
        client.settimeout(5)
        server.accept()[0].close()
        assert client.recv(1) == b""


def test_a_target_that_does_not_listen_ends_the_connection_not_the_relay(echo: int) -> None:
    with socket.create_server((HOST, 0)) as unused:
        nobody = unused.getsockname()[1]
    with Relay(nobody) as relay, socket.create_connection((HOST, relay.port)) as client:
        client.settimeout(5)
        assert client.recv(1) == b""
        with socket.create_connection((HOST, relay.port)) as again:
            again.settimeout(5)
            assert again.recv(1) == b""


def test_close_ends_open_connections_also_while_cut_and_twice(echo: int) -> None:
    relay = Relay(echo)
    with socket.create_connection((HOST, relay.port)) as client:
        assert ask(client, b"one") == b"one"
        relay.cut()
        relay.close()
        client.settimeout(5)
        assert client.recv(1) == b""
    relay.close()
    assert not any(thread.name == f"relay to {echo}" for thread in threading.enumerate())
