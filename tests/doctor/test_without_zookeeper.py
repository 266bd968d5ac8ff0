"""A secured cluster without ZooKeeper under examination: what another authorizer and another release could change."""

import pytest
from confluent_kafka.admin import AclOperation, ResourceType

import kafkalab
from kafkalab.doctor import brokers
from kafkalab.doctor.examination import examine


@pytest.fixture(scope="module")
def secured():
    """The lab of such a stack, in place of the one with ZooKeeper."""
    with kafkalab.own_stack(mode="kraft", secure=True) as lab:
        lab.check()
        yield lab


def wrong():
    return [finding.text for finding in examine() if not finding.ok]


def test_healthy_cluster(named_secured):
    named_secured()
    findings = examine()
    assert [finding.text for finding in findings if not finding.ok] == []
    assert any("is a broker of Kafka 4.1 or later, SASL_SSL, certificate trusted" in found.text for found in findings)


def test_wrong_password(named_secured):
    named_secured(client={"sasl.password": "wrong"})
    [finding] = wrong()
    assert finding.startswith("user 'learner' is refused (")


def test_rights_that_are_lacking(user, secured, monkeypatch):
    monkeypatch.setenv("IN_TOPIC", "theirs")
    monkeypatch.setenv("OUT_TOPIC", "nowhere")
    secured.topic("theirs")
    user("bob", (ResourceType.TOPIC, "theirs", AclOperation.DESCRIBE))
    assert [finding.split(":")[0] for finding in wrong()] == [
        "user 'bob' lacks the right Read on topic 'theirs'",
        "there is no topic 'nowhere' that user 'bob' may see, and user 'bob' may not create it",
        "user 'bob' lacks the right Read and Write on topic 'kafkalab-topics'",
        "user 'bob' lacks the right Read on group 'count'",
    ]


def test_client_that_the_brokers_no_longer_understand(named_secured, secured, monkeypatch):
    monkeypatch.setattr(brokers, "_OLDEST_CLIENT", 0xFFFFFFFF)
    named_secured()
    [finding] = wrong()
    where = secured.client["bootstrap.servers"]
    assert finding.startswith(f"{where} is Kafka 4.1 or later, which no longer answers what librdkafka ")
    assert finding.endswith(" asks (KIP-896): install confluent-kafka 1.8.2 or newer")
