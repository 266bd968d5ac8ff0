"""Waiting is asking: repeat a question until the answer is yes, within a bound."""

import time
from collections.abc import Callable

from kafkalab.errors import LabError


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
