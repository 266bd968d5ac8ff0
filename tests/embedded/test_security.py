"""A secured stack: who has no right to it reads and writes nothing, and its secrets stay where they are."""

import json
import shutil
import ssl
import stat
import subprocess
import sys

import clients
import httpx2
import psutil
import pytest
import trustme
from confluent_kafka import Consumer, KafkaError, KafkaException, Producer
from confluent_kafka.admin import (
    AclBinding,
    AclOperation,
    AclPermissionType,
    AdminClient,
    ResourcePatternType,
    ResourceType,
    ScramCredentialInfo,
    ScramMechanism,
    UserScramCredentialUpsertion,
)

import kafkalab
from kafkalab.classroom.checks import Checks
from kafkalab.embedded import artifacts
from kafkalab.embedded.stack import Stack, free_ports
from kafkalab.programs.count_up import count_up
from kafkalab.programs.print import print_messages


@pytest.fixture(scope="module")
def secured():
    """A secured stack with one message in the topic `kept`."""
    with kafkalab.own_stack(secure=True) as lab:
        lab.fresh_topic("kept")
        with Producer(lab.client) as producer:
            producer.produce("kept", "secret", key="key")
        yield lab


def passwords(lab):
    return json.loads((lab.stack.client_files / "passwords.json").read_text())


def held(lab):
    """Return the values in the topic, as who may read them."""
    return [message.value() for message in Checks(lab).messages("kept", look="")]


def refused(client):
    """Try to read and to write as a client, and return the errors' names; nothing may come of it."""
    errors = []
    quick = {**client, "log_level": 0, "error_cb": lambda error: errors.append(error.name())}
    producer = Producer({**quick, "message.timeout.ms": 20_000})
    producer.produce("kept", "intruder", on_delivery=lambda error, _: errors.append(error.name() if error else "sent"))
    kafkalab.wait_until(lambda: producer.poll(0.1) or errors, "word from the broker")
    producer.purge()
    producer.flush(10)
    read = {"group.id": "intruders", "auto.offset.reset": "earliest", "session.timeout.ms": 6000}
    with Consumer({**quick, **read}) as consumer:
        consumer.subscribe(["kept"])
        message = consumer.poll(3)
        if message is not None:
            errors.append(message.error().name() if message.error() else "read")
    assert "sent" not in errors
    assert "read" not in errors
    return set(errors)


def without(client, *names):
    return {key: value for key, value in client.items() if key not in names}


def test_clients_without_the_right_credentials_read_and_write_nothing(secured, tmp_path):
    good = secured.client
    stranger = tmp_path / "stranger.pem"
    trustme.CA().cert_pem.write_to_path(stranger)
    plain = {"bootstrap.servers": good["bootstrap.servers"]}
    assert {"_TRANSPORT", "_ALL_BROKERS_DOWN"} & refused(plain)
    assert "_AUTHENTICATION" in refused({**good, "sasl.password": "guessed"})
    assert "_AUTHENTICATION" in refused({**good, "sasl.username": "nobody"})
    assert "_SSL" in refused({**good, "ssl.ca.location": str(stranger)})
    assert "_SSL" in refused(without(good, "ssl.ca.location"))
    assert {"_TRANSPORT", "_ALL_BROKERS_DOWN"} & refused({**good, "security.protocol": "SASL_PLAINTEXT"})
    assert held(secured) == [b"secret"]


def test_another_user_gets_only_what_was_given(secured):
    admin = AdminClient(secured.stack.admin)
    scram = ScramCredentialInfo(ScramMechanism.SCRAM_SHA_512, 4096)
    user = UserScramCredentialUpsertion("visitor", scram, b"visits")
    for answer in admin.alter_user_scram_credentials([user]).values():
        answer.result(20)
    visitor = {**secured.client, "sasl.username": "visitor", "sasl.password": "visits"}
    kafkalab.wait_until(lambda: clients.told(visitor), "the brokers to hear of the visitor")
    assert refused(visitor) & {"TOPIC_AUTHORIZATION_FAILED", "GROUP_AUTHORIZATION_FAILED"}
    acls = [
        AclBinding(
            kind, name, ResourcePatternType.LITERAL, "User:visitor", "*", AclOperation.READ, AclPermissionType.ALLOW
        )
        for kind, name in ((ResourceType.TOPIC, "kept"), (ResourceType.GROUP, "visitors"))
    ]
    for answer in admin.create_acls(acls).values():
        answer.result(20)
    own = {"group.id": "visitors", "auto.offset.reset": "earliest"}
    with Consumer({**visitor, **own}) as consumer:
        consumer.subscribe(["kept"])
        assert consumer.poll(20).value() == b"secret"
    fates = []
    producer = Producer({**visitor, "log_level": 0})
    producer.produce("kept", "intruder", on_delivery=lambda error, _: fates.append(error.code()))
    producer.flush(20)
    assert fates == [KafkaError.TOPIC_AUTHORIZATION_FAILED]
    assert held(secured) == [b"secret"]


def test_learner_makes_no_users_and_gives_no_rights(secured):
    admin = AdminClient(secured.client)
    user = UserScramCredentialUpsertion("more", ScramCredentialInfo(ScramMechanism.SCRAM_SHA_512, 4096), b"more")
    (answer,) = admin.alter_user_scram_credentials([user]).values()
    with pytest.raises(KafkaException, match="CLUSTER_AUTHORIZATION_FAILED"):
        answer.result(20)


def test_registry_asks_who_is_there(secured):
    url, authority = secured.registry["url"], secured.registry["ssl.ca.location"]
    context = ssl.create_default_context(cafile=authority)
    for auth in (None, ("learner", "guessed"), ("admin", "")):
        answer = httpx2.post(f"{url}/subjects/x-value/versions", json={"schema": '"int"'}, auth=auth, verify=context)
        assert answer.status_code == 401
    with pytest.raises(httpx2.ConnectError):
        httpx2.get(f"{url}/subjects")
    with secured.rest() as web:
        assert "x-value" not in web.get("/subjects").json()


@pytest.mark.parametrize("files", ["two", "one"])
def test_environment_and_files_are_enough(secured, monkeypatch, tmp_path, files):
    """`one` is how managed services hand it out."""
    folder = secured.stack.client_files
    client, registry = folder / "client.properties", folder / "schema-registry.properties"
    monkeypatch.setenv("KAFKA_BROKER_URL", secured.client["bootstrap.servers"])
    monkeypatch.setenv("KAFKA_SCHEMA_REGISTRY_URL", secured.registry["url"])
    if files == "one":
        prefixed = "".join(f"schema.registry.{line}\n" for line in registry.read_text().splitlines())
        client = tmp_path / "client.properties"
        client.write_text((folder / "client.properties").read_text() + prefixed)
    else:
        monkeypatch.setenv("KAFKA_SCHEMA_REGISTRY_PROPERTIES", str(registry))
    monkeypatch.setenv("KAFKA_CLIENT_PROPERTIES", str(client))
    monkeypatch.setenv("IN_TOPIC", "count")
    lab = kafkalab.connect()
    assert lab.stack is None
    lab.fresh_topic("count")
    assert count_up(lab, 3, 0, show=lambda _: None) == 3
    seen = []
    assert print_messages(lab, seen.append) == (3, 0)
    assert seen == [{"count": 0}, {"count": 1}, {"count": 2}]


def test_client_properties_as_kcat_reads_them(secured):
    file = secured.stack.client_files / "client.properties"
    if kcat := shutil.which("kcat"):
        assert b"topic" in subprocess.run([kcat, "-F", file, "-L"], capture_output=True, check=True).stdout
    lines = [line for line in file.read_text().splitlines() if line]
    admin = AdminClient(dict(line.split("=", 1) for line in lines))  # an unknown name is an error here as there
    assert "kept" in admin.list_topics(timeout=20).topics


def test_java_tool_takes_its_file(secured):
    file = secured.stack.client_files / "java.properties"
    command = ["-cp", artifacts.class_path("kafka"), "kafka.admin.AclCommand", "--list"]
    where = ["--bootstrap-server", secured.client["bootstrap.servers"], "--command-config", str(file)]
    ran = subprocess.run(
        [str(artifacts.JAVA), *command, *where], capture_output=True, text=True, timeout=120, check=False
    )
    assert "principal=User:learner" in ran.stdout, ran.stdout + ran.stderr


@pytest.mark.skipif(sys.platform == "win32", reason="files have other permissions there")
def test_files_are_their_owners_alone(secured):
    folder = secured.stack.client_files
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    configs = (secured.stack.folder / "config").iterdir()
    assert {stat.S_IMODE(path.stat().st_mode) for path in (*folder.iterdir(), *configs)} == {0o600}


def test_secrets_appear_nowhere(secured, capfd):
    refused({**secured.client, "sasl.password": "guessed"})
    shown = [repr(secured), str(secured.stack.status()), str(secured.status())]
    shown += [" ".join(psutil.Process(process["pid"]).cmdline()) for process in secured.stack.status()["processes"]]
    shown += [secured.stack.log(name).read_text(errors="replace") for name in secured.stack.names]
    wrong = kafkalab.Lab({**secured.client, "sasl.username": "nobody"}, secured.registry)
    with pytest.raises(kafkalab.LabError, match="do not answer") as error:
        wrong.check()
    unknown = f"nobody:{passwords(secured)['learner']}"
    stranger = kafkalab.Lab(secured.client, {**secured.registry, "basic.auth.user.info": unknown})
    with pytest.raises(kafkalab.LabError, match=r"registry at .* does not answer as one") as refusal:
        stranger.check()
    shown += [str(error.value), str(refusal.value), *capfd.readouterr()]
    for secret in passwords(secured).values():
        assert not [text for text in shown if secret in text]


def test_up_secure_keeps_its_users_and_cannot_be_had_twice(monkeypatch, tmp_path):
    ports = free_ports(3)
    home = tmp_path / "my home"
    monkeypatch.setenv("KAFKALAB_HOME", str(home))
    for name, port in zip(("ZOOKEEPER", "BROKER", "REGISTRY"), ports, strict=True):
        monkeypatch.setenv(f"KAFKALAB_{name}_PORT", str(port))
    command = [sys.executable, "-m", "kafkalab"]
    try:
        subprocess.run([*command, "up"], check=True, capture_output=True)
        ran = subprocess.run([*command, "up", "--secure"], capture_output=True, text=True, check=False)
        assert (ran.returncode, ran.stderr.count("\n")) == (1, 1)
        assert "runs with 1 broker" in ran.stderr
        subprocess.run([*command, "down"], check=True)
        ran = subprocess.run([*command, "up", "--secure"], capture_output=True, text=True, check=True)
        assert f"client_files:{' ' * 8}{home / 'security'}" in ran.stdout
        first = Stack.shared().client
        subprocess.run([*command, "down"], check=True)
        subprocess.run([*command, "up"], check=True, capture_output=True)
        assert Stack.shared().client == first
        lab = kafkalab.connect()
        lab.fresh_topic("kept")
        assert held(lab) == []
    finally:
        subprocess.run([*command, "down", "--wipe"], check=True)
    assert not home.exists()


def test_stack_that_was_wiped_begins_with_other_secrets(new_stack):
    stack = new_stack(secure=True)
    with pytest.raises(kafkalab.LabError, match=r"passwords\.json cannot be read .*`kafkalab down --wipe`"):
        _ = stack.client
    stack.up()
    first = stack.client["sasl.password"]
    stack.down(wipe=True)
    stack.up()
    assert stack.client["sasl.password"] != first
    kafkalab.Lab(stack.client, stack.registry_client, stack).check()
