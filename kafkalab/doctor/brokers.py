"""The brokers: each address that is dialled or advertised, and whether the client is let in."""

import re
from collections.abc import Iterator
from functools import partial

from confluent_kafka import KafkaError, libversion

from kafkalab.cluster.health import REFUSED, ask_brokers
from kafkalab.cluster.lab import Lab
from kafkalab.doctor.certificates import examine_certificate
from kafkalab.doctor.endpoint import Endpoint
from kafkalab.doctor.findings import Finding, fine, side_by_side
from kafkalab.doctor.listener import Listener, ask_listener
from kafkalab.doctor.permissions import examine_permissions
from kafkalab.errors import LabError
from kafkalab.settings import ClusterSettings

_ANSWER_SECONDS = 6
_OLDEST_CLIENT = 0x010802FF  # librdkafka 1.8.2, the first whose requests Kafka 4.0 still answers (KIP-896)
_FILE = "in the file that KAFKA_CLIENT_PROPERTIES names"
_ADVERTISED = re.compile(r"(\w+://)?(?P<address>\S+:\d+)/(?P<broker>\d+): ")  # what librdkafka calls a broker by


class Brokers:
    """An examination of the brokers of a cluster."""

    def __init__(self, lab: Lab, settings: ClusterSettings) -> None:
        self._lab = lab
        self._settings = settings
        self._dialled = lab.client["bootstrap.servers"].split(",")
        self._protocol = lab.client.get("security.protocol", "plaintext").upper()
        self._user = f"user {lab.client['sasl.username']!r}" if "sasl.username" in lab.client else "the client"
        self._fix = "`kafkalab status` tells what runs" if lab.stack else f"check {settings.brokers_from}"

    def examine(self, seconds: float) -> Iterator[Finding]:
        """Examine the addresses, the login, the addresses that the brokers advertise, the permissions."""
        checks = [(at, partial(self._examine_port, self._endpoint(at, at, self._fix))) for at in self._dialled]
        answers = side_by_side(checks, seconds)
        yield from answers
        if not any(answer.ok for answer in answers):
            return
        advertised = self._advertised()
        yield fine(f"{self._user} is let in")
        checks = [(f"broker {broker}", partial(self._compare, at, broker)) for broker, at in advertised.items()]
        answers = side_by_side(checks, seconds - 2)
        yield from answers
        if all(answer.ok for answer in answers):
            yield from examine_permissions(self._lab, self._settings, self._user)

    def _endpoint(self, address: str, name: str, fix: str) -> Endpoint:
        host, _, port = address.rpartition(":")
        return Endpoint(host.strip("[]"), int(port), name, fix, self._lab.client, _FILE)

    def _examine_port(self, server: Endpoint) -> Iterator[Finding]:
        """Compare what a port speaks with what the client is told to speak."""
        listener = ask_listener(server, tls_first=self._protocol.endswith("SSL"))
        if listener.protocol != self._protocol:
            raise LabError(
                f"{server.name} speaks {listener.protocol}, but the client is told to speak {self._protocol}: "
                f"{self._protocol_fix(server, listener)}"
            )
        login = self._lab.client.get("sasl.mechanism") or self._lab.client.get("sasl.mechanisms") or "GSSAPI"
        if listener.logins and login not in listener.logins:
            raise LabError(
                f"{server.name} takes logins by {' or '.join(listener.logins)}, but the client is told to use {login}: "
                f"set sasl.mechanism {_FILE}"
            )
        if listener.lacks:
            raise LabError(
                f"{server.name} is {listener.release}, without {listener.lacks}, which the lab needs: take a newer "
                "cluster"
            )
        client, number = libversion()
        if listener.without_old_requests and number < _OLDEST_CLIENT:
            raise LabError(
                f"{server.name} is {listener.release}, which no longer answers what librdkafka {client} asks "
                "(KIP-896): install confluent-kafka 1.8.2 or newer"
            )
        trust = f", {examine_certificate(server)}" if listener.tls else ""
        yield fine(f"{server.name} is a broker of {listener.release}, {listener.protocol}{trust}")

    def _protocol_fix(self, server: Endpoint, listener: Listener) -> str:
        """Return what to do; a file for another cluster is not to lose its encryption for this one."""
        drops_encryption = self._protocol.endswith("SSL") and not listener.tls
        if drops_encryption and (self._settings.file_names_brokers or self._lab.stack):
            return (
                "the file that KAFKA_CLIENT_PROPERTIES names is for another cluster or another port; unset that "
                f"variable for this one, or {server.fix}"
            )
        return f"set security.protocol={listener.protocol} {_FILE}, or {server.fix}"

    def _advertised(self) -> dict[int, str]:
        """Log in and ask for the brokers' addresses; the client soon dials them itself, and may get no further.

        Raises:
            LabError: The client is refused, or no broker answers.
        """
        known, errors = ask_brokers(self._lab.client, _ANSWER_SECONDS)
        if known:
            return {broker.id: _address(str(broker.host), broker.port) for broker in known}
        for error in errors:
            if error.code() in REFUSED:
                raise LabError(
                    f"{self._user} is refused ({error.str()}): check sasl.username, sasl.password and sasl.mechanism "
                    f"{_FILE}"
                )
        if named := _named_in(errors):
            return named
        reason = errors[0].str() if errors else f"waited {_ANSWER_SECONDS} s"
        raise LabError(f"the brokers at {','.join(self._dialled)} do not answer ({reason}): ask who runs them")

    def _compare(self, address: str, broker: int) -> Iterator[Finding]:
        """Compare an address that a broker advertises, which clients will dial, with those that were dialled."""
        if address in self._dialled:
            yield fine(f"broker {broker} advertises {address}, as dialled")
            return
        fix = (
            f"set advertised.listeners of broker {broker} to an address that this machine reaches, or dial the "
            "listener that is meant for it, in KAFKA_BROKER_URL"
        )
        name = f"{address} (advertised by broker {broker}; dialled was {','.join(self._dialled)})"
        server = self._endpoint(address, name, fix)
        yield from self._examine_port(server)
        dialled = [self._endpoint(at, at, fix) for at in self._dialled]
        if server.is_this_machine() and not any(other.is_this_machine() for other in dialled):
            raise LabError(f"{name} is this machine itself, which is not where the broker is: {fix}")


def _address(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _named_in(errors: list[KafkaError]) -> dict[int, str]:
    """Return the brokers that failed connections went to, by their id: one of them told their addresses before."""
    matches = [match for error in errors if (match := _ADVERTISED.match(error.str()))]
    return {int(match["broker"]): match["address"] for match in matches}
