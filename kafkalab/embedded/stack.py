"""A stack: one ZooKeeper, some brokers and a schema registry that live in one folder."""

import json
import random
import re
import shutil
import socket
import sys
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
from filelock import FileLock, Timeout

from kafkalab.embedded import archives, artifacts, processes
from kafkalab.embedded.broker import SESSION_SECONDS, broker, brokers_known_at
from kafkalab.embedded.registry import address, client_properties, registry
from kafkalab.embedded.security import ADMIN, Security
from kafkalab.embedded.server import HOST, Server, mark, write_private
from kafkalab.embedded.zookeeper import ask, zookeeper
from kafkalab.errors import LabError
from kafkalab.settings import StackSettings
from kafkalab.waiting import wait_until

if TYPE_CHECKING:
    from subprocess import Popen

MOST_BROKERS = 5
START_SECONDS = 120
STOP_SECONDS = 30
_SUBFOLDERS = ("config", "data", "logs", "run", "security", "tmp")


@dataclass(frozen=True)
class Options:
    """What a stack was made with."""

    zookeeper_port: int
    broker_ports: tuple[int, ...]
    registry_port: int
    secure: bool = False

    @classmethod
    def read(cls, folder: Path) -> "Options | None":
        """Return the options of the stack in a folder, None if there is none."""
        try:
            options = json.loads((folder / "stack.json").read_text(encoding="utf-8"))
            return cls(**{**options, "broker_ports": tuple(options["broker_ports"])})
        except (FileNotFoundError, NotADirectoryError):
            return None
        except (ValueError, KeyError, TypeError):
            raise LabError(
                f"{folder / 'stack.json'} is not a stack's: remove it, or name another folder in KAFKALAB_HOME"
            ) from None

    def write(self, folder: Path) -> None:
        """Keep the options with the stack."""
        write_private(folder / "stack.json", json.dumps(asdict(self)))


class Stack:
    """ZooKeeper, brokers and schema registry as processes of this machine.

    Attributes:
        folder: Where data, logs, configuration and process records are.
        options: The ports, and so the number of brokers.
    """

    def __init__(self, folder: Path, options: Options) -> None:
        self.folder = folder
        self.options = options
        self._guard: Popen | None = None

    @classmethod
    def shared(cls, brokers: int | None = None, *, secure: bool = False) -> "Stack":
        """Return the stack that all notebooks of this user share, in KAFKALAB_HOME; it outlives them.

        Args:
            brokers: How many; None takes what the folder has, or 1.
            secure: With TLS, users and permissions; a folder that has them keeps them.

        Raises:
            LabError: The folder holds the data of more brokers.
        """
        settings = StackSettings.read()
        there = cls.at(settings.home)
        runs = there is not None and there.state() != "stopped"
        if runs and brokers is None and (there.options.secure or not secure):
            return there
        kept = len(list((settings.home / "data").glob("broker-*"))) or 1
        wanted = _checked(kept if brokers is None else brokers)
        if wanted < kept and not runs:
            raise LabError(
                f"{settings.home} holds the data of {kept} brokers: `kafkalab up --brokers {kept}`, or forget them "
                "with `kafkalab down --wipe`"
            )
        ports = range(settings.broker_port, settings.broker_port + wanted)
        secure = secure or (there is not None and there.options.secure)
        return cls(settings.home, Options(settings.zookeeper_port, tuple(ports), settings.registry_port, secure))

    @classmethod
    def own(cls, brokers: int = 1, *, secure: bool = False) -> "Stack":
        """Start a stack for one lesson: on free ports, in a folder of its own, gone with the Python that called this.

        Raises:
            LabError: The stack could not be started.
        """
        ports = free_ports(_checked(brokers) + 2)
        folder = Path(tempfile.mkdtemp(prefix="kafkalab-")).resolve()
        stack = cls(folder, Options(ports[0], tuple(ports[2:]), ports[1], secure))
        stack.options.write(folder)
        stack._guard = processes.guard(folder)
        try:
            stack.up()
        except BaseException:
            stack.down(wipe=True)
            raise
        return stack

    @classmethod
    def at(cls, folder: Path) -> "Stack | None":
        """Return the stack that has left its options in a folder."""
        options = Options.read(folder)
        return cls(folder, options) if options else None

    @property
    def bootstrap_servers(self) -> str:
        """The brokers' addresses, as a client's `bootstrap.servers`."""
        return ",".join(f"{HOST}:{port}" for port in self.options.broker_ports)

    @property
    def schema_registry_url(self) -> str:
        """The base address of the registry's Confluent-compatible API."""
        return address(self.options.registry_port, self._security)

    @property
    def client(self) -> dict[str, str]:
        """What a client of a learner takes."""
        servers = {"bootstrap.servers": self.bootstrap_servers}
        return self._security.client(self.bootstrap_servers) if self._security else servers

    @property
    def registry_client(self) -> dict[str, object]:
        """What `SchemaRegistryClient` takes."""
        return client_properties(self.options.registry_port, self._security)

    @property
    def admin(self) -> dict[str, str]:
        """What a client takes that makes users and gives permissions; without security, any may."""
        return self._security.client(self.bootstrap_servers, ADMIN) if self._security else self.client

    @property
    def client_files(self) -> Path | None:
        """The folder of client.properties, schema-registry.properties, java.properties; None without security."""
        return self.folder / "security" if self.options.secure else None

    @property
    def _security(self) -> Security | None:
        return Security(self.folder / "security") if self.options.secure else None

    @property
    def zookeeper(self) -> str:
        """ZooKeeper's address."""
        return f"{HOST}:{self.options.zookeeper_port}"

    @property
    def names(self) -> list[str]:
        """The servers' names."""
        return [
            "zookeeper",
            *(f"broker-{number}" for number in range(len(self.options.broker_ports))),
            "registry",
        ]

    def up(self) -> None:
        """Start what does not run and wait until every server answers.

        Raises:
            LabError: A port is taken, the stack runs with other options, or a server ended or did not answer in time.
                What this call started is ended again.
        """
        artifacts.fetch()
        archives.make_base()
        with self._locked():
            there = Stack.at(self.folder)
            if there and there.options != self.options and there.state() != "stopped":
                raise LabError(
                    f"the stack in {self.folder} runs with {_described(there.options)}, not "
                    f"{_described(self.options)}: `kafkalab down` first, or use it as it is"
                )
            if not there and any((self.folder / name).exists() for name in _SUBFOLDERS):
                raise LabError(f"{self.folder} is not a stack's folder: name another one in KAFKALAB_HOME")
            if not there or there.options != self.options:
                self.options.write(self.folder)
            security = self._security
            if security:
                security.make()
            servers = self._servers()
            if self.state() == "stopped":
                shutil.rmtree(self.folder / "logs", ignore_errors=True)
            missing = [server for server in servers if not self._process(server.name)]
            with self._undone(missing):
                self._start(missing)
                self._wait(servers)
                ports, ids = self.options.broker_ports, set(range(len(self.options.broker_ports)))
                known = "the brokers to know each other"
                wait_until(lambda: all(brokers_known_at(port, security) == ids for port in ports), known, START_SECONDS)
                if security:
                    security.write_clients(self.bootstrap_servers)
                    security.grant(self.bootstrap_servers)
            running = {server.kind: self._process(server.name) for server in servers}
            archives.make({kind: process.pid for kind, process in running.items() if process})

    def down(self, *, wipe: bool = False) -> None:
        """Stop every server, ZooKeeper last, so that the brokers can sign off.

        Args:
            wipe: Forget data, logs and options too.
        """
        if not Stack.at(self.folder):  # nothing in this folder is ours
            return
        with self._locked():
            self._end([name for name in self.names if name != "zookeeper"], at_once=wipe)
            self._end(["zookeeper"], at_once=wipe)
            if wipe:
                for name in _SUBFOLDERS:
                    shutil.rmtree(self.folder / name, ignore_errors=True)
                (self.folder / "stack.json").unlink(missing_ok=True)
        if wipe:
            with suppress(OSError):  # something of somebody else's is in it, or another process has it open
                (self.folder / ".lock").unlink(missing_ok=True)
                self.folder.rmdir()
            if self._guard:
                self._guard.communicate()
                self._guard = None

    def start(self, name: str) -> None:
        """Start one server and wait until it answers."""
        with self._locked():
            server = self._servers()[self._index(name)]
            missing = [] if self._process(name) else [server]
            with self._undone(missing):
                self._start(missing)
                self._wait([server])

    def stop(self, name: str) -> None:
        """Ask one server to end, as an orderly shutdown does, and wait until it has."""
        self._index(name)
        with self._locked():
            self._end([name])

    def kill(self, name: str) -> None:
        """End one server at once, as a crash does (SIGKILL)."""
        self._index(name)
        with self._locked():
            self._end([name], at_once=True)

    def log(self, name: str) -> Path:
        """Return the file that a server's output goes to."""
        self._index(name)
        return self.folder / "logs" / f"{name}.log"

    def state(self) -> str:
        """Return `running`, `degraded` when only some servers run, or `stopped`."""
        running = sum(self._process(name) is not None for name in self.names)
        return "stopped" if running == 0 else "running" if running == len(self.names) else "degraded"

    def status(self) -> dict:
        """Return what `kafkalab status --json` prints; memory in megabytes of resident memory."""
        ports = [self.options.zookeeper_port, *self.options.broker_ports, self.options.registry_port]
        rows = []
        for name, port in zip(self.names, ports, strict=True):
            process = self._process(name)
            memory = round(process.memory_info().rss / 1e6) if process else None
            rows.append({"name": name, "pid": process.pid if process else None, "port": port, "rss_mb": memory})
        return {
            "state": self.state(),
            "bootstrap_servers": self.bootstrap_servers,
            "schema_registry_url": self.schema_registry_url,
            "zookeeper": self.zookeeper,
            "folder": str(self.folder),
            "client_files": str(self.client_files) if self.client_files else None,
            "processes": rows,
        }

    def _servers(self) -> list[Server]:
        """Write each server's configuration and return them all."""
        ports = self.options
        brokers = [
            broker(self.folder, number, port, len(ports.broker_ports), ports.zookeeper_port, self._security)
            for number, port in enumerate(ports.broker_ports)
        ]
        return [
            zookeeper(self.folder, ports.zookeeper_port),
            *brokers,
            registry(self.folder, ports.registry_port, self._security),
        ]

    def _index(self, name: str) -> int:
        if name not in self.names:
            raise LabError(f"there is no server {name!r} in this stack, only {', '.join(self.names)}")
        return self.names.index(name)

    def _record(self, name: str) -> Path:
        return self.folder / "run" / f"{name}.pid"

    def _process(self, name: str) -> psutil.Process | None:
        return processes.running(self._record(name), mark(self.folder, name))

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Let one process at a time change the stack."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with FileLock(self.folder / ".lock", timeout=START_SECONDS):
                yield
        except Timeout:
            raise LabError(
                f"waited {START_SECONDS} s for another process that changes {self.folder}, in vain"
            ) from None
        except OSError as error:
            raise artifacts.cannot_write(self.folder, "KAFKALAB_HOME", error) from None

    def _start(self, servers: list[Server]) -> None:
        """Start servers side by side, as far as they can be: who crashed has to be forgotten by ZooKeeper first."""
        for server in servers:
            if owner := processes.listener(HOST, server.port):
                raise LabError(
                    f"port {server.port} for {server.name} is taken by {owner}: stop that, or choose another port with "
                    f"{_port_variable(server.name)}"
                )
        crashed = any(self._record(server.name).exists() for server in servers)  # an orderly end removes the record
        for name in ("data", "logs", "run", "tmp"):
            (self.folder / name).mkdir(exist_ok=True)
        for server in servers:
            if server.kind == "broker":
                still_there = f"ZooKeeper to forget the last session of {server.name}"
                wait_until(lambda s=server: not self._registered(s.name), still_there, SESSION_SECONDS * 10)
            processes.start(server.command(), self.log(server.name), self.folder, self._record(server.name))
            if crashed and server.kind == "zookeeper":
                self._wait([server])

    @contextmanager
    def _undone(self, servers: list[Server]) -> Iterator[None]:
        """End servers that were just started again if what follows fails or is interrupted."""
        try:
            yield
        except BaseException:
            self._end([server.name for server in servers], at_once=True)
            raise

    def _wait(self, servers: list[Server]) -> None:
        """Wait until each server answers; a server that ends first is an error with the reason from its log."""
        silent = list(servers)

        def all_answer() -> bool:
            for server in list(silent):
                if not self._process(server.name):  # asked first: somebody else's server may answer in its place
                    log = self.log(server.name)
                    raise LabError(f"{server.name} ended: {_reason(log)} (all of it in {log})")
                if server.serves():
                    silent.remove(server)
            return not silent

        names = ", ".join(server.name for server in servers)
        wait_until(all_answer, f"{names} to answer (logs in {self.folder / 'logs'})", START_SECONDS)

    def _end(self, names: Iterable[str], *, at_once: bool = False) -> None:
        """End servers side by side; only an orderly end removes the record."""
        ending = {name: process for name in names if (process := self._process(name))}
        for process in ending.values():
            with suppress(psutil.NoSuchProcess):
                process.kill() if at_once else process.terminate()
        slow = processes.still_running(list(ending.values()), STOP_SECONDS)
        for process in slow:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        processes.still_running(slow, STOP_SECONDS)
        processes.reap()
        if sys.platform == "win32":  # which knows no orderly end of another process
            return
        for name in names:
            if not at_once and ending.get(name) not in slow:
                self._record(name).unlink(missing_ok=True)

    def _registered(self, name: str) -> bool:
        """Ask ZooKeeper whether a session holds the broker's node; a broker cannot register while an old one does."""
        return f"/brokers/ids/{name.removeprefix('broker-')}" in ask(self.options.zookeeper_port, "dump").split()


def _checked(brokers: int) -> int:
    if not 1 <= brokers <= MOST_BROKERS:
        raise LabError(f"a stack has 1 to {MOST_BROKERS} brokers, not {brokers}")
    return brokers


def _described(options: Options) -> str:
    brokers = len(options.broker_ports)
    ports = ", ".join(map(str, (options.zookeeper_port, *options.broker_ports, options.registry_port)))
    return f"{brokers} broker{'s' * (brokers > 1)} on ports {ports}{', secured' * options.secure}"


def _port_variable(name: str) -> str:
    return f"KAFKALAB_{name.split('-')[0].upper()}_PORT"


def _reason(log: Path) -> str:
    """Return the lines of a log that tell why a server ended: from the fatal error on, else the last ones."""
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines() if log.exists() else []
    telling = [line for line in lines if re.search("ERROR|FATAL|Exception|Error:", line) and not line.startswith("\t")]
    fatal = next((number for number, line in enumerate(telling) if "atal error" in line), None)
    chosen = telling[fatal : fatal + 2] if fatal is not None else (telling or lines)[-3:]
    return " | ".join(dict.fromkeys(chosen)) or "it printed nothing"


def free_ports(count: int) -> list[int]:
    """Return ports below the ephemeral range: a client that dials a dead broker there cannot meet itself."""
    free = []
    for port in random.sample(range(20_000, 32_000), 200):
        with socket.socket() as probe, suppress(OSError):
            probe.bind((HOST, port))
            free.append(port)
        if len(free) == count:
            return free
    raise LabError("no free ports between 20000 and 32000 on this machine: end some programs")
