"""How far consumer groups are."""

from collections.abc import Iterable

from confluent_kafka import KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec

from kafkalab.waiting import ANSWER_SECONDS


def lags(admin: AdminClient, committed: Iterable[TopicPartition]) -> list[int | None]:
    """Return how many messages follow each committed offset; without one, a partition counts from offset 0 on.

    Args:
        admin: A client of the cluster.
        committed: Partitions with the offsets that groups committed.

    Returns:
        Offsets that are left, in the order asked; None where the topic is gone, whose offsets stay for a while.
    """
    committed = list(committed)
    places = {(place.topic, place.partition): TopicPartition(place.topic, place.partition) for place in committed}
    if not places:
        return []
    asked = admin.list_offsets(dict.fromkeys(places.values(), OffsetSpec.latest()), request_timeout=ANSWER_SECONDS)
    ends = {(place.topic, place.partition): end for place, end in asked.items()}
    left: list[int | None] = []
    for place in committed:
        try:
            end = ends[place.topic, place.partition].result().offset
        except KafkaException:
            left.append(None)
        else:
            left.append(max(end - max(place.offset, 0), 0))
    return left
