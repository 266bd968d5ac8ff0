"""The preflight: what is wrong with a cluster, each finding in one line that says what to do; it changes nothing."""

import ipaddress
import platform
import re
import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

import confluent_kafka
import httpx2
from confluent_kafka import KafkaError, KafkaException, TopicCollection
from confluent_kafka.admin import AclOperation, AdminClient, NewTopic
from confluent_kafka.schema_registry import SchemaRegistryClient
from confluent_kafka.schema_registry.error import SchemaRegistryError
from cryptography import x509

from kafkalab.cluster.lab import Lab, configured
from kafkalab.cluster.topics import NOTES
from kafkalab.errors import LabError
from kafkalab.settings import ClusterSettings
from kafkalab.waiting import wait_until

SECONDS = 18  # for the whole examination
CLOCK_SECONDS = 5  # that two clocks may be apart
_PORT_SECONDS = 3  # for each step of a connection
_ANSWER_SECONDS = 6
_ASK_SECONDS = 0.5

_FETCH, _METADATA, _SASL_HANDSHAKE, _API_VERSIONS, _CREATE_TOPICS = 1, 3, 17, 18, 19  # numbers of Kafka's requests
_RELEASES = (  # the first release with a version of a request (the protocol's message definitions in kafka-clients)
    (_CREATE_TOPICS, 4, "2.4"),
    (_METADATA, 10, "2.8"),
    (_FETCH, 13, "3.1"),
    (_FETCH, 15, "3.5"),
    (_FETCH, 16, "3.7"),
    (_FETCH, 17, "3.9"),
    (_METADATA, 13, "4.0"),
    (_FETCH, 18, "4.1"),
)
_NEEDED = {  # what the lab cannot do without
    (_CREATE_TOPICS, 4): "topics with the cluster's own replication (KIP-464, Kafka 2.4)",
    (_METADATA, 10): "ids of topics (KIP-516, Kafka 2.8)",
}
_ILLEGAL_SASL_STATE = 34  # the answer of a listener that knows no login
_WEB = (b"GET / HTTP/1.0\r\n\r\n", b"HTTP/")  # what is said to a server, and what then is in its answer
_ZOOKEEPER = (b"srvr", b"ookeeper version")
_NO_TOPIC = (KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError.TOPIC_AUTHORIZATION_FAILED)
_REFUSED = (KafkaError._AUTHENTICATION, KafkaError.SASL_AUTHENTICATION_FAILED)  # noqa: SLF001 - the client's own error
_OTHER_TOPIC = "name another topic in IN_TOPIC and OUT_TOPIC"
_ADVERTISED = re.compile(r"(\w+://)?(?P<address>\S+:\d+)/(?P<broker>\d+): ")  # who is named so, the brokers told
_SECRET = re.compile(r"password|secret|token|jaas|user\.info|\.pem$|oauthbearer\.config")
_CLIENT_FILE = "in the file that KAFKA_CLIENT_PROPERTIES names"
_REGISTRY_FILE = "in the file that KAFKA_SCHEMA_REGISTRY_PROPERTIES names"


@dataclass(frozen=True)
class Finding:
    """One line of the examination: something that is fine, or what is wrong and how to mend it."""

    ok: bool
    text: str


@dataclass(frozen=True)
class _Server:
    """Where a server was looked for, and what somebody can do who does not find it there.

    Attributes:
        name: How a finding calls the address, which may say where it comes from.
        mend: What to do if it is the wrong one.
        properties: What the client there is told; of these, those on TLS are looked at.
        file: Where the properties are from.
    """

    host: str
    port: int
    name: str
    mend: str
    properties: Mapping[str, object]
    file: str

    def dial(self, *, tls: bool = False, verify: bool = False) -> socket.socket:
        """Connect, with the client's own certificate where it has one."""
        context = self._context(verify=verify) if tls else None
        connection = socket.create_connection((self.host, self.port), timeout=_PORT_SECONDS)
        return context.wrap_socket(connection, server_hostname=self.host) if context else connection

    def is_verified(self) -> bool:
        """Return whether the client looks at the server's certificate."""
        return str(self.properties.get("enable.ssl.certificate.verification", "true")).lower() == "true"

    def _context(self, *, verify: bool) -> ssl.SSLContext:
        told = {name: str(value) for name, value in self.properties.items() if name.startswith("ssl.")}
        authority = told.get("ssl.ca.location")
        place = "capath" if authority and Path(authority).is_dir() else "cafile"
        trusted = {place: authority, "cadata": told.get("ssl.ca.pem")} if verify else {}
        context = ssl.create_default_context(**trusted)
        context.check_hostname = verify and told.get("ssl.endpoint.identification.algorithm") != "none"
        context.verify_mode = ssl.CERT_REQUIRED if verify else ssl.CERT_NONE
        context.verify_flags &= ~ssl.VERIFY_X509_STRICT  # which Python 3.13 sets, and librdkafka does not
        if own := told.get("ssl.certificate.location"):
            context.load_cert_chain(own, told.get("ssl.key.location"), told.get("ssl.key.password", ""))
        return context


@dataclass(frozen=True)
class _Listener:
    """What a broker's port said of itself before any login."""

    tls: bool
    logins: list[str]
    versions: dict[int, int]

    @property
    def protocol(self) -> str:
        """The `security.protocol` of its clients."""
        return f"{'SASL_' * bool(self.logins)}{'SSL' if self.tls else 'PLAINTEXT'}"

    @property
    def release(self) -> str:
        """What can be told of the broker's release."""
        known = [release for request, version, release in _RELEASES if self.versions.get(request, -1) >= version]
        return f"Kafka {known[-1]} or later" if known else "older than Kafka 2.4"


def examine() -> list[Finding]:
    """Examine the cluster that the environment names, else the embedded stack, which is not started.

    Returns:
        The findings, after at most `SECONDS`; no property that is a secret is in them.
    """
    secrets: list[str] = []
    findings = _side_by_side([("the settings", partial(_settings, secrets))], SECONDS)
    return [Finding(finding.ok, _without(secrets, finding.text)) for finding in findings]


def _settings(secrets: list[str]) -> Iterator[Finding]:
    settings = ClusterSettings.read()
    lab = configured(settings)
    told = {**lab.client, **lab.registry}
    secrets += [str(value) for name, value in told.items() if _SECRET.search(name)]
    secrets.append(str(lab.registry.get("basic.auth.user.info", "")).partition(":")[2])
    versions = f"confluent-kafka {confluent_kafka.__version__}, librdkafka {confluent_kafka.libversion()[0]}"
    yield Finding(ok=True, text=f"Python {platform.python_version()}, {versions}")
    if lab.stack and lab.stack.state() == "stopped":
        raise LabError(
            f"the embedded stack in {lab.stack.folder} does not run: `kafkalab up` starts it, or name a cluster in "
            "KAFKA_BROKER_URL and KAFKA_SCHEMA_REGISTRY_URL"
        )
    silent = [process["name"] for process in lab.stack.status()["processes"] if not process["pid"]] if lab.stack else []
    for name in silent:
        yield Finding(ok=False, text=f"{name} of the embedded stack does not run: `kafkalab start {name}`")
    if not silent:
        checks = [("the brokers", partial(_brokers, lab, settings)), ("the registry", partial(_registry, lab))]
        yield from _side_by_side(checks, SECONDS - 1)


def _side_by_side(checks: list[tuple[str, Callable[[], Iterator[Finding]]]], seconds: float) -> list[Finding]:
    """Run checks at the same time; a LabError ends one of them as its last finding, the time ends all.

    The threads are not waited for at the end of the program: a system's question for a name knows no bound.
    """
    said: list[list[Finding]] = [[] for _ in checks]
    done: set[str] = set()

    def run(name: str, check: Callable[[], Iterator[Finding]], mine: list[Finding]) -> None:
        try:
            for finding in check():
                mine.append(finding)  # noqa: PERF402 - what was said before the time is over counts
        except LabError as error:
            mine.append(Finding(ok=False, text=str(error)))
        done.add(name)

    threads = [
        threading.Thread(target=run, args=(*check, mine), daemon=True) for check, mine in zip(checks, said, strict=True)
    ]
    end = time.monotonic() + seconds
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(max(0, end - time.monotonic()))
    findings = []
    for (name, _), mine in zip(checks, said, strict=True):
        findings += mine
        if name not in done:
            text = f"the examination of {name} did not come to its end: look at the network and the name server"
            findings.append(Finding(ok=False, text=text))
    return findings


def _without(secrets: list[str], text: str) -> str:
    for secret in sorted(filter(None, secrets), key=len, reverse=True):
        text = text.replace(secret, "***")
    return re.sub(r"//[^/@\s]*@", "//***@", text)


def _brokers(lab: Lab, settings: ClusterSettings) -> Iterator[Finding]:
    _admin(lab.client)
    mend = "`kafkalab status` tells what runs" if lab.stack else "check KAFKA_BROKER_URL"
    dialled = lab.client["bootstrap.servers"].split(",")
    answers = _side_by_side([(at, partial(_broker, lab, at, at, mend)) for at in dialled], SECONDS - 2)
    yield from answers
    if not any(answer.ok for answer in answers):
        return
    advertised = _advertisements(lab.client)
    yield Finding(ok=True, text=f"{_who(lab.client)} is let in")
    checks = [(f"broker {broker}", partial(_advertised, lab, at, broker)) for broker, at in advertised.items()]
    answers = _side_by_side(checks, SECONDS - 4)
    yield from answers
    if all(answer.ok for answer in answers):
        yield from _permissions(lab, settings)


def _broker(lab: Lab, address: str, name: str, mend: str) -> Iterator[Finding]:
    """Say what listens at an address, and whether the client is told to speak to it as it wants."""
    host, _, port = address.rpartition(":")
    server = _Server(host.strip("[]"), int(port), name, mend, lab.client, _CLIENT_FILE)
    told = lab.client.get("security.protocol", "plaintext").upper()
    listener = _listener(server, tls_first=told.endswith("SSL"))
    if listener.protocol != told:
        raise LabError(
            f"{name} speaks {listener.protocol}, but the client is told to speak {told}: set "
            f"security.protocol={listener.protocol} {_CLIENT_FILE}, or {mend}"
        )
    login = lab.client.get("sasl.mechanism") or lab.client.get("sasl.mechanisms") or "GSSAPI"
    if listener.logins and login not in listener.logins:
        raise LabError(
            f"{name} takes logins by {' or '.join(listener.logins)}, but the client is told to use {login}: set "
            f"sasl.mechanism {_CLIENT_FILE}"
        )
    for (request, version), need in _NEEDED.items():
        if listener.versions.get(request, -1) < version:
            raise LabError(f"{name} is {listener.release}, without {need}, which the lab needs: take a newer cluster")
    trust = f", {_trust(server)}" if listener.tls else ""
    yield Finding(ok=True, text=f"{name} is a broker of {listener.release}, {listener.protocol}{trust}")


def _advertised(lab: Lab, address: str, broker: int) -> Iterator[Finding]:
    """Compare an address that a broker tells with those that were dialled; the broker is not asked, clients dial it."""
    dialled = lab.client["bootstrap.servers"]
    if address in dialled.split(","):
        yield Finding(ok=True, text=f"broker {broker} advertises {address}, as dialled")
        return
    name = f"{address} (advertised by broker {broker}; dialled was {dialled})"
    mend = (
        f"set advertised.listeners of broker {broker} to an address that this machine reaches, or dial the listener "
        "that is meant for it, in KAFKA_BROKER_URL"
    )
    yield from _broker(lab, address, name, mend)
    if _is_here(address) and not any(map(_is_here, dialled.split(","))):  # whoever answered, it was another broker
        raise LabError(f"{name} is this machine itself, which is not where the broker is: {mend}")


def _is_here(address: str) -> bool:
    """Return whether an address is this machine's own."""
    host, _, port = address.rpartition(":")
    with suppress(OSError), socket.create_connection((host.strip("[]"), int(port)), _PORT_SECONDS) as connection:
        there = connection.getpeername()[0]
        return ipaddress.ip_address(there).is_loopback or there == connection.getsockname()[0]
    return False


def _listener(server: _Server, *, tls_first: bool) -> _Listener:
    """Ask what listens: Kafka's protocol with and without TLS, then others."""
    try:
        server.dial().close()
    except (OSError, UnicodeError, OverflowError) as error:
        raise LabError(f"{_unreached(server.name, error)}: {server.mend}") from None
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
    raise LabError(f"{_stranger(server)} listens at {server.name}, no broker: {server.mend}")


def _alert(server: _Server) -> str:
    """Return what TLS tells a client that only listens: who speaks may have its connection reset before it hears."""
    try:
        with server.dial(tls=True) as connection:
            connection.recv(1)
    except ssl.SSLError as error:
        return error.reason or ""
    except OSError:
        return ""
    return ""


def _unreached(name: str, error: Exception) -> str:
    match error:
        case socket.gaierror() | UnicodeError():
            return f"this machine does not know the host of {name}"
        case TimeoutError():
            return f"nobody answered at {name} within {_PORT_SECONDS} s (a firewall, or a host that is down)"
        case ConnectionRefusedError():
            return f"nobody listens at {name}"
        case _:
            return f"{name} cannot be reached ({error})"


def _introduced(connection: socket.socket, properties: Mapping[str, object], *, tls: bool) -> _Listener:
    """Ask a broker what may be asked before a login: its versions of the requests, then its kinds of login.

    Raises:
        OSError: The connection ended.
        ValueError: The answer is no broker's.
        struct.error: The answer is too short.
    """
    answer = _ask(connection, _API_VERSIONS, 0)
    _, count = struct.unpack_from(">hi", answer)
    versions = {key: highest for key, _, highest in struct.iter_unpack(">hhh", answer[6 : 6 + 6 * count])}
    login = str(properties.get("sasl.mechanism") or properties.get("sasl.mechanisms") or "PLAIN").encode()
    answer = _ask(connection, _SASL_HANDSHAKE, 1, struct.pack(">h", len(login)) + login)
    refused, count = struct.unpack_from(">hi", answer)
    logins, offset = [], 6
    for _ in range(0 if refused == _ILLEGAL_SASL_STATE else count):
        (length,) = struct.unpack_from(">h", answer, offset)
        logins.append(answer[offset + 2 : offset + 2 + length].decode())
        offset += 2 + length
    return _Listener(tls, logins, versions)


def _ask(connection: socket.socket, request: int, version: int, body: bytes = b"") -> bytes:
    """Send a request of Kafka's protocol and return its answer (Kafka documentation, "Protocol")."""
    message = struct.pack(">hhih", request, version, number := 7, -1) + body  # -1: a client without a name
    connection.sendall(struct.pack(">i", len(message)) + message)
    with connection.makefile("rb") as answers:
        length, answered = struct.unpack(">ii", answers.read(8))
        if answered != number or not 10 <= length < 100_000:
            raise ValueError
        return answers.read(length - 4)


def _stranger(server: _Server) -> str:
    if _says(server, *_WEB, tls=False) or _says(server, *_WEB, tls=True):
        return "a web server, such as a schema registry,"
    return "ZooKeeper" if _says(server, *_ZOOKEEPER, tls=False) else "an unknown server"


def _says(server: _Server, greeting: bytes, answer: bytes, *, tls: bool) -> bool:
    with suppress(OSError), server.dial(tls=tls) as connection:
        connection.sendall(greeting)
        return answer in connection.recv(100)
    return False


def _trust(server: _Server) -> str:
    """Look at a server's certificate as the client will."""
    if not server.is_verified():
        return "its certificate is not looked at"
    try:
        with server.dial(tls=True) as connection:
            certificate = x509.load_der_x509_certificate(connection.getpeercert(binary_form=True))
        with server.dial(tls=True, verify=True):
            return f"certificate trusted, until {certificate.not_valid_after_utc:%Y-%m-%d}"
    except ssl.SSLCertVerificationError as error:
        reason = _mistrust(server, certificate, error.verify_code)
    except OSError as error:
        raise LabError(f"{server.name} ends the connection while TLS begins ({error}): {server.mend}") from None
    raise LabError(f"the certificate of {server.name} {reason}")


def _mistrust(server: _Server, certificate: x509.Certificate, code: int) -> str:
    """Return what is wrong with a certificate; the numbers are OpenSSL's (its manual, "X509_STORE_CTX_get_error")."""
    now, begin, end = datetime.now(UTC), certificate.not_valid_before_utc, certificate.not_valid_after_utc
    renew = f"have it renewed where the server runs, unless this machine's clock is wrong: it says {now:%Y-%m-%d}"
    match code:
        case 10 if end > now:
            return f"has an authority that expired: {renew}"
        case 10:
            return f"expired on {end:%Y-%m-%d}: {renew}"
        case 9:
            return f"is not valid before {begin:%Y-%m-%d}: wait, or set this machine's clock: it says {now:%Y-%m-%d}"
        case 62 | 64:
            parts = [part.value for part in certificate.extensions if part.oid == x509.SubjectAlternativeName.oid]
            names = ", ".join(str(name.value) for part in parts for name in part) or "no name"
            return f"is not for {server.host}, but for {names}: dial one of its names, {server.mend}"
        case _:
            told = server.properties.get("ssl.ca.location")
            known = f"ssl.ca.location={told}" if told else "what this machine trusts without an ssl.ca.location"
            return (
                f"is by {certificate.issuer.rfc4514_string()}, which is not in {known}: get that authority's "
                f"certificate from who runs the server, and name its file as ssl.ca.location {server.file}"
            )


def _admin(client: Mapping[str, str], errors: list[KafkaError] | None = None) -> AdminClient:
    try:
        return AdminClient({**client, "log_level": 0, "error_cb": (errors if errors is not None else []).append})
    except (KafkaException, ValueError, TypeError) as error:
        reason = error.args[0].str() if isinstance(error, KafkaException) else error
        raise LabError(f"the client does not take its properties ({reason}): mend them {_CLIENT_FILE}") from None


def _advertisements(client: Mapping[str, str]) -> dict[int, str]:
    """Log in and ask for the brokers' addresses; the client soon dials them itself, and may get no further."""
    errors: list[KafkaError] = []
    admin, answers = _admin(client, errors), []

    def answered() -> bool:
        try:
            answers.append(admin.list_topics(timeout=_ASK_SECONDS).brokers.values())
        except KafkaException:
            admin.poll(0)  # calls error_cb with what went wrong
        return bool(answers) or any(error.code() in _REFUSED for error in errors)

    with suppress(LabError):
        wait_until(answered, "the brokers", _ANSWER_SECONDS)
    if answers:
        return {broker.id: f"{broker.host}:{broker.port}" for broker in answers[0]}
    for error in errors:
        if error.code() in _REFUSED:
            raise LabError(
                f"{_who(client)} is refused ({error.str()}): check sasl.username, sasl.password and sasl.mechanism "
                f"{_CLIENT_FILE}"
            )
    reasons = [error.str() for error in errors]
    if told := [match for reason in reasons if (match := _ADVERTISED.match(reason))]:
        return {int(match["broker"]): match["address"] for match in told}
    reason = reasons[0] if reasons else f"waited {_ANSWER_SECONDS} s"
    raise LabError(f"the brokers at {client['bootstrap.servers']} do not answer ({reason}): ask who runs them")


def _who(client: Mapping[str, str]) -> str:
    return f"user {client['sasl.username']!r}" if "sasl.username" in client else "the client"


def _permissions(lab: Lab, settings: ClusterSettings) -> Iterator[Finding]:
    """Ask for the rights on what the programs use, and whether topics can be created; nothing is."""
    admin, who = _admin(lab.client), _who(lab.client)
    usual = [lab.name("count"), lab.name("multiples")]
    read = settings.in_topic.split(",") if settings.in_topic else usual
    write = [settings.out_topic] if settings.out_topic else usual
    missing = []
    for topic in dict.fromkeys([*read, *write]):
        needed = [AclOperation.READ] * (topic in read) + [AclOperation.WRITE] * (topic in write)
        error, granted = _topic_rights(admin, topic)
        if error in _NO_TOPIC:
            missing.append(topic)
        else:
            yield _rights(who, f"topic {topic!r}", needed, granted, _OTHER_TOPIC)
    for topic in missing:
        mend = f"have the topic made or the right Create granted, or {_OTHER_TOPIC}"
        yield _creation(admin, who, topic, mend)
    if not missing:
        mend = "have the right Create granted, since lessons make topics of their own"
        yield _creation(admin, who, lab.name("kafkalab-doctor"), mend)
    error, granted = _topic_rights(admin, NOTES)
    if error != KafkaError.UNKNOWN_TOPIC_OR_PART:  # it is made with the first topic that the lab makes
        yield _rights(who, f"topic {NOTES!r}", [AclOperation.READ, AclOperation.WRITE], granted, "")
    group = settings.in_group or lab.name("count")
    yield _rights(
        who, f"group {group!r}", [AclOperation.READ], _group_rights(admin, group), "name another group in IN_GROUP"
    )


def _topic_rights(admin: AdminClient, topic: str) -> tuple[int | None, list[AclOperation] | None]:
    """Ask what the client may do with a topic: an error's code, None where there is the topic; what is granted."""
    try:
        asked = admin.describe_topics(
            TopicCollection([topic]), include_authorized_operations=True, request_timeout=_ANSWER_SECONDS
        )
        return None, asked[topic].result().authorized_operations
    except KafkaException as error:
        if error.args[0].code() not in _NO_TOPIC:
            raise LabError(f"topic {topic!r} cannot be examined ({error.args[0].str()}): ask again") from None
        return error.args[0].code(), []


def _rights(who: str, what: str, needed: list[AclOperation], granted: list[AclOperation] | None, mend: str) -> Finding:
    if granted is None:
        return Finding(ok=True, text=f"the brokers do not tell what {who} may do with {what}")
    lacking = [right.name.capitalize() for right in needed if right not in granted]
    if lacking:
        rights = " and ".join(lacking)
        return Finding(
            ok=False, text=f"{who} lacks the right {rights} on {what}: have it granted{mend and f', or {mend}'}"
        )
    rights = " and ".join(right.name.capitalize() for right in needed)
    return Finding(ok=True, text=f"{who} has the right {rights} on {what}")


def _creation(admin: AdminClient, who: str, topic: str, mend: str) -> Finding:
    asked = admin.create_topics([NewTopic(topic, 3)], validate_only=True, request_timeout=_ANSWER_SECONDS)
    try:
        asked[topic].result()
    except KafkaException as error:
        match error.args[0].code():
            case KafkaError.TOPIC_AUTHORIZATION_FAILED | KafkaError.CLUSTER_AUTHORIZATION_FAILED:
                text = f"there is no topic {topic!r} that {who} may see, and {who} may not create it: {mend}"
            case KafkaError.TOPIC_ALREADY_EXISTS:
                text = f"{who} may not see topic {topic!r}: have the right Describe granted, or {_OTHER_TOPIC}"
            case _:
                text = f"topic {topic!r} cannot be created ({error.args[0].str()}): ask who runs the cluster"
        return Finding(ok=False, text=text)
    return Finding(ok=True, text=f"topic {topic!r} does not exist, {who} may create it")


def _group_rights(admin: AdminClient, group: str) -> list[AclOperation] | None:
    """Ask the group's coordinator, which a cluster's first group has to wait for."""
    answers = []

    def answered() -> bool:
        asked = admin.describe_consumer_groups(
            [group], include_authorized_operations=True, request_timeout=_PORT_SECONDS
        )
        try:
            answers.append(asked[group].result().authorized_operations)
        except KafkaException as error:
            if error.args[0].code() == KafkaError.GROUP_AUTHORIZATION_FAILED:
                answers.append([])
        return bool(answers)

    try:
        wait_until(answered, "the coordinator", _ANSWER_SECONDS)
    except LabError:
        raise LabError(
            f"the coordinator of group {group!r} does not answer: ask again in a minute; if it stays so, the topic "
            "__consumer_offsets has no leader (offsets.topic.replication.factor wants more brokers than there are)"
        ) from None
    return answers[0]


def _registry(lab: Lab) -> Iterator[Finding]:
    mend = "`kafkalab status` tells what runs" if lab.stack else "check KAFKA_SCHEMA_REGISTRY_URL"
    url = urlsplit(str(lab.registry["url"]))
    try:
        port = url.port or {"http": 80, "https": 443}[url.scheme]
    except ValueError as error:
        raise LabError(
            f"KAFKA_SCHEMA_REGISTRY_URL has no port that can be meant ({error}): write one, or none"
        ) from None
    name = f"the registry's address {url.hostname}:{port}"
    server = _Server(url.hostname, port, name, mend, lab.registry, _REGISTRY_FILE)
    try:
        registry = SchemaRegistryClient({**lab.registry, "timeout": _ANSWER_SECONDS, "max.retries": 0})
    except (OSError, ValueError, TypeError) as error:
        raise LabError(
            f"the registry's client does not take its properties ({error}): mend them {_REGISTRY_FILE}"
        ) from None
    try:
        with registry:
            subjects = registry.get_subjects()
    except httpx2.HTTPError as error:
        raise LabError(_no_registry(server, error, tls=url.scheme == "https")) from None
    except SchemaRegistryError as error:
        if error.http_status_code in {401, 403}:
            raise LabError(
                f"{server.name} refuses the credentials (HTTP {error.http_status_code}): check basic.auth.user.info "
                f"{_REGISTRY_FILE}"
            ) from None
        raise LabError(f"{server.name} does not answer as a registry (HTTP {error.http_status_code}): {mend}") from None
    except ValueError:  # an answer that is no JSON
        raise LabError(f"{server.name} does not answer as a registry, but as another web server: {mend}") from None
    yield Finding(ok=True, text=f"{server.name} answers as a registry, with {len(subjects)} subjects")
    yield _clock(lab)


def _no_registry(server: _Server, error: httpx2.HTTPError, *, tls: bool) -> str:
    """Return why the registry's client had no answer."""
    try:
        server.dial().close()
    except (OSError, UnicodeError, OverflowError) as unreached:
        return f"{_unreached(server.name, unreached)}: {server.mend}"
    web = next((found for found in (tls, not tls) if _says(server, *_WEB, tls=found)), None)
    if web is None:
        return f"no web server listens at {server.name}, and so no registry: {server.mend}"
    if web is not tls:
        return f"{server.name} speaks {'https' if web else 'http'}: write so in KAFKA_SCHEMA_REGISTRY_URL"
    if tls:
        _trust(server)
    return f"{server.name} does not answer ({error}): {server.mend}"


def _clock(lab: Lab) -> Finding:
    """Compare this machine's clock with the registry's; brokers tell none."""
    try:
        with lab.rest() as rest:
            before = time.time()
            date = parsedate_to_datetime(rest.get("/subjects", timeout=_ANSWER_SECONDS).headers["Date"]).timestamp()
            after = time.time()
    except (httpx2.HTTPError, OSError, KeyError, ValueError):
        return Finding(ok=True, text="the registry does not tell its clock, so this machine's was not compared")
    behind, ahead = date - after, before - date - 1  # a Date has whole seconds
    if max(behind, ahead) > CLOCK_SECONDS:
        apart = f"{behind:.0f} s behind" if behind > ahead else f"{ahead:.0f} s ahead of"
        return Finding(
            ok=False, text=f"this machine's clock is {apart} the registry's: set both by a time server (NTP)"
        )
    return Finding(ok=True, text=f"this machine's clock and the registry's are less than {CLOCK_SECONDS} s apart")
