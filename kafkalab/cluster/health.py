"""Whether a cluster answers at all, asked at each `connect`; the doctor examines what is wrong."""

from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import httpx2
from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient, BrokerMetadata
from confluent_kafka.schema_registry.error import SchemaRegistryError

from kafkalab.client_files import without_secrets
from kafkalab.cluster import proxies
from kafkalab.cluster.registry import confluent_address, registry_client
from kafkalab.errors import LabError
from kafkalab.waiting import ANSWER_SECONDS, wait_until

REFUSED = (KafkaError._AUTHENTICATION, KafkaError.SASL_AUTHENTICATION_FAILED)  # noqa: SLF001 - the client's own error
_ASK_SECONDS = 0.5  # one question of a wait: an interrupt is heard between two
_OR_FILE = " (likewise an address in the file that KAFKA_CLIENT_PROPERTIES names)"
_STATUS = "`kafkalab status` tells what runs"


def check_brokers(client: Mapping[str, str], *, embedded: bool) -> None:
    """Ask the brokers who they are.

    Args:
        client: What a client of the cluster takes.
        embedded: Whether the servers run in the embedded stack, which decides what there is to do.

    Raises:
        LabError: None of them answers, or a property is none of the client's.
    """
    known, errors = ask_brokers(client, ANSWER_SECONDS)
    if not known:
        reason = errors[-1].str() if errors else f"timed out after {ANSWER_SECONDS} s"
        fix = _STATUS if embedded else "check KAFKA_BROKER_URL, or unset it for the embedded stack" + _OR_FILE
        raise LabError(f"the brokers at {client['bootstrap.servers']} do not answer ({reason}): {fix}")


def ask_brokers(client: Mapping[str, str], seconds: float) -> tuple[list[BrokerMetadata], list[KafkaError]]:
    """Ask the brokers who they are until one answers, refuses the login, or the time is over.

    Returns:
        The brokers, none without an answer; and what went wrong on the way.

    Raises:
        LabError: A property is none of the client's.
    """
    errors: list[KafkaError] = []
    known: list[BrokerMetadata] = []
    admin = admin_client(client, errors)

    def answered() -> bool:
        try:
            known.extend(admin.list_topics(timeout=_ASK_SECONDS).brokers.values())
        except KafkaException:
            admin.poll(0)  # calls error_cb with what went wrong
        return bool(known) or any(error.code() in REFUSED for error in errors)

    with suppress(LabError):
        wait_until(answered, "the brokers", seconds)
    return known, errors


def admin_client(client: Mapping[str, str], errors: list[KafkaError] | None = None) -> AdminClient:
    """Return an admin client that logs nothing.

    Args:
        client: What a client of the cluster takes.
        errors: Gets what goes wrong with connections.

    Raises:
        LabError: A property is none of the client's.
    """
    try:
        own: dict[str, Any] = {**client, "log_level": 0, "error_cb": ([] if errors is None else errors).append}
        return AdminClient(own)
    except (KafkaException, ValueError, TypeError) as error:
        said = error.args[0].str() if isinstance(error.args[0], KafkaError) else str(error)
        raise LabError(
            f"the client does not take its properties ({without_secrets(said, client)}): check the file that "
            "KAFKA_CLIENT_PROPERTIES names"
        ) from None


def check_registry(properties: Mapping[str, object], *, embedded: bool) -> None:
    """Ask the registry for its subjects.

    Args:
        properties: What `SchemaRegistryClient` takes.
        embedded: As for the brokers.

    Raises:
        LabError: It does not answer, or its client cannot be made.
    """
    try:
        with registry_client({"timeout": ANSWER_SECONDS, **properties, "max.retries": 0}) as registry:
            registry.get_subjects()
    except (SchemaRegistryError, httpx2.HTTPError, ValueError) as error:  # the last: an answer that is no JSON
        url = str(properties["url"])
        if embedded:
            fix = _STATUS
        elif other := confluent_address(properties):
            fix = f"the registry's address for this client is KAFKA_SCHEMA_REGISTRY_URL={other}"
        else:
            fix = "check KAFKA_SCHEMA_REGISTRY_URL, or unset it for the embedded stack" + _OR_FILE
            fix += proxies.in_the_way(url)
        raise LabError(f"the schema registry at {url} does not answer as one ({error}): {fix}") from None
