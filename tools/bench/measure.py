"""What the parts of the bench have in common: a row of the table, turns, a profile, a process of its own."""

import cProfile
import json
import pstats
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Row:
    """One figure: its name, what each repeat measured, the unit, and the goal where there is one."""

    name: str
    values: tuple[float, ...]
    unit: str
    at_least: float | None = None
    at_most: float | None = None

    @property
    def value(self) -> float:
        """The median of the repeats."""
        return statistics.median(self.values)

    @property
    def goal(self) -> str:
        """The goal and whether the median reaches it; empty without one."""
        if self.at_least is not None:
            return f"at least {self.at_least:g}: {'reached' if self.value >= self.at_least else 'missed'}"
        if self.at_most is not None:
            return f"at most {self.at_most:g}: {'reached' if self.value <= self.at_most else 'missed'}"
        return ""


def row(name: str, values: Iterable[float], unit: str, **goal: float) -> Row:
    return Row(name, tuple(values), unit, **goal)


def ratio(name: str, ones: Iterable[float], others: Iterable[float], **goal: float) -> Row:
    """Return how many times the one is the other, a pair for each turn."""
    return row(name, (one / other for one, other in zip(ones, others, strict=True)), "times", **goal)


def in_turns(runs: int, ways: Mapping[str, Callable[[], Any]]) -> dict[str, list[Any]]:
    """Return what each way measured in each turn: A, B, A, B, so that a busy moment spoils no way alone."""
    measured: dict[str, list[Any]] = {name: [] for name in ways}
    for _ in range(runs):
        for name, way in ways.items():
            measured[name].append(way())
    return measured


def shares(name: str, profile: cProfile.Profile, most: int = 4) -> Iterator[Row]:
    """Yield what share of the time each of the functions that take most has by itself."""
    stats = pstats.Stats(profile)
    for (file, line, function), took in sorted(stats.stats.items(), key=lambda item: -item[1][2])[:most]:
        place = "" if file == "~" else f"{Path(file).name}:{line} "
        yield row(f"{name} in {place}{function.strip('<>')}", [100 * took[2] / stats.total_tt], "%")


PEAK = """
import json, sys, threading, psutil
def peak(work):
    "Return the highest resident memory in bytes while something is done, beyond that before it; what it returned."
    process, over, highest = psutil.Process(), threading.Event(), [psutil.Process().memory_info().rss]
    def watch():
        while not over.wait(0.005):
            highest.append(max(highest.pop(), process.memory_info().rss))
    before, watcher = highest[0], threading.Thread(target=watch, daemon=True)
    watcher.start()
    result = work()
    over.set()
    watcher.join()
    return highest[0] - before, result
"""


def alone(code: str, **given: Any) -> Any:
    """Run some Python in a process of its own, which is given values and prints one as JSON."""
    command = [sys.executable, "-c", f"{PEAK}\ngiven = json.loads(sys.argv[1])\n{code}", json.dumps(given)]
    return json.loads(subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True).stdout)
