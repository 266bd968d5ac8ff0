"""Whether the client may do what the programs and lessons do; nothing is made."""

from collections.abc import Iterator

from confluent_kafka import KafkaError, KafkaException, TopicCollection
from confluent_kafka.admin import AclOperation, AdminClient, NewTopic

from kafkalab.cluster.health import admin_client
from kafkalab.cluster.lab import Lab
from kafkalab.cluster.topics import NOTES
from kafkalab.doctor.findings import Finding, fine, wrong
from kafkalab.errors import LabError
from kafkalab.settings import ClusterSettings
from kafkalab.waiting import wait_until

_ANSWER_SECONDS = 6
_ASK_SECONDS = 3
_NO_TOPIC = (KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError.TOPIC_AUTHORIZATION_FAILED)
_OTHER_TOPIC = "name another topic in IN_TOPIC and OUT_TOPIC"


def examine_permissions(lab: Lab, settings: ClusterSettings, user: str) -> Iterator[Finding]:
    """Ask for the rights on what the programs use, and whether topics can be created.

    Args:
        lab: The cluster.
        settings: The topics and the group of the programs.
        user: Whom the findings are about.
    """
    admin = admin_client(lab.client)
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
            yield _compared(user, f"topic {topic!r}", needed, granted, f", or {_OTHER_TOPIC}")
    for topic in missing:
        yield _creation(admin, user, topic, f"have the topic made or the right Create granted, or {_OTHER_TOPIC}")
    if not missing:
        fix = "have the right Create granted, since lessons make topics of their own"
        yield _creation(admin, user, lab.name("kafkalab-doctor"), fix)
    error, granted = _topic_rights(admin, NOTES)
    if error != KafkaError.UNKNOWN_TOPIC_OR_PART:  # it is made with the first topic that the lab makes
        yield _compared(user, f"topic {NOTES!r}", [AclOperation.READ, AclOperation.WRITE], granted)
    group = settings.in_group or lab.name("count")
    fix = ", or name another group in IN_GROUP"
    yield _compared(user, f"group {group!r}", [AclOperation.READ], _group_rights(admin, group), fix)


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


def _compared(
    user: str, what: str, needed: list[AclOperation], granted: list[AclOperation] | None, fix: str = ""
) -> Finding:
    """Compare the rights that are needed with those that are granted, None where the brokers do not tell."""
    if granted is None:
        return fine(f"the brokers do not tell what {user} may do with {what}")
    lacking = [right.name.capitalize() for right in needed if right not in granted]
    if lacking:
        return wrong(f"{user} lacks the right {' and '.join(lacking)} on {what}: have it granted{fix}")
    return fine(f"{user} has the right {' and '.join(right.name.capitalize() for right in needed)} on {what}")


def _creation(admin: AdminClient, user: str, topic: str, fix: str) -> Finding:
    """Ask whether a topic could be created."""
    asked = admin.create_topics([NewTopic(topic, 3)], validate_only=True, request_timeout=_ANSWER_SECONDS)
    try:
        asked[topic].result()
    except KafkaException as error:
        match error.args[0].code():
            case KafkaError.TOPIC_AUTHORIZATION_FAILED | KafkaError.CLUSTER_AUTHORIZATION_FAILED:
                return wrong(f"there is no topic {topic!r} that {user} may see, and {user} may not create it: {fix}")
            case KafkaError.TOPIC_ALREADY_EXISTS:
                return wrong(f"{user} may not see topic {topic!r}: have the right Describe granted, or {_OTHER_TOPIC}")
            case _:
                return wrong(f"topic {topic!r} cannot be created ({error.args[0].str()}): ask who runs the cluster")
    return fine(f"topic {topic!r} does not exist, {user} may create it")


def _group_rights(admin: AdminClient, group: str) -> list[AclOperation] | None:
    """Ask the group's coordinator, which a cluster's first group has to wait for."""
    answers: list[list[AclOperation] | None] = []

    def answered() -> bool:
        asked = admin.describe_consumer_groups(
            [group], include_authorized_operations=True, request_timeout=_ASK_SECONDS
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
