import threading

import matplotlib as mpl
import pandas as pd
import pytest
from confluent_kafka import Producer

from kafkalab.lessons.failure import Load, draw_choices

mpl.use("agg")


def load_on(lab, topic):
    """Return a load on a new topic with two partitions."""
    lab.fresh_topic(topic, partitions=2)
    group = {**lab.client, "group.id": f"{topic}-group", "auto.offset.reset": "earliest"}
    return Load(topic, {**lab.client, "acks": "all", "enable.idempotence": True}, group, lab.client)


@pytest.fixture
def load(lab):
    """A load that has ended."""
    with load_on(lab, "load") as load:
        load.wait(lambda: len(load.acknowledged) > 50, "some messages")
        load.mark("an event")
        load.until_led_by(0)
        load.until_in_sync()
        load.run_for(0.3)
    return load


def threads():
    return [thread for thread in threading.enumerate() if "_work" in thread.name]


def test_all_that_is_sent_is_acknowledged_and_read(load):
    assert sorted(load.acknowledged) == list(range(len(load.acknowledged)))
    assert set(load.read) == set(load.acknowledged)
    assert not load.refused
    assert (load.outcome()["happened"] == 0).all()
    assert not threads()


def test_outcome_counts_what_was_lost_and_what_is_there_twice(lab, load):
    load.acknowledged.append(-1)
    with Producer(lab.client) as producer:
        producer.produce("load", "0", partition=0)  # again, and behind the others
        producer.produce("load", "0", key="somebody else's", partition=0)
        producer.flush(20)
    happened = load.outcome()["happened"]
    assert happened["acknowledged and lost"] == happened["acknowledged and not read by the group"] == 1
    assert happened["stored twice"] == happened["out of order"] == 1
    assert happened["given up by the producer"] == 0


def test_figure_has_a_dot_and_a_step_for_each_acknowledged_message_and_a_line_for_each_event(load):
    figure = load.draw("a title")
    leaders, in_sync, latency, messages = figure.axes
    dots, *events = latency.lines
    assert len(dots.get_xdata()) == len(load.acknowledged)
    assert [line.get_xdata()[0] for line in events] == list(load.events.values())
    assert messages.lines[0].get_ydata()[-1] == len(load.acknowledged)
    assert messages.lines[1].get_ydata()[-1] == len(load.read)
    assert [text.get_text() for text in leaders.texts] == ["an event"]
    assert [label.get_text() for label in in_sync.get_yticklabels()] == ["broker-0"]


@pytest.mark.parametrize("end", [KeyboardInterrupt, ValueError])
def test_an_error_or_an_interrupt_ends_the_load_at_once(lab, end):
    with pytest.raises(end), load_on(lab, "load-ended"):
        raise end
    assert not threads()


def test_what_ends_a_thread_is_raised_where_the_load_is_waited_for(lab):
    lab.fresh_topic("load-wrong", partitions=2)
    load = Load("load-wrong", {**lab.client, "no.such.setting": "1"}, {**lab.client, "group.id": "wrong"}, lab.client)
    with pytest.raises(Exception, match=r"no\.such\.setting"), load:
        pass
    assert not threads()


def test_figure_of_the_choices_has_a_bar_of_all_messages_for_each_setting():
    index = pd.MultiIndex.from_tuples([("0", 1), ("all", 2)], names=["acks", "min.insync.replicas"])
    choices = pd.DataFrame(
        {"refused": [0, 5], "lost": [5, 0], "kept": [0, 0], "meanwhile": ["nobody", "the follower"]}, index=index
    )
    figure = draw_choices(choices)
    axes = figure.axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["0, 1", "all, 2"]
    assert sum(patch.get_width() for patch in axes.patches) == 10
    assert [text.get_text() for text in axes.texts] == ["meanwhile led by nobody", "meanwhile led by the follower"]
