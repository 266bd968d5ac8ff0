"""Panels of partitions over time: who leads them, and who is in sync."""

from typing import TYPE_CHECKING

from kafkalab.figures.colours import COLOURS

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes


def draw_leaders(axes: "Axes", history: "pd.DataFrame") -> None:
    """Draw a row for each partition in the colour of its leader."""
    end = history["time"].max()
    for _, looks in history.sort_values("time").groupby("partition"):
        new = looks[looks["leader"] != looks["leader"].shift()]
        widths = [*new["time"][1:], end] - new["time"]
        colours = ["white" if leader < 0 else COLOURS[leader % len(COLOURS)] for leader in new["leader"]]
        axes.barh(new["partition"], widths, left=new["time"], height=0.8, color=colours)
    for broker in sorted(history["leader"][history["leader"] >= 0].unique()):
        axes.barh([0], [0], color=COLOURS[broker % len(COLOURS)], label=f"led by broker-{broker}")
    axes.set_title("Leaders", pad=30, loc="left")
    axes.set(ylabel="partition", yticks=sorted(history["partition"].unique()))
    axes.invert_yaxis()
    axes.legend(loc="lower right", bbox_to_anchor=(1, 1.13), ncols=3, frameon=False)


def draw_in_sync(axes: "Axes", history: "pd.DataFrame") -> None:
    """Draw a band for each broker, as high as its share of the partitions in whose in-sync replicas it is."""
    partitions = history["partition"].nunique()
    brokers = sorted({broker for in_sync in history["in_sync"] for broker in in_sync})
    for row, broker in enumerate(brokers):
        member = history["in_sync"].map(lambda in_sync, broker=broker: broker in in_sync)
        share = member.groupby(history["time"]).sum() / partitions
        colour = COLOURS[broker % len(COLOURS)]
        axes.fill_between(share.index, row - 0.4, row - 0.4 + 0.8 * share, step="post", color=colour, lw=0)
    axes.set_title(f"In-sync replicas (a full band: of all {partitions} partitions)", loc="left")
    axes.set_ylabel("broker")
    axes.set_yticks(range(len(brokers)), [f"broker-{broker}" for broker in brokers])
    axes.set_ylim(len(brokers) - 0.5, -0.5)
