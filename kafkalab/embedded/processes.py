"""Processes that outlive the Python that starts them: started, recorded, recognised again, ended."""

import json
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil

_children: list[subprocess.Popen] = []  # kept so that a server that ends is reaped by the Python that started it


@dataclass(frozen=True)
class Record:
    """A process as it was when it was started.

    Attributes:
        name: The server's name, such as `broker-0`.
        pid: The process id, which the system gives to somebody else once the process is gone.
        created: The process's start time in seconds since the epoch, which tells the two apart.
        port: The port that the server listens on.
    """

    name: str
    pid: int
    created: float
    port: int

    @classmethod
    def read(cls, path: Path) -> "Record | None":
        """Return the record in the file, None where there is none or where it was cut off."""
        try:
            return cls(**json.loads(path.read_text(encoding="utf-8")))
        except (FileNotFoundError, ValueError, TypeError):
            return None

    def write(self, path: Path) -> None:
        """Replace the file in one step, so that no reader sees half a record."""
        whole = path.with_suffix(".new")
        whole.write_text(json.dumps(asdict(self)), encoding="utf-8")
        whole.replace(path)

    def process(self) -> psutil.Process | None:
        """Return the running process, None where it ended or its id belongs to another process by now."""
        reap()
        try:
            process = psutil.Process(self.pid)
            if abs(process.create_time() - self.created) < 1 and process.status() != psutil.STATUS_ZOMBIE:
                return process
        except psutil.NoSuchProcess:
            pass
        return None


def reap() -> None:
    """Take leave of the servers that ended, so that none stays behind as a zombie of this Python."""
    for child in _children:
        child.poll()


def start(name: str, command: list[str], port: int, log: Path, folder: Path, record: Path) -> None:
    """Start a server that outlives this Python and record it."""
    with log.open("ab") as output:
        child = _spawn(command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, cwd=folder)
    try:
        Record(name, child.pid, psutil.Process(child.pid).create_time(), port).write(record)
    except BaseException:  # a server without a record is one that nobody would end
        child.kill()
        child.wait()
        raise


def guard(folder: Path) -> subprocess.Popen:
    """Start the process that ends the stack in a folder as soon as this Python is gone, however it ended."""
    return _spawn([sys.executable, "-m", "kafkalab.embedded.guard", str(folder)], stdin=subprocess.PIPE)


def _spawn(command: list[str], **streams: object) -> subprocess.Popen:
    """Start a process in a session of its own, so that no Ctrl-C meant for a lesson reaches it."""
    windows = sys.platform == "win32"
    apart = {"creationflags": subprocess.CREATE_NEW_PROCESS_GROUP} if windows else {"start_new_session": True}
    child = subprocess.Popen(command, **streams, **apart)
    _children.append(child)
    return child


def listener(port: int) -> str | None:
    """Return who listens on a port of this machine: the program and its id where the system tells.

    Returns:
        None if nobody listens there.
    """
    try:
        connections = psutil.net_connections("tcp")
    except psutil.AccessDenied:  # macOS tells only root
        connections = []
    for connection in connections:
        if connection.status == psutil.CONN_LISTEN and connection.laddr.port == port:
            if connection.pid is None:
                return "a process of another user"
            return f"{psutil.Process(connection.pid).name()} (process {connection.pid})"
    return None
