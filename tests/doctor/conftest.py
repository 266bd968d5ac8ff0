import clients
import pytest
from confluent_kafka.admin import (
    AclBinding,
    AclPermissionType,
    AdminClient,
    ResourcePatternType,
    ScramCredentialInfo,
    ScramMechanism,
    UserScramCredentialUpsertion,
)

import kafkalab
from kafkalab.waiting import wait_until

PASSWORD = "hunter2-hunter2"


@pytest.fixture(scope="package")
def secured():
    """A secured stack's lab, for all tests of the doctor."""
    with kafkalab.own_stack(secure=True) as lab:
        lab.check()  # the doctor does not wait as long for a registry
        yield lab


@pytest.fixture
def named(monkeypatch, tmp_path):
    """Return a function that names a cluster in the environment, as a person does."""

    def name(brokers, registry, client=(), registry_client=()):
        monkeypatch.setenv("KAFKA_BROKER_URL", brokers)
        monkeypatch.setenv("KAFKA_SCHEMA_REGISTRY_URL", registry)
        for variable, properties in (
            ("KAFKA_CLIENT_PROPERTIES", client),
            ("KAFKA_SCHEMA_REGISTRY_PROPERTIES", registry_client),
        ):
            file = tmp_path / variable
            file.write_text("".join(f"{key}={value}\n" for key, value in dict(properties).items()), encoding="utf-8")
            monkeypatch.setenv(variable, str(file))

    return name


@pytest.fixture
def named_secured(named, secured):
    """Return a function that names the secured cluster, with properties that differ; None leaves one out."""

    def name(brokers=None, registry=None, client=(), registry_client=()):
        def mixed(right, changes):
            return {key: value for key, value in {**right, **dict(changes)}.items() if value is not None}

        right = {**secured.registry}
        url = right.pop("url")
        right_client = {**secured.client}
        address = right_client.pop("bootstrap.servers")
        named(brokers or address, registry or url, mixed(right_client, client), mixed(right, registry_client))

    return name


@pytest.fixture
def user(secured, named_secured):
    """Return a function that names the secured cluster for a new user with these rights and no others."""
    admin = AdminClient({**secured.stack.admin, "log_level": 0})
    scram = ScramCredentialInfo(ScramMechanism.SCRAM_SHA_512, 4096)

    def make(name, *rights):
        admin.alter_user_scram_credentials([UserScramCredentialUpsertion(name, scram, PASSWORD.encode())])[
            name
        ].result()
        for kind, resource, operation in rights:
            rule = (kind, resource, ResourcePatternType.LITERAL, f"User:{name}", "*", operation)
            rule = AclBinding(*rule, AclPermissionType.ALLOW)
            admin.create_acls([rule])[rule].result()
        login = {"sasl.username": name, "sasl.password": PASSWORD}
        wait_until(lambda: clients.told({**secured.client, **login}), "the user to be known")
        named_secured(client=login)

    return make
