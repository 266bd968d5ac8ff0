import time

from confluent_kafka.admin import AdminClient

import kafkalab


def test_topic_that_somebody_deletes_does_not_come_back(lab):
    """Brokers create a topic that a client asks for; the lab's own client must not go on asking."""
    often = {"topic.metadata.refresh.interval.ms": "100"}  # five minutes otherwise
    kept = kafkalab.Lab({**lab.client, **often}, lab.registry)
    kept.fresh_topic("gone")
    somebody = AdminClient({**lab.client, "log_level": 0})
    somebody.delete_topics(["gone"])["gone"].result()
    kafkalab.wait_until(lambda: lab.describe("gone") is None, "the deletion")
    end = time.monotonic() + 3
    while time.monotonic() < end:
        assert lab.describe("gone") is None
