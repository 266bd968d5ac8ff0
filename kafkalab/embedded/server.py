"""What one server of the stack is: a name, a port, a command, a log and the question that tells that it serves."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import javaproperties

from kafkalab.embedded import archives, artifacts

HOST = "127.0.0.1"

_FLAGS = (
    "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1",  # a server that starts soon and stays small
    "-Xshare:auto", "-Xlog:disable", "-Xlog:all=error:stderr",  # a stale class-data archive is passed over silently
    "-XX:-UsePerfData",  # no file outside of the stack's folder
)  # fmt: skip


@dataclass(frozen=True)
class Server:
    """One server of a stack.

    Attributes:
        name: `zookeeper`, `broker-0` and up, or `registry`.
        port: Its port on loopback.
        folder: The stack's folder.
        heap: The JVM's heap limit in megabytes.
        arguments: What follows `java` and its flags: class path, properties, main class, file.
        serves: Asks the server something and returns whether it answered as it should.
        kind: The servers that share a class-data archive.
    """

    name: str
    port: int
    folder: Path
    heap: int
    arguments: list[str]
    serves: Callable[[], bool] = field(repr=False)
    kind: str

    def command(self) -> list[str]:
        """Return the command line."""
        temporary = f"-Djava.io.tmpdir={self.folder / 'tmp'}"
        flags = [*_FLAGS, *archives.flags(self.kind), f"-Xmx{self.heap}m", temporary, mark(self.folder, self.name)]
        return [str(artifacts.JAVA), *flags, *self.arguments]


def mark(folder: Path, name: str) -> str:
    """Return the argument by which a process is known as this server of this stack."""
    return f"-Dkafkalab.server={folder / name}"


def write_properties(path: Path, properties: Mapping[str, object]) -> Path:
    """Write a private file in Java's properties form and return its path."""
    text = javaproperties.dumps({key: str(value) for key, value in properties.items()}, timestamp=False)
    return write_private(path, text)


def write_private(path: Path, text: str) -> Path:
    """Write a file that only its owner can read, whole or not at all, and return its path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_name(f"{path.name}.new")
    new.unlink(missing_ok=True)
    new.touch(mode=0o600)
    new.write_text(text, encoding="utf-8")
    return new.replace(path)
