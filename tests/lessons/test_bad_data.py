import contextlib

import httpx2
import matplotlib as mpl
import pytest
from confluent_kafka.schema_registry import SchemaRegistryClient
from matplotlib.colors import to_hex

from kafkalab.lessons.bad_data import FATES, Relay, draw_fates, draw_sequences

mpl.use("agg")


def test_a_relay_is_the_registry_while_it_is_open_and_nobody_while_it_is_shut(lab):
    with (
        contextlib.closing(Relay(lab)) as relay,
        SchemaRegistryClient(lab.registry) as real,
        SchemaRegistryClient({**relay.client, "max.retries": 0}) as client,
    ):
        assert client.get_subjects() == real.get_subjects()
        relay.shut()
        with pytest.raises(httpx2.ConnectError):
            client.get_subjects()
        relay.open()
        assert client.get_subjects() == real.get_subjects()
        relay.close()
        with pytest.raises(httpx2.ConnectError):
            client.get_subjects()


def test_a_square_for_each_message_and_a_cross_on_each_bad_one():
    ways = {"stop": {0: "good", 1: "not read"}, "aside": {0: "good", 1: "put aside"}}
    figure = draw_fates(ways, [1], "Ways")
    *squares, crosses = figure.axes[0].collections
    found = {each.get_label(): (to_hex(each.get_facecolor()), each.get_offsets().tolist()) for each in squares}
    assert found == {
        "good": (FATES["good"].lower(), [[0, 0], [0, 1]]),
        "put aside": (FATES["put aside"].lower(), [[1, 1]]),
        "not read": (FATES["not read"].lower(), [[1, 0]]),
    }
    assert crosses.get_offsets().tolist() == [[1, 0], [1, 1]]


def test_a_line_for_each_key_over_the_places_in_the_sequence():
    figure = draw_sequences({"kept": [0, 1, 2], "changed": [1, 2, 0]}, ["a", "b", "a"], "Sequences")
    kept, changed = figure.axes
    assert [(list(line.get_xdata()), list(line.get_ydata())) for line in kept.lines] == [([1, 3], [0, 2]), ([2], [1])]
    assert [list(line.get_ydata()) for line in changed.lines] == [[2, 0], [1]]
    assert not {line.get_color() for line in kept.lines} & {*FATES.values()}
