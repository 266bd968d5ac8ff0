"""What a broker's port says of itself before any login: its protocol, its kinds of login, its release."""

import socket
import ssl
import struct
from collections.abc import Mapping
from dataclasses import dataclass

from kafkalab.doctor.endpoint import Endpoint
from kafkalab.errors import LabError

# numbers of Kafka's requests (Kafka documentation, "Protocol")
FETCH, METADATA, SASL_HANDSHAKE, API_VERSIONS, CREATE_TOPICS = 1, 3, 17, 18, 19
_METADATA_OF_4 = 13
_RELEASES = (  # the first release with a version of a request (the protocol's message definitions in kafka-clients)
    (CREATE_TOPICS, 4, "2.4"),
    (METADATA, 10, "2.8"),
    (FETCH, 13, "3.1"),
    (FETCH, 15, "3.5"),
    (FETCH, 16, "3.7"),
    (FETCH, 17, "3.9"),
    (METADATA, _METADATA_OF_4, "4.0"),
    (FETCH, 18, "4.1"),
)
_NEEDED = {  # what the lab cannot do without
    (CREATE_TOPICS, 4): "topics with the cluster's own replication (KIP-464, Kafka 2.4)",
    (METADATA, 10): "ids of topics (KIP-516, Kafka 2.8)",
}
_ILLEGAL_SASL_STATE = 34  # the answer of a listener that knows no login


@dataclass(frozen=True)
class Listener:
    """A broker's port.

    Attributes:
        tls: Whether it speaks TLS.
        logins: The SASL mechanisms that it takes; none where it knows no login.
        versions: The highest version of each request that it answers.
    """

    tls: bool
    logins: list[str]
    versions: Mapping[int, int]

    @property
    def protocol(self) -> str:
        """The `security.protocol` of its clients."""
        return f"{'SASL_' * bool(self.logins)}{'SSL' if self.tls else 'PLAINTEXT'}"

    @property
    def release(self) -> str:
        """What can be told of the broker's release."""
        known = [release for request, version, release in _RELEASES if self.versions.get(request, -1) >= version]
        return f"Kafka {known[-1]} or later" if known else "older than Kafka 2.4"

    @property
    def without_old_requests(self) -> bool:
        """Whether it has dropped the requests of Kafka before 2.1, as 4.0 has (KIP-896)."""
        return self.versions.get(METADATA, -1) >= _METADATA_OF_4

    @property
    def lacks(self) -> str | None:
        """What the lab needs and this broker is too old for."""
        lacking = (need for (request, version), need in _NEEDED.items() if self.versions.get(request, -1) < version)
        return next(lacking, None)


def ask_listener(server: Endpoint, *, tls_first: bool) -> Listener:
    """Ask what listens: by Kafka's protocol with and without TLS, then by others.

    Raises:
        LabError: No broker is there, or it wants a certificate of the client first.
    """
    if reason := server.unreachable():
        raise LabError(f"{reason}: {server.fix}")
    for tls in (tls_first, not tls_first):
        try:
            with server.dial(tls=tls) as connection:
                return _introduced(connection, server.properties, tls=tls)
        except TimeoutError:
            continue
        except (OSError, ValueError, struct.error):
            if tls and "CERTIFICATE" in (alert := _alert(server)):
                raise LabError(
                    f"{server.name} wants a certificate of the client ({alert}): name it with "
                    f"ssl.certificate.location and its key with ssl.key.location {server.file}"
                ) from None
    raise LabError(f"{_other_server(server)} listens at {server.name}, no broker: {server.fix}")


def _introduced(connection: socket.socket, properties: Mapping[str, object], *, tls: bool) -> Listener:
    """Ask a broker what may be asked before a login: its versions of the requests, then its kinds of login.

    Raises:
        OSError: The connection ended.
        ValueError: The answer is no broker's.
        struct.error: The answer is too short.
    """
    answer = _ask(connection, API_VERSIONS, 0)
    _, count = struct.unpack_from(">hi", answer)
    versions = {key: highest for key, _, highest in struct.iter_unpack(">hhh", answer[6 : 6 + 6 * count])}
    login = str(properties.get("sasl.mechanism") or properties.get("sasl.mechanisms") or "PLAIN").encode()
    answer = _ask(connection, SASL_HANDSHAKE, 1, struct.pack(">h", len(login)) + login)
    refused, count = struct.unpack_from(">hi", answer)
    logins, offset = [], 6
    for _ in range(0 if refused == _ILLEGAL_SASL_STATE else count):
        (length,) = struct.unpack_from(">h", answer, offset)
        logins.append(answer[offset + 2 : offset + 2 + length].decode())
        offset += 2 + length
    return Listener(tls, logins, versions)


def _ask(connection: socket.socket, request: int, version: int, body: bytes = b"") -> bytes:
    """Send a request of Kafka's protocol and return its answer."""
    message = struct.pack(">hhih", request, version, number := 7, -1) + body  # -1: a client without a name
    connection.sendall(struct.pack(">i", len(message)) + message)
    with connection.makefile("rb") as answers:
        length, answered = struct.unpack(">ii", answers.read(8))
        if answered != number or not 10 <= length < 100_000:
            raise ValueError
        return answers.read(length - 4)


def _alert(server: Endpoint) -> str:
    """Return what TLS tells a client that only listens: who speaks may have its connection reset before it hears."""
    try:
        with server.dial(tls=True) as connection:
            connection.recv(1)
    except ssl.SSLError as error:
        return error.reason or ""
    except OSError:
        return ""
    return ""


def _other_server(server: Endpoint) -> str:
    """Return what else listens there."""
    if server.is_web(tls=False) or server.is_web(tls=True):
        return "a web server, such as a schema registry,"
    return "ZooKeeper" if server.answers(b"srvr", b"ookeeper version") else "an unknown server"
