import threading
import time

import httpx2
import pytest

from kafkalab.lessons.producer import LiveSource

LINES = ["one", "zwei", "trois ✓"]


def test_every_client_gets_every_line():
    with LiveSource(LINES, interval=0) as source:
        for _ in range(2):
            assert httpx2.get(source.url).text.splitlines() == LINES


def test_lines_come_as_time_passes():
    interval, start = 0.1, time.monotonic()
    with LiveSource(LINES, interval) as source:
        assert httpx2.get(source.url).text.splitlines() == LINES
    assert time.monotonic() - start >= len(LINES) * interval


def test_only_this_machine_is_served():
    with LiveSource(LINES, interval=0) as source:
        assert source.url.startswith("http://127.0.0.1:")


def test_end_cuts_an_answer_short_and_leaves_nothing():
    before = set(threading.enumerate())
    with httpx2.Client() as client:
        with LiveSource(["x"] * 1000, interval=0.05) as source:
            answer = client.send(client.build_request("GET", source.url), stream=True)
            lines = answer.iter_lines()
            assert next(lines) == "x"
            end = time.monotonic()
        assert time.monotonic() - end < 30  # the whole answer takes 50
        assert sum(1 for _ in lines) < 999
        answer.close()
    assert set(threading.enumerate()) <= before
    with pytest.raises(httpx2.ConnectError):
        httpx2.get(source.url)


def test_client_that_leaves_does_no_harm(capfd):
    with LiveSource(["x"] * 20, interval=0.02) as source:
        with httpx2.stream("GET", source.url) as answer:
            assert next(answer.iter_lines()) == "x"
        assert httpx2.get(source.url).text.count("x") == 20
    assert capfd.readouterr() == ("", "")
