from types import SimpleNamespace

import matplotlib as mpl
import pandas as pd
from confluent_kafka import TopicCollection
from confluent_kafka.admin import AdminClient
from matplotlib.colors import to_hex

from kafkalab.live import COLOURS
from kafkalab.replicas import by_broker, timeline

mpl.use("agg")


def nodes(*ids):
    return [SimpleNamespace(id=number) for number in ids]


def texts(figure):
    return [text.get_text() for text in figure.axes[0].texts]


def test_a_real_topic_has_its_leaders_on_the_one_broker(lab):
    lab.fresh_topic("replicas", partitions=3)
    admin = AdminClient(lab.client)  # named, because an answer comes only while its client lives
    topic = admin.describe_topics(TopicCollection(["replicas"]))["replicas"].result()
    figure = by_broker(topic.partitions, [0], "Topic replicas")
    assert figure.axes[0].get_title() == "Topic replicas"
    assert texts(figure) == ["leader"] * 3


def test_leader_follower_and_out_of_sync_are_told_apart():
    partition = SimpleNamespace(id=0, leader=nodes(2)[0], replicas=nodes(1, 2, 0), isr=nodes(2, 0))
    leaderless = SimpleNamespace(id=1, leader=None, replicas=nodes(1), isr=nodes(1))
    figure = by_broker([leaderless, partition], [0, 1, 2], "Topic")
    assert texts(figure) == ["out of sync", "leader", "follower", "follower"]


def test_timeline_shows_leaders_in_sync_replicas_and_acknowledgements():
    history = pd.DataFrame(
        [(0, 0, 1, {0, 1}), (0, 1, 0, {0, 1}), (1, 0, 0, {0}), (1, 1, 0, {0}), (2, 0, 0, {0, 1}), (2, 1, 0, {0, 1})],
        columns=["time", "partition", "leader", "in_sync"],
    )
    figure = timeline(history, {"all": [0.5, 0.1, 1.5]}, {"kill -9": 0.9})
    leaders, replicas, messages = figure.axes
    bars = [(bar.get_x(), bar.get_width(), to_hex(bar.get_facecolor()).upper()) for bar in leaders.patches]
    assert bars[:2] == [(0, 1, COLOURS[1]), (1, 1, COLOURS[0])]
    assert [label.get_text() for label in replicas.get_yticklabels()] == ["broker-0", "broker-1"]
    assert list(messages.lines[0].get_xdata()) == [0.1, 0.5, 1.5]
    assert texts(figure) == ["kill -9"]


def test_timeline_leaves_a_partition_without_leader_white():
    rows = [(0, 0, 1, {1}), (1, 0, None, set()), (2, 0, 1, {1}), (3, 0, 1, {1})]
    history = pd.DataFrame(rows, columns=["time", "partition", "leader", "in_sync"])
    leaders = timeline(history, {"all": [0.5]}, {}).axes[0]
    assert [to_hex(bar.get_facecolor()).upper() for bar in leaders.patches[:3]] == [COLOURS[1], "#FFFFFF", COLOURS[1]]
