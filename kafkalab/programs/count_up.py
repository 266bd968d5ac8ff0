"""count-up: a source that counts, in Avro, under a schema that it registers."""

import time
from collections.abc import Callable

from kafkalab.cluster.lab import Lab
from kafkalab.programs.avro_producer import AvroProducer
from kafkalab.settings import SCHEMAS, ClusterSettings


def count_up(lab: Lab, messages: int = 10, interval: float = 1.0, show: Callable[[object], None] = print) -> int:
    """Send {"count": 0}, {"count": 1} … to OUT_TOPIC, else to `count`; the number is the key.

    Args:
        lab: The cluster.
        messages: How many.
        interval: Seconds between two of them.
        show: Called with each record.

    Returns:
        The number of acknowledged messages, all of them.

    Raises:
        LabError: A message was not acknowledged, or the schema file is not Avro.
    """
    settings = ClusterSettings.read()
    topic = settings.out_topic or lab.name("count")
    lab.topic(topic)
    schema_file = settings.out_schema or SCHEMAS / f"{settings.out_topic or 'count'}.avsc"
    with AvroProducer(lab, topic, schema_file) as producer:
        for number in range(messages):
            record = {"count": number}
            producer.send(record, key=str(number))
            show(record)
            time.sleep(interval)
    return producer.acknowledged
