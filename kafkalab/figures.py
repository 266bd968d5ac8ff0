"""Drawings of the workflow that the lessons follow."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ALT = (
    "The seven parts of the workflow. ZooKeeper (1) and the broker (2) point at each other. A schema file feeds the "
    "producer (4). Producer and consumer (6) each exchange with the schema registry (3). The producer's messages (5) go "
    "to the broker, the broker feeds the consumer, and its processing (7) yields an intermediate result or a final output."
)

_BLUE, _ORANGE, _GREEN, _GREY = "#0072B2", "#D55E00", "#009E73", "#666666"
_PARTS = {  # number: (x, y, name, colour)
    1: (5.0, 0.9, "ZooKeeper", _GREY),
    2: (5.0, 3.0, "Broker", _BLUE),
    3: (5.0, 5.1, "Schema registry", _GREEN),
    4: (1.6, 3.0, "Producer", _ORANGE),
    6: (8.4, 3.0, "Consumer", _ORANGE),
    7: (11.4, 3.0, "Processing", _ORANGE),
}
_ARROWS = [  # from, to, both ways
    ((5.0, 1.45), (5.0, 2.45), True),
    ((1.9, 3.55), (4.0, 4.85), True),
    ((8.1, 3.55), (6.0, 4.85), True),
    ((2.65, 3.0), (3.95, 3.0), False),
    ((6.05, 3.0), (7.35, 3.0), False),
    ((9.45, 3.0), (10.35, 3.0), False),
    ((1.6, 4.75), (1.6, 3.55), False),
    ((11.4, 3.55), (11.4, 4.75), False),
    ((11.4, 2.45), (11.4, 1.3), False),
]


def workflow(notes: Mapping[int, str] | None = None, highlight: int | None = None) -> "Figure":
    """Return the workflow as a figure with seven numbered parts.

    Args:
        notes: A line of text for some of the parts, by their number, such as what passed through them.
        highlight: The number of the part that a lesson is about.
    """
    import matplotlib.pyplot as plt  # noqa: PLC0415 - half a second that only figures need

    figure, axes = plt.subplots(figsize=(11, 4.8), layout="constrained")
    axes.set(xlim=(0, 13), ylim=(0, 6), title="From a source to a result: the workflow in seven parts")
    axes.axis("off")
    for start, end, both in _ARROWS:
        axes.annotate("", end, start, arrowprops={"arrowstyle": "<->" if both else "->", "lw": 1.6, "color": "#333333"})
    for number, (x, y, name, colour) in _PARTS.items():
        face = "#FFF3C4" if number == highlight else "white"
        box = {"boxstyle": "round,pad=0.55", "facecolor": face, "edgecolor": colour, "linewidth": 2.2}
        axes.text(x, y, f"{number}  {name}", ha="center", va="center", fontsize=11, bbox=box)
    lit = "#FFF3C4" if highlight == 5 else "white"
    axes.text(
        3.3,
        3.32,
        "5",
        ha="center",
        fontsize=11,
        bbox={"boxstyle": "circle", "facecolor": lit, "edgecolor": _ORANGE},
    )
    axes.text(3.3, 2.62, "messages", ha="center", va="center", fontsize=9)
    for x, y, text in (
        (1.6, 5.0, "schema file (.avsc)"),
        (11.4, 5.0, "final output"),
        (11.4, 1.0, "intermediate result"),
    ):
        axes.text(x, y, text, ha="center", va="center", fontsize=10, style="italic")
    places = {number: (x, y - 0.75) for number, (x, y, _, _) in _PARTS.items()} | {
        5: (3.3, 2.3),
        3: (5.0, 5.75),
    }
    for number, note in (notes or {}).items():
        x, y = places[number]
        axes.text(x, y, note, ha="center", va="center", fontsize=9, color=_BLUE)
    return figure
