import os
import signal
import subprocess
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer

import clients
import pytest
from confluent_kafka.schema_registry import SchemaRegistryClient

import kafkalab
from kafkalab.cluster.lab import configured
from kafkalab.settings import StackSettings, seat


@pytest.mark.parametrize(
    ("variable", "value", "example"),
    [
        ("KAFKA_BROKER_URL", "http://localhost:9092", "localhost:9092"),
        ("KAFKA_BROKER_URL", "localhost", "localhost:9092"),
        ("KAFKA_BROKER_URL", "a:9092 b:9092", "localhost:9092"),
        ("KAFKA_SCHEMA_REGISTRY_URL", "localhost:8081", "http://localhost:8081"),
        ("KAFKA_CONSUMER_TIMEOUT_MS", "soon", "120000"),
        ("KAFKA_CONSUMER_TIMEOUT_MS", "0", "120000"),
        ("KAFKALAB_CONNECT_URL", "localhost:8083", "http://localhost:8083"),
        ("KAFKALAB_POSTGRES_URL", "localhost:15432", "postgresql://USER:PASSWORD@localhost:15432"),
        ("IN_TOPIC", "count, multiples", "count,multiples"),
        ("IN_GROUP", "a group", "count"),
        ("OUT_TOPIC", "a/b", "count"),
    ],
)
def test_wrong_value_names_its_variable_and_an_example(monkeypatch, variable, value, example):
    monkeypatch.setenv(variable, value)
    with pytest.raises(kafkalab.LabError) as error:
        kafkalab.ClusterSettings.read()
    assert f"{variable}={value!r}" in str(error.value)
    assert example in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("variable", "value", "says"),
    [
        ("KAFKALAB_BROKER_PORT", "70000", "KAFKALAB_BROKER_PORT='70000' should look like 9092"),
        ("KAFKALAB_HOME", "here,there", "KAFKALAB_HOME=.*take ',' for the end of a folder's name"),
        ("KAFKALAB_HOME", "a;b", "KAFKALAB_HOME=.*take ';' for the end of a folder's name"),
        ("KAFKALAB_CACHE", f"a{os.pathsep}b", f"KAFKALAB_CACHE=.*take '{os.pathsep}' for the end of a folder's name"),
    ],
)
def test_wrong_port_or_folder_names_its_variable(monkeypatch, variable, value, says):
    monkeypatch.setenv(variable, value)
    with pytest.raises(kafkalab.LabError, match=says):
        StackSettings.read()


def test_client_properties_reach_the_clients_they_are_for(monkeypatch, tmp_path, lab):
    file = tmp_path / "client.properties"
    file.write_text("# tuning\nclient.id = me\nschema.registry.timeout=5\n", encoding="utf-8")
    monkeypatch.setenv("KAFKA_CLIENT_PROPERTIES", str(file))
    with_file = kafkalab.connect()
    assert with_file.client == {**lab.client, "client.id": "me", "log_level": "3"}
    assert with_file.registry == {**lab.registry, "timeout": 5}


def test_property_that_no_client_has_is_one_line(monkeypatch, tmp_path, lab):
    file = tmp_path / "client.properties"
    monkeypatch.setenv("KAFKA_CLIENT_PROPERTIES", str(file))
    for line in ("securty.protocol=SSL", "schema.registry.tiemout=5"):
        file.write_text(line, encoding="utf-8")
        with pytest.raises(
            kafkalab.LabError, match=r"does not take its properties \(.*KAFKA_(CLIENT|SCHEMA_REGISTRY)_PROPERTIES"
        ):
            kafkalab.connect()


def test_authority_that_is_not_there_is_one_line(monkeypatch, tmp_path, lab):
    file = tmp_path / "registry.properties"
    file.write_text(f"ssl.ca.location={(tmp_path / 'none.pem').as_posix()}", encoding="utf-8")
    monkeypatch.setenv("KAFKA_SCHEMA_REGISTRY_PROPERTIES", str(file))
    with pytest.raises(kafkalab.LabError, match=r"none\.pem in .*KAFKA_SCHEMA_REGISTRY_PROPERTIES names: there is no"):
        kafkalab.connect()


class Page(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"<html>")


def test_web_server_that_is_no_registry_is_one_line(monkeypatch, lab):
    monkeypatch.setenv("KAFKA_BROKER_URL", lab.client["bootstrap.servers"])
    with clients.served(HTTPServer(("127.0.0.1", 0), Page)) as port:
        monkeypatch.setenv("KAFKA_SCHEMA_REGISTRY_URL", f"http://127.0.0.1:{port}")
        with pytest.raises(kafkalab.LabError, match=r"does not answer as one .* check KAFKA_SCHEMA_REGISTRY_URL"):
            kafkalab.connect()


def test_lab_shows_its_addresses_and_no_secret():
    lab = kafkalab.Lab({"bootstrap.servers": "b:9092", "sasl.password": "hunter2"}, {"url": "http://r:8081"})
    assert repr(lab) == "Lab(b:9092, http://r:8081)"


def test_missing_client_properties_are_named(monkeypatch, tmp_path):
    monkeypatch.setenv("KAFKA_CLIENT_PROPERTIES", str(tmp_path / "none.properties"))
    with pytest.raises(kafkalab.LabError, match=r"KAFKA_CLIENT_PROPERTIES=.*none\.properties.*key=value"):
        kafkalab.ClusterSettings.read().properties()


def test_password_in_the_registrys_address_is_refused_and_not_shown(monkeypatch):
    monkeypatch.setenv("KAFKA_SCHEMA_REGISTRY_URL", "https://ann:hunter2@registry:8081")
    with pytest.raises(kafkalab.LabError, match=r"KAFKA_SCHEMA_REGISTRY_URL=… .* without a password") as error:
        kafkalab.ClusterSettings.read()
    assert "hunter2" not in str(error.value)


def test_numbers_of_the_registrys_client_are_numbers_and_secrets_are_not(monkeypatch, tmp_path, lab):
    file = tmp_path / "registry.properties"
    file.write_text("max.retries=5\nssl.key.password=0123\n", encoding="utf-8")
    monkeypatch.setenv("KAFKA_SCHEMA_REGISTRY_PROPERTIES", str(file))
    registry = configured(kafkalab.ClusterSettings.read()).registry
    assert registry == {**lab.registry, "max.retries": 5, "ssl.key.password": "0123"}


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("PLAINTEXT://127.0.0.1:9092", "127.0.0.1:9092"),
        ("a:9092, plaintext://b:9092 ,c:9092,", "a:9092,b:9092,c:9092"),
        ("[::1]:9092", "[::1]:9092"),
        ("[fe80::1%eth0]:9092", "[fe80::1%eth0]:9092"),
    ],
)
def test_brokers_are_written_as_librdkafka_takes_them(monkeypatch, written, meant):
    monkeypatch.setenv("KAFKA_BROKER_URL", written)
    assert kafkalab.ClusterSettings.read().broker_url == meant


def test_protocol_of_an_address_is_the_clients(monkeypatch, tmp_path):
    monkeypatch.setenv("KAFKA_BROKER_URL", "SASL_SSL://broker.example:9092")
    with pytest.raises(
        kafkalab.LabError, match=r"names SASL_SSL, but security.protocol is PLAINTEXT: set security.pro"
    ):
        kafkalab.ClusterSettings.read()
    (tmp_path / "client.properties").write_text("security.protocol=sasl_ssl", encoding="utf-8")
    monkeypatch.setenv("KAFKA_CLIENT_PROPERTIES", str(tmp_path / "client.properties"))
    assert kafkalab.ClusterSettings.read().broker_url == "broker.example:9092"


PROXIES = ["socks5://127.0.0.1:1", "socks://127.0.0.1:1", "http://127.0.0.1:1"]


@pytest.fixture
def behind_proxy(monkeypatch):
    """Return a function that names a proxy in the environment, for everything but one host."""

    def name(variable, proxy):
        for bypass in ("NO_PROXY", "no_proxy"):
            monkeypatch.setenv(bypass, "example.com")
        monkeypatch.setenv(variable, proxy)

    return name


@pytest.mark.parametrize("variable", ["ALL_PROXY", "all_proxy", "HTTP_PROXY"])
@pytest.mark.parametrize("proxy", PROXIES)
def test_no_proxy_is_asked_for_the_embedded_stack(lab, behind_proxy, variable, proxy):
    behind_proxy(variable, proxy)
    with SchemaRegistryClient(kafkalab.connect().registry) as registry:
        registry.get_subjects()
    assert os.environ["NO_PROXY"] == "example.com,127.0.0.1,localhost"


@pytest.mark.parametrize("variable", ["ALL_PROXY", "all_proxy", "HTTP_PROXY"])
@pytest.mark.parametrize("proxy", PROXIES)
def test_proxy_in_the_way_to_another_cluster_is_named(monkeypatch, lab, behind_proxy, variable, proxy):
    named = clients.named(lab)
    behind_proxy(variable, proxy)
    for name, address in named.items():
        monkeypatch.setenv(name, address)
    says = (
        f"{variable} names a SOCKS proxy" if "socks" in proxy else f"the proxy of {variable} was asked, and NO_PROXY="
    )
    with pytest.raises(kafkalab.LabError, match=says):
        kafkalab.connect()


def test_certificates_that_are_not_there_are_named(monkeypatch, lab):
    for name, address in clients.named(lab).items():
        monkeypatch.setenv(name, address)
    monkeypatch.setenv("SSL_CERT_FILE", "/nowhere/ca.pem")
    with pytest.raises(kafkalab.LabError, match=r"SSL_CERT_FILE='/nowhere/ca\.pem' names no file: name one of"):
        kafkalab.connect()


@pytest.mark.parametrize("path", ["/apis/registry/v3", "/apis/ccompat"])
def test_right_path_of_the_registry_is_suggested(monkeypatch, lab, path):
    monkeypatch.setenv("KAFKA_BROKER_URL", lab.client["bootstrap.servers"])
    monkeypatch.setenv("KAFKA_SCHEMA_REGISTRY_URL", lab.registry["url"] + path)
    with pytest.raises(kafkalab.LabError, match=f"for this client is KAFKA_SCHEMA_REGISTRY_URL={lab.registry['url']}$"):
        kafkalab.connect()


@pytest.mark.parametrize("path", ["", "/", "/apis/registry/v3", "/apis/ccompat"])
def test_path_of_apicurios_registry_is_suggested(monkeypatch, lab, path):
    apicurio = clients.behind(lab.stack)
    monkeypatch.setenv("KAFKA_BROKER_URL", lab.client["bootstrap.servers"])
    monkeypatch.setenv("KAFKA_SCHEMA_REGISTRY_URL", apicurio + path)
    right = f"{apicurio}/apis/ccompat/v7"
    with pytest.raises(kafkalab.LabError, match=f"for this client is KAFKA_SCHEMA_REGISTRY_URL={right}$"):
        kafkalab.connect()


@pytest.mark.skipif(sys.platform == "win32", reason="folders of an account are found otherwise there")
def test_account_without_a_home_is_one_line(monkeypatch):
    for name in ("HOME", "KAFKALAB_HOME", "XDG_DATA_HOME", "XDG_STATE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(os, "getuid", lambda: 2**31 - 3)
    for asked in (StackSettings.read, seat):
        with pytest.raises(kafkalab.LabError, match="this account has no home folder: set HOME to a folder that you"):
            asked()


def test_half_a_cluster_is_refused(monkeypatch):
    monkeypatch.setenv("KAFKA_BROKER_URL", "localhost:9092")
    with pytest.raises(kafkalab.LabError, match="KAFKA_SCHEMA_REGISTRY_URL is not set"):
        kafkalab.connect()


def test_cluster_that_does_not_answer(monkeypatch, lab):
    monkeypatch.setenv("KAFKA_BROKER_URL", "127.0.0.1:1")
    monkeypatch.setenv("KAFKA_SCHEMA_REGISTRY_URL", lab.registry["url"])
    with pytest.raises(
        kafkalab.LabError,
        match=r"127\.0\.0\.1:1 do not answer \(.*(refused|are down).*\): check KAFKA_BROKER_URL",
    ):
        kafkalab.connect()


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGINT can be sent to another process there")
def test_interrupt_ends_the_wait_for_a_cluster(lab):
    code = """
import kafkalab
try:
    print("asks", flush=True)
    kafkalab.connect()
except KeyboardInterrupt:
    print("ended")
"""
    variables = {"KAFKA_BROKER_URL": "127.0.0.1:1", "KAFKA_SCHEMA_REGISTRY_URL": "http://127.0.0.1:1"}
    command, environment = [sys.executable, "-c", code], {**os.environ, **variables}
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as waiting:
        assert waiting.stdout.readline() == "asks\n"
        waiting.send_signal(signal.SIGINT)
        assert waiting.communicate(timeout=120)[0] == "ended\n"


def test_registry_that_does_not_answer(monkeypatch, lab):
    monkeypatch.setenv("KAFKA_BROKER_URL", lab.client["bootstrap.servers"])
    monkeypatch.setenv("KAFKA_SCHEMA_REGISTRY_URL", "http://127.0.0.1:1")
    with pytest.raises(kafkalab.LabError, match=r"http://127\.0\.0\.1:1 does not answer .*KAFKA_SCHEMA_REGISTRY_URL"):
        kafkalab.connect()


def test_environment_decides_the_cluster(monkeypatch, lab):
    monkeypatch.setenv("KAFKA_BROKER_URL", lab.client["bootstrap.servers"])
    monkeypatch.setenv("KAFKA_SCHEMA_REGISTRY_URL", lab.registry["url"])
    elsewhere = kafkalab.connect()
    assert elsewhere.stack is None
    assert list(elsewhere.status().index) == ["broker-0", "registry"]
