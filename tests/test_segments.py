import pytest
from confluent_kafka import Producer

from kafkalab.segments import batch_at, index_entries


def folder(lab, topic):
    return lab.stack.folder / "data" / "broker-0" / f"{topic}-0"


def batches(log):
    position = 0
    while batch := batch_at(log, position):
        yield position, batch
        position += batch.size


def produce(lab, topic, batches, **config):
    """Send batches of ten messages."""
    with Producer({**lab.client, "linger.ms": 5000, **config}) as producer:
        for number in range(batches * 10):
            producer.produce(topic, f"reading {number:04}")
            if number % 10 == 9:
                producer.flush(20)


def test_batches_follow_one_another_through_the_segments(lab):
    lab.fresh_topic("segments", segment_bytes="8192", index_interval_bytes="1024")
    produce(lab, "segments", 100)
    logs = sorted(folder(lab, "segments").glob("*.log"))
    assert len(logs) > 2
    expected = 0
    for log in logs:
        assert int(log.stem) == expected
        for position, batch in batches(log):
            assert (batch.magic, batch.base_offset, batch.compression) == (2, expected, "none")
            assert batch.last_offset == expected + batch.records - 1
            assert f"reading {expected:04}".encode() in log.read_bytes()[position : position + batch.size]
            expected += batch.records
    assert expected == 1000


def test_index_entries_are_where_batches_begin(lab):
    lab.fresh_topic("segments", segment_bytes="8192", index_interval_bytes="1024")
    produce(lab, "segments", 100)
    for index in sorted(folder(lab, "segments").glob("*.index"))[:-1]:
        entries = index_entries(index)
        assert len(entries) > 3
        for offset, position in entries:
            assert batch_at(index.with_suffix(".log"), position).last_offset == offset


@pytest.mark.parametrize("codec", ["gzip", "snappy", "lz4", "zstd"])
def test_header_names_codec_and_idempotent_producer(lab, codec):
    lab.fresh_topic("segments")
    produce(lab, "segments", 1, **{"compression.type": codec, "enable.idempotence": True, "batch.num.messages": 10})
    ((_, batch),) = batches(folder(lab, "segments") / f"{0:020}.log")
    assert (batch.compression, batch.base_sequence, batch.producer_epoch) == (codec, 0, 0)
    assert batch.producer_id >= 0


def test_reserved_space_of_an_index_holds_no_entries(lab):
    lab.fresh_topic("segments")
    produce(lab, "segments", 1)
    index = folder(lab, "segments") / f"{0:020}.index"
    assert index.stat().st_size > 0
    assert index_entries(index) == []
