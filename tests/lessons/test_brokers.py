from types import SimpleNamespace

import matplotlib as mpl
import pandas as pd
import pytest
from confluent_kafka import Producer, TopicCollection
from confluent_kafka.admin import AdminClient
from matplotlib.colors import to_hex

from kafkalab.figures.colours import COLOURS
from kafkalab.lessons.brokers import (
    PartitionState,
    Timeline,
    batch_at,
    draw_failover,
    draw_replicas,
    index_entries,
    partition_states,
    record_batches,
)

mpl.use("agg")


def folder(lab, topic):
    return lab.stack.folder / "data" / "broker-0" / f"{topic}-0"


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
        position = 0
        while batch := batch_at(log, position):
            assert (batch.magic, batch.base_offset, batch.compression) == (2, expected, "none")
            assert batch.last_offset == expected + batch.records - 1
            assert f"reading {expected:04}".encode() in log.read_bytes()[position : position + batch.size]
            expected += batch.records
            position += batch.size
    assert expected == 1000
    assert sum(batch.records for batch in record_batches(folder(lab, "segments"))) == 1000


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
    (batch,) = record_batches(folder(lab, "segments"))
    assert (batch.compression, batch.base_sequence, batch.producer_epoch) == (codec, 0, 0)
    assert batch.producer_id >= 0


def test_reserved_space_of_an_index_holds_no_entries(lab):
    lab.fresh_topic("segments")
    produce(lab, "segments", 1)
    index = folder(lab, "segments") / f"{0:020}.index"
    assert index.stat().st_size > 0
    assert index_entries(index) == []


def test_state_of_partitions_is_asked_and_empty_where_there_is_none(lab):
    lab.fresh_topic("timeline", partitions=2)
    admin = AdminClient(lab.client)
    alone = PartitionState(leader=0, replicas=(0,), in_sync=frozenset({0}))
    assert partition_states(admin, "timeline") == {0: alone, 1: alone}
    nobody = AdminClient({"bootstrap.servers": "127.0.0.1:1", "log_level": 0})
    assert partition_states(nobody, "timeline", seconds=0.1) == {}


def test_recording_has_acknowledgements_looks_and_events(lab):
    lab.fresh_topic("timeline", partitions=2)
    timeline = Timeline(AdminClient(lab.client), "timeline", ["all"])
    with Producer({**lab.client, "linger.ms": 0}) as producer:

        def send():
            producer.produce("timeline", "x", on_delivery=lambda error, _: error or timeline.acknowledge("all"))
            producer.poll(0)

        with timeline.recording("What is acknowledged and in sync."):
            timeline.run_until(send, lambda: len(timeline.acknowledged["all"]) > 3, "acknowledgements")
            timeline.mark("enough")
            timeline.run_for(send, 0.5)
    history = timeline.history
    assert len(timeline.states) == 2
    assert set(history["partition"]) == {0, 1}
    assert len(history) >= 4
    assert set(history["leader"]) == {0}
    assert timeline.acknowledged["all"] == sorted(timeline.acknowledged["all"])
    assert timeline.acknowledged["all"][3] <= timeline.events["enough"] < timeline.seconds - 0.5
    assert draw_failover(history, timeline.acknowledged, timeline.events).axes[2].lines


def nodes(*ids):
    return [SimpleNamespace(id=number) for number in ids]


def texts(figure):
    return [text.get_text() for text in figure.axes[0].texts]


def test_a_real_topic_has_its_leaders_on_the_one_broker(lab):
    lab.fresh_topic("replicas", partitions=3)
    admin = AdminClient(lab.client)  # named, because an answer comes only while its client lives
    topic = admin.describe_topics(TopicCollection(["replicas"]))["replicas"].result()
    figure = draw_replicas(topic.partitions, [0], "Topic replicas")
    assert figure.axes[0].get_title() == "Topic replicas"
    assert texts(figure) == ["leader"] * 3


def test_leader_follower_and_out_of_sync_are_told_apart():
    partition = SimpleNamespace(id=0, leader=nodes(2)[0], replicas=nodes(1, 2, 0), isr=nodes(2, 0))
    leaderless = SimpleNamespace(id=1, leader=None, replicas=nodes(1), isr=nodes(1))
    figure = draw_replicas([leaderless, partition], [0, 1, 2], "Topic")
    assert texts(figure) == ["out of sync", "leader", "follower", "follower"]


def test_timeline_shows_leaders_in_sync_replicas_and_acknowledgements():
    history = pd.DataFrame(
        [(0, 0, 1, {0, 1}), (0, 1, 0, {0, 1}), (1, 0, 0, {0}), (1, 1, 0, {0}), (2, 0, 0, {0, 1}), (2, 1, 0, {0, 1})],
        columns=["time", "partition", "leader", "in_sync"],
    )
    figure = draw_failover(history, {"all": [0.5, 0.1, 1.5]}, {"kill -9": 0.9})
    leaders, replicas, messages = figure.axes
    bars = [(bar.get_x(), bar.get_width(), to_hex(bar.get_facecolor()).upper()) for bar in leaders.patches]
    assert bars[:2] == [(0, 1, COLOURS[1]), (1, 1, COLOURS[0])]
    assert [label.get_text() for label in replicas.get_yticklabels()] == ["broker-0", "broker-1"]
    assert list(messages.lines[0].get_xdata()) == [0.1, 0.5, 1.5]
    assert texts(figure) == ["kill -9"]


def test_timeline_leaves_a_partition_without_leader_white():
    rows = [(0, 0, 1, {1}), (1, 0, None, set()), (2, 0, 1, {1}), (3, 0, 1, {1})]
    history = pd.DataFrame(rows, columns=["time", "partition", "leader", "in_sync"])
    leaders = draw_failover(history, {"all": [0.5]}, {}).axes[0]
    assert [to_hex(bar.get_facecolor()).upper() for bar in leaders.patches[:3]] == [COLOURS[1], "#FFFFFF", COLOURS[1]]
