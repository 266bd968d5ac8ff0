"""The job of `docs/lesson_07.sql`: the very file runs on a stack, through a crash, and its results are counted."""

import contextlib
import re
from pathlib import Path

import pytest
from confluent_kafka import Consumer, Producer

import kafkalab
from kafkalab.lessons.stream_engine import Engine, Flink
from kafkalab.programs.count_up import count_up
from kafkalab.programs.multiples import multiples

FILE = Path(__file__).parents[1] / "docs" / "lesson_07.sql"
TOPICS = {"count": 3, "multiples": 1, "multiples.checked": 1, "multiples.rejected": 1, "statistic": 1}
BAD_DAY = [b"n/a", b"2500000000", b"12.25", b"8", b"-4", b"", None]


@pytest.fixture(scope="module")
def own():
    with kafkalab.own_stack(beside=("jobmanager", "taskmanager-0", "gateway")) as own:
        own.stack.start("taskmanager-0")
        yield own


def statements(own):
    """Return the statements of the file, with the addresses and the folder of a stack."""
    text = re.sub(r"^--.*\n", "", FILE.read_text(encoding="utf-8"), flags=re.MULTILINE)
    addresses = {
        "localhost:9092": own.client["bootstrap.servers"],
        "http://localhost:8081": own.registry["url"],
        "file:///checkpoints": (own.stack.folder / "data" / "checkpoints").as_uri(),
        "'5 s'": "'1 s'",
    }
    for told, here in addresses.items():
        assert told in text
        text = text.replace(told, here)
    return text.strip().split("\n\n")


def rejected(own):
    """Return the headers of all dead letters."""
    found = []
    config = {"group.id": "rejected", "auto.offset.reset": "earliest", "enable.partition.eof": True}
    with Consumer({**own.client, **config}) as consumer:
        consumer.subscribe(["multiples.rejected"])
        while (message := consumer.poll(30)) is not None and not message.error():
            found.append(dict(message.headers()))
    assert message is not None
    return found


def test_file_gives_the_numbers_of_the_lesson_and_loses_nothing_in_a_crash(own):
    def sent(messages):
        assert count_up(own, messages, 0, lambda _: None) == messages
        assert multiples(own, messages, 0, lambda _: None) == messages

    def statistics():
        return kafkalab.table(own, "statistic")

    for topic, partitions in TOPICS.items():
        own.fresh_topic(topic, partitions=partitions)
    sent(40)
    with Producer(own.client) as producer:
        for value in [*BAD_DAY, b"1600"]:
            producer.produce("multiples", value)
    with contextlib.closing(Engine(Flink.of(own))) as engine:
        *before, insert = statements(own)
        for statement in before:
            engine.sql(statement)
        job = engine.submit(insert)
        kafkalab.wait_until(lambda: len(statistics()) >= 81, "the statistic of the lesson", 120, every=1)
        means = statistics().groupby("source")["mean"].last()
        assert means.to_dict() == {"count": 19.5, "multiples.checked": 540.0}

        sent(500)
        own.stack.kill("taskmanager-0")
        sent(500)
        own.stack.start("taskmanager-0")
        kafkalab.wait_until(lambda: len(statistics()) >= 2081, "the statistic of all", 120, every=1)
        engine.next_checkpoint(job)  # what is doubled would be committed with it
        engine.cancel(job)
    for source, last in (("count", 1040), ("multiples.checked", 1041)):
        told = statistics()
        assert told[told["source"] == source]["messages"].tolist() == list(range(1, last + 1))
    assert len(kafkalab.table(own, "multiples.checked")) == 1041
    letters = rejected(own)
    assert [int(headers["offset"]) for headers in letters] == list(range(40, 47))
    assert [headers["reason"].decode() for headers in letters][:2] == [
        "n/a is not a whole number", "2500000000 is too large for an Avro int",
    ]  # fmt: skip
    with own.rest() as rest:
        assert rest.get("/subjects/statistic-value/versions").json() == [1]
