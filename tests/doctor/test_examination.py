import http.server
import socket
import socketserver
import ssl
import subprocess
import sys
import time
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta

import clients
import pytest
import trustme
from confluent_kafka.admin import (
    AclOperation,
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    ResourceType,
)

import kafkalab
from kafkalab.doctor import endpoint, listener, permissions
from kafkalab.doctor import examination as doctor
from kafkalab.doctor.endpoint import Endpoint
from kafkalab.embedded import HOST
from kafkalab.embedded.stack import free_ports
from kafkalab.waiting import wait_until

SECRET = "hunter2-hunter2"


@pytest.fixture(scope="module")
def outside():
    """Return a function that gives a broker a second listener with another advertised address, and its real one."""
    with kafkalab.own_stack() as lab:
        lab.check()
        inside, port = lab.client["bootstrap.servers"], free_ports(1)[0]
        admin = AdminClient({**lab.client, "log_level": 0})

        def advertise(address):
            entries = {
                "listeners": f"PLAINTEXT://{inside},OUTSIDE://{HOST}:{port}",
                "advertised.listeners": f"PLAINTEXT://{inside},OUTSIDE://{address}",
                "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,OUTSIDE:PLAINTEXT",
            }
            change = [ConfigEntry(*entry, incremental_operation=AlterConfigOpType.SET) for entry in entries.items()]
            resource = ConfigResource(ConfigResource.Type.BROKER, "0", incremental_configs=change)
            admin.incremental_alter_configs([resource])[resource].result()
            wait_until(
                lambda: address in clients.told({"bootstrap.servers": f"{HOST}:{port}"}), f"{address} to be told"
            )
            return f"{HOST}:{port}", lab.registry["url"]

        yield advertise


def wrong():
    """Examine, and return what is wrong."""
    findings = doctor.examine()
    assert not any("\n" in finding.text for finding in findings)
    return [finding.text for finding in findings if not finding.ok]


def run():
    command = [sys.executable, "-m", "kafkalab", "doctor"]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@contextmanager
def tls_in_front(port, certificate, trusted=None):
    """Yield a port of loopback that speaks TLS with a certificate, as a load balancer before a plain server does."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    certificate.configure_cert(context)
    if trusted:
        trusted.configure_trust(context)
        context.verify_mode = ssl.CERT_REQUIRED

    class Front(socketserver.ThreadingTCPServer):
        daemon_threads = True  # a client may keep its connection

    class Pass(socketserver.BaseRequestHandler):
        def handle(self):
            self.request.settimeout(10)
            with (
                suppress(OSError),
                context.wrap_socket(self.request, server_side=True) as client,
                socket.create_connection((HOST, port), timeout=10) as server,
            ):
                while asked := client.recv(65536):
                    server.sendall(asked)
                    client.sendall(server.recv(65536))

    with clients.served(Front((HOST, 0), Pass)) as front:
        yield front


def test_healthy_embedded_cluster(lab):
    answer = run()
    print(answer.stdout)
    assert answer.returncode == 0, answer.stdout
    assert "WRONG" not in answer.stdout
    assert "Kafka 3.9 or later" in answer.stdout
    assert not answer.stderr


def test_healthy_cluster_of_the_environment_keeps_everything_as_it_is(named, lab):
    named(lab.client["bootstrap.servers"], lab.registry["url"])
    admin = AdminClient(lab.client)
    before = set(admin.list_topics(timeout=10).topics) - {"__consumer_offsets"}
    assert run().returncode == 0
    assert set(admin.list_topics(timeout=10).topics) - {"__consumer_offsets"} == before


def test_healthy_secured_cluster_and_no_secret(named_secured, secured):
    named_secured()
    answer = run()
    print(answer.stdout)
    assert answer.returncode == 0, answer.stdout
    assert "certificate trusted, until" in answer.stdout
    passwords = [secured.client["sasl.password"], secured.registry["basic.auth.user.info"].split(":")[1]]
    assert not any(password in answer.stdout + answer.stderr for password in passwords)


def test_embedded_stack_that_is_down(monkeypatch, tmp_path):
    monkeypatch.setenv("KAFKALAB_HOME", str(tmp_path / "home"))
    answer = run()
    assert answer.returncode == 1
    assert answer.stdout.splitlines()[-1].startswith(
        f"WRONG  the embedded stack in {tmp_path / 'home'} does not run: `k"
    )
    assert not (tmp_path / "home").exists(), "nothing is started or written"


def test_registry_of_the_embedded_stack_that_still_starts_or_is_down(monkeypatch, new_stack):
    stack = new_stack()
    monkeypatch.setenv("KAFKALAB_HOME", str(stack.folder))
    stack.up()
    stack.pause("registry")
    [finding] = wrong()
    assert "has not answered within 6 s: it may still be starting, so look again in a moment; `kafkalab logs" in finding
    stack.kill("registry")
    assert wrong() == ["registry of the embedded stack does not run: `kafkalab start registry`"]


def test_half_a_cluster(monkeypatch, named, lab):
    named(lab.client["bootstrap.servers"], lab.registry["url"])
    monkeypatch.delenv("KAFKA_SCHEMA_REGISTRY_URL")
    [finding] = wrong()
    assert finding.startswith("KAFKA_SCHEMA_REGISTRY_URL is not set, but its twin is: set both")


@pytest.mark.parametrize(
    ("address", "reason"),
    [
        (f"{HOST}:1", f"nobody listens at {HOST}:1"),
        ("broker.invalid:9092", "this machine does not know the host of broker.invalid:9092"),
    ],
)
def test_wrong_listener(outside, named, address, reason):
    dialled, registry = outside(address)
    named(dialled, registry)
    [finding] = wrong()
    print(finding)
    assert finding == (
        f"{reason} (advertised by broker 0; dialled was {dialled}): set advertised.listeners of broker 0 to an "
        "address that this machine reaches, or dial the listener that is meant for it, in KAFKA_BROKER_URL"
    )


def test_advertised_address_is_loopback_and_the_one_dialled_is_not(outside, named, lab, monkeypatch):
    """A machine of one's own stands in for another host, where a broker in a container says `localhost`."""
    other = lab.client["bootstrap.servers"]
    dialled, registry = outside(other)
    named(dialled, registry)
    monkeypatch.setattr(Endpoint, "is_this_machine", lambda server: f"{server.host}:{server.port}" != dialled)
    [finding] = wrong()
    print(finding)
    assert finding.startswith(
        f"{other} (advertised by broker 0; dialled was {dialled}) is this machine itself, which is not where"
    )


def test_second_listener_that_is_right(outside, named):
    dialled, registry = outside(f"localhost:{free_ports(1)[0]}")
    dialled, registry = outside(dialled.replace(HOST, "localhost"))
    named(dialled, registry)
    assert wrong() == []


@pytest.mark.parametrize("protocol", [None, "SSL", "SASL_PLAINTEXT"])
def test_wrong_protocol_for_a_secured_listener(named_secured, secured, protocol):
    named_secured(client={"security.protocol": protocol})
    [finding] = wrong()
    print(finding)
    assert finding == (
        f"{secured.client['bootstrap.servers']} speaks SASL_SSL, but the client is told to speak "
        f"{protocol or 'PLAINTEXT'}: set security.protocol=SASL_SSL in the file that KAFKA_CLIENT_PROPERTIES names, "
        "or check KAFKA_BROKER_URL"
    )


@pytest.mark.parametrize("protocol", ["SSL", "SASL_SSL", "SASL_PLAINTEXT"])
def test_wrong_protocol_for_a_plain_listener(named, lab, protocol):
    properties = {"security.protocol": protocol, "sasl.mechanism": "PLAIN", "sasl.username": "ann"}
    named(lab.client["bootstrap.servers"], lab.registry["url"], {**properties, "sasl.password": SECRET})
    [finding] = wrong()
    print(finding)
    assert f"speaks PLAINTEXT, but the client is told to speak {protocol}: set security.protocol=PLAINTEXT" in finding


def test_wrong_kind_of_login(named_secured):
    named_secured(client={"sasl.mechanism": "SCRAM-SHA-256"})
    [finding] = wrong()
    print(finding)
    assert (
        "takes logins by SCRAM-SHA-512 or PLAIN, but" in finding
        or "takes logins by PLAIN or SCRAM-SHA-512, but" in finding
    )
    assert "the client is told to use SCRAM-SHA-256: set sasl.mechanism in the file" in finding


def test_wrong_password(named_secured):
    named_secured(client={"sasl.password": SECRET})
    [finding] = wrong()
    print(finding)
    assert finding.startswith("user 'learner' is refused (")
    assert "check sasl.username, sasl.password and sasl.mechanism in the file" in finding
    assert SECRET not in finding


def test_property_that_no_client_has(named, lab):
    named(lab.client["bootstrap.servers"], lab.registry["url"], {"securty.protocol": "SSL"}, {"tiemout": "5"})
    brokers, registry = wrong()
    assert "does not take its properties" in brokers
    assert "securty.protocol" in brokers
    assert "KAFKA_CLIENT_PROPERTIES" in brokers
    assert "tiemout" in registry
    assert "KAFKA_SCHEMA_REGISTRY_PROPERTIES" in registry


def test_secret_that_an_error_repeats(named, lab):
    named(lab.client["bootstrap.servers"], f"http://{HOST}:1", {"sasl.password": SECRET, SECRET: "x"})
    findings = wrong()
    assert len(findings) == 2
    assert SECRET not in str(findings)
    named(lab.client["bootstrap.servers"], f"http://ann:{SECRET}@{HOST}:1")
    [finding] = wrong()
    assert "without a password" in finding
    assert SECRET not in finding


def test_wrong_port(named, lab):
    named(f"{HOST}:1", lab.registry["url"])
    assert wrong() == [f"nobody listens at {HOST}:1: check KAFKA_BROKER_URL"]
    named("broker.invalid:9092", lab.registry["url"])
    assert wrong() == ["this machine does not know the host of broker.invalid:9092: check KAFKA_BROKER_URL"]


def test_port_of_another_server(named, named_secured, lab, secured):
    where = f"{HOST}:{lab.stack.options.ports['registry']}"
    named(where, lab.registry["url"])
    assert wrong() == [
        f"a web server, such as a schema registry, listens at {where}, no broker: check KAFKA_BROKER_URL"
    ]
    named(lab.stack.zookeeper, lab.registry["url"])
    assert wrong() == [f"ZooKeeper listens at {lab.stack.zookeeper}, no broker: check KAFKA_BROKER_URL"]
    where = f"{HOST}:{secured.stack.options.ports['registry']}"
    named_secured(brokers=where)
    assert wrong() == [
        f"a web server, such as a schema registry, listens at {where}, no broker: check KAFKA_BROKER_URL"
    ]


def test_one_of_several_addresses_is_wrong(named, lab):
    named(f"{lab.client['bootstrap.servers']},{HOST}:1", lab.registry["url"])
    assert wrong() == [f"nobody listens at {HOST}:1: check KAFKA_BROKER_URL"]


@pytest.fixture
def silent(named):
    """The ports of brokers and a registry that take connections and never answer, named in the environment."""
    with socket.create_server((HOST, 0)) as brokers, socket.create_server((HOST, 0)) as registry:
        ports = [server.getsockname()[1] for server in (brokers, registry)]
        named(f"{HOST}:{ports[0]}", f"http://{HOST}:{ports[1]}")
        yield ports


def test_servers_that_never_answer_are_given_up(silent, monkeypatch):
    monkeypatch.setattr(endpoint, "CONNECT_SECONDS", 1)
    findings = wrong()
    where = f"the registry's address {HOST}:{silent[1]}"
    assert findings == [
        f"an unknown server listens at {HOST}:{silent[0]}, no broker: check KAFKA_BROKER_URL",
        f"no web server listens at {where}, and so no registry: check KAFKA_SCHEMA_REGISTRY_URL",
    ]


def test_examination_that_takes_too_long_says_what_did_not_end(silent, monkeypatch):
    monkeypatch.setattr(doctor, "SECONDS", 5)
    begin = time.monotonic()
    findings = wrong()
    assert time.monotonic() - begin < 30  # a busy machine; unbounded, it would go on until the servers answer
    assert f"the examination of {HOST}:{silent[0]} took too long: look at the network and the name server" in findings


NOW = datetime.now(UTC)


@pytest.mark.parametrize(
    ("names", "dates", "known", "reason"),
    [
        ([HOST], {"not_before": NOW - timedelta(9), "not_after": NOW - timedelta(2)}, True, "expired on 20"),
        ([HOST], {"not_before": NOW + timedelta(2), "not_after": NOW + timedelta(9)}, True, "is not valid before 20"),
        (["kafka.example"], {}, True, f"is not for {HOST}, but for kafka.example: dial one of its names"),
        ([HOST], {}, False, "is by OU=Testing CA"),
    ],
)
def test_certificate_that_is_not_trusted(named, lab, tmp_path, names, dates, known, reason):
    authority = trustme.CA(organization_name="kafkalab tests")
    certificate = authority.issue_cert(*names, **dates)
    (authority if known else trustme.CA()).cert_pem.write_to_path(tmp_path / "authority.pem")
    trust = {"ssl.ca.location": tmp_path / "authority.pem"}
    [broker_port] = lab.stack.options.broker_ports
    with (
        tls_in_front(broker_port, certificate) as broker,
        tls_in_front(lab.stack.options.ports["registry"], certificate) as registry,
    ):
        named(f"{HOST}:{broker}", f"https://{HOST}:{registry}", {"security.protocol": "SSL", **trust}, trust)
        findings = wrong()
    print(*findings, sep="\n")
    assert findings[0].startswith(f"the certificate of {HOST}:{broker} {reason}")
    assert findings[1].startswith(f"the certificate of the registry's address {HOST}:{registry} {reason}")


def test_certificate_of_the_client(named, lab, tmp_path):
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "authority.pem")
    authority.issue_cert("ann@kafka.example").private_key_and_cert_chain_pem.write_to_path(tmp_path / "ann.pem")
    properties = {"security.protocol": "SSL", "ssl.ca.location": tmp_path / "authority.pem"}
    own = {"ssl.certificate.location": tmp_path / "ann.pem", "ssl.key.location": tmp_path / "ann.pem"}
    [port] = lab.stack.options.broker_ports
    with tls_in_front(port, authority.issue_cert(HOST), trusted=authority) as broker:
        named(f"{HOST}:{broker}", lab.registry["url"], properties)
        [finding] = wrong()
        print(finding)
        named(f"{HOST}:{broker}", lab.registry["url"], {**properties, **own})
        [advertised] = wrong()
    assert finding.startswith(f"{HOST}:{broker} wants a certificate of the client (")
    assert "): name it with ssl.certificate.location and its key with ssl.key.location in the file" in finding
    assert advertised.startswith(
        f"{HOST}:{port} (advertised by broker 0; dialled was {HOST}:{broker}) speaks PLAINTEXT"
    )


def test_unknown_authority_of_a_secured_stack(named_secured, secured):
    named_secured(client={"ssl.ca.location": None}, registry_client={"ssl.ca.location": None})
    brokers, registry = wrong()
    print(brokers)
    assert "is not in what this machine trusts without an ssl.ca.location: get that authority's" in brokers
    assert brokers.endswith("as ssl.ca.location in the file that KAFKA_CLIENT_PROPERTIES names")
    assert registry.endswith("as ssl.ca.location in the file that KAFKA_SCHEMA_REGISTRY_PROPERTIES names")


TOPIC, GROUP, CLUSTER = ResourceType.TOPIC, ResourceType.GROUP, ResourceType.BROKER
NOTED = [(TOPIC, "kafkalab-topics", AclOperation.READ), (TOPIC, "kafkalab-topics", AclOperation.WRITE)]
USUAL = [(GROUP, "count", AclOperation.READ), *NOTED]


def test_unknown_topic_without_the_right_to_create_it(user, monkeypatch):
    monkeypatch.setenv("IN_TOPIC", "nowhere")
    monkeypatch.setenv("OUT_TOPIC", "nowhere")
    user("ann", *USUAL)
    findings = wrong()
    print(*findings, sep="\n")
    [finding] = findings
    assert finding == (
        "there is no topic 'nowhere' that user 'ann' may see, and user 'ann' may not create it: have the topic made or "
        "the right Create granted, or name another topic in IN_TOPIC and OUT_TOPIC"
    )
    user("ann", (TOPIC, "nowhere", AclOperation.DESCRIBE))
    assert wrong() == findings
    user("ann", (CLUSTER, "kafka-cluster", AclOperation.CREATE))
    assert wrong() == []


def test_rights_that_are_lacking(user, secured, monkeypatch):
    monkeypatch.setenv("IN_TOPIC", "theirs")
    monkeypatch.setenv("OUT_TOPIC", "theirs")
    secured.topic("theirs")
    user("bob", (TOPIC, "theirs", AclOperation.READ), (CLUSTER, "kafka-cluster", AclOperation.CREATE))
    findings = wrong()
    print(*findings, sep="\n")
    assert findings == [
        f"user 'bob' lacks the right Write on topic 'theirs': have it granted, or {permissions._OTHER_TOPIC}",
        "user 'bob' lacks the right Read and Write on topic 'kafkalab-topics': have it granted",
        "user 'bob' lacks the right Read on group 'count': have it granted, or name another group in IN_GROUP",
    ]
    user("carl", (CLUSTER, "kafka-cluster", AclOperation.CREATE), *USUAL)
    [finding] = wrong()
    assert finding.startswith(
        "user 'carl' may not see topic 'theirs': have the right Describe granted, or name another"
    )


def test_user_who_may_use_topics_and_not_create_any(user, secured, monkeypatch):
    monkeypatch.setenv("IN_TOPIC", "theirs")
    monkeypatch.setenv("OUT_TOPIC", "theirs")
    secured.topic("theirs")
    user("dora", (TOPIC, "theirs", AclOperation.READ), (TOPIC, "theirs", AclOperation.WRITE), *USUAL)
    [finding] = wrong()
    print(finding)
    assert finding == (
        "there is no topic 'kafkalab-doctor' that user 'dora' may see, and user 'dora' may not create it: have the "
        "right Create granted, since lessons make topics of their own"
    )


def test_wrong_credentials_of_the_registry(named_secured):
    for changes in ({"basic.auth.user.info": f"learner:{SECRET}"}, {"basic.auth.user.info": None}):
        named_secured(registry_client=changes)
        [finding] = wrong()
        print(finding)
        assert "refuses the credentials (HTTP 401): check basic.auth.user.info in the file" in finding
        assert SECRET not in finding


def test_wrong_registry(named, named_secured, lab, secured):
    brokers, url = lab.client["bootstrap.servers"], secured.registry["url"]
    named(brokers, f"http://{HOST}:1")
    assert wrong() == [f"nobody listens at the registry's address {HOST}:1: check KAFKA_SCHEMA_REGISTRY_URL"]
    named(brokers, f"http://{brokers}")
    where = f"the registry's address {brokers}"
    assert wrong() == [f"no web server listens at {where}, and so no registry: check KAFKA_SCHEMA_REGISTRY_URL"]
    for path in ("/apis/registry/v3", "/not-here"):
        named(brokers, lab.registry["url"] + path)
        [finding] = wrong()
        assert f"answers this client at {lab.registry['url']}: check KAFKA_SCHEMA_REGISTRY_URL" in finding
    with clients.served(http.server.ThreadingHTTPServer((HOST, 0), _NoRegistry)) as port:
        named(brokers, f"http://{HOST}:{port}")
        [finding] = wrong()
    assert "does not answer as a registry (HTTP 404): check KAFKA_SCHEMA_REGISTRY_URL" in finding
    named_secured(registry=url.replace("https:", "http:"))
    assert wrong()[0].endswith("speaks https: write so in KAFKA_SCHEMA_REGISTRY_URL")
    named(brokers, lab.registry["url"].replace("http:", "https:"))
    assert wrong()[0].endswith("speaks http: write so in KAFKA_SCHEMA_REGISTRY_URL")


class _NoRegistry(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_error(404)

    def log_message(self, *_):
        pass


class _Elsewhen(http.server.BaseHTTPRequestHandler):
    """Answers as a registry without subjects; its clock is a minute ahead."""

    def date_time_string(self, timestamp=None):
        return super().date_time_string((timestamp or time.time()) + 60)

    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"[]" if self.path.startswith("/subjects") else b"no")

    def log_message(self, *_):
        pass


def test_clocks_that_are_apart_and_another_web_server(named, lab):
    with clients.served(http.server.ThreadingHTTPServer((HOST, 0), _Elsewhen)) as port:
        where = f"{HOST}:{port}"
        named(lab.client["bootstrap.servers"], f"http://{where}")
        [clock] = wrong()
        named(lab.client["bootstrap.servers"], f"http://{where}/other")
        [other] = wrong()
    assert clock in {
        f"this machine's clock is {seconds} s behind the registry's: set both by a time server (NTP)"
        for seconds in range(50, 61)
    }
    assert other == (
        f"the registry's address {where} does not answer as a registry, but as another web server: "
        "check KAFKA_SCHEMA_REGISTRY_URL"
    )


def test_broker_that_is_too_old():
    known = {listener.CREATE_TOPICS: 4, listener.METADATA: 9, listener.FETCH: 11}
    broker = listener.Listener(tls=False, logins=[], versions=known)
    assert broker.release == "Kafka 2.4 or later"
    assert broker.lacks == "ids of topics (KIP-516, Kafka 2.8)"
    assert listener.Listener(tls=False, logins=[], versions={}).release == "older than Kafka 2.4"


def test_broker_without_what_the_lab_needs_is_refused(named, lab, monkeypatch):
    monkeypatch.setattr(listener, "_NEEDED", {(listener.CREATE_TOPICS, 99): "what only a later release has"})
    where = lab.client["bootstrap.servers"]
    named(where, lab.registry["url"])
    [finding] = wrong()
    print(finding)
    assert finding == (
        f"{where} is Kafka 3.9 or later, without what only a later release has, which the lab needs: take a newer "
        "cluster"
    )
