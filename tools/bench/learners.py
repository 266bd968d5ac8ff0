"""A whole class at once on one stack: lesson 00 and its exercise for each."""

import time
from collections.abc import Iterator

from tools import whole_class
from tools.bench.measure import Row, row


def rows(runs: int = 1, learners: int = 30) -> Iterator[Row]:
    minutes, highest, failures = [], [], []
    for _ in range(runs):
        start = time.monotonic()
        with whole_class.memory() as most:
            failures.append(len(whole_class.hold_class(learners)))
        minutes.append((time.monotonic() - start) / 60)
        highest += most
    yield row(f"{learners} learners", minutes, "minutes")
    yield row(f"{learners} learners: memory at the highest", highest, "GB")
    yield row(f"{learners} learners: failures", failures, "failures", at_most=0)
