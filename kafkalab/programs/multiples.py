"""multiples: a legacy source, which sends text and knows no schema."""

import time
from collections.abc import Callable

from confluent_kafka import KafkaError, Message, Producer

from kafkalab.cluster.lab import Lab
from kafkalab.errors import LabError
from kafkalab.programs.avro_producer import queue
from kafkalab.settings import ClusterSettings


def multiples(lab: Lab, messages: int = 10, interval: float = 1.0, show: Callable[[object], None] = print) -> int:
    """Send "0", "1", "4", "9" … as text to OUT_TOPIC, else to `multiples`.

    Args:
        lab: The cluster.
        messages: How many.
        interval: Seconds between two of them.
        show: Called with each value.

    Returns:
        The number of acknowledged messages, all of them.

    Raises:
        LabError: A message was not acknowledged.
    """
    topic, lost = ClusterSettings.read().out_topic or lab.name("multiples"), []

    def delivered(error: KafkaError | None, _message: Message) -> None:
        if error:
            lost.append(error.str())

    lab.topic(topic)
    producer = Producer(lab.client)
    for number in range(messages):
        queue(producer, topic, str(number * number), None, delivered)
        show(number * number)
        time.sleep(interval)
    if left := producer.flush(120) + len(lost):
        raise LabError(
            f"{left} messages to {topic!r} were not acknowledged ({'; '.join(lost[:3]) or 'no answer in 120 s'})"
        )
    return messages
