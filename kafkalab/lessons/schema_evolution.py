"""What becomes of records when two versions of a schema meet, and the matrix of what a registry says to it."""

import io
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any, NamedTuple

import fastavro
from fastavro.read import SchemaResolutionError

from kafkalab.figures.colours import COLOURS

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

_VALUES: dict[str, list[Any]] = {  # of each type, the awkward ones last
    "null": [None],
    "int": [7],
    "long": [7, 2**53 + 1],  # the first whole number that a double does not have
    "double": [1.5],
    "string": ["plum"],
    "bytes": [b"plum", b"\xff"],  # the last is no UTF-8
    "decimal": [Decimal("12.34")],
    "timestamp-millis": [datetime(2026, 1, 1, tzinfo=UTC)],
}
_LOOKS = {  # outcome: sign, colour
    "accepted": ("✓", COLOURS[5]),
    "right": ("✓", COLOURS[5]),
    "changed": ("≠", COLOURS[3]),
    "some fail": ("some ✗", COLOURS[4]),
    "all fail": ("✗", COLOURS[4]),
    "refused": ("✗", COLOURS[4]),
}


class Meeting(NamedTuple):
    """What a reader made of the records that a writer wrote.

    Attributes:
        outcome: `right`; `changed` if all can be read, but one not as it was written or not as the type that the
            reader's schema says; `some fail`; `all fail`.
        written: The value of the last field in the first record that was not right; None if all were.
        read: What the reader made of that value, or what the error said.
    """

    outcome: str
    written: Any = None
    read: Any = None


def meet(writer: Mapping[str, Any], reader: Mapping[str, Any]) -> Meeting:
    """Write records with one schema and read them with another.

    Values are compared place by place: a field stands for the one at the same place in the other schema.

    Args:
        writer: An Avro record of fields whose types this module has values for, as Python's objects.
        reader: Another.
    """
    promised = {type(_last(record)) for record in _records(reader)}
    words: list[str] = []
    example: tuple[Any, ...] = ()
    for record in _records(writer):
        try:
            read: Any = fastavro.schemaless_reader(io.BytesIO(_body(writer, record)), dict(writer), dict(reader))
        except (SchemaResolutionError, UnicodeDecodeError) as error:
            word, value = "fails", str(error)
        else:
            value = _last(read)
            same = all(_plain(a) == _plain(b) for a, b in zip(record.values(), read.values(), strict=False))
            word = "right" if same and type(_last(read)) in promised else "changed"
        if word != "right" and not example:
            example = (_last(record), value)
        words.append(word)
    if "fails" in words:
        return Meeting("all fail" if {*words} == {"fails"} else "some fail", *example)
    return Meeting("changed" if "changed" in words else "right", *example)


def draw_matrix(answers: "pd.DataFrame", meetings: "pd.DataFrame") -> "Figure":
    """Draw what a registry says at each level, and beside it what really happens to the bytes.

    Args:
        answers: A row for each change, a column for each level, True where the registry accepts.
        meetings: A row for each change, a column for each way to meet: outcomes, as `Meeting` has them.
    """
    import matplotlib.pyplot as plt  # noqa: PLC0415 - half a second that only figures need
    from matplotlib.patches import Rectangle  # noqa: PLC0415

    parts = [answers.replace({True: "accepted", False: "refused"}), meetings]
    size = (10.5, 1.6 + 0.34 * len(answers))
    widths = {"width_ratios": [len(part.columns) for part in parts]}
    figure, both = plt.subplots(1, 2, figsize=size, sharey=True, gridspec_kw=widths, layout="constrained")
    for axes, part, title in zip(both, parts, ("What the registry says", "What the bytes say"), strict=True):
        for row, change in enumerate(part.index):
            for column, outcome in enumerate(part.loc[change]):
                sign, colour = _LOOKS[outcome]
                axes.add_patch(Rectangle((column, row), 1, 1, fc=colour, ec="white", lw=2))
                axes.text(column + 0.5, row + 0.5, sign, ha="center", va="center")
        names = [name.replace("_", "\n").replace(", ", ",\n") for name in part.columns]
        axes.set_xticks([column + 0.5 for column in range(len(names))], names, fontsize=8)
        axes.set_yticks([row + 0.5 for row in range(len(part))], part.index)
        axes.set(title=title, xlim=(0, len(names)), ylim=(len(part), 0))
        axes.tick_params(length=0, labeltop=True, labelbottom=False)
    both[0].set(xlabel="compatibility level: ✓ accepted, ✗ refused", ylabel="change")
    both[1].set(xlabel="✓ right, ≠ changed,\n✗ fails")
    return figure


def _body(schema: Mapping[str, Any], record: Mapping[str, Any]) -> bytes:
    body = io.BytesIO()
    fastavro.schemaless_writer(body, dict(schema), record)
    return body.getvalue()


def _records(schema: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return a record for each value that the last field is tried with."""
    *others, last = schema["fields"]
    fixed = {field["name"]: next(_values(field["type"])) for field in others}
    return [{**fixed, last["name"]: value} for value in _values(last["type"])]


def _values(kind: Any) -> Iterator[Any]:
    if isinstance(kind, Sequence) and not isinstance(kind, str):  # a union
        for branch in kind:
            yield from _values(branch)
    elif isinstance(kind, str):
        yield from _VALUES[kind]
    elif kind["type"] == "enum":
        yield from kind["symbols"]
    elif kind["type"] == "record":
        yield from _records(kind)
    else:
        yield from _VALUES[kind["logicalType"]]


def _last(record: Mapping[str, Any]) -> Any:
    return [*record.values()][-1]


def _plain(value: Any) -> Any:
    """Return text as the bytes that Avro writes for it: text and bytes are the same on the wire."""
    return value.encode() if isinstance(value, str) else value
