"""Processes that outlive the Python that starts them: started, recorded, recognised again."""

import contextlib
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil

# with their commands; kept so that a server that ends is reaped by the Python that started it
_children: list[tuple[subprocess.Popen[bytes], list[str]]] = []


def start(command: list[str], log: Path, folder: Path, record: Path) -> None:
    """Start a server that outlives this Python, and write its process id to a file."""
    with log.open("ab") as output:
        child = _spawn(command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, cwd=folder)
    try:
        whole = record.with_suffix(".new")  # replaced in one step, so that nobody reads half a number
        whole.write_text(str(child.pid), encoding="ascii")
        whole.replace(record)
    except BaseException:  # a server without a record is one that nobody would end
        child.kill()
        child.wait()
        raise


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
    with contextlib.suppress(OSError, ValueError, psutil.Error):
        process = psutil.Process(int(record.read_text(encoding="ascii")))
        # a child's arguments are known; the system shows none for a moment after the start, on a busy machine
        ours = [command for child, command in _children if child.pid == process.pid and child.returncode is None]
        if mark in (ours[0] if ours else process.cmdline()) and _lives(process):
            return process
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
    return _spawn([sys.executable, "-m", "kafkalab.embedded.guard", str(folder)], stdin=subprocess.PIPE)


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


def _spawn(command: list[str], **options: Any) -> subprocess.Popen[bytes]:
    """Start a process apart from this one's terminal, so that no Ctrl-C meant for a lesson reaches it."""
    if sys.platform == "win32":
        options["creationflags"] = subprocess.CREATE_NEW_PROCESS_GROUP | subprocess.CREATE_NO_WINDOW
    else:
        options["start_new_session"] = True
    child: subprocess.Popen[bytes] = subprocess.Popen(command, **options)
    _children.append((child, command))
    return child
