"""A partition on a broker's disk, read byte by byte, and drawings of replicas: who holds, who leads, who is in sync."""

import struct
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from kafkalab.figures.colours import COLOURS

if TYPE_CHECKING:
    import pandas as pd
    from confluent_kafka import TopicPartitionInfo
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_HEADER = struct.Struct(">qiibIhiqqqhii")  # message format v2 (Kafka documentation, "Record Batch")
_ENTRY = struct.Struct(">ii")  # offset after the segment's first, position in the log file
_BEFORE_LENGTH = 12  # bytes of base offset and length, which the length does not count
_CODECS = ("none", "gzip", "snappy", "lz4", "zstd")


@dataclass(frozen=True)
class RecordBatch:
    """The header of a record batch, field by field in the order of its bytes.

    Attributes:
        base_offset: The offset of the first record.
        length: Bytes of the batch after this field.
        leader_epoch: How often the partition had changed its leader when the batch was written.
        magic: The message format, 2.
        crc: The CRC-32C checksum of everything that follows it.
        attributes: Bits; the lowest three name the compression codec.
        last_offset_delta: The last record's offset, counted from `base_offset`.
        base_timestamp: The first record's time, in milliseconds since 1970.
        max_timestamp: The latest time of a record, in milliseconds since 1970.
        producer_id: The id that the broker gave to an idempotent producer, else -1.
        producer_epoch: The producer's epoch, else -1.
        base_sequence: The number that the producer gave to the first record, else -1.
        records: How many records the batch holds.
    """

    base_offset: int
    length: int
    leader_epoch: int
    magic: int
    crc: int
    attributes: int
    last_offset_delta: int
    base_timestamp: int
    max_timestamp: int
    producer_id: int
    producer_epoch: int
    base_sequence: int
    records: int

    @property
    def last_offset(self) -> int:
        """The offset of the last record."""
        return self.base_offset + self.last_offset_delta

    @property
    def size(self) -> int:
        """The whole batch in bytes."""
        return _BEFORE_LENGTH + self.length

    @property
    def compression(self) -> str:
        """The name of the compression codec."""
        return _CODECS[self.attributes & 0b111]


def batch_at(log: Path, position: int) -> RecordBatch | None:
    """Read the header of the record batch that begins at a position of a `.log` file.

    Returns:
        None at the end of the file.
    """
    with log.open("rb") as file:
        file.seek(position)
        header = file.read(_HEADER.size)
    return RecordBatch(*_HEADER.unpack(header)) if len(header) == _HEADER.size else None


def index_entries(index: Path) -> list[tuple[int, int]]:
    """Read a segment's `.index` file: pairs of an offset and a position in the `.log` file of the same name.

    The index of the segment that is being written to is longer than its content: the rest is zeros.
    """
    base_offset = int(index.stem)
    entries = []
    with index.open("rb") as file:
        while (entry := file.read(_ENTRY.size)) and (fields := _ENTRY.unpack(entry))[1] > 0:
            entries.append((base_offset + fields[0], fields[1]))
    return entries


def draw_replicas(partitions: Iterable["TopicPartitionInfo"], brokers: Sequence[int], title: str) -> "Figure":
    """Draw a row for each partition and a column for each broker; a box is a replica.

    Args:
        partitions: As `AdminClient.describe_topics` returns them.
        brokers: The ids of the brokers to show.
        title: The figure's title.
    """
    import matplotlib.pyplot as plt  # noqa: PLC0415 - half a second that only figures need
    from matplotlib.patches import FancyBboxPatch  # noqa: PLC0415

    partitions = sorted(partitions, key=lambda partition: partition.id)
    figure, axes = plt.subplots(figsize=(7, 1.3 + 0.45 * len(partitions)), layout="constrained")
    for row, partition in enumerate(partitions):
        in_sync = {node.id for node in partition.isr}
        leader = partition.leader.id if partition.leader else None
        for replica in partition.replicas:
            colour, column = COLOURS[replica.id % len(COLOURS)], list(brokers).index(replica.id)
            leads, behind = replica.id == leader, replica.id not in in_sync
            text = "out of sync" if behind else "leader" if leads else "follower"
            look = {"fc": colour if leads else "white", "ec": colour, "lw": 2, "ls": "--" if behind else "-"}
            axes.add_patch(FancyBboxPatch((column - 0.34, row - 0.28), 0.68, 0.56, boxstyle="round,pad=0.03", **look))
            axes.text(column, row, text, ha="center", va="center", color="white" if leads else "black")
    axes.set(title=title, xlabel="broker", ylabel="partition", xlim=(-0.6, len(brokers) - 0.4))
    axes.set_ylim(len(partitions) - 0.4, -0.6)
    axes.set_xticks(range(len(brokers)), [f"broker-{broker}" for broker in brokers])
    axes.set_yticks(range(len(partitions)), [partition.id for partition in partitions])
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    return figure


def draw_failover(
    history: "pd.DataFrame", acknowledged: Mapping[str, Sequence[float]], events: Mapping[str, float]
) -> "Figure":
    """Draw leaders, in-sync replicas and acknowledged messages over one time axis.

    Args:
        history: Columns `time` (seconds), `partition`, `leader` (a broker's id, or None, which is left white) and
            `in_sync` (brokers' ids), with one row for each partition and each look at the cluster.
        acknowledged: The times, in seconds, at which messages were acknowledged, by the name of the curve.
        events: What happened when, in seconds: vertical lines with a text.
    """
    import matplotlib.pyplot as plt  # noqa: PLC0415 - half a second that only figures need

    figure, (leaders, replicas, messages) = plt.subplots(
        3, 1, figsize=(10, 8), sharex=True, layout="constrained", height_ratios=(1.2, 1, 1.4)
    )
    _draw_leaders(leaders, history.assign(leader=history["leader"].fillna(-1).astype(int)))
    _draw_in_sync(replicas, history)
    for colour, (name, times) in zip(COLOURS[3:], acknowledged.items(), strict=False):
        messages.step(sorted(times), range(1, len(times) + 1), where="post", color=colour, label=name, lw=2)
    messages.set(title="Messages acknowledged", ylabel="messages, in total", xlabel="time (s)")
    messages.legend(loc="upper left")
    for axes in (leaders, replicas, messages):
        for time in events.values():
            axes.axvline(time, color="black", ls=":", lw=1.2)
    for text, time in events.items():
        leaders.text(time, 1.02, text, transform=leaders.get_xaxis_transform(), ha="center", fontsize=9)
    return figure


def _draw_leaders(axes: "Axes", history: "pd.DataFrame") -> None:
    """Draw a row for each partition in the colour of its leader."""
    end = history["time"].max()
    for partition, looks in history.sort_values("time").groupby("partition"):
        new = looks[looks["leader"] != looks["leader"].shift()]
        widths = [*new["time"][1:], end] - new["time"]
        colours = ["white" if leader < 0 else COLOURS[leader % len(COLOURS)] for leader in new["leader"]]
        axes.barh([partition] * len(new), widths, left=new["time"], height=0.8, color=colours)
    for broker in sorted(history["leader"][history["leader"] >= 0].unique()):
        axes.barh([0], [0], color=COLOURS[broker % len(COLOURS)], label=f"led by broker-{broker}")
    axes.set_title("Leaders", pad=20, loc="left")
    axes.set(ylabel="partition", yticks=sorted(history["partition"].unique()))
    axes.invert_yaxis()
    axes.legend(loc="lower right", bbox_to_anchor=(1, 1.08), ncols=3, frameon=False)


def _draw_in_sync(axes: "Axes", history: "pd.DataFrame") -> None:
    """Draw a band for each broker, as high as its share of the partitions in whose in-sync replicas it is."""
    partitions = history["partition"].nunique()
    brokers = sorted({broker for in_sync in history["in_sync"] for broker in in_sync})
    for row, broker in enumerate(brokers):
        member = history["in_sync"].map(lambda in_sync, broker=broker: broker in in_sync)
        share = member.groupby(history["time"]).sum() / partitions
        colour = COLOURS[broker % len(COLOURS)]
        axes.fill_between(share.index, row - 0.4, row - 0.4 + 0.8 * share, step="post", color=colour, lw=0)
    axes.set(title=f"In-sync replicas (a full band: of all {partitions} partitions)", ylabel="broker")
    axes.set_yticks(range(len(brokers)), [f"broker-{broker}" for broker in brokers])
    axes.set_ylim(len(brokers) - 0.5, -0.5)
