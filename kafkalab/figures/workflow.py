"""Drawings of the workflow that the lessons follow."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from kafkalab.figures.colours import COLOURS

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_BLUE, _ORANGE, _GREEN = COLOURS[:3]
_GREY, _YELLOW = "#666666", "#FFD54F"
_WIDTH, _HEIGHT = 2.3, 0.9  # of a box
_PARTS = {  # number: (centre x, centre y, name, colour)
    1: (5.3, 1.0, "ZooKeeper", _GREY),
    2: (5.3, 3.0, "Broker", _BLUE),
    3: (5.3, 5.0, "Schema registry", _GREEN),
    4: (1.5, 3.0, "Producer", _ORANGE),
    6: (8.5, 3.0, "Consumer", _ORANGE),
    7: (11.7, 3.0, "Processing", _ORANGE),
}
_MESSAGES = (3.4, 3.0)  # part 5 is an arrow
_ARROWS = [  # from, to, both ways
    ((5.3, 1.5), (5.3, 2.5), True),
    ((1.9, 3.5), (4.1, 4.9), True),
    ((8.1, 3.5), (6.5, 4.9), True),
    ((2.7, 3.0), (4.1, 3.0), False),
    ((6.5, 3.0), (7.3, 3.0), False),
    ((9.7, 3.0), (10.5, 3.0), False),
    ((1.1, 4.75), (1.1, 3.5), False),
    ((11.7, 3.5), (11.7, 4.75), False),
    ((11.7, 2.5), (11.7, 1.25), False),
    ((10.4, 1.1), (6.5, 2.5), False),  # an intermediate result is messages again
]
_ENDS = [(1.1, 5.0, "schema file (.avsc)"), (11.7, 5.0, "final output"), (11.7, 1.0, "intermediate result")]


def workflow(notes: Mapping[int | str, str] | None = None, highlight: int | None = None) -> "Figure":
    """Return the workflow as a figure with seven numbered parts.

    Args:
        notes: A line of text for some of the parts, by their number, or by name for what is left at the end
            (`final output`, `intermediate result`), such as what passed through them.
        highlight: The number of the part that a lesson is about.
    """
    import matplotlib.pyplot as plt  # noqa: PLC0415 - half a second that only figures need
    from matplotlib.patches import FancyBboxPatch  # noqa: PLC0415

    figure, axes = plt.subplots(figsize=(11, 4.8), layout="constrained")
    axes.set(xlim=(0, 13.2), ylim=(0.2, 5.9), title="From a source to a result: the workflow in seven parts")
    axes.axis("off")
    for start, end, both in _ARROWS:
        axes.annotate("", end, start, arrowprops={"arrowstyle": "<->" if both else "->", "lw": 1.6, "color": _GREY})
    for number, (x, y, name, colour) in _PARTS.items():
        face = _YELLOW if number == highlight else "white"
        corner = (x - _WIDTH / 2, y - _HEIGHT / 2)
        width = 4 if number == highlight else 2.2
        box = FancyBboxPatch(corner, _WIDTH, _HEIGHT, boxstyle="round,pad=0.03", fc=face, ec=colour, lw=width)
        axes.add_patch(box)
        axes.text(x, y, f"{number}  {name}", ha="center", va="center", fontsize=12)
    x, y = _MESSAGES
    lit: dict[str, Any] = {
        "boxstyle": "circle,pad=0.25",
        "facecolor": _YELLOW if highlight == 5 else "white",
        "edgecolor": _ORANGE,
    }
    lit["linewidth"] = 4 if highlight == 5 else 2.2
    axes.text(x, y + 0.36, "5", ha="center", va="center", fontsize=12, bbox=lit)
    axes.text(x, y - 0.25, "messages", ha="center", va="center", fontsize=10)
    for x, y, text in _ENDS:
        axes.text(x, y, text, ha="center", va="center", fontsize=11, style="italic")
    axes.text(8.2, 1.3, "into another topic", ha="center", va="center", fontsize=10)
    places: dict[int | str, tuple[float, float]] = {number: (x, y - 0.68) for number, (x, y, _, _) in _PARTS.items()}
    places |= {2: (5.3, 3.75), 3: (5.3, 5.68), 5: (3.4, 2.45), 7: (10.2, 2.3)}
    places |= {text: (x, y + (0.45 if y > 3 else -0.45)) for x, y, text in _ENDS}
    for place, note in (notes or {}).items():
        axes.text(*places[place], note, ha="center", va="center", fontsize=10, color=_BLUE)
    return figure
