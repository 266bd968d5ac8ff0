"""A whole class at once: `make class N=30` runs lesson 00 and its solved exercise for each, against one stack."""

import os
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from subprocess import PIPE, STDOUT, TimeoutExpired, run
from tempfile import TemporaryDirectory
from threading import Event, Thread

import nbformat
import psutil

import kafkalab
from kafkalab.classroom import reports
from kafkalab.headless import NOTEBOOKS

PARTS = ("00_start_here.ipynb", "solutions/00_exercise.ipynb")
SECONDS = 1800  # for one notebook of one learner, on a machine that is busy with all the others


def learn(lab: kafkalab.Lab, learner: str, build: Path) -> list[str]:
    """Run the notebooks as one learner and return what went wrong."""
    address = {
        "KAFKA_BROKER_URL": lab.client["bootstrap.servers"],
        "KAFKA_SCHEMA_REGISTRY_URL": str(lab.registry["url"]),
    }
    environment = {**os.environ, **address, "KAFKALAB_LEARNER": learner}
    for part in PARTS:  # one after the other, as a learner does
        command = [sys.executable, "-m", "kafkalab", "run", "--build", str(build), part]
        try:
            ended = run(command, env=environment, stdout=PIPE, stderr=STDOUT, text=True, timeout=SECONDS, check=False)
        except TimeoutExpired:
            return [f"{learner}: {part} is not at its end after {SECONDS} s"]
        if ended.returncode:
            told = [line for line in ended.stdout.splitlines() if " failed in " in line]
            return [f"{learner}: {'; '.join(told) or ended.stdout[-500:]}"]
    return [
        f"{learner}: {part} printed {theirs!r}, not {ours!r}"
        for part in PARTS
        for theirs, ours in zip(texts(build / Path(part).name), texts(NOTEBOOKS / part), strict=True)
        if theirs.replace(f"{learner}.", "") != ours
    ]


def texts(path: Path) -> list[str]:
    """Return what each cell printed that prints the same in every run: one foreign message would change it."""
    cells = [cell for cell in nbformat.read(path, 4).cells if cell.cell_type == "code"]
    alike = [cell for cell in cells if "nbval-ignore-output" not in cell.metadata.get("tags", [])]
    return ["".join(output.get("text", "") for output in cell.outputs) for cell in alike]


def hold_class(learners: int) -> list[str]:
    """Run a class on a stack of its own and return what went wrong."""
    names = [f"learner-{number:02d}" for number in range(1, learners + 1)]
    with kafkalab.own_stack() as lab:
        lab.check()  # a teacher too has it running before the class comes
        with TemporaryDirectory(prefix="kafkalab-class-") as folder, ThreadPoolExecutor(learners) as room:
            wrong = list(chain.from_iterable(room.map(lambda name: learn(lab, name, Path(folder) / name), names)))
        rows = {row["learner"]: row for row in reports.table(lab)}
        wanted = {"lesson": "00", "passed": 5, "tasks": 5, "finding": "", "lag": 2}  # task 1 reads three of five
        for name in names:
            row = rows.get(name, {})
            if {key: row.get(key) for key in wanted} != wanted:
                wrong.append(f"{name}: the class's table says {row}")
    return wrong


@contextmanager
def memory() -> Iterator[list[float]]:
    """Yield a list that ends with one number: gigabytes that were in use at the highest, above those before."""
    before, used, over = psutil.virtual_memory().available, [], Event()

    def watch() -> None:
        while not over.wait(0.5):
            used.append((before - psutil.virtual_memory().available) / 1e9)

    watcher, highest = Thread(target=watch), []
    watcher.start()
    try:
        yield highest
    finally:
        over.set()
        watcher.join()
        highest.append(max(used, default=0))


if __name__ == "__main__":
    learners, start = int(sys.argv[1]), time.monotonic()
    with memory() as highest:
        failures = hold_class(learners)
    minutes = (time.monotonic() - start) / 60
    print(f"{learners} learners: {minutes:.1f} minutes, {highest[0]:.1f} GB at the highest, {len(failures)} failures")
    sys.exit("\n".join(failures) or None)
