from pathlib import Path

import pytest

import kafkalab
from kafkalab import client_files
from kafkalab.cluster.lab import configured
from kafkalab.settings import absolute_paths

PUBLISHED = Path(__file__).parent / "client_files"


@pytest.fixture
def written(monkeypatch, tmp_path):
    """Return a function that writes a client file and names it in the environment."""

    def write(content):
        path = tmp_path / "client.properties"
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        monkeypatch.setenv("KAFKA_CLIENT_PROPERTIES", str(path))
        return path

    return write


def lab_of(path, monkeypatch):
    monkeypatch.setenv("KAFKA_CLIENT_PROPERTIES", str(path))
    monkeypatch.delenv("KAFKA_BROKER_URL", raising=False)
    return configured(kafkalab.ClusterSettings.read())


def test_confluent_clouds_file_names_the_cluster_and_each_client_gets_its_own(monkeypatch):
    lab = lab_of(PUBLISHED / "confluent_cloud.properties", monkeypatch)
    assert lab.stack is None
    assert lab.client == {
        "log_level": "3",  # session.timeout.ms is for consumers, and others would say so
        "bootstrap.servers": "pkc-0x1y2.eu-west-1.confluent.example:9092",
        "security.protocol": "SASL_SSL",
        "sasl.mechanisms": "PLAIN",
        "sasl.username": "ABCDEFGHIJKLMNOP",
        "sasl.password": "made/up+0123456789==",
        "session.timeout.ms": "45000",
        "client.id": "ccloud-python-client-00000000",
    }
    assert lab.registry == {
        "timeout": 10,
        "url": "https://psrc-0x1y2.eu-west-1.confluent.example",
        "basic.auth.user.info": "QRSTUVWXYZABCDEF:made/up+9876543210==",
    }


def test_sections_of_the_getting_started(monkeypatch):
    monkeypatch.setenv("KAFKA_SCHEMA_REGISTRY_URL", "https://registry.example")
    lab = lab_of(PUBLISHED / "confluent_getting_started.ini", monkeypatch)
    assert lab.client["bootstrap.servers"] == "pkc-0x1y2.eu-west-1.confluent.example:9092"
    assert lab.client["group.id"] == "python_example_group_1"
    assert not any("[" in key for key in lab.client)


def test_values_are_taken_literally(monkeypatch):
    lab = lab_of(PUBLISHED / "redpanda_cloud.properties", monkeypatch)
    assert lab.client["sasl.password"] == r"a$b\c"
    assert lab.registry["basic.auth.user.info"] == r"ann:a$b\c"
    monkeypatch.setenv("KAFKA_SCHEMA_REGISTRY_URL", "https://registry.example")
    lab = lab_of(PUBLISHED / "azure_event_hubs.properties", monkeypatch)
    assert lab.client["sasl.username"] == "$ConnectionString"
    assert lab.client["sasl.password"].startswith("Endpoint=sb://")
    assert lab.client["sasl.password"].endswith("bWFkZSB1cA==")


def test_literal_dialect_with_and_without_a_byte_order_mark(written):
    text = "#c\n;c\n\n sasl.username = DOM\\user \r\nsasl.password=a\\b\\c\n[default]\nclient.id=#=[x]\n"
    expected = {"sasl.username": "DOM\\user", "sasl.password": "a\\b\\c", "client.id": "#=[x]"}
    for encoded in (text.encode(), text.encode("utf-8-sig")):
        assert client_files.read("V", written(encoded)) == expected


def test_credentials_in_the_registrys_address_are_taken_out_of_it(monkeypatch, tmp_path):
    for name in ("ca.pem", "service.cert", "service.key"):
        (tmp_path / name).touch()
    text = (PUBLISHED / "aiven.properties").read_text(encoding="utf-8")
    (tmp_path / "aiven.properties").write_text(text, encoding="utf-8")
    lab = lab_of(tmp_path / "aiven.properties", monkeypatch)
    assert lab.registry["url"] == "https://kafka-demo-school.aivencloud.example:12838"
    assert lab.registry["basic.auth.user.info"] == "avnadmin:AVNS_made-up"
    assert lab.client["ssl.ca.location"] == str(tmp_path / "ca.pem"), "whatever folder the program is started in"


JAVA = "names, is for Java's client; librdkafka has other names: "


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("confluent_cloud_java", f"{JAVA}write sasl.username and sasl.password instead of sasl.jaas.config"),
        ("msk_scram_java", f"{JAVA}write ssl.ca.location .a PEM file. instead of ssl.truststore.location; sasl.user"),
        ("msk_iam_java", "SCRAM-SHA-512 instead of sasl.client.callback.handler.class"),
        ("msk_iam_oauthbearer", "does not say where tokens come from: add sasl.oauthbearer.method=oidc"),
        ("strimzi_java", "leave out ssl.truststore.password, ssl.truststore.type"),
        ("instaclustr_java", "ssl.endpoint.identification.algorithm=none instead of"),
        ("aiven", f"ssl.ca.location=ca.pem in .* names: there is no such file in {PUBLISHED}"),
        ("azure_event_hubs", "KAFKA_SCHEMA_REGISTRY_URL is not set, but its twin is: .* it is schema.registry.url="),
    ],
)
def test_file_that_cannot_be_used_says_what_to_change_and_no_secret(monkeypatch, name, says):
    with pytest.raises(kafkalab.LabError, match=says) as error:
        lab_of(PUBLISHED / f"{name}.properties", monkeypatch)
    assert "made" not in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("hunter2", "line 1 of .* is not key=value: fix or remove it"),
        ("security.protocol: SSL", "line 1 of .* is not key=value"),
        (b"\xff\xfea\x00", "cannot be read .* a file in UTF-8 with lines key=value"),
        ("bootstrap.servers=broker.example", "bootstrap.servers in .*, 'broker.example', should look like 'localhost"),
        ("schema.registry.url=registry.example", "'registry.example', should look like 'http://localhost:8081'"),
        (
            "basic.auth.credentials.source=SASL_INHERIT",
            "is for Java's client: write basic.auth.user.info=USER:PASSWORD",
        ),
        ("sasl.kerberos.keytab=ann.keytab", "sasl.kerberos.keytab=ann.keytab in .* there is no such file"),
        (r"ssl.ca.location=C:\new\ca.pem", r"ssl\.ca\.location=C:\\new\\ca\.pem in .* there is no such file"),
    ],
)
def test_line_that_cannot_be_meant(written, line, says):
    written(line)
    with pytest.raises(kafkalab.LabError, match=says) as error:
        kafkalab.ClusterSettings.read()
    assert "hunter2" not in str(error.value)


def test_older_name_of_the_brokers_addresses(written):
    written("metadata.broker.list=broker.example:9092")
    settings = kafkalab.ClusterSettings.read()
    assert (settings.broker_url, settings.client) == ("broker.example:9092", {})


def test_ssl_ca_location_that_librdkafka_probes(written):
    assert client_files.read("V", written("ssl.ca.location=probe"))["ssl.ca.location"] == "probe"


def test_variable_goes_before_an_address_in_the_file(monkeypatch):
    monkeypatch.setenv("KAFKA_SCHEMA_REGISTRY_URL", "https://registry.example")
    monkeypatch.setenv("KAFKA_CLIENT_PROPERTIES", str(PUBLISHED / "confluent_cloud.properties"))
    monkeypatch.setenv("KAFKA_BROKER_URL", "broker.example:9092")
    lab = configured(kafkalab.ClusterSettings.read())
    assert repr(lab) == "Lab(broker.example:9092, https://registry.example)"


def test_registrys_own_file_may_name_it(monkeypatch, tmp_path):
    (tmp_path / "registry.properties").write_text("url=https://registry.example\ntimeout=5\n", encoding="utf-8")
    monkeypatch.setenv("KAFKA_SCHEMA_REGISTRY_PROPERTIES", str(tmp_path / "registry.properties"))
    monkeypatch.setenv("KAFKA_BROKER_URL", "broker.example:9092")
    assert configured(kafkalab.ClusterSettings.read()).registry == {"timeout": 5, "url": "https://registry.example"}


def test_kernels_in_other_folders_get_absolute_paths(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "ok.properties").write_text("client.id=me\n", encoding="utf-8")
    relative = {"KAFKA_CLIENT_PROPERTIES": "ok.properties", "OUT_SCHEMA": "my.avsc", "KAFKALAB_CACHE": "cache"}
    for name, value in {**relative, "SSL_CERT_FILE": "ca.pem"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("SSL_CERT_DIR", raising=False)
    monkeypatch.delenv("KAFKALAB_HOME", raising=False)
    expected = {name: str(tmp_path / value) for name, value in {**relative, "SSL_CERT_FILE": "ca.pem"}.items()}
    assert absolute_paths() == expected
