"""The relay, between two sockets of this machine."""

import gc
import socket
import threading
import warnings
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


def ask(client: socket.socket, text: bytes, seconds: float = 10) -> bytes:
    """Return what comes back, nothing if that takes longer."""
    client.settimeout(seconds)
    client.sendall(text)
    with suppress(TimeoutError):
        return client.recv(1024)
    return b""


def test_a_cut_relay_holds_bytes_back_and_passes_them_once_it_is_healed(echo: int) -> None:
    with Relay(echo) as relay, socket.create_connection((HOST, relay.port)) as client:
        assert ask(client, b"one") == b"one"
        relay.cut()
        assert ask(client, b"two", 0.5) == b""
        with socket.create_connection((HOST, relay.port)) as late:  # accepted, and hears nothing
            assert ask(late, b"late", 0.5) == b""
            relay.heal()
            late.settimeout(10)
            assert late.recv(1024) == b"late"
        client.settimeout(10)
        assert client.recv(1024) == b"two"


def test_the_end_of_the_target_ends_the_connection() -> None:
    with (
        socket.create_server((HOST, 0)) as server,
        Relay(server.getsockname()[1]) as relay,
        socket.create_connection((HOST, relay.port)) as client,
    ):
        client.settimeout(10)
        server.accept()[0].close()
        assert client.recv(1) == b""


def test_a_target_that_does_not_listen_ends_the_connection_not_the_relay(echo: int) -> None:
    with socket.create_server((HOST, 0)) as unused:
        nobody = unused.getsockname()[1]
    with Relay(nobody) as relay, socket.create_connection((HOST, relay.port)) as client:
        client.settimeout(10)
        assert client.recv(1) == b""
        with socket.create_connection((HOST, relay.port)) as again:
            again.settimeout(10)
            assert again.recv(1) == b""


def test_close_ends_open_connections_also_while_cut_and_twice(echo: int) -> None:
    relay = Relay(echo)
    with socket.create_connection((HOST, relay.port)) as client:
        assert ask(client, b"one") == b"one"
        relay.cut()
        relay.close()
        client.settimeout(10)
        assert client.recv(1) == b""
    relay.close()
    assert not any(thread.name == f"relay to {echo}" for thread in threading.enumerate())


def test_close_leaves_nothing_open_of_a_peer_that_does_not_read() -> None:
    with socket.create_server((HOST, 0)) as server:
        relay = Relay(server.getsockname()[1])
        with socket.create_connection((HOST, relay.port)) as client, server.accept()[0]:
            client.settimeout(0.5)
            with pytest.raises(TimeoutError):
                client.sendall(bytes(50_000_000))
            with warnings.catch_warnings(record=True) as seen:
                warnings.simplefilter("always")
                relay.close()
                del relay
                gc.collect()
    assert [str(warning.message) for warning in seen] == []
