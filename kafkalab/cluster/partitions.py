"""Who leads the partitions of a topic and who is in sync, as any broker tells it."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from confluent_kafka import KafkaException

from kafkalab.waiting import ANSWER_SECONDS

if TYPE_CHECKING:
    from confluent_kafka.admin import AdminClient


@dataclass(frozen=True)
class PartitionState:
    """What a broker knows of a partition.

    Attributes:
        leader: The id of the broker that leads it, None without one.
        replicas: The ids of the brokers that have it, the preferred leader first.
        in_sync: The ids of those that are in sync.
    """

    leader: int | None
    replicas: tuple[int, ...]
    in_sync: frozenset[int]


def partition_states(admin: "AdminClient", topic: str, seconds: float = ANSWER_SECONDS) -> dict[int, PartitionState]:
    """Ask for a topic's partitions; any broker may answer, so it works while there is no controller.

    Returns:
        The states by the numbers of the partitions; empty if no broker answers in so many seconds, or the one that
        answers does not know the topic.
    """
    try:
        found = admin.list_topics(topic, timeout=seconds).topics[topic].partitions
    except KafkaException:
        return {}
    return {
        number: PartitionState(part.leader if part.leader >= 0 else None, tuple(part.replicas), frozenset(part.isrs))
        for number, part in found.items()
    }
