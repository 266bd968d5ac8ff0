"""What the soak kills: a producer, transactional workers and a consumer, each a process of its own.

Each ends at the first error that it meets, and is started again: what it may not lose is in the cluster or its file.
"""

import json
import os
import sys
import threading

from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition

KEYS = [f"key-{number}" for number in range(12)]
PACE_SECONDS = 0.05  # between two messages of a key
UNSENT = 500  # messages that may wait for a broker
BATCH = 50
WHOLE = " ."  # at the end of a line that was written to its end
ANSWER_SECONDS = 20  # then it ends, and is started again
DELIVERY_SECONDS = 120


def produce(told, ended):
    """Send numbered messages, and write down which of them were acknowledged, and where they are."""
    acks = told.get("acks", "all")
    own = {"acks": acks, "enable.idempotence": acks == "all", "message.timeout.ms": DELIVERY_SECONDS * 1000}
    producer = Producer({**told["client"], **own})
    book = append_to(told["file"])

    def delivered(error, message):
        if error:
            raise KafkaException(error)
        at_work(told)
        write_down(book, [message])

    sequence = 0
    while not ended.wait(PACE_SECONDS):
        producer.poll(0)
        if len(producer) > UNSENT:
            continue
        for key in KEYS:
            value = f"{told['session']} {key} {sequence}"
            producer.produce(told["input"], value, key, on_delivery=delivered)
        sequence += 1
    if producer.flush(DELIVERY_SECONDS):
        sys.exit("messages were neither acknowledged nor refused")


def work(told, ended):
    """Read, process, write: each batch and the positions behind it in one transaction (KIP-98, KIP-447)."""
    producer = Producer({**told["client"], "transactional.id": told["name"], "transaction.timeout.ms": 10_000})
    producer.init_transactions(ANSWER_SECONDS)
    with Consumer({**told["client"], **membership(told)}) as consumer:
        consumer.subscribe([told["input"]])
        while not ended.is_set():
            if not (messages := batch(consumer)):
                continue
            producer.begin_transaction()
            at_work(told)
            for message in messages:
                made = f"{message.value().decode()} {message.partition()} {message.offset()}"
                producer.produce(told["output"], made, message.key())
            group = consumer.consumer_group_metadata()
            producer.send_offsets_to_transaction(behind(messages), group, ANSWER_SECONDS)
            if dies(told, "before the commit"):
                producer.flush(ANSWER_SECONDS)  # else a read_uncommitted reader would have nothing to see
                os._exit(1)
            producer.commit_transaction(ANSWER_SECONDS)


def consume(told, ended):
    """Write the results down, then commit: at least once."""
    isolation = {"isolation.level": told.get("isolation", "read_committed")}
    book = append_to(told["file"])
    with Consumer({**told["client"], **membership(told), **isolation}) as consumer:
        consumer.subscribe([told["output"]])
        while not ended.is_set():
            if not (messages := batch(consumer)):
                continue
            at_work(told)
            if told.get("commits") == "early":
                commit(consumer, messages)
            if dies(told, "before the results"):
                os._exit(1)
            write_down(book, messages)
            commit(consumer, messages)


def membership(told):
    """Return what a member of a group is told; a static one is back at once when it was killed (KIP-345)."""
    return {
        "group.id": told["group"],
        "group.instance.id": told["name"],
        "session.timeout.ms": 6000,  # the least that brokers allow
        "heartbeat.interval.ms": 500,
        "auto.offset.reset": "earliest",
        "enable.auto.commit": False,
    }


def batch(consumer):
    messages = consumer.consume(BATCH, 0.1)
    for message in messages:
        if message.error():
            raise KafkaException(message.error())
    return messages


def behind(messages):
    """Return the positions behind the last message of each partition."""
    last = {(message.topic(), message.partition()): message.offset() + 1 for message in messages}
    return [TopicPartition(*place, offset) for place, offset in last.items()]


def commit(consumer, messages):
    for partition in consumer.commit(offsets=behind(messages), asynchronous=False):
        if partition.error:
            raise KafkaException(partition.error)


def at_work(told):
    """Let the soak know, once, that a kill meets more from now on than a Python that starts."""
    if not told.pop("begun", False):
        print(working(told["session"]), flush=True)
    told["begun"] = True


def working(session):
    return f"session {session} is at work"


def dies(told, point):
    """Return whether the process was told to end hard at this point; only the first of its name is."""
    return told.get("dies") == point and told["session"] == 0


def append_to(path):
    """Open a file whose lines stay when the process is killed; a kill may have torn the last one."""
    book = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.write(book, b"\n")
    return book


def write_down(book, messages):
    lines = [f"{m.value().decode()} {m.partition()} {m.offset()}{WHOLE}\n" for m in messages]
    os.write(book, "".join(lines).encode())


def listen(ended):
    """Set `ended` at a first line on standard input; end hard when the soak itself is gone."""
    if sys.stdin.readline():
        ended.set()
        sys.stdin.read()
    os._exit(1)


if __name__ == "__main__":
    told, ended = json.loads(sys.argv[1]), threading.Event()
    threading.Thread(target=listen, args=[ended], daemon=True).start()
    {"producer": produce, "worker": work, "consumer": consume}[told["role"]](told, ended)
