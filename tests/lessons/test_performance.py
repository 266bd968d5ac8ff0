import json
import time
from itertools import pairwise

import matplotlib as mpl
import psutil
import pytest
from confluent_kafka import Producer

import kafkalab
from kafkalab.lessons import performance
from kafkalab.lessons.performance import Statistics, draw_consumers, draw_ladder, draw_latencies, side_by_side

mpl.use("agg")


def twice(number):
    return 2 * number


def answer():
    ready()  # noqa: F821 - of each process
    return twice(number), given_bytes, time.monotonic()  # noqa: F821 - what is given


def wrong():
    ready()  # noqa: F821
    return no_such_name  # noqa: F821


def wrong_before():
    return no_such_name  # noqa: F821


def tools_of_a_lesson():
    ready()  # noqa: F821
    return [len(BytesIO(b"ab").read()), fastavro.__name__, next(cycle([3])), KafkaException.__name__]  # noqa: F821


def late():
    came = time.monotonic()
    ready()  # noqa: F821
    return came, time.monotonic()


def endless():
    ready()  # noqa: F821
    while True:
        time.sleep(0.1)


def test_processes_know_each_other_s_functions_and_what_is_given():
    told = side_by_side([twice, answer], {"number": 21, "given_bytes": b"\x00\xff"}, processes=2)
    assert [(double, each) for double, each, _ in told] == [(42, b"\x00\xff")] * 2
    assert side_by_side([tools_of_a_lesson], {}, processes=1) == [[2, "fastavro", 3, "KafkaException"]]


def test_processes_wait_for_each_other():
    told = side_by_side([late], {}, processes=3)
    assert max(came for came, _ in told) <= min(went for _, went in told)


@pytest.mark.parametrize("program", [wrong, wrong_before])
def test_error_of_a_process_is_told(program):
    with pytest.raises(kafkalab.LabError, match=r"^the process ended with NameError: name 'no_such_name'"):
        side_by_side([program], {}, processes=2)


def test_processes_that_do_not_end_are_killed(monkeypatch):
    monkeypatch.setattr(performance, "_SECONDS", 0.2)
    before = psutil.Process().children()
    with pytest.raises(kafkalab.LabError, match=r"^timed out after 0\.2 s waiting for the end of a process$"):
        side_by_side([endless], {}, processes=2)
    assert psutil.Process().children() == before


@pytest.mark.parametrize(("most", "requests"), [(1, 20), (100, 1)])
def test_statistics_count_messages_and_requests(lab, most, requests):
    lab.fresh_topic("statistics")
    watch = Statistics()
    settings = {"linger.ms": 1000, "batch.num.messages": most}
    with Producer({**lab.client, **settings, **watch.settings}) as producer:
        for number in range(20):
            producer.produce("statistics", str(number))
        assert producer.flush(30) == 0
        watch.wait(producer, 20)
    assert (watch.messages, watch.requests) == (20, requests)
    assert watch.bytes > 20
    lab.drop_topic("statistics")


def test_statistics_add_up_all_brokers():
    watch = Statistics()
    brokers = {"a": {"req": {"Produce": 2, "Fetch": 1}}, "b": {"req": {"Produce": 3}}, "bootstrap": {"req": {}}}
    watch.settings["stats_cb"](json.dumps({"txmsgs": 9, "tx_bytes": 70, "brokers": brokers}))
    assert (watch.messages, watch.requests, watch.bytes) == (9, 5, 70)


def test_ladder_has_a_bar_for_each_way_and_marks_its_slowest_run():
    sending = {"slow": (0.005, 0.01), "fast": (0.75, 1.0)}
    figure = draw_ladder({"sending": sending, "reading": {"only": (0.5, 0.5)}}, "A title")
    above, below = figure.axes
    assert [bar.get_width() for bar in above.patches] == [1, 100]
    assert list(above.lines[0].get_xdata()) == [0.5, 75]
    assert [label.get_text() for label in above.get_yticklabels()] == ["slow", "fast"]
    assert [text.get_text() for axes in (above, below) for text in axes.texts] == ["1%", "100%", "50%"]


def test_latencies_are_curves_that_end_at_all_and_have_their_means():
    figure = draw_latencies({"even": [0.001, 0.003], "late": [0.001, 0.001, 0.001, 0.101]}, "A title")
    axes = figure.axes[0]
    even, even_mean, late, late_mean, *_ = axes.lines
    assert list(even.get_xdata()) == [1, 3]
    assert all(low <= high for low, high in pairwise(late.get_ydata()))
    assert late.get_ydata()[-1] == 100
    assert (even_mean.get_xdata()[0], even_mean.get_ydata()[0]) == (2, 50)
    assert late_mean.get_xdata()[0] == pytest.approx(26)
    assert late_mean.get_ydata()[0] == 75


def test_consumers_are_drawn_beside_an_equal_gain():
    figure = draw_consumers({1: 10, 4: 35}, 3, "A title")
    gain, measured, partitions = figure.axes[0].lines
    assert list(gain.get_ydata()) == [10, 40]
    assert list(measured.get_ydata()) == [10, 35]
    assert list(partitions.get_xdata()) == [3, 3]
