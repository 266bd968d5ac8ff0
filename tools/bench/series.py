"""All lessons headless, a fresh stack included."""

import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from tempfile import TemporaryDirectory

from tools.bench.measure import Row, row
from tools.bench.setup import fresh_home


def minutes(notebooks):
    with TemporaryDirectory(prefix="kafkalab-bench-") as folder:
        start = time.monotonic()
        command = [sys.executable, "-m", "kafkalab", "run", "--build", f"{folder}/build", *notebooks]
        subprocess.run(command, env=fresh_home(folder), check=True, capture_output=True)
        return (time.monotonic() - start) / 60


def rows(runs: int = 1, notebooks: Sequence[str] = ()) -> Iterator[Row]:
    yield row(f"{len(notebooks) or 'all'} lessons headless", (minutes(notebooks) for _ in range(runs)), "minutes")
