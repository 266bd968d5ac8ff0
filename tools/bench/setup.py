"""From a fresh clone to the first stack: the packages, the servers' files, the first start; caches empty."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

from kafkalab.embedded.stack import free_ports
from tools.bench.measure import ROOT, Row, row

KINDS = ("ZOOKEEPER", "CONTROLLER", "BROKER", "REGISTRY")


def fresh_home(folder: str) -> dict[str, str]:
    """Return the environment of a stack in a folder of its own, on free ports."""
    ports = {f"KAFKALAB_{kind}_PORT": str(port) for kind, port in zip(KINDS, free_ports(len(KINDS)), strict=True)}
    return os.environ | ports | {"KAFKALAB_HOME": f"{folder}/home"}


def seconds_of_set_up():
    """Return the seconds of each step, by its name."""
    with TemporaryDirectory(prefix="kafkalab-bench-") as folder:
        clone = Path(folder) / "clone"
        caches = {"PIP_CACHE_DIR": f"{folder}/pip", "KAFKALAB_CACHE": f"{folder}/cache", "PYTHONPATH": ""}
        environment = fresh_home(folder) | caches
        ours = str(clone / ".venv" / ("Scripts" if sys.platform == "win32" else "bin") / "kafkalab")
        steps = {
            "clone": ["git", "clone", "--quiet", str(ROOT), str(clone)],
            "packages": ["make", "--silent", ".venv/ready", f"PYTHON={sys.executable}"],
            "jars": [ours, "fetch"],
            "first start": [ours, "up"],
        }
        seconds = {}
        try:
            for name, command in steps.items():
                start, where = time.monotonic(), clone if clone.exists() else folder
                subprocess.run(command, cwd=where, env=environment, check=True, capture_output=True)
                seconds[name] = time.monotonic() - start
        finally:
            if "jars" in seconds:
                subprocess.run([ours, "down", "--wipe"], env=environment, check=False, capture_output=True)
    return seconds


def rows(runs: int = 1) -> Iterator[Row]:
    took = [seconds_of_set_up() for _ in range(runs)]
    for step in took[0]:
        yield row(step, (seconds[step] for seconds in took), "s")
    yield row("all", (sum(seconds.values()) for seconds in took), "s")
