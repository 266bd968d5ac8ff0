"""An exercise: tasks that the cluster itself checks, and the report of each outcome to the class."""

import traceback
from collections.abc import Iterator
from contextlib import contextmanager

import httpx2
from confluent_kafka import KafkaException
from confluent_kafka.schema_registry.error import SchemaRegistryError

from kafkalab.classroom import reports
from kafkalab.classroom.checks import CheckError, Checks
from kafkalab.cluster.lab import Lab
from kafkalab.errors import LabError
from kafkalab.waiting import bound_cells

CELL_SECONDS = 120
_REPORTED = 1000  # characters of a finding: an error of the learner's code may hold more than a message can


class Exercise:
    """The tasks of one exercise notebook, whose cells end after two minutes at the latest.

    Args:
        lab: The cluster of the class, which the outcomes are reported to.
        lesson: The number of its lesson, such as "03".
        tasks: How many.
    """

    def __init__(self, lab: Lab, lesson: str, tasks: int) -> None:
        self._lab = lab
        self._lesson = lesson
        self._tasks = tasks
        from IPython import get_ipython  # noqa: PLC0415 - a notebook has it; a terminal does without

        if shell := get_ipython():
            bound_cells(shell, CELL_SECONDS)

    @contextmanager
    def task(self, number: int, on: Lab | None = None) -> Iterator[Checks]:
        """Check one task: the body asks, the end of the block says that it passed.

        Args:
            number: From 1.
            on: The cluster to ask, where it is not that of the class.

        Raises:
            CheckError: The task is not done; the message says what was found, what was expected, and where to look.
            LabError: The cluster does not answer.
        """
        asked = on or self._lab
        asked.check()
        try:
            yield Checks(asked)
        except CheckError as error:
            finding = str(error)
        except (LabError, KafkaException, SchemaRegistryError, httpx2.HTTPError) as error:
            raise LabError(f"The cluster could not be asked: {error}") from None
        except Exception as error:  # noqa: BLE001 - a check may call what the learner wrote, or read what it cannot
            finding = _finding(error)
        else:
            self._report(number, "")
            print(f"Task {number} of {self._tasks}: passed")
            return
        self._report(number, finding)
        raise CheckError(f"Task {number} of {self._tasks}: {finding}") from None

    def _report(self, number: int, finding: str) -> None:
        """Tell the class; a report that cannot be sent does not spoil the check."""
        try:
            reports.report(self._lab, self._lesson, number, self._tasks, finding[:_REPORTED])
        except LabError as error:
            print(f"(not reported to the class: {error})")


def _finding(error: Exception) -> str:
    """Say whose error this is: that of the learner's code which the check called, or the check's own."""
    said = f"{type(error).__name__}: {error}"
    _task, body, *inner = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    if any(
        frame.f_globals is body.f_globals and frame.f_code.co_filename != body.f_code.co_filename for frame in inner
    ):  # another cell of the notebook; each has a file name of its own
        return f"Your code ended with {said}"
    if isinstance(error, NameError):
        return f"There is no {error.name!r} yet: run the cells above, your answer among them."
    return (
        f"The check could not read your answer ({said}). Look at what the task asks each variable to hold: "
        "a number, a text, a list?"
    )
