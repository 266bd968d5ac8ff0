"""Measured side by side: what a client says of its requests, work in several processes, the figures of the rates."""

import inspect
import json
import pickle
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from statistics import fmean
from typing import IO, TYPE_CHECKING, Any, cast

from confluent_kafka import Producer

from kafkalab.errors import LabError
from kafkalab.figures.colours import COLOURS
from kafkalab.waiting import wait_until

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_EVERY_MS = 100  # between two statistics of a client
_SECONDS = 60  # that a process may take to begin, and to end its work
_GREY, _BLUE, _ORANGE = "#666666", *COLOURS[:2]


class Statistics:
    """What a producer counts about itself, from the JSON that librdkafka gives to `stats_cb` (its STATISTICS.md).

    Attributes:
        settings: To be added to the producer's.
        messages: How many it has sent, those of its first connection among them.
        requests: How many requests of the kind Produce it sent them in.
        bytes: How many bytes it has sent, all requests together.
    """

    def __init__(self) -> None:
        self.settings: dict[str, Any] = {"statistics.interval.ms": _EVERY_MS, "stats_cb": self._take}
        self.messages = self.requests = self.bytes = 0

    def wait(self, producer: Producer, messages: int) -> None:
        """Poll until the statistics have counted so many messages.

        Raises:
            LabError: They did not in half a minute.
        """
        wait_until(lambda: producer.poll(0.02) >= 0 and self.messages >= messages, "the client's statistics")

    def _take(self, text: str) -> None:
        told = json.loads(text)
        self.messages, self.bytes = told["txmsgs"], told["tx_bytes"]
        self.requests = sum(broker["req"].get("Produce", 0) for broker in told["brokers"].values())


def _work() -> None:
    """Run what comes through the pipe; sent as source, for an import of this package would take a second."""
    import itertools  # noqa: PLC0415
    import pickle  # noqa: PLC0415
    import sys  # noqa: PLC0415
    import time  # noqa: PLC0415
    from contextlib import suppress  # noqa: PLC0415
    from io import BytesIO  # noqa: PLC0415

    import confluent_kafka  # noqa: PLC0415
    import fastavro  # noqa: PLC0415

    program, name, given = pickle.load(sys.stdin.buffer)  # noqa: S301 - the parent's own
    known = {**vars(itertools), **vars(confluent_kafka), "BytesIO": BytesIO, "fastavro": fastavro, "time": time}
    known |= {"suppress": suppress, **given}
    exec(program, known)  # noqa: S102 - the learner's own functions
    sys.stdout.buffer.write(b"r")
    sys.stdout.buffer.flush()
    if sys.stdin.buffer.read(1):  # nothing if the parent is gone
        pickle.dump(known[name](), sys.stdout.buffer)


def side_by_side(functions: Sequence[Callable[..., object]], given: Mapping[str, object], processes: int) -> list[Any]:
    """Call the last of some functions in several processes, which begin together.

    Each process gets the source of the functions. They know each other, what is `given`, the names of
    `confluent_kafka` and of `itertools`, `fastavro`, `time`, `BytesIO` and `suppress`; nothing else of the notebook.

    Args:
        functions: Defined in a notebook or a module; the last one takes no argument.
        given: What they know by name. It goes through a pipe, because it may hold a password.
        processes: How many.

    Returns:
        What each call returned.

    Raises:
        LabError: One of them ended with an error, or not in time.
    """
    command = [sys.executable, "-P", "-c", f"{inspect.getsource(_work)}\n_work()"]
    program = "\n\n".join(inspect.getsource(function) for function in functions)
    told, pipe = pickle.dumps((program, functions[-1].__name__, dict(given))), subprocess.PIPE
    started = [subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe) for _ in range(processes)]
    try:
        for process in started:
            stdin = cast("IO[bytes]", process.stdin)
            stdin.write(told)
            stdin.flush()
        for process in started:
            cast("IO[bytes]", process.stdout).read(1)  # it has begun, or ended
        for process in started:
            if process.poll() is None:
                stdin = cast("IO[bytes]", process.stdin)
                stdin.write(b"g")
                stdin.flush()
        return [_result(process) for process in started]
    finally:
        for process in started:
            process.kill()
            process.communicate()


def _result(process: subprocess.Popen[bytes]) -> object:
    try:
        out, errors = process.communicate(timeout=_SECONDS)
    except subprocess.TimeoutExpired:
        raise LabError(f"timed out after {_SECONDS} s waiting for the end of a process") from None
    if process.returncode:
        reason = errors.decode(errors="replace").strip().splitlines() or [f"the exit code {process.returncode}"]
        raise LabError(f"the process ended with {reason[-1]}")
    return pickle.loads(out)  # noqa: S301 - the learner's own


def draw_ladder(panels: Mapping[str, Mapping[str, float]], title: str) -> "Figure":
    """Return a figure with a panel for each ladder: a bar for each rung, as a share of the ladder's limit.

    Args:
        panels: The shares (1 is the limit) by rung, from the lowest place to the highest, by the panel's title.
        title: Of the figure.
    """
    import matplotlib.pyplot as plt  # noqa: PLC0415 - half a second that only figures need

    sizes = [len(rungs) for rungs in panels.values()]
    figure, all_axes = plt.subplots(
        len(panels), figsize=(10, 1.2 + 0.42 * sum(sizes)), height_ratios=sizes, sharex=True, squeeze=False,
        layout="constrained",
    )  # fmt: skip
    for axes, (name, rungs), colour in zip(all_axes[:, 0], panels.items(), COLOURS, strict=False):
        percents = [100 * share for share in rungs.values()]
        axes.barh(range(len(rungs)), percents, color=colour)
        for place, percent in enumerate(percents):
            axes.text(percent + 0.8, place, f"{percent:.3g}%", va="center")
        axes.axvline(100, color=_GREY, linestyle="--", zorder=0)
        axes.set_yticks(range(len(rungs)), rungs)
        axes.set_title(name, loc="left")
    all_axes[-1, 0].set_xlabel("share of the limit that was measured in the same run (percent)")
    all_axes[-1, 0].set_xlim(0, 112)
    figure.suptitle(title)
    return figure


def draw_latencies(ways: Mapping[str, Sequence[float]], title: str) -> "Figure":
    """Return a figure of the share of messages that were acknowledged within a time, with the mean of each way.

    Args:
        ways: The latencies in seconds, by a name for the way.
        title: Of the figure.
    """
    import matplotlib.pyplot as plt  # noqa: PLC0415 - half a second that only figures need

    figure, axes = plt.subplots(figsize=(9, 4.2), layout="constrained")
    for (name, seconds), colour, style in zip(ways.items(), COLOURS, ("-", "--", "-.", ":"), strict=False):
        times = sorted(1000 * each for each in seconds)
        shares = [100 * (place + 1) / len(times) for place in range(len(times))]
        axes.step(times, shares, style, where="post", color=colour, label=name)
        mean = fmean(times)
        below = 100 * sum(each <= mean for each in times) / len(times)
        axes.plot(
            [mean], [below], "o", color=colour, markersize=9, markeredgecolor="black", label=f"its mean: {mean:.3g} ms"
        )
    for percent in (50, 99):
        axes.axhline(percent, color=_GREY, linewidth=0.8)
        axes.text(1, percent, f" p{percent}", transform=axes.get_yaxis_transform(), va="center")
    axes.set(title=title, xlabel="latency (ms, logarithmic)", ylabel="messages acknowledged within it (percent)")
    axes.set(xscale="log", ylim=(0, 102))
    figure.legend(loc="outside right center")
    return figure


def draw_consumers(rates: Mapping[int, float], partitions: int, title: str) -> "Figure":
    """Return a figure of the rate over the number of consumers, beside a line of equal gain for each consumer.

    Args:
        rates: Messages in a second, by the number of consumers.
        partitions: Of the topic.
        title: Of the figure.
    """
    import matplotlib.pyplot as plt  # noqa: PLC0415 - half a second that only figures need

    figure, axes = plt.subplots(figsize=(8, 3.8), layout="constrained")
    one = rates[1]
    axes.plot([1, max(rates)], [one, one * max(rates)], "--", color=_GREY, label="as if each consumer added as much")
    axes.plot(list(rates), list(rates.values()), "o-", color=_BLUE, markersize=8, label="measured")
    axes.axvline(partitions, color=_ORANGE, linestyle=":", linewidth=2, label=f"{partitions} partitions")
    axes.set(title=title, xlabel="consumers in the group", ylabel="messages in a second", xticks=list(rates))
    axes.set_ylim(0)
    axes.legend(loc="upper left")
    return figure
