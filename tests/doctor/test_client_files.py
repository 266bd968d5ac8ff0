"""Files of managed services and distributions, in their published shapes with made-up values, under examination."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from kafkalab.doctor.examination import examine

PUBLISHED = Path(__file__).parents[1] / "client_files"
SECRETS = ["made-up", "made/up", "bWFkZSB1cA", "a$b"]
BROKERS = "check bootstrap.servers in the file that KAFKA_CLIENT_PROPERTIES names"


@pytest.fixture
def only_a_file(monkeypatch):
    """Return a function that names a client file in the environment, examines, and returns what is wrong."""

    def examined(path):
        monkeypatch.setenv("KAFKA_CLIENT_PROPERTIES", str(path))
        return [finding.text for finding in examine() if not finding.ok]

    return examined


@pytest.mark.parametrize("path", sorted(PUBLISHED.iterdir()), ids=lambda path: path.stem)
def test_published_file(only_a_file, path):
    findings = only_a_file(path)
    print(*findings, sep="\n")
    assert findings
    assert not [secret for secret in SECRETS if secret in str(findings)]
    assert "PLAINTEXT" not in str(findings)


def test_hosts_of_the_file_are_looked_for(only_a_file):
    brokers, registry = only_a_file(PUBLISHED / "confluent_cloud.properties")
    host = "pkc-0x1y2.eu-west-1.confluent.example:9092"
    assert brokers == f"this machine does not know the host of {host}: {BROKERS}"
    assert "the registry's address psrc-0x1y2.eu-west-1.confluent.example:443: check the registry's" in registry


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
@pytest.mark.parametrize("heading", ["", "[default]\n"])
def test_file_in_a_services_shape_works_as_it_is(only_a_file, secured, tmp_path, encoding, heading):
    """All that the file says is used from another folder, and no client says what it does not know."""
    (tmp_path / "ca.pem").write_bytes(Path(secured.client["ssl.ca.location"]).read_bytes())
    path = tmp_path / "client.properties"
    path.write_text(
        f"""{heading}# published so
bootstrap.servers=SASL_SSL://{secured.client["bootstrap.servers"]}
security.protocol=SASL_SSL
sasl.mechanisms=SCRAM-SHA-512
sasl.username={secured.client["sasl.username"]}
sasl.password={secured.client["sasl.password"]}
ssl.ca.location=ca.pem
session.timeout.ms=45000
acks=all
schema.registry.url={secured.registry["url"]}
schema.registry.ssl.ca.location=ca.pem
basic.auth.credentials.source=USER_INFO
basic.auth.user.info={secured.registry["basic.auth.user.info"]}
""",
        encoding=encoding,
    )
    assert only_a_file(path) == []
    command = [sys.executable, "-m", "kafkalab", "multiples", "--messages", "1"]
    sent = subprocess.run(command, capture_output=True, text=True, check=True, env={**os.environ, "OUT_TOPIC": "sent"})
    assert (sent.stdout, sent.stderr) == ("0\n", "")


def test_encryption_is_not_dropped_for_a_file_of_another_cluster(only_a_file, monkeypatch, lab):
    monkeypatch.setenv("KAFKA_BROKER_URL", lab.client["bootstrap.servers"])
    monkeypatch.setenv("KAFKA_SCHEMA_REGISTRY_URL", lab.registry["url"])
    [finding] = only_a_file(PUBLISHED / "confluent_getting_started.ini")
    assert finding.endswith(
        "the file that KAFKA_CLIENT_PROPERTIES names is for another cluster or another port; unset that variable for "
        "this one, or check KAFKA_BROKER_URL"
    )


def test_encryption_is_not_dropped_for_the_embedded_stack(only_a_file, lab, tmp_path):
    path = tmp_path / "theirs.properties"
    path.write_text("security.protocol=SASL_SSL\nsasl.mechanism=PLAIN\n", encoding="utf-8")
    [finding] = only_a_file(path)
    assert "set security.protocol" not in finding
    assert "unset that variable for this one" in finding


def test_short_password_does_not_eat_words(only_a_file, secured, tmp_path):
    path = tmp_path / "client.properties"
    url, authority = secured.registry["url"], secured.client["ssl.ca.location"]
    registry = {"schema.registry.url": url, "schema.registry.ssl.ca.location": authority}
    changed = {"sasl.password": "kafka", "basic.auth.user.info": "learner:kafka"}
    right = {**secured.client, **registry}
    path.write_text("".join(f"{key}={value}\n" for key, value in {**right, **changed}.items()), encoding="utf-8")
    findings = only_a_file(path)
    print(*findings, sep="\n")
    assert len(findings) == 2
    assert "***" not in str(findings)


def test_secret_that_a_client_quotes_is_masked(only_a_file, lab, tmp_path):
    (tmp_path / "client.properties").write_text("kafka=1\nsasl.password=kafka\n", encoding="utf-8")
    [finding] = only_a_file(tmp_path / "client.properties")
    assert 'No such configuration property: "***"' in finding
    assert "KAFKA_CLIENT_PROPERTIES" in finding


def test_what_would_command_a_terminal_is_escaped(only_a_file, lab, tmp_path):
    (tmp_path / "client.properties").write_text("a\x1b[2J=1\n", encoding="utf-8")
    [finding] = only_a_file(tmp_path / "client.properties")
    assert r"a\x1b[2J" in finding
