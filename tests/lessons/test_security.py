"""The tap hands on what it gets, unchanged, and keeps it; a stranger is told what the port of the keeper tells."""

import socket
from socketserver import StreamRequestHandler, ThreadingTCPServer
from threading import Thread

import pytest
from confluent_kafka.admin import (
    AclBinding,
    AclOperation,
    AclPermissionType,
    AdminClient,
    ResourcePatternType,
    ResourceType,
)

from kafkalab import own_stack, wait_until
from kafkalab.embedded.stack import free_ports
from kafkalab.lessons.security import Tap, told_to_a_stranger


class Shout(StreamRequestHandler):
    """A server that answers each line in capitals, and says goodbye when the client has no more."""

    def handle(self):
        for line in self.rfile:
            self.wfile.write(line.upper())
        self.wfile.write(b"BYE\n")


@pytest.fixture
def server():
    with ThreadingTCPServer(("127.0.0.1", 0), Shout) as shouting:
        shouting.daemon_threads = True
        Thread(target=shouting.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        yield f"127.0.0.1:{shouting.server_address[1]}"
        shouting.shutdown()


def dial(address: str) -> socket.socket:
    host, port = address.split(":")
    return socket.create_connection((host, int(port)), timeout=10)


def answer(connection: socket.socket, size: int) -> bytes:
    return b"".join(connection.recv(1) for _ in range(size))


def test_both_ways_are_handed_on_and_kept(server):
    with Tap(server) as tap, dial(tap.address) as client:
        client.sendall(b"hello\n")
        assert answer(client, 6) == b"HELLO\n"
        assert (tap.sent, tap.received) == (b"hello\n", b"HELLO\n")


def test_a_client_that_has_no_more_still_gets_the_rest(server):
    with Tap(server) as tap, dial(tap.address) as client:
        client.sendall(b"last\n")
        client.shutdown(socket.SHUT_WR)
        assert b"".join(iter(lambda: client.recv(100), b"")) == b"LAST\nBYE\n"
        assert tap.received == b"LAST\nBYE\n"


def test_what_old_connections_pass_on_is_forgotten(server):
    with Tap(server) as tap, dial(tap.address) as old:
        old.sendall(b"before\n")
        assert answer(old, 7) == b"BEFORE\n"
        tap.forget()
        old.sendall(b"after\n")
        assert answer(old, 6) == b"AFTER\n"
        with dial(tap.address) as new:
            new.sendall(b"new\n")
            assert answer(new, 4) == b"NEW\n"
            assert tap.sent == b"new\n"


def test_much_passes_unchanged(server):
    data = b"x" * 1_000_000 + b"\n"
    with Tap(server) as tap, dial(tap.address) as client:
        Thread(target=client.sendall, args=(data,)).start()
        received = bytearray()
        while len(received) < len(data):
            received += client.recv(65536)
        assert received == data.upper()
        assert tap.sent == data


def test_connections_are_kept_apart(server):
    with Tap(server) as tap, dial(tap.address) as first, dial(tap.address) as second:
        first.sendall(b"one ")
        wait_until(lambda: tap.sent == b"one ", "the first half")
        second.sendall(b"two\n")
        assert answer(second, 4) == b"TWO\n"
        first.sendall(b"half\n")
        assert answer(first, 9) == b"ONE HALF\n"
        assert tap.sent == b"one half\ntwo\n"


def test_closing_ends_connections_and_keeps_the_bytes(server):
    with Tap(server) as tap, dial(tap.address) as client:
        client.sendall(b"hello\n")
        answer(client, 6)
        tap.close()
        assert client.recv(1) == b""
        assert tap.sent == b"hello\n"
        with pytest.raises(OSError, match=r"refused|reset|actively"):
            dial(tap.address)


def test_nobody_behind_the_tap_ends_the_connection():
    [port] = free_ports(1)
    with Tap(f"127.0.0.1:{port}") as tap, dial(tap.address) as client:
        assert client.recv(1) == b""
        assert tap.sent == b""


def test_a_kafka_client_names_itself_to_the_tap(lab):
    with Tap(lab.client["bootstrap.servers"]) as tap:
        admin = AdminClient({"bootstrap.servers": tap.address, "client.id": "till-number-7", "log_level": 0})
        assert admin.list_topics(timeout=10).brokers
        assert b"till-number-7" in tap.sent
        assert lab.client["bootstrap.servers"].split(":")[0].encode() in tap.received


def test_a_stranger_is_told_all_by_zookeeper():
    with own_stack(mode="zookeeper", secure=True) as lab:
        prefixed, allow = ResourcePatternType.PREFIXED, AclPermissionType.ALLOW
        rule = AclBinding(ResourceType.TOPIC, "orders.", prefixed, "User:ann", "*", AclOperation.READ, allow)
        admin = AdminClient(lab.stack.admin)
        admin.create_acls([rule])[rule].result()
        told = dict(told_to_a_stranger(lab.stack, "learner"))
        assert '"principal":"User:ann"' in told["permissions for topics orders.…"]
        assert told["stored for learner"] == "salt, stored_key, server_key, iterations"
        assert told["anyone may here do"] == "ALL"


@pytest.mark.parametrize(("secure", "answer"), [(True, "it hung up"), (False, "answered")])
def test_a_stranger_is_answered_by_a_controller_without_locks_only(secure, answer):
    with own_stack(mode="kraft", secure=secure) as lab:
        told = dict(told_to_a_stranger(lab.stack, "learner"))
        assert told["who keeps users and permissions"] == "broker-0, as a controller"
        assert told["a question without TLS"] == answer
        assert told["a question with TLS, without a password"] == "it hung up"
