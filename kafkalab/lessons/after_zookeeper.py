"""The metadata log read record by record; traffic that goes on while a cluster moves; both modes drawn side by side."""

import json
import re
import threading
import time
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

from confluent_kafka import Consumer, KafkaError, Message, Producer

from kafkalab.figures.colours import COLOURS
from kafkalab.waiting import wait_until

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

_BATCH = re.compile(r"^baseOffset: .* partitionLeaderEpoch: (\d+) ")
_RECORD = re.compile(r"^\| offset: (\d+) .*?(?:payload|(LeaderChange)): (\{.*\})$")
_EVERY_SECONDS = 0.005  # between two messages
_LAST_SECONDS = 60  # that the last messages may take, to be acknowledged and to be read
_BIN_SECONDS = 0.5
_GREY = "#666666"
MODES = {"ZooKeeper": COLOURS[1], "KRaft": COLOURS[0]}


def metadata_records(dump: str) -> "pd.DataFrame":
    """Return the records of a metadata log as a table, by their offsets.

    Args:
        dump: What `kafka-dump-log --cluster-metadata-decoder` prints.

    Returns:
        Three columns: `epoch`, the number of the election whose winner wrote the record; `type`, such as `TOPIC_RECORD`
        (the message that the leader of the quorum begins with is a `LeaderChange`); `data`, the record's fields.
    """
    import pandas as pd  # noqa: PLC0415 - half a second that only tables need

    epoch, rows = 0, {}
    for line in dump.splitlines():
        if batch := _BATCH.match(line):
            epoch = int(batch[1])
        elif record := _RECORD.match(line):
            fields = json.loads(record[3])
            kind, data = (record[2], fields) if record[2] else (fields["type"], fields["data"])
            rows[int(record[1])] = (epoch, kind, data)
    return pd.DataFrame.from_dict(rows, orient="index", columns=["epoch", "type", "data"])


class Traffic:
    """Numbers that are sent and read in the background, while a lesson changes the servers.

    Attributes:
        sent: How many numbers were sent, from 0 on.
        acknowledged: The numbers that every in-sync replica has, in the order of their reports.
        failed: Those that the producer gave up.
        read: Those that a consumer of a group got; after a rebalance it may get some again.
        steps: When each step of the lesson began, in seconds, by its name.

    Args:
        client: What a client of the cluster takes.
        topic: The topic, which exists.
    """

    def __init__(self, client: Mapping[str, str], topic: str) -> None:
        self.sent = 0
        self.acknowledged: list[int] = []
        self.failed: list[int] = []
        self.read: list[int] = []
        self.steps: dict[str, float] = {}
        self._times: dict[str, list[float]] = {"acknowledged": [], "read": []}
        self._client = {**client, "log_level": 0}
        self._topic = topic
        self._begin = time.monotonic()
        self._stopped, self._over = threading.Event(), threading.Event()
        self._threads = [threading.Thread(target=each, daemon=True) for each in (self._send, self._receive)]

    def start(self) -> None:
        """Begin to send and to read, and wait until the first number has come through."""
        self._begin = time.monotonic()
        for thread in self._threads:
            thread.start()
        wait_until(lambda: self.read, "the first number to be read")

    def step(self, name: str) -> None:
        """Note that a step of the lesson begins."""
        self.steps[name] = time.monotonic() - self._begin

    def stop(self) -> None:
        """Stop sending, and go on reading until everything that was acknowledged has come.

        Raises:
            LabError: It did not come in time; what came is kept.
        """
        self._stopped.set()
        self._threads[0].join()
        try:
            wait_until(lambda: set(self.acknowledged) <= set(self.read), "all numbers to be read", _LAST_SECONDS)
        finally:
            self._over.set()
            self._threads[1].join()

    def draw(self, title: str) -> "Figure":
        """Return a figure of what was acknowledged and read in each half second, and of the steps."""
        import matplotlib.pyplot as plt  # noqa: PLC0415 - half a second that only figures need

        figure, axes = plt.subplots(figsize=(10, 4.2), layout="constrained")
        end = max(self._times["read"], default=0) + _BIN_SECONDS
        bins = [_BIN_SECONDS * number for number in range(int(end / _BIN_SECONDS) + 2)]
        for (name, times), colour, style in zip(
            self._times.items(), (COLOURS[2], COLOURS[4]), ("-", "--"), strict=True
        ):
            counts = [0] * len(bins)
            for moment in times:
                counts[int(moment / _BIN_SECONDS)] += 1
            axes.plot(bins, counts, style, drawstyle="steps-post", color=colour, label=name)
        top = axes.get_ylim()[1]
        for number, (begin, end) in enumerate(pairwise([*self.steps.values(), bins[-1]]), 1):
            axes.axvspan(begin, end, color=_GREY, alpha=0.06 + 0.1 * (number % 2), lw=0)
            axes.text((begin + end) / 2, top, str(number), va="bottom", ha="center")
        for number, name in enumerate(self.steps, 1):
            axes.plot([], [], " ", label=f"{number}  {name}")
        axes.set_title(title, pad=20)
        axes.set(xlabel="time (s)", ylabel="messages in each half second", xlim=(0, bins[-1]), ylim=(0, top))
        figure.legend(loc="outside right center")
        return figure

    def _send(self) -> None:
        settings = {"acks": "all", "enable.idempotence": True, "on_delivery": self._delivered}
        with Producer({**self._client, **settings}) as producer:
            while not self._stopped.is_set():
                producer.produce(self._topic, str(self.sent))
                self.sent += 1
                producer.poll(_EVERY_SECONDS)
            producer.flush(_LAST_SECONDS)

    def _delivered(self, error: KafkaError | None, message: Message) -> None:
        (self.failed if error else self.acknowledged).append(int(message.value() or b""))
        if not error:
            self._times["acknowledged"].append(time.monotonic() - self._begin)

    def _receive(self) -> None:
        settings = {"group.id": f"{self._topic}-reader", "auto.offset.reset": "earliest"}
        with Consumer({**self._client, **settings}) as consumer:
            consumer.subscribe([self._topic])
            while not self._over.is_set():
                message = consumer.poll(0.1)
                if message and not message.error():  # an error passes; what it loses, the count at the end shows
                    self.read.append(int(message.value() or b""))
                    self._times["read"].append(time.monotonic() - self._begin)


def draw_modes(panels: Mapping[str, Mapping[str, Sequence[float]]]) -> "Figure":
    """Return a figure with a panel for each thing that was timed: a row for each mode, a dot for each time.

    Args:
        panels: Seconds by mode, by what was timed.
    """
    import matplotlib.pyplot as plt  # noqa: PLC0415 - half a second that only figures need

    figure, all_axes = plt.subplots(1, len(panels), figsize=(10, 2.6), layout="constrained", squeeze=False)
    for axes, (title, modes) in zip(all_axes[0], panels.items(), strict=True):
        for row, (mode, seconds) in enumerate(modes.items()):
            axes.plot(seconds, [row] * len(seconds), "o", color=MODES[mode], markersize=9, alpha=0.7)
        axes.set(
            title=title, xlabel="time (s)", yticks=range(len(modes)), yticklabels=modes, ylim=(len(modes) - 0.5, -0.5)
        )
        axes.set_xlim(0, 1.1 * max(map(max, modes.values())))
        axes.grid(axis="x", alpha=0.3)
    return figure
