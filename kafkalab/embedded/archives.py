"""Class-data archives: classes that were parsed and checked once, mapped at every later start (JEP 310, JEP 350)."""

import contextlib
import os
import subprocess
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

from kafkalab.embedded import artifacts

BASE = "base.jsa"  # the classes of Java itself, which the packaged runtime brings no archive of


def flags(kind: str) -> list[str]:
    """Return the JVM flags that use the archives of a kind of server, or that prepare to make them."""
    base, own = artifacts.archives() / BASE, artifacts.archives() / f"{kind}.jsa"
    if own.exists():
        return [f"-XX:SharedArchiveFile={base}{os.pathsep}{own}"]
    return [f"-XX:SharedArchiveFile={base}", "-XX:+RecordDynamicDumpInfo"] if base.exists() else []


def make_base() -> None:
    """Make the archive of Java's own classes, unless it is there."""
    _make(
        BASE,
        lambda new: [
            str(artifacts.JAVA),
            "-XX:-UsePerfData",
            "-Xshare:dump",
            "-XX:+UseSerialGC",
            f"-XX:SharedArchiveFile={new}",
        ],
    )


def make(running: Mapping[str, int]) -> None:
    """Make the archives that are missing out of what running servers have loaded.

    Args:
        running: The process id of one server of each kind.
    """
    for kind, pid in running.items():
        _make(
            f"{kind}.jsa",
            partial(_dump, pid),
        )


def _dump(pid: int, archive: Path) -> list[str]:
    """Return the command that makes a running JVM write what it has loaded."""
    jcmd = artifacts.JAVA.with_name(artifacts.JAVA.name.replace("java", "jcmd"))
    return [str(jcmd), "-J-XX:-UsePerfData", str(pid), "VM.cds", "dynamic_dump", str(archive)]


def _make(name: str, command: Callable[[Path], list[str]]) -> None:
    """Run the command that writes an archive; without one a server only starts more slowly, so no failure counts."""
    archive = artifacts.archives() / name
    if archive.exists():
        return
    archive.parent.mkdir(parents=True, exist_ok=True)
    new = archive.with_name(f"{os.getpid()}-{name}")
    try:
        subprocess.run(command(new), capture_output=True, timeout=60, check=True)
        new.replace(archive)
    except (OSError, subprocess.SubprocessError):
        pass
    finally:
        with contextlib.suppress(OSError):
            new.unlink(missing_ok=True)
