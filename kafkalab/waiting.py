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

ANSWER_SECONDS = 10  # that a server may take over one question
_AGAIN_SECONDS = 3


def wait_until(question: Callable[[], object], what: str, seconds: float = 30, every: float = 0.05) -> None:
    """Ask `question` until its answer is true.

    Args:
        question: Called again and again; an exception it raises ends the wait.
        what: What is waited for, as the end of "timed out after 30 s waiting for …".
        seconds: The bound.
        every: The pause between two questions, in seconds.

    Raises:
        LabError: The bound was reached; the message says what was waited for.
    """
    end = time.monotonic() + seconds
    while not question():
        if time.monotonic() > end:
            raise LabError(f"timed out after {seconds:.0f} s waiting for {what}")
        time.sleep(every)


@cache
def bound_cells(shell: "InteractiveShell", seconds: float) -> None:
    """End each cell of a notebook that runs longer, as the stop button does, and say so below it."""
    running: list[threading.Event] = []  # the one of the cell that runs; it is set when the cell is over
    ended = threading.Event()

    def watch(over: threading.Event) -> None:
        patience = seconds
        while not over.wait(patience):
            ended.set()
            _interrupt_main()
            patience = _AGAIN_SECONDS  # a bare `except` may have taken the interrupt

    def begin(_info: object) -> None:
        ended.clear()
        running.append(threading.Event())
        threading.Thread(target=watch, args=running[-1:], daemon=True).start()

    def finish(_result: object) -> None:
        while running:
            running.pop().set()
        if ended.is_set():
            print(
                f"The lab ended this cell after {seconds:g} s. If it has a loop, give it an end (a count, a time); "
                "if not, run it again."
            )

    shell.events.register("pre_run_cell", begin)
    shell.events.register("post_run_cell", finish)


def _interrupt_main() -> None:
    """Do what Ctrl-C does, so that also a sleep in the main thread ends."""
    if sys.platform == "win32":
        signal.raise_signal(signal.SIGINT)
    else:
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
