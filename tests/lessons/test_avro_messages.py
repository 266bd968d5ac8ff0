import io
import json
import struct

import fastavro
import matplotlib as mpl
import pytest
from confluent_kafka.schema_registry import SchemaRegistryClient, topic_subject_name_strategy
from confluent_kafka.schema_registry.avro import AvroDeserializer, AvroSerializer
from confluent_kafka.serialization import MessageField, SerializationContext

import kafkalab
from kafkalab.lessons.avro_messages import anatomy, varint, xray, zigzag

mpl.use("agg")

READING = (kafkalab.SCHEMAS / "reading.avsc").read_text(encoding="utf-8")
RECORD = {"sensor": "süd", "number": 300, "celsius": 21.5, "note": "open window"}
NESTED = json.dumps(
    {
        "type": "record",
        "name": "Outer",
        "fields": [
            {"name": "inner", "type": {"type": "record", "name": "Inner", "fields": [{"name": "n", "type": "long"}]}},
            {"name": "again", "type": ["null", "Inner"]},
            {"name": "flag", "type": {"type": "boolean"}},
            {"name": "raw", "type": "bytes"},
            {"name": "level", "type": {"type": "enum", "name": "Level", "symbols": ["LOW", "HIGH"]}},
            {"name": "many", "type": {"type": "array", "items": "int"}},
        ],
    }
)
OUTER = {"inner": {"n": -1}, "again": {"n": 64}, "flag": True, "raw": b"\x01\x02", "level": "HIGH", "many": [1, 2, 3]}


def body(record, schema):
    stream = io.BytesIO()
    fastavro.schemaless_writer(stream, fastavro.parse_schema(json.loads(schema)), record)
    return stream.getvalue()


def framed(record, schema=READING, schema_id=7):
    return struct.pack(">bI", 0, schema_id) + body(record, schema)


@pytest.mark.parametrize("number", [0, -1, 1, 63, -64, 64, 300, -300, 2**31 - 1, -(2**31), 2**63 - 1, -(2**63)])
def test_varint_is_what_avro_writes(number):
    assert varint(number) == body(number, '{"type": "long"}')


def test_zigzag_keeps_small_numbers_small():
    assert [zigzag(number) for number in (0, -1, 1, -2, 2)] == [0, 1, 2, 3, 4]


@pytest.mark.parametrize(
    ("record", "schema"), [(RECORD, READING), ({**RECORD, "sensor": "", "note": None}, READING), (OUTER, NESTED)]
)
def test_parts_joined_are_the_message(record, schema):
    message = framed(record, schema)
    parts = anatomy(message, schema)
    assert b"".join(part.data for part in parts) == message
    assert all(part.data for part in parts)


def test_every_part_has_its_name_and_value():
    values = [(part.name, part.value) for part in anatomy(framed(RECORD), READING)]
    assert values == [
        ("magic byte", 0),
        ("schema id", 7),
        ("sensor: length", 4),  # bytes, not letters
        ("sensor", "süd"),
        ("number", 300),
        ("celsius", 21.5),
        ("note: branch", 1),
        ("note: length", 11),
        ("note", "open window"),
    ]


def test_null_is_a_branch_without_bytes():
    last = anatomy(framed({**RECORD, "note": None}), READING)[-1]
    assert (last.name, last.data, last.meaning) == ("note: branch", b"\0", "which type of the union follows: null")


def test_records_within_records_have_dotted_names():
    values = {part.name: part.value for part in anatomy(framed(OUTER, NESTED), NESTED)}
    assert values["inner.n"] == -1
    assert values["again.n"] == 64
    assert values["flag"] is True
    assert values["raw"] == b"\x01\x02"
    assert values["level"] == "HIGH"
    assert values["many"] == [1, 2, 3]


def test_another_schema_leaves_bytes_over():
    count = (kafkalab.SCHEMAS / "count.avsc").read_text(encoding="utf-8")
    parts = anatomy(framed({**RECORD, "sensor": "north"}), count)
    assert [(part.name, part.value) for part in parts[2:]] == [("count", 5), ("left over", None)]


@pytest.mark.parametrize("message", [b"", b"49", b"\0\0\0", b"\1\0\0\0\7\2"])
def test_a_message_without_a_frame_is_refused(message):
    with pytest.raises(kafkalab.LabError, match="framed Avro"):
        anatomy(message, READING)


@pytest.mark.parametrize("length", range(5, len(framed(RECORD))))
def test_a_body_that_ends_too_early_is_refused(length):
    with pytest.raises(kafkalab.LabError, match="does not fit the schema"):
        anatomy(framed(RECORD)[:length], READING)


def test_xray_shows_every_byte_and_every_part():
    message = framed(RECORD)
    figure = xray(message, READING, "Inside")
    axes = figure.axes[0]
    texts = [text.get_text() for text in axes.texts]
    assert axes.get_title() == "Inside"
    above = [text.get_text() for text in axes.texts if text.get_position()[1] > 0]
    assert above == [shown for place, byte in enumerate(message) for shown in (f"{byte:02x}", str(place))]
    parts = anatomy(message, READING)
    assert len(axes.patches) == len(message) + len(parts)
    assert {part.name for part in parts} | {part.meaning for part in parts} <= set(texts)


def test_no_two_parts_look_alike():
    axes = xray(framed(RECORD), READING).figure.axes[0]
    looks = {(patch.get_facecolor(), patch.get_hatch()) for patch in axes.patches}
    assert len(looks) == len(anatomy(framed(RECORD), READING))


RECURSIVE = json.dumps(
    {
        "type": "record",
        "name": "Node",
        "namespace": "school",
        "fields": [
            {"name": "price", "type": "string"},
            {"name": "next", "type": ["null", "Node"]},
            {"name": "kids", "type": {"type": "array", "items": "Node"}},
        ],
    }
)


def test_schema_that_names_itself_and_dollars_are_drawn():
    last = {"price": "$1", "next": None, "kids": []}
    message = framed({"price": "$a_b and $", "next": last, "kids": [last]}, RECURSIVE)
    parts = {part.name: part.value for part in anatomy(message, RECURSIVE)}
    assert parts["next.price"] == "$1"
    assert parts["next.kids"] == []
    assert parts["kids"] == [last]
    figure = xray(message, RECURSIVE, "From $1 to $2")
    figure.canvas.draw()  # where a text between two $ would be read as a formula
    assert not any(text.get_parse_math() for text in figure.axes[0].texts if "$" in text.get_text())


def test_bytes_made_by_hand_are_read_by_the_official_deserializer(lab):
    context = SerializationContext("wire", MessageField.VALUE)
    conf = {"subject.name.strategy": topic_subject_name_strategy}
    with SchemaRegistryClient(lab.registry) as registry:
        official = AvroSerializer(registry, READING, conf=conf)(RECORD, context)
        schema_id = anatomy(official, READING)[1].value
        by_hand = framed(RECORD, READING, schema_id)
        assert by_hand == official
        assert AvroDeserializer(registry)(by_hand, context) == RECORD
