"""What a server of a stack is: all that the stack has to know of it."""

import re
import ssl
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import psutil

from kafkalab.embedded import archives, artifacts, processes
from kafkalab.embedded.security import Security

QUIET = (
    "-Xshare:auto", "-Xlog:disable", "-Xlog:all=error:stderr",  # a stale class-data archive is passed over silently
    "-XX:-UsePerfData",  # no file outside of the stack's folder
)  # fmt: skip
NO_TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # for http: the usual one reads all authorities, 40 ms each time
FLAGS = ("-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", *QUIET)  # a server that starts soon and stays small


@dataclass(frozen=True)
class Layout:
    """What the servers of one stack know of each other.

    Attributes:
        folder: The stack's folder.
        ports: Each server's port on loopback, by the server's name, in the order in which they start.
        quorum: The ports of the controllers' listeners, by the names of the servers that are controllers (KRaft).
        security: Certificates, users and permissions; None for a stack that is open.
    """

    folder: Path
    ports: Mapping[str, int]
    quorum: Mapping[str, int]
    security: Security | None = None

    def named(self, kind: str) -> list[str]:
        """Return the names of the servers of one kind."""
        return [name for name in self.ports if name.split("-")[0] == kind]

    def spare_port(self) -> int:
        """Return a free port that none of the servers has: theirs need not be bound yet."""
        theirs = {*self.ports.values(), *self.quorum.values()}
        return next(port for port in processes.free_ports(len(theirs) + 1) if port not in theirs)


class Server(ABC):
    """One server of a stack: its command, its port, how it is asked, what has to be before it starts.

    Attributes:
        kind: What it is; servers of one kind share a class-data archive.
        files: The set of files that it is in, as the lock of the servers' files names it.
        more_files: Further sets, which it loads itself.
        user: The account that it runs under, where it refuses that of this Python.
        late: Whether it is started by its name alone, later than the stack.
        background: Whether it starts once the others serve, and whoever asks it meanwhile waits for the answer.
        layout: The stack it belongs to.
        name: Its name in the stack, such as `broker-0`.
    """

    kind: ClassVar[str]
    files: ClassVar[str]
    more_files: ClassVar[tuple[str, ...]] = ()
    user: ClassVar[str | None] = None
    late: ClassVar[bool] = False
    background: ClassVar[bool] = False

    def __init__(self, layout: Layout, name: str) -> None:
        self.layout = layout
        self.name = name

    @property
    def port(self) -> int:
        """Its port on loopback."""
        return self.layout.ports[self.name]

    @property
    def log(self) -> Path:
        """The file that its output goes to, which tells why it ended."""
        return self.layout.folder / "logs" / f"{self.name}.log"

    @property
    def record(self) -> Path:
        """The file with the id of its process."""
        return self.layout.folder / "run" / f"{self.name}.pid"

    @property
    def environment(self) -> Mapping[str, str]:
        """What it finds in its environment beside the lab's."""
        return {}

    @property
    def records(self) -> list[Path]:
        """The files with the ids of all its processes, its own first."""
        return [self.record]

    @property
    def mark(self) -> str:
        """The argument by which a process is known as one of this server of this stack."""
        return f"-Dkafkalab.server={self.layout.folder / self.name}"

    @abstractmethod
    def configure(self) -> None:
        """Write its configuration."""

    @abstractmethod
    def command(self) -> list[str]:
        """Return the command line, with the mark among its arguments."""

    def start(self) -> None:
        """Start its process, and whatever belongs to it."""
        processes.start(self.command(), self.log, self.layout.folder, self.record, self.user, self.environment)

    def processes(self) -> list[psutil.Process]:
        """Return those of its processes that run."""
        found = (processes.running(record, self.mark) for record in self.records)
        return [process for process in found if process]

    @abstractmethod
    def serves(self) -> bool:
        """Ask it something and return whether it answered as it should."""

    def listens(self) -> bool:
        """Return whether who asks it gets an answer, be it after a wait."""
        return self.serves()

    def may_start(self) -> bool:
        """Return whether all is there that it cannot start without."""
        return True

    def starts_after(self) -> list[str]:
        """Return the names of servers that have to serve before it starts, where one of them crashed."""
        return []

    def end(self, process: psutil.Process, *, at_once: bool) -> None:
        """Ask a process of it for an orderly end, or end it as a crash does."""
        process.kill() if at_once else process.terminate()

    def forget(self) -> None:  # noqa: B027 - most servers keep nothing there
        """Remove what it keeps outside of the stack's folder, once it has ended."""

    def reason(self) -> str:
        """Return the lines of its log that tell why it ended: from the fatal error on, else the last ones."""
        lines = self.log.read_text(encoding="utf-8", errors="replace").splitlines() if self.log.exists() else []
        errors = [line for line in lines if re.search("ERROR|FATAL|Exception|Error:", line) and line[:1] != "\t"]
        fatal = next((number for number, line in enumerate(errors) if "atal error" in line), None)
        chosen = errors[fatal : fatal + 2] if fatal is not None else (errors or lines)[-3:]
        return " | ".join(dict.fromkeys(chosen)) or "it printed nothing"


class JavaServer(Server):
    """A server on the packaged Java.

    Attributes:
        heap: The JVM's heap limit in megabytes.
    """

    heap: ClassVar[int]

    @abstractmethod
    def arguments(self) -> list[str]:
        """Return what follows `java` and its flags: class path, properties, main class, file."""

    def command(self) -> list[str]:
        """Return the command line."""
        temporary = f"-Djava.io.tmpdir={self.layout.folder / 'tmp'}"
        flags = [*FLAGS, *archives.flags(self.files, self.kind), f"-Xmx{self.heap}m", temporary, self.mark]
        return [str(artifacts.JAVA), *flags, *self.arguments()]
