"""A topic as a table: on a real broker and registry, compared with what the official deserializer returns."""

import json
import re
import struct
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from io import BytesIO
from uuid import UUID

import fastavro
import pandas as pd
import pytest
from confluent_kafka import Producer
from confluent_kafka.schema_registry import Schema, SchemaReference, SchemaRegistryClient, topic_subject_name_strategy
from confluent_kafka.schema_registry.avro import AvroDeserializer
from confluent_kafka.serialization import MessageField, SerializationContext

import kafkalab
from kafkalab.cluster import tables
from kafkalab.cluster.messages import all_messages

READING = (kafkalab.SCHEMAS / "reading.avsc").read_text()
OWN = ["_schema_id", "_partition", "_offset", "_timestamp", "_key", "_headers"]


@pytest.fixture(params=["fastavro", "polars"])
def decoder(request, monkeypatch):
    """What decodes a flat schema."""
    if request.param == "polars":
        pytest.importorskip("polars")
    else:
        monkeypatch.setattr(tables, "find_spec", lambda _name: None)
    return request.param


@pytest.fixture
def registry(lab):
    with SchemaRegistryClient(lab.registry) as client:
        yield client


class Topic:
    """An empty topic, to which a test writes."""

    def __init__(self, lab, registry, name, partitions=1, **config):
        self.lab, self.registry, self.name = lab, registry, name
        lab.fresh_topic(name, partitions, **config)
        self.producer = Producer(lab.client)
        self.number = 0

    def frame(self, schema, references=()):
        self.number += 1
        known = Schema(schema, "AVRO", list(references))
        return struct.pack(">bI", 0, self.registry.register_schema(f"{self.name}-{self.number}-value", known))

    def write(self, schema, *records, **message):
        frame, parsed = self.frame(schema), fastavro.parse_schema(json.loads(schema))
        self.send(*(frame + body(parsed, record) for record in records), **message)

    def send(self, *values, **message):
        for value in values:
            self.producer.produce(self.name, value, **message)
        assert self.producer.flush(30) == 0

    def table(self, **bounds):
        return kafkalab.table(self.lab, self.name, **bounds)

    def official(self, reader_schema=None, end=None):
        """Return what the official deserializer makes of each value."""
        strategy = {"subject.name.strategy": topic_subject_name_strategy}
        deserialize = AvroDeserializer(self.registry, reader_schema, conf=strategy)
        return [
            deserialize(m.value(), SerializationContext(self.name, MessageField.VALUE, m.headers()))
            for m in all_messages(self.lab.client, self.name)[:end]
        ]


@pytest.fixture
def topic(lab, registry, request):
    name = re.sub(r"\W+", "-", request.node.name)
    return lambda partitions=1, **config: Topic(lab, registry, name, partitions, **config)


def body(parsed, record):
    stream = BytesIO()
    fastavro.schemaless_writer(stream, parsed, record)
    return stream.getvalue()


def fields(table):
    """Return the rows of a table as records, with None for what is missing."""
    rows = table.drop(columns=OWN).astype(object)
    return rows.where(rows.notna(), None).to_dict("records")


def readings(count, first=0):
    return [
        {"sensor": f"süd {n}", "number": n, "celsius": n / 3, "note": None if n % 2 else "open"}
        for n in range(first, first + count)
    ]


def test_columns_are_the_fields_and_what_kafka_keeps(topic, decoder):
    topic = topic(partitions=3)
    before = datetime.now(UTC) - timedelta(seconds=1)
    for partition in (2, 0, 1):
        topic.write(READING, *readings(5, 10 * partition), partition=partition, key=f"key {partition}")
    table = topic.table()
    assert fields(table) == topic.official() == [reading for first in (0, 10, 20) for reading in readings(5, first)]
    assert table["_partition"].to_list() == [0] * 5 + [1] * 5 + [2] * 5
    assert table["_offset"].to_list() == [*range(5)] * 3
    assert table["_key"].to_list() == [b"key 0"] * 5 + [b"key 1"] * 5 + [b"key 2"] * 5
    assert table["_headers"].to_list() == [None] * 15
    assert table["_timestamp"].between(before, before + timedelta(minutes=1)).all()
    types = {name: str(dtype) for name, dtype in table.dtypes.items()}
    assert types == {
        "sensor": "str", "number": "int64", "celsius": "float64", "note": "str", "_schema_id": "int64",
        "_partition": "int32", "_offset": "int64", "_timestamp": "datetime64[ms, UTC]", "_key": "object",
        "_headers": "object",
    }  # fmt: skip
    assert table.index.equals(pd.RangeIndex(15))
    table.loc[0, "number"] = 7  # the table is the caller's own
    assert table["number"].to_list()[:2] == [7, 1]


def test_chunks_make_no_difference(topic, decoder, monkeypatch):
    topic = topic(partitions=2)
    topic.write(READING, *readings(10), partition=0)
    topic.send(None, partition=1)
    topic.write(
        json.dumps({"type": "record", "name": "R", "fields": [{"name": "new", "type": "long"}]}), {"new": 2**62}
    )
    whole = topic.table()
    monkeypatch.setattr(tables, "_CHUNK", 3)
    pd.testing.assert_frame_equal(topic.table(), whole)
    assert whole["new"].dropna().to_list() == [2**62]


def test_several_schema_ids_and_tombstones(topic, decoder):
    topic = topic()
    old = {"type": "record", "name": "R", "fields": [{"name": "a", "type": "long"}, {"name": "ok", "type": "boolean"}]}
    new = {
        "type": "record",
        "name": "R",
        "fields": [{"name": "a", "type": "long"}, {"name": "b", "type": "long", "default": 5}],
    }
    topic.write(json.dumps(old), {"a": 2**60 + 1, "ok": True}, {"a": 2, "ok": False})
    topic.send(None, key="gone")
    topic.write(json.dumps(new), {"a": 3, "b": 2**60 + 3})
    topic.write(json.dumps(old), {"a": 4, "ok": True})
    table = topic.table()
    assert fields(table) == [
        {"a": 2**60 + 1, "ok": True, "b": None},
        {"a": 2, "ok": False, "b": None},
        {"a": None, "ok": None, "b": None},
        {"a": 3, "ok": None, "b": 2**60 + 3},
        {"a": 4, "ok": True, "b": None},
    ]
    assert [str(table[name].dtype) for name in ("a", "ok", "b", "_schema_id")] == ["Int64", "boolean", "Int64", "Int64"]
    assert table["_schema_id"].isna().to_list() == [False, False, True, False, False]
    assert table["_schema_id"].nunique() == 2
    assert table["_key"].to_list() == [None, None, b"gone", None, None]

    table = topic.table(reader_schema=json.dumps(new), end=2)
    assert fields(table) == topic.official(json.dumps(new), end=2) == [{"a": 2**60 + 1, "b": 5}, {"a": 2, "b": 5}]
    assert [str(table[name].dtype) for name in ("a", "b")] == ["int64", "int64"]
    assert list(topic.table(reader_schema=json.dumps(new), start=2, end=3)) == ["a", "b", *OWN]
    assert list(topic.table(reader_schema=json.dumps(new), start=9)) == ["a", "b", *OWN]


NOON = datetime(2026, 11, 26, 12, 0, 0, 1000, UTC)
TYPES = {
    "boolean": ("boolean", [True, False]),
    "int": ("int", [1, 3_000_000_000]),
    "long": ("long", [-(2**63), 2**63 - 1]),
    "float": ("float", [0.1, float("-inf")]),
    "double": ("double", [0.1, 1e300]),
    "string": ("string", ["", "ü"]),
    "bytes": ("bytes", [b"", b"\0\xff"]),
    "null": ("null", [None, None]),
    "whole_or_null": (["null", "long"], [None, 2**53 + 1]),
    "null_or_truth": (["boolean", "null"], [None, True]),
    "float_or_null": (["null", "float"], [None, 0.1]),
    "bytes_or_null": (["null", "bytes"], [None, b"x"]),
    "number_or_text": (["long", "string"], [7, "seven"]),
    "enum": ({"type": "enum", "name": "E", "symbols": ["a", "b"]}, ["b", "a"]),
    "named": ("E", ["a", "b"]),
    "fixed": ({"type": "fixed", "name": "F", "size": 2}, [b"ab", b"\0\1"]),
    "array": ({"type": "array", "items": "int"}, [[], [1, 2]]),
    "map": ({"type": "map", "values": "int"}, [{}, {"a": 1}]),
    "record": ({"type": "record", "name": "In", "fields": [{"name": "x", "type": "int"}]}, [{"x": 1}, {"x": 2}]),
    "date": ({"type": "int", "logicalType": "date"}, [date(1969, 12, 31), date(2026, 11, 26)]),
    "decimal": (
        {"type": "bytes", "logicalType": "decimal", "precision": 5, "scale": 2}, [Decimal("1.20"), Decimal("-3.45")],
    ),
    "uuid": ({"type": "string", "logicalType": "uuid"}, [UUID(int=1), UUID(int=2)]),
    "unknown": ({"type": "string", "logicalType": "shoe-size"}, ["41", "42"]),
    "millis": ({"type": "long", "logicalType": "timestamp-millis"}, [NOON.replace(year=1969), NOON]),
    "micros": (["null", {"type": "long", "logicalType": "timestamp-micros"}], [None, NOON.replace(microsecond=1)]),
    "local": ({"type": "long", "logicalType": "local-timestamp-millis"}, [NOON.replace(tzinfo=None)] * 2),
}  # fmt: skip
DTYPES = {
    "boolean": "bool", "int": "int64", "long": "int64", "float": "float64", "double": "float64", "string": "str",
    "whole_or_null": "Int64", "null_or_truth": "boolean", "float_or_null": "float64", "enum": "str", "named": "str",
    "unknown": "str", "millis": "datetime64[ms, UTC]", "micros": "datetime64[us, UTC]", "local": "datetime64[ms]",
}  # fmt: skip
FLAT = [name for name in TYPES if tables._alike(TYPES[name][0]) not in (None, "null")]  # what polars reads


@pytest.mark.parametrize("names", [list(TYPES), FLAT], ids=["all", "flat"])
def test_each_type_has_its_column(topic, decoder, names):
    topic = topic()
    schema = {"type": "record", "name": "R", "fields": [{"name": name, "type": TYPES[name][0]} for name in names]}
    topic.write(json.dumps(schema), *({name: TYPES[name][1][row] for name in names} for row in (0, 1)))
    table = topic.table()
    assert fields(table) == topic.official()
    assert {name: str(table[name].dtype) for name in names} == {name: DTYPES.get(name, "object") for name in names}


@pytest.mark.parametrize("schema", ['"string"', '["null", "string"]', '{"type": "map", "values": "string"}'])
def test_a_schema_that_is_no_record_has_one_column(topic, schema):
    topic = topic()
    topic.write(schema, *[{"a": "b"}] * 2 if "map" in schema else ["x", "y"])
    assert topic.table()["value"].to_list() == topic.official()


def test_references_and_recursion(topic, decoder):
    topic = topic()
    inner = {"type": "record", "name": "Inner", "namespace": "a", "fields": [{"name": "x", "type": "int"}]}
    topic.registry.register_schema(f"{topic.name}-inner", Schema(json.dumps(inner), "AVRO"))
    items = [{"name": "one", "type": "a.Inner"}, {"name": "next", "type": ["null", "Node"]}]
    node = {"type": "record", "name": "Node", "fields": items}
    frame = topic.frame(json.dumps(node), [SchemaReference("a.Inner", f"{topic.name}-inner", 1)])
    items[0]["type"] = inner
    record = {"one": {"x": 1}, "next": {"one": {"x": 2}, "next": None}}
    topic.send(frame + body(fastavro.parse_schema(node), record))
    assert fields(topic.table()) == topic.official() == [record]


def test_a_frame_in_a_header(topic, decoder):
    topic = topic()
    parsed = fastavro.parse_schema(json.loads(READING))
    header = ("__value_schema_id", topic.frame(READING))
    topic.send(*(body(parsed, reading) for reading in readings(2)), headers=[header, ("trace", b"7")])
    topic.write(READING, *readings(1, 2))
    table = topic.table()
    assert fields(table) == topic.official() == readings(3)
    assert table["_headers"].to_list() == [[header, ("trace", b"7")]] * 2 + [None]


def test_bounds(topic):
    topic = topic(partitions=2, retention_ms="-1")
    moments = [datetime(2026, 1, day, tzinfo=UTC) for day in (1, 2, 3)]
    for partition in (0, 1):
        for number, moment in enumerate(moments):
            topic.write(READING, *readings(2, number), partition=partition, timestamp=int(moment.timestamp() * 1000))

    def places(**bounds):
        return [*zip(*(topic.table(**bounds)[name] for name in ("_partition", "_offset")), strict=True)]

    assert places() == [(p, o) for p in (0, 1) for o in range(6)]
    assert places(start=4) == places(start=moments[2]) == [(0, 4), (0, 5), (1, 4), (1, 5)]
    assert places(end=2) == places(end=moments[1]) == places(end=moments[0] + timedelta(microseconds=1))
    assert places(end=2) == [(0, 0), (0, 1), (1, 0), (1, 1)]
    assert places(start=1, end=moments[1]) == [(0, 1), (1, 1)]
    assert places(start=moments[2] + timedelta(1)) == places(end=0) == places(start=5, end=2) == []
    assert places(start=topic.table()["_timestamp"].max()) == places(start=4)
    assert list(topic.table(end=0)) == OWN
    assert len(places(start=datetime(1960, 1, 1, tzinfo=UTC))) == 12
    wrongs = {NOON.replace(tzinfo=None): "no time zone", "2026-01-01": "neither an offset nor a datetime", -1: "from 0"}
    for wrong, what in wrongs.items():
        with pytest.raises(kafkalab.LabError, match=what):
            topic.table(start=wrong)


def test_offsets_without_a_message(topic):
    """Markers of transactions take offsets, and what was aborted is not for readers of committed messages."""
    topic = topic()
    topic.producer = Producer({**topic.lab.client, "transactional.id": topic.name})
    topic.producer.init_transactions()
    for end in (topic.producer.commit_transaction, topic.producer.abort_transaction, topic.producer.commit_transaction):
        topic.producer.begin_transaction()
        topic.write(READING, *readings(2))
        end()
    assert topic.table()["_offset"].to_list() == [0, 1, 6, 7]
    assert topic.table(end=4)["_offset"].to_list() == [0, 1]
    assert topic.table(end=7)["_offset"].to_list() == [0, 1, 6]
    topic.producer.begin_transaction()
    topic.write(READING, *readings(2))
    assert topic.table()["_offset"].to_list() == [0, 1, 6, 7]
    topic.producer.abort_transaction()


BAD = {
    "text": (b"21.5 degrees", "b'21.5 '…, is not framed Avro"),
    "empty": (b"", "not framed Avro"),
    "newer": (b"\1" + bytes(20), "newer frame"),
    "unknown": (struct.pack(">bI", 0, 2**31 - 1) + b"x", "does not know schema id 2147483647"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_value_without_a_known_frame(topic, name):
    topic = topic()
    topic.write(READING, *readings(2))
    topic.send(BAD[name][0])
    with pytest.raises(kafkalab.LabError) as caught:
        topic.table()
    assert BAD[name][1] in str(caught.value)
    assert f"partition 0, offset 2 of '{topic.name}'" in str(caught.value)
    assert len(topic.table(end=2)) == 2


@pytest.mark.parametrize(
    ("damage", "what"),
    [
        (lambda value: value[:-9], "EOFError"),
        (lambda value: value + bytes(3), "3 bytes of its body are left over"),
        (lambda value: value[:5] + b"\xfe\xff\xff\x0f" + value[6:], "Error"),
        (lambda value: value[:7] + b"\xff" + value[8:], "UnicodeDecodeError"),
    ],
)
def test_a_body_that_does_not_fit_is_named(topic, decoder, damage, what):
    topic = topic()
    frame, parsed = topic.frame(READING), fastavro.parse_schema(json.loads(READING))
    values = [frame + body(parsed, reading) for reading in readings(5)]
    topic.send(*values[:3], damage(values[3]), values[4])
    with pytest.raises(kafkalab.LabError, match=what) as caught:
        topic.table()
    assert "offset 3" in str(caught.value)


def test_a_schema_of_another_kind(topic):
    topic = topic()
    number = topic.registry.register_schema(
        f"{topic.name}-value",
        Schema('{"$schema": "http://json-schema.org/draft-07/schema#", "type": "object"}', "JSON"),
    )
    topic.send(struct.pack(">bI", 0, number) + b"{}")
    with pytest.raises(kafkalab.LabError, match="its schema is JSON, not Avro"):
        topic.table()


def test_a_field_that_is_called_as_a_column(topic):
    topic = topic()
    topic.write(json.dumps({"type": "record", "name": "R", "fields": [{"name": "_key", "type": "int"}]}), {"_key": 1})
    with pytest.raises(kafkalab.LabError, match="its field _key"):
        topic.table()


def test_a_time_that_the_reader_takes_for_a_number_is_what_the_deserializer_makes_of_it(topic, decoder):
    """Fastavro applies the logical type of the writer."""
    topic = topic()
    kinds = ({"type": "long", "logicalType": "timestamp-millis"}, "long")
    written, read = (
        json.dumps({"type": "record", "name": "R", "fields": [{"name": "at", "type": kind}]}) for kind in kinds
    )
    topic.write(written, {"at": datetime(2026, 1, 1, tzinfo=UTC)})
    assert [{"at": at} for at in topic.table(reader_schema=read)["at"]] == topic.official(read)


def test_a_reader_schema_that_does_not_fit(topic, decoder):
    topic = topic()
    topic.write(READING, *readings(2))
    with pytest.raises(kafkalab.LabError, match="reader_schema is not an Avro schema"):
        topic.table(reader_schema='{"type": "recrod"}')
    other = json.loads(READING)
    other["fields"].append({"name": "place", "type": "string"})
    with pytest.raises(kafkalab.LabError, match=r"offset 0 of .*place"):
        topic.table(reader_schema=json.dumps(other))


def test_no_topic_and_no_registry(lab, topic):
    with pytest.raises(kafkalab.LabError, match=r"topic 'nowhere' cannot be read: .*Unknown topic"):
        kafkalab.table(lab, "nowhere")
    topic = topic()
    topic.write(READING, *readings(1))
    silent = kafkalab.Lab(lab.client, {**lab.registry, "url": "http://127.0.0.1:9", "max.retries": 0})
    with pytest.raises(kafkalab.LabError, match="the registry does not answer"):
        kafkalab.table(silent, topic.name)
