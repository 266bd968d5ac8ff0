"""Waits that end: a question is repeated until the answer is yes, within a bound; a cell does not run for ever."""

import signal
import sys
import threading
import time
from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING

from kafkalab.errors import LabError

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell


def wait_until(question: Callable[[], object], what: str, seconds: float = 30, every: float = 0.05) -> None:
    """Ask `question` until its answer is true.

    Args:
        question: Called again and again; an exception it raises ends the wait.
        what: What is waited for, as the end of "waited 30 s for …".
        seconds: The bound.
        every: The pause between two questions, in seconds.

    Raises:
        LabError: The bound was reached; the message says what was waited for.
    """
    end = time.monotonic() + seconds
    while not question():
        if time.monotonic() > end:
            raise LabError(f"waited {seconds:.0f} s for {what}, in vain")
        time.sleep(every)


@cache
def bound_cells(shell: "InteractiveShell", seconds: float) -> None:
    """End each cell of a notebook that runs longer, as the stop button does, and say so below it."""
    timers: list[threading.Timer] = []
    ended = threading.Event()

    def end_it() -> None:
        ended.set()
        _interrupt_main()

    def begin(_info: object) -> None:
        ended.clear()
        timers.append(threading.Timer(seconds, end_it))
        timers[-1].daemon = True
        timers[-1].start()

    def finish(_result: object) -> None:
        while timers:
            timers.pop().cancel()
        if ended.is_set():
            print(f"The lab ended this cell after {seconds:g} s. Give its loop an end: a count, and a time.")

    shell.events.register("pre_run_cell", begin)
    shell.events.register("post_run_cell", finish)


def _interrupt_main() -> None:
    """Do what Ctrl-C does, so that also a sleep in the main thread ends."""
    if sys.platform == "win32":
        signal.raise_signal(signal.SIGINT)
    else:
        signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)
