"""A queue at work: who did which job and when, and a worker in a process of its own that can die in the middle."""

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

import psutil
from confluent_kafka import KafkaException, Message, ShareConsumer

from kafkalab.errors import LabError
from kafkalab.figures.colours import COLOURS
from kafkalab.waiting import wait_until

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_WORKERS = COLOURS[3:]  # as the members of a group have them in lesson 06
_JOB_SECONDS = 60  # that a worker waits for its job


class Done(NamedTuple):
    """A job that was done: by whom, its offset, and from when to when on the monotonic clock, in seconds."""

    worker: str
    offset: int
    start: float
    end: float


class Worker:
    """A share consumer in a process of its own: it takes one job, and does not acknowledge it until it is told to.

    It ends with the program that made it.

    Attributes:
        job: Offset and delivery count of what it took.

    Args:
        config: The share consumer's configuration, with explicit acknowledgement.
        topic: What it subscribes to.

    Raises:
        LabError: It got no job in a minute.
    """

    def __init__(self, config: Mapping[str, object], topic: str) -> None:
        command = [sys.executable, "-m", __name__]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        took = self._told(json.dumps([config, topic]))
        if not took:
            self.kill()
            raise LabError(f"the worker got no job from {topic!r} in {_JOB_SECONDS} s")
        offset, count = json.loads(took)
        self.job: tuple[int, int] = offset, count

    def kill(self) -> None:
        """End it at once, as a crash does (SIGKILL)."""
        self._process.kill()
        self._process.communicate()

    def pause(self) -> None:
        """Hold it, connections open, as a machine that hangs (SIGSTOP)."""
        psutil.Process(self._process.pid).suspend()

    def resume(self) -> None:
        """Let it go on."""
        psutil.Process(self._process.pid).resume()

    def accept(self) -> str:
        """Let it acknowledge its job with ACCEPT, and return `accepted` or the name of the broker's error."""
        return self._told("accept")

    def _told(self, line: str) -> str:
        """Return its answer to a line, empty if it has ended."""
        print(line, file=self._process.stdin, flush=True)
        return next(iter(self._process.stdout or ()), "").strip()


def draw_work(ways: Mapping[str, Sequence[Done]], title: str) -> "Figure":
    """Return a figure with a panel for each way: a row for each worker, a bar for each job it did.

    Args:
        ways: What was done, by a name for the way; seconds count from the start of the first job.
        title: Of the figure.
    """
    import matplotlib.pyplot as plt  # noqa: PLC0415 - half a second that only figures need

    figure, panels = plt.subplots(
        len(ways), figsize=(9, 0.6 + 1.7 * len(ways)), sharex=True, squeeze=False, layout="constrained"
    )
    for axes, (way, jobs) in zip(panels[:, 0], ways.items(), strict=True):
        begin = min(job.start for job in jobs)
        for row, (worker, colour) in enumerate(_colours(ways).items()):
            bars = [(job.start - begin, job.end - job.start) for job in jobs if job.worker == worker]
            axes.broken_barh(bars, (row - 0.35, 0.7), facecolor=colour, edgecolor="white", linewidth=0.5)
        axes.set(title=way, ylabel="worker", ylim=(len(_colours(ways)) - 0.5, -0.5))
        axes.set_yticks(range(len(_colours(ways))), _colours(ways))
    panels[-1, 0].set_xlabel("time (s)")
    figure.suptitle(title)
    return figure


def draw_order(ways: Mapping[str, Sequence[Done]], title: str) -> "Figure":
    """Return a figure with a panel for each way: a point for each job, its offset over its place among those done.

    Args:
        ways: What was done, in the order of its end, by a name for the way.
        title: Of the figure.
    """
    import matplotlib.pyplot as plt  # noqa: PLC0415

    figure, panels = plt.subplots(
        1, len(ways), figsize=(9, 3.8), sharex=True, sharey=True, squeeze=False, layout="constrained"
    )
    for axes, (way, jobs) in zip(panels[0], ways.items(), strict=True):
        for worker, colour in _colours(ways).items():
            points = [(place, job.offset) for place, job in enumerate(jobs, 1) if job.worker == worker]
            axes.plot(*zip(*points, strict=True), "o", color=colour, markersize=5, label=worker) if points else None
        axes.set(title=way, xlabel="place in the order of the ends")
        axes.legend(title="worker", loc="upper left")
    panels[0, 0].set_ylabel("offset of the job")
    figure.suptitle(title)
    return figure


def _colours(ways: Mapping[str, Sequence[Done]]) -> dict[str, str]:
    workers = sorted({job.worker for jobs in ways.values() for job in jobs})
    return dict(zip(workers, _WORKERS, strict=False))


def _work() -> None:
    """Take one job and say which, then accept it when a line comes; the end of the input ends it, without a word."""
    config, topic = json.loads(sys.stdin.readline())
    consumer, taken = ShareConsumer(config), list[Message]()
    consumer.subscribe([topic])

    def took() -> bool:
        taken.extend(consumer.poll(0.5))
        return bool(taken)

    wait_until(took, "a job", _JOB_SECONDS)
    message = taken[0]
    if error := message.error():
        raise KafkaException(error)
    print(json.dumps([message.offset(), message.delivery_count()]), flush=True)
    if sys.stdin.readline():
        consumer.acknowledge(message)
        [refused] = consumer.commit_sync(30).values()
        print(refused.args[0].name() if refused else "accepted", flush=True)
        sys.stdin.readline()


if __name__ == "__main__":
    _work()
