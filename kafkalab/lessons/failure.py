"""Messages that flow in the background while servers fail: recorded, counted and drawn on one time axis."""

import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from itertools import pairwise
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from confluent_kafka import Consumer, KafkaError, Message, Producer
from confluent_kafka.admin import AdminClient

from kafkalab.cluster.messages import all_messages
from kafkalab.cluster.partitions import PartitionState, partition_states
from kafkalab.figures.colours import COLOURS
from kafkalab.figures.partitions import draw_in_sync, draw_leaders
from kafkalab.waiting import wait_until

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_EVERY_SECONDS = 0.005  # between two messages
_LOOK_SECONDS = 0.1  # between two looks at the partitions
_ASK_SECONDS = 2  # a look may take; a broker that is paused does not answer
_PATIENCE = {"socket.timeout.ms": 1000}  # after which the looker leaves such a broker; the default is a minute
_LAST_SECONDS = 60  # for what was sent to be acknowledged and read, once nothing more is sent
_MOST_SECONDS = 300  # after which it sends no more, whatever the cell does
_ACKNOWLEDGED, _READ, _LATENCY = COLOURS[3], COLOURS[4], COLOURS[5]  # the first three are those of the brokers


class Load:
    """Numbers that are sent to a topic and read by a group, in the background and for the length of a `with`.

    It is for one `with` only. At its end nothing more is sent, and it waits until what was sent is acknowledged and
    read. When an error or an interrupt ends it, it waits for nothing.

    Attributes:
        acknowledged: The numbers that were acknowledged, in the order of their reports.
        refused: How many were given up, by the name of the error.
        read: The numbers that the group read.
        states: The newest look at the topic's partitions.
        events: What happened when, in seconds.

    Args:
        topic: The topic, which exists.
        producer: What the producer takes. It sends to all partitions in turn.
        consumer: What the consumer takes.
        looker: What the client takes that asks about the partitions, and reads the topic again at the end.
    """

    def __init__(
        self, topic: str, producer: Mapping[str, Any], consumer: Mapping[str, Any], looker: Mapping[str, str]
    ) -> None:
        self.acknowledged: list[int] = []
        self.refused: Counter[str] = Counter()
        self.read: list[int] = []
        self.states: dict[int, PartitionState] = {}
        self.events: dict[str, float] = {}
        self._topic, self._looker = topic, dict(looker)
        self._settings = {"producer": dict(producer), "consumer": dict(consumer)}
        self._looks: list[tuple[float, dict[int, PartitionState]]] = []
        self._latency: list[tuple[float, float]] = []  # when a message was sent, how long until it was acknowledged
        self._read_at: list[float] = []
        self._begin = time.monotonic()
        self._enough, self._over, self._dropped = (threading.Event() for _ in range(3))
        self._failed: list[BaseException] = []
        works = (self._send, self._receive, self._look)
        self._threads = [threading.Thread(target=self._work, args=[work], daemon=True) for work in works]

    @property
    def seconds(self) -> float:
        """The time since the load began."""
        return time.monotonic() - self._begin

    def __enter__(self) -> Self:
        self._begin = time.monotonic()
        *flow, look = self._threads
        try:
            look.start()
            self.wait(lambda: self.states, f"the partitions of {self._topic}")
            for thread in flow:
                thread.start()
            self.wait(lambda: self.read, "the first messages to be read")
        except BaseException:
            self._end(dropped=True)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind:
            self._end(dropped=True)
            return
        self._enough.set()
        try:
            self.wait(lambda: not self._threads[0].is_alive(), "what was sent to be acknowledged", 2 * _LAST_SECONDS)
            self.wait(lambda: set(self.acknowledged) <= set(self.read), "what was acknowledged to be read")
        finally:
            self._end(dropped=True)

    def mark(self, event: str) -> None:
        """Note that something happened just now."""
        self.events[event] = self.seconds

    def wait(self, question: Callable[[], object], what: str, seconds: float = _LAST_SECONDS) -> None:
        """Wait as `kafkalab.wait_until` does, and end at once if the load has ended with an error.

        Raises:
            LabError: The answer was not true in time.
            BaseException: What ended the load.
        """

        def answered() -> object:
            if self._failed:
                raise self._failed[0]
            return question()

        wait_until(answered, what, seconds)

    def run_for(self, seconds: float) -> None:
        """Let so many seconds pass."""
        end = self.seconds + seconds
        self.wait(lambda: self.seconds > end, f"{seconds} s to pass", seconds + _LAST_SECONDS)

    def until_led_by(self, *brokers: int) -> None:
        """Wait until each partition is led by one of these brokers, and none but these is in sync."""
        self.wait(
            lambda: all(s.leader in brokers and s.in_sync <= set(brokers) for s in self.states.values()),
            f"the partitions of {self._topic} to be led by {' or '.join(f'broker-{broker}' for broker in brokers)}",
        )

    def until_in_sync(self) -> None:
        """Wait until every replica is in sync."""
        self.wait(
            lambda: all(
                state.leader is not None and set(state.replicas) == state.in_sync for state in self.states.values()
            ),
            f"all replicas of {self._topic} to be in sync",
        )

    def outcome(self) -> "pd.DataFrame":
        """Read the topic once more and return what was promised and what happened, as numbers of messages.

        Messages with a key are not the load's, and do not count.

        Raises:
            LabError: The brokers did not answer in time.
        """
        import pandas as pd  # noqa: PLC0415 - half a second that only tables need

        by_partition: dict[int | None, dict[int | None, int]] = {}  # by offset: a reader may be given one twice
        for message in all_messages(self._looker, self._topic):
            if message.key() is None:
                by_partition.setdefault(message.partition(), {})[message.offset()] = int(message.value() or b"")
        stored = [number for held in by_partition.values() for number in held.values()]
        happened = {
            "acknowledged and lost": len(set(self.acknowledged) - set(stored)),
            "acknowledged and not read by the group": len(set(self.acknowledged) - set(self.read)),
            "given up by the producer": self.refused.total(),
            "stored twice": len(stored) - len(set(stored)),
            "out of order": sum(
                one > two for numbers in by_partition.values() for one, two in pairwise(numbers.values())
            ),
        }
        return pd.DataFrame({"promised": 0, "happened": happened})

    def draw(self, title: str) -> "Figure":
        """Draw leaders, in-sync replicas, latency, and acknowledged and read messages, on one time axis.

        Args:
            title: The figure's title.
        """
        import matplotlib.pyplot as plt  # noqa: PLC0415 - half a second that only figures need
        import pandas as pd  # noqa: PLC0415

        rows = [
            (moment, number, -1 if state.leader is None else state.leader, state.in_sync)
            for moment, states in self._looks
            for number, state in sorted(states.items())
        ]
        history = pd.DataFrame(rows, columns=["time", "partition", "leader", "in_sync"])
        figure, panels = plt.subplots(
            4, 1, figsize=(10, 8.5), sharex=True, layout="constrained", height_ratios=(0.7, 1, 1.3, 1.3)
        )
        figure.suptitle(title)
        leaders, in_sync, latency, messages = panels
        draw_leaders(leaders, history)
        leaders.get_legend().set_bbox_to_anchor((1, 1.4), leaders.transAxes)  # above the events
        draw_in_sync(in_sync, history)
        latency.plot(*zip(*self._latency, strict=True), ".", color=_LATENCY, markersize=3)
        latency.set_title("Latency: from the sending of a message until it is acknowledged", loc="left")
        latency.set(ylabel="seconds", yscale="log")
        latency.grid(axis="y", alpha=0.3)
        self._draw_messages(messages)
        for axes in panels:
            for moment in self.events.values():
                axes.axvline(moment, color="black", ls=":", lw=1.2)
        for number, (text, moment) in enumerate(self.events.items()):  # in two rows, for two may be near each other
            above = leaders.get_xaxis_transform()
            leaders.text(moment, 1.04 + 0.16 * (number % 2), text, transform=above, ha="center", fontsize=9)
        return figure

    def _draw_messages(self, axes: "Axes") -> None:
        acknowledged = sorted(sent + latency for sent, latency in self._latency)
        for name, times, colour, style in (
            ("acknowledged", acknowledged, _ACKNOWLEDGED, "-"),
            ("read by the group", self._read_at, _READ, "--"),
        ):
            axes.step(times, range(1, len(times) + 1), style, where="post", color=colour, label=name, lw=2)
        axes.set_title("Messages", loc="left")
        axes.set(xlabel="time (s)", ylabel="messages, in total")
        axes.legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=2, frameon=False)

    def _end(self, *, dropped: bool) -> None:
        """End the threads; what is not acknowledged yet is dropped."""
        if dropped:
            self._dropped.set()
        self._enough.set()
        self._over.set()
        for thread in self._threads:
            if thread.is_alive():
                thread.join(60)

    def _work(self, work: Callable[[], None]) -> None:
        """Do what a thread does, and keep the error that ends it."""
        try:
            work()
        except BaseException as error:  # noqa: BLE001 - raised again where the load is waited for
            self._failed.append(error)

    def _send(self) -> None:
        with Producer({"log_level": 0, **self._settings["producer"]}) as producer:
            for partition in self.states:  # a leader that is new takes its time: the flow begins when it serves
                producer.produce(self._topic, "0", key="first", partition=partition)
            self._flush(producer)
            number = 0
            while not self._enough.is_set() and self.seconds < _MOST_SECONDS:
                report = self._reporter(number)
                producer.produce(self._topic, str(number), partition=number % len(self.states), on_delivery=report)
                number += 1
                producer.poll(_EVERY_SECONDS)
            self._flush(producer)
            producer.purge()

    def _flush(self, producer: Producer) -> None:
        """Wait until all that was sent is reported, the load is dropped, or the time for it is over."""
        end = time.monotonic() + _LAST_SECONDS
        while producer.flush(0.1) and not self._dropped.is_set() and time.monotonic() < end:
            pass

    def _reporter(self, number: int) -> Callable[[KafkaError | None, Message], None]:
        """Return what takes the delivery report of a number that is sent now."""
        sent = self.seconds

        def report(error: KafkaError | None, _message: Message) -> None:
            if error:
                self.refused[error.name()] += 1
            else:
                self.acknowledged.append(number)
                self._latency.append((sent, self.seconds - sent))

        return report

    def _receive(self) -> None:
        with Consumer({"log_level": 0, **self._settings["consumer"]}) as consumer:
            consumer.subscribe([self._topic])
            while not self._over.is_set():
                message = consumer.poll(0.1)
                # an error passes; what it loses, the count at the end shows
                if message and not message.error() and message.key() is None:
                    self.read.append(int(message.value() or b""))
                    self._read_at.append(self.seconds)

    def _look(self) -> None:
        admin = AdminClient({"log_level": 0, **self._looker, **_PATIENCE})
        while not self._over.wait(_LOOK_SECONDS):
            moment = self.seconds
            if states := partition_states(admin, self._topic, _ASK_SECONDS):
                self.states = states
                self._looks.append((moment, states))


def draw_choices(choices: "pd.DataFrame") -> "Figure":
    """Draw a bar for each choice of settings: the messages that were refused, lost and kept.

    Args:
        choices: Columns `refused`, `lost` and `kept` (messages) and `meanwhile` (who led while the leader was away),
            with the settings as the index.
    """
    import matplotlib.pyplot as plt  # noqa: PLC0415 - half a second that only figures need

    looks: dict[str, dict[str, Any]] = {
        "kept": {"color": "#BBBBBB"},
        "refused": {"color": "white", "edgecolor": "black", "hatch": "//"},
        "lost": {"color": "black"},
    }
    figure, axes = plt.subplots(figsize=(10, 1.2 + 0.34 * len(choices)), layout="constrained")
    left, rows = [0] * len(choices), range(len(choices))
    for column, look in looks.items():
        axes.barh(rows, choices[column], left=left, height=0.7, label=column, **look)
        left = [begin + width for begin, width in zip(left, choices[column], strict=True)]
    for row, (end, meanwhile) in enumerate(zip(left, choices["meanwhile"], strict=True)):
        axes.text(end * 1.02, row, f"meanwhile led by {meanwhile}", va="center", fontsize=9)
    axes.set_yticks(rows, [", ".join(map(str, setting)) for setting in choices.index])
    axes.set(xlabel="messages", ylabel=", ".join(map(str, choices.index.names)), xlim=(0, 1.35 * max(left)))
    axes.set_title("Refused, lost or kept", loc="left")
    axes.invert_yaxis()
    axes.legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=3, frameon=False)
    return figure
