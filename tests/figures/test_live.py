import matplotlib as mpl
import pytest

import kafkalab

mpl.use("agg")


@pytest.fixture
def live():
    return kafkalab.LiveFigure({"Left": ["a", "b"], "Right": ["c"]}, xlabel="time (s)", ylabel="value")


def drawn(live, name):
    line = next(line for axes in live.figure.axes for line in axes.lines if line.get_label() == name)
    return list(zip(*line.get_data(), strict=True))


def test_last_frame_shows_first_and_last_point_and_bounded_many(live):
    with live:
        for number in range(25_000):
            live.add("a", number, number**2)
    points = drawn(live, "a")
    assert points[0] == (0, 0)
    assert points[-1] == (24_999, 24_999**2)
    assert 400 < len(points) < 1100


def test_panels_are_labelled(live):
    with live:
        live.add("c", 1, 2)
    assert [axes.get_title() for axes in live.figure.axes] == ["Left", "Right"]
    assert all(axes.get_xlabel() == "time (s)" and axes.get_ylabel() == "value" for axes in live.figure.axes)
    assert drawn(live, "c")[-1] == (1, 2)


def test_wait_says_what_it_waited_for():
    with pytest.raises(kafkalab.LabError, match="timed out after 0 s waiting for a miracle"):
        kafkalab.wait_until(lambda: False, "a miracle", seconds=0.1)


@pytest.mark.parametrize("highlight", [None, 1, 5])
def test_workflow_shows_seven_parts_and_the_notes(highlight):
    texts = [text.get_text() for text in kafkalab.workflow({2: "240 messages"}, highlight).axes[0].texts]
    assert [number for number in "1234567" if any(text.startswith(number) for text in texts)] == list("1234567")
    assert "240 messages" in texts
