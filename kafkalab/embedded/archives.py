"""Class-data archives: classes that were parsed and checked once, mapped at every later start (JEP 310, JEP 350)."""

import contextlib
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

from kafkalab.embedded import artifacts, processes

_BASE = "base.jsa"  # the classes of Java itself, which the packaged runtime brings no archive of
_MAKE_SECONDS = 60


def flags(files: str, kind: str, *, ends: bool = False) -> list[str]:
    """Return the JVM flags that use an archive, or that prepare to make it.

    Args:
        files: The set of files that the program is in.
        kind: What the program is; each kind has an archive.
        ends: Whether the program ends by itself, and so writes its archive then; a server is asked while it runs.
    """
    folder = artifacts.archives(files)
    base, own = folder / _BASE, folder / f"{kind}.jsa"
    if own.exists():
        return [f"-XX:SharedArchiveFile={base}{os.pathsep}{own}"]
    if not base.exists():
        return []
    return [
        f"-XX:SharedArchiveFile={base}",
        f"-XX:ArchiveClassesAtExit={own}" if ends else "-XX:+RecordDynamicDumpInfo",
    ]


def path(files: str, kind: str) -> Path:
    """Return the file of the archive of a kind of server."""
    return artifacts.archives(files) / f"{kind}.jsa"


def make_base(files: str) -> None:
    """Make the archive of Java's own classes for a set of files, unless it is there."""
    archive = artifacts.archives(files) / _BASE
    command = [str(artifacts.JAVA), "-XX:-UsePerfData", "-Xshare:dump", "-XX:+UseSerialGC"]
    _make(archive, lambda new: [*command, f"-XX:SharedArchiveFile={new}"])


def make(files: str, kind: str, pid: int) -> None:
    """Make the archive of a kind of server out of what a running one has loaded, unless it is there."""
    archive = path(files, kind)
    jcmd = artifacts.JAVA.with_name(artifacts.JAVA.name.replace("java", "jcmd"))
    command = [str(jcmd), "-J-XX:-UsePerfData", str(pid), "VM.cds", "dynamic_dump"]
    _make(archive, lambda new: [*command, f'"{new}"'])


def _make(archive: Path, command: Callable[[Path], list[str]]) -> None:
    """Run the command that writes an archive; without one a server only starts more slowly, so no failure counts."""
    if archive.exists():
        return
    archive.parent.mkdir(parents=True, exist_ok=True)
    new = archive.with_name(f"{os.getpid()}-{archive.name}")
    try:
        environment = processes.environment()
        subprocess.run(command(new), capture_output=True, timeout=_MAKE_SECONDS, check=True, env=environment)
        new.replace(archive)
    except (OSError, subprocess.SubprocessError):
        pass
    finally:
        with contextlib.suppress(OSError):
            new.unlink(missing_ok=True)
