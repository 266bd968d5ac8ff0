import matplotlib as mpl
import pytest
from matplotlib.colors import to_hex

import kafkalab
from kafkalab.figures.colours import COLOURS
from kafkalab.lessons.after_zookeeper import MODES, Traffic, draw_modes, metadata_records

mpl.use("agg")
DUMP = """Dumping 00000000000000000000.log
baseOffset: 0 lastOffset: 0 count: 1 partitionLeaderEpoch: 3 isTransactional: false crc: 3305835150
| offset: 0 CreateTime: 1 keySize: 4 sequence: -1 headerKeys: [] LeaderChange: {"version":0,"leaderId":100}
baseOffset: 1 lastOffset: 2 count: 2 partitionLeaderEpoch: 4 isTransactional: false crc: 1491071722
| offset: 1 CreateTime: 1 headerKeys: [] payload: {"type":"NO_OP_RECORD","version":0,"data":{}}
| offset: 2 CreateTime: 1 headerKeys: [] payload: {"type":"TOPIC_RECORD","version":0,"data":{"name":"a payload: {}"}}
"""


def test_records_of_the_metadata_log():
    records = metadata_records(DUMP)
    assert list(records.index) == [0, 1, 2]
    assert list(records["type"]) == ["LeaderChange", "NO_OP_RECORD", "TOPIC_RECORD"]
    assert list(records["epoch"]) == [3, 4, 4]
    assert records.loc[0, "data"]["leaderId"] == 100
    assert records.loc[2, "data"] == {"name": "a payload: {}"}


@pytest.fixture
def traffic(lab):
    lab.fresh_topic("traffic", partitions=3)
    traffic = Traffic(lab.client, "traffic")
    traffic.start()
    traffic.step("one")
    kafkalab.wait_until(lambda: len(traffic.read) > 20, "some numbers")
    traffic.step("two")
    traffic.stop()
    return traffic


def test_traffic_is_acknowledged_and_read(traffic):
    assert traffic.sent > 20
    assert sorted(traffic.acknowledged) == list(range(traffic.sent))
    assert set(traffic.read) >= set(traffic.acknowledged)
    assert not traffic.failed
    assert 0 < traffic.steps["one"] < traffic.steps["two"]


def test_figure_of_traffic_counts_each_message_once_and_numbers_the_steps(traffic):
    figure = traffic.draw("title")
    acknowledged, *_ = figure.axes[0].lines
    assert sum(acknowledged.get_ydata()) == traffic.sent
    assert [text.get_text() for text in figure.axes[0].texts] == ["1", "2"]
    assert {"1  one", "2  two"} <= {text.get_text() for text in figure.legends[0].texts}


def test_figure_of_modes_has_a_dot_for_each_time():
    figure = draw_modes({"start": {"ZooKeeper": [1.0], "KRaft": [2.0]}, "gap": {"ZooKeeper": [3.0], "KRaft": [1.0, 2]}})
    rows = [(list(line.get_xdata()), to_hex(line.get_color()).upper()) for line in figure.axes[1].lines]
    assert rows == [([3.0], MODES["ZooKeeper"]), ([1.0, 2], MODES["KRaft"])]
    assert set(MODES.values()) <= set(COLOURS)
