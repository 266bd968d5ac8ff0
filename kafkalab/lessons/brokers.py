"""A partition on a broker's disk, read byte by byte; who leads and who is in sync, asked, recorded and drawn."""

import re
import struct
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kafkalab.cluster.partitions import PartitionState, partition_states
from kafkalab.figures.colours import COLOURS
from kafkalab.figures.live import LiveFigure
from kafkalab.figures.partitions import draw_in_sync, draw_leaders
from kafkalab.waiting import wait_until

if TYPE_CHECKING:
    import pandas as pd
    from confluent_kafka import TopicPartitionInfo
    from confluent_kafka.admin import AdminClient
    from matplotlib.figure import Figure

    from kafkalab.embedded.stack import Stack

_HEADER = struct.Struct(">qiibIhiqqqhii")  # message format v2 (Kafka documentation, "Record Batch")
_ENTRY = struct.Struct(">ii")  # offset after the segment's first, position in the log file
_BEFORE_LENGTH = 12  # bytes of base offset and length, which the length does not count
_SESSION_ENDED = re.compile(r"Expiring session .*|Fencing broker \d+ .* session has timed out.*")
_CODECS = ("none", "gzip", "snappy", "lz4", "zstd")
_CURVES = COLOURS[3:]  # the first three colours are those of the brokers
_LOOK_SECONDS = 0.2  # between two looks at the cluster
_STEP_SECONDS = 0.002  # between two steps of what is recorded
_ASK_SECONDS = 0.4  # a look may take; a broker that is starting may not answer, and nothing is sent meanwhile
_RUN_SECONDS = 90  # a recorded wait ends by then


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


def record_batches(folder: Path) -> Iterator[RecordBatch]:
    """Read the headers of all record batches in the folder of a partition, in the order of their offsets."""
    for log in sorted(folder.glob("*.log")):
        position = 0
        while batch := batch_at(log, position):
            yield batch
            position += batch.size


def sign_offs(log: Path) -> int:
    """Count in a broker's output how often it was asked to end: one that was killed says nothing."""
    return log.read_text(encoding="utf-8", errors="replace").count("Terminating process due to signal")


def ended_sessions(stack: "Stack") -> list[tuple[str, str]]:
    """Find who noticed that a broker had died: ZooKeeper, or the controller where there is none.

    Returns:
        A server's name and a line of its output for each session that ended without a sign-off.
    """
    return [
        (name, notice)
        for name in stack.names
        if stack.log(name).exists()  # a server that was never started has none
        for notice in _SESSION_ENDED.findall(stack.log(name).read_text(encoding="utf-8", errors="replace"))
    ]


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


class Timeline:
    """Records what happens to a topic while a lesson sends to it.

    Attributes:
        acknowledged: The times, in seconds, at which messages were acknowledged, by the name of the curve.
        events: What happened when, in seconds.
        states: The newest look at the topic's partitions, by their numbers.

    Args:
        admin: Asked about the topic.
        topic: The topic.
        curves: The names of the curves of acknowledged messages, at most two.
    """

    def __init__(self, admin: "AdminClient", topic: str, curves: Sequence[str]) -> None:
        self.acknowledged: dict[str, list[float]] = {curve: [] for curve in curves}
        self.events: dict[str, float] = {}
        self.states: dict[int, PartitionState] = {}
        self._admin = admin
        self._topic = topic
        self._looks: list[tuple[float, dict[int, PartitionState]]] = []
        self._live: LiveFigure | None = None
        self._begin = time.monotonic()

    @property
    def seconds(self) -> float:
        """The time since the recording began."""
        return time.monotonic() - self._begin

    @property
    def history(self) -> "pd.DataFrame":
        """All looks, as `draw_failover` takes them."""
        import pandas as pd  # noqa: PLC0415 - half a second that only tables need

        rows = [
            (moment, number, state.leader, set(state.in_sync))
            for moment, states in self._looks
            for number, state in sorted(states.items())
        ]
        return pd.DataFrame(rows, columns=["time", "partition", "leader", "in_sync"])

    @contextmanager
    def recording(self, alt: str) -> Iterator[None]:
        """Begin at zero, and show what is acknowledged and in sync in a figure that moves.

        Args:
            alt: The figure's alternative text, see `LiveFigure`.
        """
        panels = {"Messages acknowledged": list(self.acknowledged), "In-sync replicas of all partitions": ["in sync"]}
        colours = [*_CURVES[: len(self.acknowledged)], _CURVES[-1]]
        self._begin = time.monotonic()
        with LiveFigure(panels, "time (s)", "messages, in total", alt, colours) as self._live:
            self._live.figure.axes[1].set(ylabel="replicas in sync")
            yield
        self._live = None

    def acknowledge(self, curve: str) -> None:
        """Note that a message was acknowledged just now."""
        self.acknowledged[curve].append(self.seconds)

    def mark(self, event: str) -> None:
        """Note that something happened just now."""
        self.events[event] = self.seconds

    def run_until(self, step: Callable[[], object], question: Callable[[], object], what: str) -> None:
        """Do a step again and again, every two milliseconds or so, and look at the topic meanwhile.

        Args:
            step: What is done, such as sending a message.
            question: Ends the run when its answer is true.
            what: See `wait_until`.

        Raises:
            LabError: The answer was not true in time.
        """

        def ended() -> object:
            step()
            if not self._looks or self.seconds - self._looks[-1][0] > _LOOK_SECONDS:
                self._look()
            return question()

        wait_until(ended, what, _RUN_SECONDS, _STEP_SECONDS)

    def run_for(self, step: Callable[[], object], seconds: float) -> None:
        """As `run_until`, for so many seconds."""
        end = self.seconds + seconds
        self.run_until(step, lambda: self.seconds > end, f"{seconds} s to pass")

    def _look(self) -> None:
        """Look at the topic, unless no broker answers soon, and move the figure on."""
        moment = self.seconds
        if states := partition_states(self._admin, self._topic, _ASK_SECONDS):
            self.states = states
            self._looks.append((moment, states))
        if self._live:
            if states:
                replicas = sum(len(state.replicas) for state in states.values())
                self._live.figure.axes[1].set(yticks=range(0, replicas + 1, len(states)), ylim=(0, 1.1 * replicas))
                self._live.add("in sync", moment, sum(len(state.in_sync) for state in states.values()))
            for curve, times in self.acknowledged.items():
                self._live.add(curve, moment, len(times))


def draw_replicas(partitions: Iterable["TopicPartitionInfo"], brokers: Sequence[int], title: str) -> "Figure":
    """Draw a row for each partition and a column for each broker, also for one that has nothing; a box is a replica.

    Args:
        partitions: As `AdminClient.describe_topics` returns them.
        brokers: The ids of the brokers to show.
        title: The figure's title.
    """
    import matplotlib.pyplot as plt  # noqa: PLC0415 - half a second that only figures need
    from matplotlib.patches import FancyBboxPatch  # noqa: PLC0415

    partitions = sorted(partitions, key=lambda partition: partition.id)
    figure, axes = plt.subplots(figsize=(7, 1.3 + 0.45 * len(partitions)), layout="constrained")
    for column in range(len(brokers)):
        axes.axvspan(column - 0.45, column + 0.45, color="#F2F2F2", lw=0, zorder=0)
    for row, partition in enumerate(partitions):
        in_sync = {node.id for node in partition.isr}
        leader = partition.leader.id if partition.leader else None
        for replica in partition.replicas:
            colour, column = COLOURS[replica.id % len(COLOURS)], list(brokers).index(replica.id)
            leads, behind = replica.id == leader, replica.id not in in_sync
            text = "out of sync" if behind else "leader" if leads else "follower"
            look: dict[str, Any] = {
                "fc": colour if leads else "white",
                "ec": colour,
                "lw": 2,
                "ls": "--" if behind else "-",
            }
            axes.add_patch(FancyBboxPatch((column - 0.34, row - 0.28), 0.68, 0.56, boxstyle="round,pad=0.03", **look))
            axes.text(column, row, text, ha="center", va="center", color="white" if leads else "black")
    axes.set(title=title, xlabel="broker", ylabel="partition", xlim=(-0.6, len(brokers) - 0.4))
    axes.set_ylim(len(partitions) - 0.4, -0.6)
    axes.set_xticks(range(len(brokers)), [f"broker-{broker}" for broker in brokers])
    axes.set_yticks(range(len(partitions)), [str(partition.id) for partition in partitions])
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
    draw_leaders(leaders, history.assign(leader=history["leader"].fillna(-1).astype(int)))
    draw_in_sync(replicas, history)
    for colour, (name, times) in zip(_CURVES, acknowledged.items(), strict=False):
        messages.step(sorted(times), range(1, len(times) + 1), where="post", color=colour, label=name, lw=2)
    messages.set_title("Messages acknowledged", loc="left")
    messages.set(ylabel="messages, in total", xlabel="time (s)")
    messages.legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=2, frameon=False)
    for axes in (leaders, replicas, messages):
        for moment in events.values():
            axes.axvline(moment, color="black", ls=":", lw=1.2)
    above = leaders.get_xaxis_transform()
    for number, (text, moment) in enumerate(events.items()):  # in two rows, for two may be near each other
        leaders.text(moment, 1.02 + 0.07 * (number % 2), text, transform=above, ha="center", fontsize=9)
    return figure
