"""A drawing of ZooKeeper's tree of znodes, persistent and ephemeral apart."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from kafkalab.figures.colours import COLOURS

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_LOOKS = {  # ephemeral: marker, colour, weight of the name, entry of the legend
    False: ("s", COLOURS[0], "normal", "persistent"),
    True: ("o", COLOURS[1], "bold", "ephemeral: goes with its session"),
}
_GREY = "#666666"
_ROW = 0.23  # inches


def draw_znodes(znodes: Mapping[str, bool], notes: Mapping[str, str] | None = None) -> "Figure":
    """Return the tree as a figure, one line for each znode, its children indented below it.

    Args:
        znodes: For each path, its parents among them, whether the znode is ephemeral.
        notes: What to write beside some of the znodes, by their path.
    """
    import matplotlib.pyplot as plt  # noqa: PLC0415 - half a second that only figures need

    paths = sorted((_parts(path), path) for path in znodes)
    figure, axes = plt.subplots(figsize=(9, 0.9 + _ROW * len(paths)), layout="constrained")
    axes.set(title="The tree of znodes", xlim=(-0.3, 14), ylim=(len(paths) - 0.2, -0.8))
    axes.axis("off")
    rows = {parts: row for row, (parts, _) in enumerate(paths)}
    for parts, path in paths:
        row, depth = rows[parts], len(parts)
        marker, colour, weight, _ = _LOOKS[znodes[path]]
        if parts:
            axes.plot([depth - 1, depth - 1, depth], [rows[parts[:-1]], row, row], color=_GREY, lw=0.8, zorder=1)
        axes.plot(depth, row, marker, color=colour, markersize=7)
        name = axes.text(depth + 0.25, row, parts[-1] if parts else "/", color=colour, weight=weight, va="center")
        note = (notes or {}).get(path, "")
        axes.annotate(note, (1, 0.5), (12, 0), xycoords=name, textcoords="offset points", color=_GREY, va="center")
    for marker, colour, _, label in _LOOKS.values():
        axes.plot([], [], marker, color=colour, label=label)
    axes.legend(loc="lower right")
    return figure


def _parts(path: str) -> tuple[str, ...]:
    return tuple(part for part in path.split("/") if part)
