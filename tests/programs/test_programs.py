import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from uuid import uuid4

import clients
import pytest
from confluent_kafka import Consumer, Producer
from confluent_kafka.schema_registry import Schema, SchemaRegistryClient

import kafkalab
from kafkalab.programs import print as print_module
from kafkalab.programs.count_up import count_up
from kafkalab.programs.multiples import multiples
from kafkalab.programs.print import print_messages

COUNT = kafkalab.SCHEMAS / "count.avsc"


@pytest.fixture
def topics(monkeypatch, lab):
    """Empty topics and a new group."""
    lab.fresh_topic("count", 3)
    lab.fresh_topic("multiples")
    monkeypatch.setenv("IN_GROUP", f"test-{uuid4()}")
    monkeypatch.setenv("KAFKA_CONSUMER_TIMEOUT_MS", "4000")


def test_printer_prints_records_and_raw_values(lab, topics, capsys):
    assert count_up(lab, 10, 0, show=lambda _: None) == 10
    assert multiples(lab, 10, 0, show=lambda _: None) == 10
    assert print_messages(lab) == (20, 0)
    printed = capsys.readouterr().out.splitlines()
    assert sorted(printed) == sorted([f"{{'count': {i}}}" for i in range(10)] + [str(i * i) for i in range(10)])


def test_keys_decide_the_partition(lab, topics):
    count_up(lab, 30, 0, show=lambda _: None)
    ends = [clients.end_offset(lab.client["bootstrap.servers"], "count", partition) for partition in range(3)]
    assert sum(ends) == 30
    assert all(ends)


def test_bad_messages_are_reported_with_their_place_and_the_rest_is_read(lab, topics):
    bad = [b"\x00\x7f\xff\xff\xff\x02", b"\x00\x01", b"\xff\xfe"]
    clients.produce(lab.client["bootstrap.servers"], "multiples", [b"1", *bad, b"4"])
    shown = []
    assert print_messages(lab, shown.append) == (2, 3)
    assert (shown[0], shown[4]) == ("1", "4")
    for offset, line in enumerate(shown[1:4], 1):
        assert line.startswith(f"multiples [0] at offset {offset} was not decoded: ")


def test_tombstone_is_told_apart_from_texts(lab, topics):
    with Producer(lab.client) as producer:
        for value in (None, "", "None"):
            producer.produce("multiples", value, "k")
    shown = []
    assert print_messages(lab, shown.append) == (3, 0)
    assert shown == ["multiples [0] at offset 0 is a tombstone of key b'k'", "", "None"]


def test_text_that_would_command_a_terminal_is_escaped(lab, topics):
    clients.produce(lab.client["bootstrap.servers"], "multiples", ["\x1b[2J\nü"])
    shown = []
    print_messages(lab, shown.append)
    assert shown == [r"\x1b[2J\nü"]


@pytest.mark.parametrize(
    ("kind", "schema"),
    [
        ("JSON", '{"$schema": "http://json-schema.org/draft-07/schema#", "type": "string"}'),
        ("JSON", '{"$schema": "http://json-schema.org/draft-07/schema#", "type": "object"}'),
        ("PROTOBUF", 'syntax = "proto3"; message A {}'),
    ],
)
def test_schema_of_another_kind_is_named(lab, topics, kind, schema):
    with SchemaRegistryClient(lab.registry) as registry:
        schema_id = registry.register_schema(f"{uuid4()}-value", Schema(schema, kind))
    clients.produce(lab.client["bootstrap.servers"], "multiples", [b"\0" + schema_id.to_bytes(4, "big") + b"\2a"])
    shown = []
    assert print_messages(lab, shown.append) == (0, 1)
    assert shown == [f"multiples [0] at offset 0 was not decoded: its schema is {kind}, not Avro"]


def test_group_waits_for_a_member_that_was_killed(lab, topics, monkeypatch):
    monkeypatch.setenv("KAFKA_CONSUMER_TIMEOUT_MS", "1000")
    multiples(lab, 3, 0, show=lambda _: None)
    member = f"""
import sys
from confluent_kafka import Consumer
own = {{"group.id": {os.environ["IN_GROUP"]!r}, "session.timeout.ms": 6000}}
consumer = Consumer({{**{lab.client!r}, **own}})
consumer.subscribe(["multiples"], on_assign=lambda *_: print("joined", flush=True))
while True:
    consumer.poll(0.1)
"""
    with subprocess.Popen([sys.executable, "-c", member], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "joined\n"
        process.kill()
    assert print_messages(lab, show=lambda _: None) == (3, 0)


def test_group_that_waits_for_ever_is_named(lab, topics, monkeypatch):
    monkeypatch.setattr(print_module, "_REBALANCE_SECONDS", 1)
    hasty = kafkalab.Lab({**lab.client, "session.timeout.ms": "6000"}, lab.registry)
    with Consumer({**lab.client, "group.id": os.environ["IN_GROUP"]}) as member:
        member.subscribe(["multiples"])
        kafkalab.wait_until(lambda: member.poll(0.1) or member.assignment(), "the member's partitions")
        with pytest.raises(kafkalab.LabError, match=r"timed out after 7 s .*waits for a member that vanished or"):
            print_messages(hasty, show=lambda _: None)


def test_client_file_that_turns_commits_off(lab, topics):
    multiples(lab, 3, 0, show=lambda _: None)
    careful = kafkalab.Lab({**lab.client, "enable.auto.commit": "false"}, lab.registry)
    assert print_messages(careful, show=lambda _: None) == (3, 0)
    assert print_messages(careful, show=lambda _: None) == (0, 0)


def test_printer_started_first(lab, topics, monkeypatch):
    """Neither topic nor subject is there when the printer subscribes, and it does not spoil them."""
    monkeypatch.setenv("IN_TOPIC", "printed-first")
    monkeypatch.setenv("OUT_TOPIC", "printed-first")
    monkeypatch.setenv("OUT_SCHEMA", str(COUNT))
    shown = []
    with ThreadPoolExecutor() as pool:
        printing = pool.submit(print_messages, lab, shown.append)
        kafkalab.wait_until(lambda: "printed-first" in clients.topics(lab.client["bootstrap.servers"]), "the printer")
        count_up(lab, 30, 0, show=lambda _: None)
        assert printing.result() == (30, 0)
    assert sorted(record["count"] for record in shown) == list(range(30))
    assert all(clients.end_offset(lab.client["bootstrap.servers"], "printed-first", number) for number in range(3))


def test_registry_that_refuses_the_schema(lab, topics, tmp_path):
    file = tmp_path / "other.avsc"
    file.write_text('{"type": "record", "name": "Other", "fields": [{"name": "x", "type": "int"}]}', encoding="utf-8")
    clients.register(lab.registry["url"], "refusing-value", COUNT.read_text(encoding="utf-8"))
    with (
        kafkalab.AvroProducer(lab, "refusing", file) as producer,
        pytest.raises(kafkalab.LabError, match=r"the registry did not take other\.avsc for 'refusing' .*409"),
    ):
        producer.send({"x": 1})


def test_registry_that_is_away_is_no_fault_of_a_message(lab, topics):
    count_up(lab, 1, 0, show=lambda _: None)
    away = kafkalab.Lab(lab.client, {"url": "http://127.0.0.1:1", "max.retries": 0})
    with pytest.raises(kafkalab.LabError, match="the registry does not answer"):
        print_messages(away, show=lambda _: None)
    assert print_messages(lab, show=lambda _: None) == (1, 0), "it was not committed"


def test_legacy_source_waits_when_the_queue_is_full(lab, topics):
    small = kafkalab.Lab({**lab.client, "queue.buffering.max.messages": "50"}, lab.registry)
    assert multiples(small, 500, 0, show=lambda _: None) == 500


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        ({"count": "seven"}, "field .*count: 'seven' is not what the schema allows, int"),
        ({"count": 2**31}, "field .*count: 2147483648 is not"),
        ({}, "field .*count: None is not"),
        ({"count": 1, "more": 2}, "more fields than the schema specifies: more in {'count': 1, 'more': 2}"),
    ],
)
def test_record_that_does_not_comply_is_refused_and_nothing_is_sent(lab, topics, record, reason):
    with kafkalab.AvroProducer(lab, "count", COUNT) as producer:
        with pytest.raises(kafkalab.LabError, match=reason) as error:
            producer.send(record)
        assert "count.avsc, nothing was sent to 'count'" in str(error.value)
    assert producer.acknowledged == 0
    assert all(clients.end_offset(lab.client["bootstrap.servers"], "count", number) == 0 for number in range(3))


@pytest.mark.parametrize("text", ["not json", '{"type": "record", "fields": []}', '{"type": "number"}', "[]]"])
def test_schema_file_that_is_not_avro(lab, tmp_path, text):
    file = tmp_path / "wrong.avsc"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(kafkalab.LabError, match=r"wrong\.avsc is not an Avro schema .*schemas/count\.avsc"):
        kafkalab.AvroProducer(lab, "count", file)


def test_schema_file_with_a_byte_order_mark(lab, topics, tmp_path):
    file = tmp_path / "count.avsc"
    file.write_bytes(COUNT.read_text(encoding="utf-8").encode("utf-8-sig"))
    with kafkalab.AvroProducer(lab, "count", file) as producer:
        producer.send({"count": 1})
    assert producer.acknowledged == 1
    file.write_bytes(COUNT.read_text(encoding="utf-8").encode("utf-16"))
    with pytest.raises(kafkalab.LabError, match=r"count\.avsc is not UTF-8"):
        kafkalab.AvroProducer(lab, "count", file)


def test_schema_file_that_is_missing(lab, monkeypatch):
    monkeypatch.setenv("OUT_TOPIC", "unheard-of")
    with pytest.raises(kafkalab.LabError, match=r"unheard-of\.avsc cannot be read"):
        count_up(lab, 1, 0)


def test_more_messages_than_the_queue_holds_all_arrive(lab, topics):
    small = kafkalab.Lab({**lab.client, "queue.buffering.max.messages": "50"}, lab.registry)
    with kafkalab.AvroProducer(small, "count", COUNT) as producer:
        for number in range(2000):
            producer.send({"count": number})
    assert producer.acknowledged == 2000


def test_messages_that_are_not_acknowledged_are_an_error(lab, topics):
    hasty = kafkalab.Lab({**lab.client, "message.timeout.ms": "300"}, lab.registry)
    hasty.client["bootstrap.servers"] = "127.0.0.1:1"
    with (
        pytest.raises(kafkalab.LabError, match="1 messages to 'count' were not acknowledged"),
        kafkalab.AvroProducer(hasty, "count", COUNT) as producer,
    ):
        producer.send({"count": 1}, key="1")


def test_topic_of_somebody_else_is_not_deleted(lab):
    elsewhere = kafkalab.Lab(lab.client, lab.registry)  # as if the environment named it
    clients.create(lab.client["bootstrap.servers"], "theirs")
    clients.produce(lab.client["bootstrap.servers"], "theirs", [b"1"])
    with pytest.raises(kafkalab.LabError, match="'theirs' exists and was not made by this lab: nothing was deleted"):
        elsewhere.fresh_topic("theirs")
    assert clients.end_offset(lab.client["bootstrap.servers"], "theirs") == 1


def test_two_programs_may_make_the_same_topic_at_once(lab):
    labs = [kafkalab.Lab(lab.client, lab.registry) for _ in range(4)]
    for number in range(3):
        with ThreadPoolExecutor() as pool:
            list(pool.map(lambda each, name=f"at-once-{number}": each.topic(name, 3), labs))
        assert f"at-once-{number}" in clients.topics(lab.client["bootstrap.servers"])


def test_topic_that_the_lab_made_is_made_anew(lab):
    elsewhere = kafkalab.Lab(lab.client, lab.registry)
    for _ in range(2):
        elsewhere.fresh_topic("ours-elsewhere")
        assert clients.end_offset(lab.client["bootstrap.servers"], "ours-elsewhere") == 0
        clients.produce(lab.client["bootstrap.servers"], "ours-elsewhere", [b"1"])


def test_raw_producer_is_the_real_one(lab, topics):
    with Producer(lab.client) as producer:
        producer.produce("multiples", "9")
    assert clients.read(lab.client["bootstrap.servers"], "multiples", 1, group="raw-reader") == [b"9"]
