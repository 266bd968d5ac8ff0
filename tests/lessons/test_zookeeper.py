import matplotlib as mpl
import pytest

from kafkalab.figures.colours import COLOURS
from kafkalab.lessons.zookeeper import draw_znodes

mpl.use("agg")
ZNODES = {"/": False, "/brokers": False, "/brokers/ids": False, "/brokers/ids/0": True, "/brokers-of-old": False}


@pytest.fixture
def texts():
    figure = draw_znodes(ZNODES, {"/brokers/ids/0": "broker 0 is here"})
    return {text.get_text(): text for text in figure.axes[0].texts}


def test_children_follow_their_parent_and_are_indented(texts):
    names = ["/", "brokers", "ids", "0", "brokers-of-old"]
    assert sorted(names, key=lambda name: texts[name].get_position()[1]) == names
    depths = [texts[name].get_position()[0] for name in names]
    assert [depth - depths[0] for depth in depths] == [0, 1, 2, 3, 1]


def test_ephemeral_znodes_look_different(texts):
    assert texts["0"].get_color() == COLOURS[1]
    assert {texts[name].get_color() for name in ("brokers", "ids", "brokers-of-old")} == {COLOURS[0]}


def test_notes_stand_beside_their_znode(texts):
    assert texts["broker 0 is here"].xycoords is texts["0"]
