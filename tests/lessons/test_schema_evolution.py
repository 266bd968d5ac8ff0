from datetime import UTC, datetime
from decimal import Decimal

import matplotlib as mpl
import pandas as pd
import pytest

from kafkalab.lessons.schema_evolution import draw_matrix, meet

mpl.use("agg")

NUMBER = {"name": "number", "type": "int"}
STATE = {"type": "enum", "name": "State", "symbols": ["open", "paid"], "default": "open"}
MORE = {**STATE, "symbols": ["open", "paid", "sent"]}
INSTANT = {"type": "long", "logicalType": "timestamp-millis"}
DECIMAL = {"type": "bytes", "logicalType": "decimal", "precision": 9, "scale": 2}
MONEY = {"type": "record", "name": "Money", "fields": [{"name": "cents", "type": "long"}]}


def record(*types, **more):
    fields = [NUMBER, *({"name": "value", "type": kind, **more} for kind in types)]
    return {"type": "record", "name": "Order", "fields": fields}


@pytest.mark.parametrize(
    ("writer", "reader", "outcome"),
    [
        (record(), record("string", default="-"), "right"),
        (record(), record("string"), "all fail"),
        (record("string"), record(), "right"),
        (record("int"), record("long"), "right"),
        (record("long"), record("int"), "all fail"),
        (record("long"), record("double"), "changed"),
        (record("string"), record("bytes"), "right"),
        (record("bytes"), record("string"), "some fail"),
        (record("int"), record(["null", "int"]), "right"),
        (record(["null", "int"]), record("int"), "some fail"),
        (record(STATE), record(MORE), "right"),
        (record(MORE), record(STATE), "changed"),
        (record("long"), record(INSTANT), "changed"),
        (record(INSTANT), record("long"), "changed"),
        (record(DECIMAL), record({**DECIMAL, "scale": 4}), "right"),
        (record("string"), record(MONEY), "all fail"),
    ],
)
def test_readers_meet_what_was_written(writer, reader, outcome):
    assert meet(writer, reader).outcome == outcome


def test_the_example_is_the_first_value_that_is_not_right():
    assert meet(record(MORE), record(STATE))[1:] == ("sent", "open")
    assert meet(record("long"), record("double"))[1:] == (2**53 + 1, 2.0**53)
    assert meet(record("bytes"), record("string")).written == b"\xff"
    assert "No default value" in meet(record(), record("string")).read
    assert meet(record("int"), record("long"))[1:] == (None, None)


def test_a_logical_type_is_the_writers():
    written = meet(record(INSTANT), record("long"))
    assert written.read == written.written == datetime(2026, 1, 1, tzinfo=UTC)
    assert meet(record("int"), record("string")).written == 7
    assert meet(record(DECIMAL), record("bytes")).read == Decimal("12.34")


def test_the_matrix_has_a_sign_in_each_cell():
    answers = pd.DataFrame({"BACKWARD": [True, False], "FULL_TRANSITIVE": [False, False]}, ["add", "remove"])
    outcomes = pd.DataFrame(
        {"new reader, old bytes": ["right", "some fail"], "other": ["changed", "all fail"]}, ["add", "remove"]
    )
    figure = draw_matrix(answers, outcomes)
    left, right = ([text.get_text() for text in axes.texts] for axes in figure.axes)
    assert left == ["✓", "✗", "✗", "✗"]
    assert right == ["✓", "≠", "some ✗", "✗"]
    names = [label.get_text() for label in figure.axes[0].get_xticklabels()]
    assert names == ["BACKWARD", "FULL\nTRANSITIVE"]
