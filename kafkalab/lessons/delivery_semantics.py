"""Delivery semantics: a worker in a process of its own that can be killed anywhere, and what became of each order."""

import inspect
import json
import os
import select
import signal
import subprocess
import sys
import weakref
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import IO, TYPE_CHECKING, cast

import psutil

from kafkalab.errors import LabError
from kafkalab.waiting import wait_until

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_SECONDS = 60  # that a worker may take
_NEVER, _ONCE, _TWICE = "#000000", "#DDDDDD", "#F0E442"  # as in lesson 06


def _work() -> None:
    """Run what comes through the pipe; sent as source, for an import of this package would take a second."""
    import json  # noqa: PLC0415
    import os  # noqa: PLC0415
    import sqlite3  # noqa: PLC0415
    import sys  # noqa: PLC0415
    import threading  # noqa: PLC0415
    import time  # noqa: PLC0415

    import confluent_kafka  # noqa: PLC0415
    import psutil  # noqa: PLC0415

    program, name, job = json.loads(sys.stdin.readline())

    def end_with_parent() -> None:
        sys.stdin.read()  # the other end of the pipe closes when the parent is gone, however it ended
        os._exit(0)

    threading.Thread(target=end_with_parent, daemon=True).start()
    known = {"json": json, "psutil": psutil, "sqlite3": sqlite3, "time": time, **vars(confluent_kafka)}
    exec(program, known)  # noqa: S102 - the learner's own functions
    print("begins", flush=True)
    try:
        known[name](job)
    except confluent_kafka.KafkaException as error:
        reason = error.args[0]
        print(reason.name() + (", fatal" if reason.fatal() else ""), flush=True)
    else:
        print("done", flush=True)


def _end(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.communicate()


class Worker:
    """Functions of a notebook at work in a process of their own, which ends with the program that made it.

    The process gets the source of the functions, and calls the last one. They know each other, the names of
    `confluent_kafka`, and the modules json, psutil, sqlite3 and time; nothing else of the notebook.

    Args:
        functions: Defined in a notebook or a module.
        job: What the last one is called with. It goes through a pipe, because it may hold a password, and everybody can
            read the arguments of a process.

    Raises:
        LabError: It does not begin in time.
    """

    def __init__(self, functions: Sequence[Callable[..., object]], job: Mapping[str, object]) -> None:
        command = [sys.executable, "-P", "-c", f"{inspect.getsource(_work)}\n_work()"]
        # A group of its own: the stop button does not reach it. If it is suspended when its parent is killed, the
        # system ends it (POSIX: SIGHUP and SIGCONT to a group that becomes orphaned).
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True, process_group=0)
        weakref.finalize(self, _end, self._process)  # also a suspended one, when it is forgotten or the notebook ends
        program = "\n\n".join(inspect.getsource(function) for function in functions)
        print(json.dumps([program, functions[-1].__name__, job]), file=self._process.stdin, flush=True)
        told = cast("IO[str]", self._process.stdout).fileno()
        if not select.select([told], [], [], _SECONDS)[0]:
            raise LabError(f"timed out after {_SECONDS} s waiting for a worker to begin")
        os.read(told, len("begins\n"))  # no more than that, the rest is for communicate(); nothing if it cannot begin

    def wait(self, seconds: float = _SECONDS) -> str:
        """Wait until it has ended, and say how.

        Args:
            seconds: The bound; then it is killed.

        Returns:
            `done`, `killed`, or the error of Kafka that it ended with, such as `_FENCED, fatal`.

        Raises:
            LabError: It ended with another error, or not in time.
        """
        try:
            self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise LabError(f"timed out after {seconds:g} s waiting for the end of a worker") from None
        finally:
            self.kill()
        told, errors = self._process.communicate()
        if self._process.returncode == -signal.SIGKILL:
            return "killed"
        if self._process.returncode or not told.strip():
            lines = errors.strip().splitlines() or [f"the exit code {self._process.returncode}"]
            raise LabError(f"the worker ended with {lines[-1]}")
        return told.strip()

    def kill(self) -> None:
        """End it at once, wherever it is (SIGKILL), if it has not ended yet."""
        _end(self._process)

    def wait_until_suspended(self) -> None:
        """Wait until it has suspended itself (SIGSTOP).

        Raises:
            LabError: It has not in time, or it has ended.
        """
        process = psutil.Process(self._process.pid)

        def stands() -> bool:
            return process.status() in {psutil.STATUS_STOPPED, psutil.STATUS_ZOMBIE}

        wait_until(stands, "the worker to suspend itself", _SECONDS)
        if process.status() == psutil.STATUS_ZOMBIE:
            raise LabError(f"the worker did not suspend itself, it ended with {self.wait()}")

    def resume(self) -> None:
        """Let it go on (SIGCONT)."""
        psutil.Process(self._process.pid).resume()


def draw_fates(
    fates: Mapping[tuple[str, str], Counter[str]], points: Sequence[str], orders: Sequence[str], batch: int, title: str
) -> "Figure":
    """Return a figure of ways by crash points, with a square for each order in each: none, one, or several results.

    Args:
        fates: How many results each order has, by way and crash point.
        points: The crash points, from left to right.
        orders: Their names; a row of squares is a batch.
        batch: How many orders are one.
        title: Of the figure.
    """
    import matplotlib.pyplot as plt  # noqa: PLC0415 - half a second that only figures need
    from matplotlib.patches import Patch  # noqa: PLC0415

    ways = list(dict.fromkeys(way for way, _ in fates))
    figure, panels = plt.subplots(
        len(ways), len(points), figsize=(9, 0.7 + 1.15 * len(ways)), squeeze=False, layout="constrained"
    )
    for row, way in zip(panels, ways, strict=True):
        for axes, point in zip(row, points, strict=True):
            axes.axis("off")
            if (way, point) in fates:
                _draw_squares(axes, [fates[way, point][order] for order in orders], batch)
            else:
                axes.text(0.5, 0.5, "no such point", ha="center", va="center", fontsize=8, color="#666666")
        row[0].text(-0.12, 0.5, way, transform=row[0].transAxes, ha="right", va="center", fontsize=10)
    for axes, point in zip(panels[0], points, strict=True):
        axes.set_title(point, fontsize=10)
    legend = {"one result": _ONCE, "no result": _NEVER, "two or more results": _TWICE}
    squares = [Patch(facecolor=colour, edgecolor="black", label=name) for name, colour in legend.items()]
    figure.legend(handles=squares, loc="outside lower center", ncols=3, title="a square is an order, a row is a batch")
    figure.suptitle(title)
    return figure


def _draw_squares(axes: "Axes", results: Sequence[int], batch: int) -> None:
    from matplotlib.patches import Rectangle  # noqa: PLC0415

    rows = -(-len(results) // batch)
    for number, count in enumerate(results):
        colour = (_NEVER, _ONCE)[count] if count < 2 else _TWICE
        corner = (number % batch, rows - 1 - number // batch)
        axes.add_patch(Rectangle(corner, 0.9, 0.9, facecolor=colour, edgecolor="black", linewidth=0.5))
    lost, double = sum(count == 0 for count in results), sum(count > 1 for count in results)
    words = [f"{lost} lost"] * (lost > 0) + [f"{double} double"] * (double > 0)
    axes.text(batch / 2, -0.25, ", ".join(words) or "each once", ha="center", va="top", fontsize=9)
    axes.set(xlim=(-0.2, batch + 0.2), ylim=(-1.1, rows + 0.1), aspect="equal")
