"""Consumer groups at work: members in threads of their own, how far a group is, who owned what and when."""

import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from threading import Event, Thread
from typing import TYPE_CHECKING, Any, NamedTuple

from confluent_kafka import (
    Consumer,
    ConsumerGroupTopicPartitions,
    KafkaError,
    KafkaException,
    TopicPartition,
)
from confluent_kafka.admin import AdminClient

from kafkalab.cluster.lab import Lab
from kafkalab.cluster.progress import lags
from kafkalab.figures.colours import COLOURS
from kafkalab.waiting import ANSWER_SECONDS

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_MEMBERS = COLOURS[3:]  # the first three are those of the live figure in the same lesson
_NEVER, _ONCE, _TWICE = "#000000", "#DDDDDD", "#F0E442"  # the two of Okabe and Ito's colours that are left, and grey


class Change(NamedTuple):
    """A partition that was given to a member or taken from it, at a time of the monotonic clock."""

    at: float
    partition: int
    owned: bool


class Member:
    """A consumer that polls one topic in a thread of its own, until it is told to end or its time is over.

    The end of the program ends it too, without a word to the group.

    Attributes:
        name: Its `client.id`, by which the group's leader sorts the members.
        received: The number of messages, by partition.
        changes: What was given and taken, in order.
        rebalances: How often it was given an assignment, even an empty one.

    Args:
        name: See above.
        config: The consumer's configuration.
        topic: What it subscribes to.
        pause: Seconds that it takes over each message, on purpose.
        seconds: After which it ends by itself.
    """

    def __init__(
        self, name: str, config: Mapping[str, object], topic: str, pause: float = 0, seconds: float = 1800
    ) -> None:
        self.name = name
        self.received: Counter[int | None] = Counter()
        self.changes: list[Change] = []
        self.rebalances = 0
        self._owned: set[int] = set()
        self._ending, self._leaves = Event(), True
        self._error: BaseException | None = None
        work = ({**config, "client.id": name}, topic, pause, seconds)
        # the end of the program does not wait for a daemon
        self._thread = Thread(target=self._work, args=work, name=name, daemon=True)
        self._thread.start()

    @property
    def partitions(self) -> list[int]:
        """The partitions that it owns now."""
        return sorted(self._owned)

    def ended(self) -> bool:
        """Return whether its thread has ended."""
        return not self._thread.is_alive()

    def close(self) -> None:
        """End the loop and close the consumer, which leaves the group.

        Raises:
            KafkaException: What a poll reported, if the member ended by that.
        """
        self._ending.set()
        self._thread.join()
        if self._error:
            raise self._error

    def vanish(self) -> None:
        """End without a word to the group, as a killed process does."""
        self._leaves = False
        self.close()

    def _work(self, *work: Any) -> None:
        try:
            self._run(*work)
        except BaseException as error:  # noqa: BLE001 - close() raises it
            self._error = error

    def _run(self, config: dict[str, Any], topic: str, pause: float, seconds: float) -> None:
        consumer, end = Consumer(config), time.monotonic() + seconds
        consumer.subscribe([topic], on_assign=self._assigned, on_revoke=self._revoked, on_lost=self._revoked)
        try:
            while not self._ending.is_set() and time.monotonic() < end:
                message = consumer.poll(0.1)
                if message is None:
                    continue
                if (error := message.error()) is None:
                    self.received[message.partition()] += 1
                    self._ending.wait(pause)
                elif error.code() != KafkaError._MAX_POLL_EXCEEDED:  # noqa: SLF001 - public; the next poll joins again
                    raise KafkaException(error)
        finally:
            if self._leaves:
                consumer.close()
            else:  # a Consumer that is dropped without close() does not leave its group
                self._note(list(self._owned), owned=False)

    def _assigned(self, _consumer: Consumer, partitions: list[TopicPartition]) -> None:
        self._note([partition.partition for partition in partitions], owned=True)
        self.rebalances += 1

    def _revoked(self, _consumer: Consumer, partitions: list[TopicPartition]) -> None:
        self._note([partition.partition for partition in partitions], owned=False)

    def _note(self, partitions: Sequence[int], *, owned: bool) -> None:
        now = time.monotonic()
        self.changes += [Change(now, partition, owned) for partition in partitions]
        self._owned = self._owned | set(partitions) if owned else self._owned - set(partitions)


def settled(members: Sequence[Member], partitions: int) -> bool:
    """Return whether each member has been given its share and every partition has exactly one owner."""
    owned = [partition for member in members for partition in member.partitions]
    return all(member.rebalances for member in members) and sorted(owned) == list(range(partitions))


def revoked(members: Sequence[Member]) -> int:
    """Return how many times a partition was taken from one of the members."""
    return sum(not change.owned for member in members for change in member.changes)


class Progress:
    """How far a group is in a topic, asked of the cluster from outside the group.

    A partition without a committed offset counts as unread from offset 0 on.
    """

    def __init__(self, lab: Lab, group: str, topic: str) -> None:
        self._admin = AdminClient({**lab.client, "log_level": 4})  # 6 tells what its end left in a queue
        numbers = self._admin.list_topics(topic, timeout=ANSWER_SECONDS).topics[topic].partitions
        self._partitions = [TopicPartition(topic, number) for number in sorted(numbers)]
        self._group = group

    def ask(self) -> tuple[int, int]:
        """Return the sum of the end offsets and the sum of the committed ones; their difference is the lag."""
        ask = ConsumerGroupTopicPartitions(self._group, self._partitions)
        committed = self._admin.list_consumer_group_offsets([ask])[self._group]
        places = committed.result().topic_partitions
        consumed = sum(max(place.offset, 0) for place in places)
        return consumed + sum(left for left in lags(self._admin, places) if left), consumed

    def follow(self, every: float, seconds: float) -> Iterator[tuple[float, int, int]]:
        """Ask again and again: yield the seconds since the start, what was produced and what was consumed.

        Args:
            every: Seconds between two questions.
            seconds: After which it ends.
        """
        start = time.monotonic()
        while time.monotonic() - start < seconds:
            produced, consumed = self.ask()
            yield time.monotonic() - start, produced, consumed  # the moment of the answer: the first one takes longer
            time.sleep(every)


def draw_ownership(members: Sequence[Member], title: str, marks: Mapping[str, float] | None = None) -> "Figure":
    """Return a figure of who owned which partition and when: a row for each partition, a colour for each member.

    What is still owned reaches to the moment of drawing, or a fifth past the last change, whichever comes first.

    Args:
        members: Of one group, three at the most.
        title: Of the figure.
        marks: Moments of the monotonic clock to be marked, by what happened then.
    """
    import matplotlib.pyplot as plt  # noqa: PLC0415 - half a second that only figures need

    changes = [change for member in members for change in member.changes]
    moments = [change.at for change in changes] + list((marks or {}).values())
    start, last = min(moments), max(moments)
    end = min(time.monotonic(), last + 0.2 * (last - start))
    numbers = sorted({change.partition for change in changes})
    figure, axes = plt.subplots(figsize=(9, 3), layout="constrained")
    _draw_rows(axes, members, numbers, start, end)
    for row, (text, at) in enumerate((marks or {}).items()):
        axes.axvline(at - start, color="black", linestyle=":", linewidth=1)
        place = (at - start, 1 + 0.09 * (row % 2))  # two rows, so that marks close to each other can be read
        axes.annotate(text, place, (2, 3), xycoords=axes.get_xaxis_transform(), textcoords="offset points")
    axes.set_title(title, pad=36 if marks else 8)
    axes.set_xlabel("time (s)")
    return figure


def draw_rebalances(teams: Mapping[str, Sequence[Member]], joined: Mapping[str, float], title: str) -> "Figure":
    """Return a figure of who owned which partition in several groups: a panel for each, time counted from a join.

    Args:
        teams: The members of each group, three at the most, by a name for the group.
        joined: The moment of the monotonic clock at which the last one was started, by the same names.
        title: Of the figure.
    """
    import matplotlib.pyplot as plt  # noqa: PLC0415

    figure, panels = plt.subplots(len(teams), figsize=(9, 5), sharex=True, squeeze=False, layout="constrained")
    changes = {name: [change for member in team for change in member.changes] for name, team in teams.items()}
    end = 1 + max(change.at - joined[name] for name in teams for change in changes[name])
    for axes, (name, team) in zip(panels[:, 0], teams.items(), strict=True):
        numbers = sorted({change.partition for change in changes[name]})
        _draw_rows(axes, team, numbers, joined[name], joined[name] + end)
        axes.axvline(0, color="black", linestyle=":", linewidth=1)
        axes.set(title=name, xlim=(-0.3, end))
    panels[-1, 0].set_xlabel("time since the last one was started (s)")
    figure.suptitle(title)
    return figure


def draw_deliveries(times: Mapping[str, Sequence[int]], title: str) -> "Figure":
    """Return a figure with a strip for each way, coloured by how often each message was processed: 0, 1 or 2 times.

    Args:
        times: For each way how often each message was processed, by offset.
        title: Of the figure.
    """
    import matplotlib.pyplot as plt  # noqa: PLC0415
    from matplotlib.colors import ListedColormap  # noqa: PLC0415

    figure, axes = plt.subplots(figsize=(9, 2.8), layout="constrained")
    colours = ListedColormap([_NEVER, _ONCE, _TWICE])
    image = axes.imshow(
        list(times.values()), aspect="auto", cmap=colours, vmin=0, vmax=2, interpolation="nearest", origin="upper"
    )
    axes.set(title=title, xlabel="offset of the message", yticks=range(len(times)), yticklabels=times)
    axes.hlines([row + 0.5 for row in range(len(times) - 1)], *axes.get_xlim(), color="white", linewidth=4)
    figure.colorbar(image).set_ticks([1 / 3, 1, 5 / 3], labels=["never", "once", "twice"])
    return figure


def _draw_rows(axes: "Axes", members: Sequence[Member], numbers: Sequence[int], start: float, end: float) -> None:
    """Draw a row for each partition, in seconds from `start`, and who is who."""
    for member, colour in zip(members, _MEMBERS, strict=False):
        for number in numbers:
            bars = [(since - start, until - since) for since, until in _spans(member, number, end)]
            axes.broken_barh(bars, (number - 0.35, 0.7), facecolor=colour, edgecolor="white")
        axes.plot([], [], color=colour, linewidth=8, label=member.name)
    axes.set(ylabel="partition", yticks=numbers)
    axes.invert_yaxis()
    axes.legend(title="owner", loc="center left", bbox_to_anchor=(1, 0.5))


def _spans(member: Member, partition: int, end: float) -> Iterator[tuple[float, float]]:
    """Yield from when to when a member owned a partition."""
    since = None
    for change in member.changes:
        if change.partition == partition:
            if change.owned:
                since = change.at
            elif since is not None:
                yield since, change.at
                since = None
    if since is not None:
        yield since, end
