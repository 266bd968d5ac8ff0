"""Whether a cluster answers at all, asked at each `connect`; the doctor examines what is wrong."""

from collections.abc import Mapping

import httpx2
from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient
from confluent_kafka.schema_registry import SchemaRegistryClient
from confluent_kafka.schema_registry.error import SchemaRegistryError

from kafkalab.errors import LabError
from kafkalab.waiting import ANSWER_SECONDS, wait_until

_ASK_SECONDS = 0.5  # one question of a wait: an interrupt is heard between two
_STATUS = "`kafkalab status` tells what runs"


def check_brokers(client: Mapping[str, str], *, embedded: bool) -> None:
    """Ask the brokers who they are.

    Args:
        client: What a client of the cluster takes.
        embedded: Whether the servers run in the embedded stack, which decides what there is to do.

    Raises:
        LabError: None of them answers, or a property is none of the client's.
    """
    errors: list[KafkaError] = []
    try:
        admin = AdminClient({**client, "log_level": 0, "error_cb": errors.append})
    except (KafkaException, ValueError, TypeError) as error:
        reason = error.args[0].str() if isinstance(error, KafkaException) else error
        raise LabError(
            f"the client does not take its properties ({reason}): check the file that KAFKA_CLIENT_PROPERTIES names"
        ) from None

    def answered() -> bool:
        try:
            return bool(admin.list_topics(timeout=_ASK_SECONDS).brokers)
        except KafkaException:
            admin.poll(0)  # calls error_cb with what went wrong
            return False

    try:
        wait_until(answered, "the brokers", ANSWER_SECONDS)
    except LabError:
        reason = errors[-1].str() if errors else f"timed out after {ANSWER_SECONDS} s"
        fix = _STATUS if embedded else "check KAFKA_BROKER_URL, or unset it for the embedded stack"
        raise LabError(f"the brokers at {client['bootstrap.servers']} do not answer ({reason}): {fix}") from None


def check_registry(properties: Mapping[str, object], *, embedded: bool) -> None:
    """Ask the registry for its subjects.

    Args:
        properties: What `SchemaRegistryClient` takes.
        embedded: As for the brokers.

    Raises:
        LabError: It does not answer, or a property is none of the client's.
    """
    try:
        registry = SchemaRegistryClient({"timeout": ANSWER_SECONDS, **properties, "max.retries": 0})
    except (ValueError, TypeError, OSError) as error:
        raise LabError(
            f"the registry's client does not take its properties ({error}): check the file that "
            "KAFKA_SCHEMA_REGISTRY_PROPERTIES names"
        ) from None
    try:
        with registry:
            registry.get_subjects()
    except (SchemaRegistryError, httpx2.HTTPError, ValueError) as error:  # the last: an answer that is no JSON
        fix = "check KAFKA_SCHEMA_REGISTRY_URL, or unset it for the embedded stack"
        if embedded:
            fix = f"{_STATUS}; behind a proxy set NO_PROXY=127.0.0.1,localhost"
        raise LabError(f"the schema registry at {properties['url']} does not answer as one ({error}): {fix}") from None
