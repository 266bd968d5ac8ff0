"""Processes that outlive the Python that starts them: started, recorded, recognised again."""

import contextlib
import os
import re
import secrets
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import psutil

from kafkalab.embedded import HOST
from kafkalab.errors import LabError

# with their commands; kept so that a server that ends is reaped by the Python that started it
_children: list[tuple[subprocess.Popen[bytes], list[str]]] = []
GUARD = Path(__file__).with_name("guard.py")  # by its path: as a module it would import the lab while servers start
_CONFIGURES_SERVERS = re.compile(r"(_JAVA|JAVA_TOOL|JDK_JAVA)_OPTIONS$|(QUARKUS|APICURIO)_", re.IGNORECASE)


def start(
    command: list[str],
    log: Path,
    folder: Path,
    record: Path,
    user: str | None = None,
    variables: Mapping[str, str] = MappingProxyType({}),
) -> None:
    """Start a server that outlives this Python, and write its process id and this machine's name to a file.

    Args:
        command: The command line.
        log: The file that its output goes to.
        folder: The folder that it starts in.
        record: The file with the id of its process.
        user: The account that it runs under; None for that of this Python.
        variables: What it finds in its environment beside the lab's.
    """
    with log.open("ab") as output:
        streams = {"stdin": subprocess.DEVNULL, "stdout": output, "stderr": subprocess.STDOUT}
        child = _spawn(command, **streams, cwd=folder, env={**environment(), **variables}, **as_user(user))
    try:
        whole = record.with_suffix(".new")  # replaced in one step, so that nobody reads half a number
        whole.write_text(f"{child.pid} {socket.gethostname()}", encoding="utf-8")
        whole.replace(record)
    except BaseException:  # a server without a record is one that nobody would end
        child.kill()
        child.wait()
        raise


def as_user(user: str | None) -> dict[str, Any]:
    """Return what makes a process run under another account, as only root may."""
    if user is None or sys.platform == "win32":
        return {}
    import pwd  # noqa: PLC0415 - not on Windows

    return {"user": user, "group": pwd.getpwnam(user).pw_gid, "extra_groups": []}


def environment() -> dict[str, str]:
    """Return the environment of a server, without what would configure it behind the lab's back.

    Java takes options from variables, and Quarkus, which the registry is made with, its whole configuration. File names
    are in the locale's encoding (JEP 400 leaves `sun.jnu.encoding` to it), so the locale is one with UTF-8.
    """
    kept = {name: value for name, value in os.environ.items() if not _CONFIGURES_SERVERS.match(name)}
    return kept | ({"LC_ALL": "C.UTF-8"} if sys.platform == "linux" else {})


def running(record: Path, mark: str) -> psutil.Process | None:
    """Return the process of a record.

    Args:
        record: The file with the process id.
        mark: An argument that only this server's command line has: the system gives the id of a process that ended to
            somebody else sooner or later.

    Returns:
        None if there is no record, or the process ended, or the id belongs to somebody else.
    """
    reap()
    with contextlib.suppress(OSError, ValueError, IndexError, psutil.Error):
        process = psutil.Process(int(record.read_text(encoding="utf-8").split()[0]))
        # a child's arguments are known; the system shows none for a moment after the start, on a busy machine
        ours = [command for child, command in _children if child.pid == process.pid and child.returncode is None]
        if mark in (ours[0] if ours else process.cmdline()) and _lives(process):
            return process
    return None


def family(process: psutil.Process) -> list[psutil.Process]:
    """Return a server's process and all that it has started, as PostgreSQL does for each session."""
    return [process, *process.children(recursive=True)]


def host(record: Path) -> str | None:
    """Return the machine of a record, if it is another one than this: folders may be shared by several."""
    with contextlib.suppress(OSError, ValueError):
        name = record.read_text(encoding="utf-8").partition(" ")[2]
        return name if name not in {"", socket.gethostname()} else None
    return None


def still_running(ending: list[psutil.Process], seconds: float) -> list[psutil.Process]:
    """Wait until processes have ended, and return those that have not after so many seconds."""
    end = time.monotonic() + seconds
    while (ending := [process for process in ending if _lives(process)]) and time.monotonic() < end:
        time.sleep(0.02)
        reap()
    return ending


def _lives(process: psutil.Process) -> bool:
    """Return whether a process runs; a zombie that another Python has not reaped yet does not.

    While other threads of it end, its first one may be a zombie already, and its port is still taken.
    """
    with contextlib.suppress(psutil.NoSuchProcess):
        return process.is_running() and (process.status() != psutil.STATUS_ZOMBIE or process.num_threads() > 1)
    return False


def reap() -> None:
    """Take leave of the servers that ended, so that none stays behind as a zombie of this Python."""
    for child, _ in _children:
        child.poll()


def guard(folder: Path) -> subprocess.Popen[bytes]:
    """Start the process that ends the stack in a folder as soon as this Python is gone, however it ended."""
    isolated = "-P"  # a module beside the notebook, such as random.py, does not take the place of Python's own
    command = [sys.executable, isolated, str(GUARD), str(folder)]
    return _spawn(command, stdin=subprocess.PIPE)


def listener(host: str, port: int) -> str | None:
    """Return who keeps a port of an address taken: the program and its id where the system tells.

    Returns:
        None if the port can be had.
    """
    try:
        with socket.create_server((host, port)):  # reuses a port whose last connections are still being closed
            return None
    except OSError:
        pass
    with contextlib.suppress(psutil.Error):  # macOS tells only root
        for connection in psutil.net_connections("tcp"):
            if connection.status != psutil.CONN_LISTEN or not connection.laddr or not connection.pid:
                continue
            where, number = connection.laddr
            if number == port and where in {host, f"::ffff:{host}", "0.0.0.0", "::"}:  # noqa: S104 - all addresses
                return f"{psutil.Process(connection.pid).name()} (process {connection.pid})"
    return "another process"


def free_ports(count: int) -> list[int]:
    """Return ports below the ephemeral range: a client that dials a dead broker there cannot meet itself."""
    free: list[int] = []
    for port in secrets.SystemRandom().sample(range(20_000, 32_000), 200):  # no seed of a notebook's may choose them
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind((HOST, port))
            free.append(port)
        if len(free) == count:
            return free
    raise LabError("no free ports between 20000 and 32000 on this machine: end some programs")


def _spawn(command: list[str], **options: Any) -> subprocess.Popen[bytes]:
    """Start a process apart from this one's terminal, so that no Ctrl-C meant for a lesson reaches it."""
    if sys.platform == "win32":
        options["creationflags"] = subprocess.CREATE_NEW_PROCESS_GROUP | subprocess.CREATE_NO_WINDOW
    else:
        options["start_new_session"] = True
    child: subprocess.Popen[bytes] = subprocess.Popen(command, **options)
    _children.append((child, command))
    return child
