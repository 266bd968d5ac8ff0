"""A stack: servers that live in one folder and start, end and are asked together."""

import json
import secrets
import shutil
import socket
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Self

import psutil
from filelock import FileLock, Timeout

from kafkalab.embedded import HOST, archives, artifacts, processes
from kafkalab.embedded.files import write_private
from kafkalab.embedded.security import ADMIN, Security
from kafkalab.embedded.servers import SERVERS
from kafkalab.embedded.servers.broker import brokers_known_at
from kafkalab.embedded.servers.registry import address
from kafkalab.embedded.servers.server import Layout, Server
from kafkalab.errors import LabError
from kafkalab.settings import StackSettings
from kafkalab.waiting import wait_until

if TYPE_CHECKING:
    from subprocess import Popen

MOST_BROKERS = 5
START_SECONDS = 120
STOP_SECONDS = 30
_LOCK_SECONDS = 2 * START_SECONDS + 2 * STOP_SECONDS  # what another process may take that starts or ends the stack
_SUBFOLDERS = ("config", "data", "logs", "run", "security", "tmp")


@dataclass(frozen=True)
class Options:
    """What a stack was made with.

    Attributes:
        ports: Each server's port, by its name, in the order in which the servers start.
        secure: With TLS, users and permissions.
    """

    ports: Mapping[str, int]
    secure: bool = False

    @classmethod
    def read(cls, folder: Path) -> "Options | None":
        """Return the options of the stack in a folder, None if there is none."""
        try:
            options = json.loads((folder / "stack.json").read_text(encoding="utf-8"))
            return cls({str(name): int(port) for name, port in options["ports"].items()}, options["secure"])
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise LabError(
                f"{folder} cannot be read ({error.strerror}): take the account that owns it, or name another folder in "
                "KAFKALAB_HOME"
            ) from None
        except (ValueError, KeyError, TypeError, AttributeError):
            raise LabError(
                f"{folder / 'stack.json'} is not a stack's: remove it, or name another folder in KAFKALAB_HOME"
            ) from None

    def write(self, folder: Path) -> None:
        """Keep the options with the stack."""
        write_private(folder / "stack.json", json.dumps(asdict(self)))

    @classmethod
    def with_zookeeper(cls, zookeeper: int, brokers: Sequence[int], registry: int, *, secure: bool = False) -> Self:
        """Return the options of a stack of ZooKeeper, brokers and a registry on these ports."""
        numbered = {f"broker-{number}": port for number, port in enumerate(brokers)}
        return cls({"zookeeper": zookeeper, **numbered, "registry": registry}, secure)

    @property
    def broker_ports(self) -> list[int]:
        """The ports of the brokers."""
        return [port for name, port in self.ports.items() if name.startswith("broker-")]

    def __str__(self) -> str:
        brokers, ports = len(self.broker_ports), ", ".join(map(str, self.ports.values()))
        return f"{brokers} broker{'s' * (brokers > 1)} on ports {ports}{', secured' * self.secure}"


class Stack:
    """Servers as processes of this machine.

    Attributes:
        folder: Where data, logs, configuration and process records are.
        options: The servers, their ports, and whether they are secured.
    """

    def __init__(self, folder: Path, options: Options) -> None:
        self.folder = folder
        self.options = options
        self._security = Security(folder / "security") if options.secure else None
        layout = Layout(folder, options.ports, self._security)
        self._servers = {name: SERVERS[name.split("-")[0]](layout, name) for name in options.ports}
        self._guard: Popen[bytes] | None = None

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
        kept = cls.at(settings.home)
        runs = kept is not None and kept.state() != "stopped"
        if kept and runs and brokers is None and (kept.options.secure or not secure):
            return kept
        most = len(list((settings.home / "data").glob("broker-*"))) or 1
        wanted = _checked(most if brokers is None else brokers)
        if wanted < most and not runs:
            raise LabError(
                f"{settings.home} holds the data of {most} brokers: `kafkalab up --brokers {most}`, or forget them "
                "with `kafkalab down --wipe`"
            )
        ports = range(settings.broker_port, settings.broker_port + wanted)
        secure = secure or (kept is not None and kept.options.secure)
        zookeeper, registry = settings.zookeeper_port, settings.registry_port
        return cls(settings.home, Options.with_zookeeper(zookeeper, ports, registry, secure=secure))

    @classmethod
    def own(cls, brokers: int = 1, *, secure: bool = False) -> "Stack":
        """Return a stack that does not run yet: on free ports, in a new folder, gone with the Python that called this.

        Raises:
            LabError: The number of brokers is not 1 to 5, or no ports are free.
        """
        zookeeper, registry, *ports = free_ports(_checked(brokers) + 2)
        options = Options.with_zookeeper(zookeeper, ports, registry, secure=secure)
        stack = cls(Path(tempfile.mkdtemp(prefix="kafkalab-")).resolve(), options)
        stack.options.write(stack.folder)
        stack._guard = processes.guard(stack.folder)
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
        return address(self.options.ports["registry"], secure=self.options.secure)

    @property
    def client(self) -> dict[str, str]:
        """What a client of a learner takes."""
        servers = {"bootstrap.servers": self.bootstrap_servers}
        return self._security.client(self.bootstrap_servers) if self._security else servers

    @property
    def registry_client(self) -> dict[str, str]:
        """What `SchemaRegistryClient` takes."""
        return {"url": self.schema_registry_url, **(self._security.registry_client() if self._security else {})}

    @property
    def admin(self) -> dict[str, str]:
        """What a client takes that makes users and gives permissions; without security, any may."""
        return self._security.client(self.bootstrap_servers, ADMIN) if self._security else self.client

    @property
    def client_files(self) -> Path | None:
        """The folder of client.properties, schema-registry.properties, java.properties; None without security."""
        return self.folder / "security" if self.options.secure else None

    @property
    def zookeeper(self) -> str:
        """ZooKeeper's address."""
        return f"{HOST}:{self.options.ports['zookeeper']}"

    @property
    def names(self) -> list[str]:
        """The servers' names, in the order in which they start."""
        return list(self._servers)

    def up(self) -> None:
        """Start what does not run and wait until every server answers.

        Raises:
            LabError: A port is taken, the stack runs with other options, or a server ended or did not answer in time.
                What this call started is ended again.
        """
        if self._is_up():
            return
        artifacts.fetch()
        archives.make_base()
        with self._locked():
            if self._is_up():
                return
            self._claim_folder()
            if self._security:
                self._security.make()
            if self.state() == "stopped":
                shutil.rmtree(self.folder / "logs", ignore_errors=True)
            with self._started([server for server in self._servers.values() if not self._process(server)]):
                self._wait_for(self._servers.values())
                ports = self.options.broker_ports
                ids = set(range(len(ports)))
                known = "the brokers to know each other"
                wait_until(
                    lambda: all(brokers_known_at(port, self._security) == ids for port in ports), known, START_SECONDS
                )
                if self._security:
                    self._security.write_clients(self.bootstrap_servers)
                    self._security.grant(self.bootstrap_servers)
            self._ready.touch()
            running = {server.kind: self._process(server) for server in self._servers.values()}
            archives.make({kind: process.pid for kind, process in running.items() if process})

    def down(self, *, wipe: bool = False) -> None:
        """Stop every server, in the order that lets the brokers sign off with ZooKeeper.

        Args:
            wipe: Forget data, logs and options too.
        """
        if not Stack.at(self.folder):  # nothing in this folder is ours
            return
        with self._locked():
            self._ready.unlink(missing_ok=True)
            coordinators = {name for server in self._servers.values() for name in server.starts_after()}
            self._end([s for s in self._servers.values() if s.name not in coordinators], at_once=wipe)
            self._end([self._servers[name] for name in coordinators], at_once=wipe)
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
        """Start one server and wait until it answers.

        Raises:
            LabError: There is no such server or no stack yet, or the server ended or did not answer in time.
        """
        chosen = self._server_of_made(name)
        with self._locked(), self._started([] if self._process(chosen) else [chosen]):
            self._wait_for([chosen])

    def stop(self, name: str) -> None:
        """Ask one server to end, as an orderly shutdown does, and wait until it has."""
        chosen = self._server_of_made(name)
        with self._locked():
            self._end([chosen])

    def kill(self, name: str) -> None:
        """End one server at once, as a crash does (SIGKILL)."""
        chosen = self._server_of_made(name)
        with self._locked():
            self._end([chosen], at_once=True)

    def pause(self, name: str) -> None:
        """Hold a server that runs, so that it neither answers nor asks, until `resume` (SIGSTOP).

        Its connections stay open, as those of a machine that hangs.
        """
        if process := self._process(self._server(name)):
            process.suspend()

    def resume(self, name: str) -> None:
        """Let a server that was paused go on; one that is not paused goes on anyway."""
        if process := self._process(self._server(name)):
            process.resume()

    def log(self, name: str) -> Path:
        """Return the file that a server's output goes to."""
        return self._server(name).log

    def state(self) -> str:
        """Return `running`, `degraded` when only some servers run, or `stopped`."""
        running = sum(self._process(server) is not None for server in self._servers.values())
        if running == 0:
            self._refuse_elsewhere()
        return "stopped" if running == 0 else "running" if running == len(self._servers) else "degraded"

    def status(self) -> dict[str, object]:
        """Return what `kafkalab status --json` prints."""
        return {
            "state": self.state(),
            "bootstrap_servers": self.bootstrap_servers,
            "schema_registry_url": self.schema_registry_url,
            "zookeeper": self.zookeeper,
            "folder": str(self.folder),
            "client_files": str(self.client_files) if self.client_files else None,
            "processes": self.processes(),
        }

    def processes(self) -> list[dict[str, object]]:
        """Return a row for each server: `name`, `pid`, `port` and `rss_mb`, megabytes of resident memory.

        Process id and memory are None for a server that does not run.
        """
        rows: list[dict[str, object]] = []
        for server in self._servers.values():
            process, memory = self._process(server), None
            with suppress(psutil.Error):  # it ended in this moment
                memory = round(process.memory_info().rss / 1e6) if process else None
            rows.append(
                {"name": server.name, "pid": process.pid if process else None, "port": server.port, "rss_mb": memory}
            )
        return rows

    def _server(self, name: str) -> Server:
        if name not in self._servers:
            raise LabError(f"there is no server {name!r} in this stack, only {', '.join(self.names)}")
        return self._servers[name]

    def _server_of_made(self, name: str) -> Server:
        """Return a server of a stack that has been up before.

        Raises:
            LabError: There is no such server, or no stack yet.
        """
        if not Stack.at(self.folder):
            raise LabError(f"there is no stack in {self.folder} yet: `kafkalab up` makes it")
        return self._server(name)

    def _process(self, server: Server) -> psutil.Process | None:
        return processes.running(server.record, server.mark)

    def _refuse_elsewhere(self) -> None:
        """Leave a stack alone that another machine, which shares the folder, has started and not ended.

        Raises:
            LabError: There is such a machine.
        """
        for server in self._servers.values():
            if host := processes.host(server.record):
                raise LabError(
                    f"the stack in {self.folder} runs on {host}, which shares this folder: `kafkalab down` there, or "
                    f"name another folder in KAFKALAB_HOME; if {host} is gone, remove {server.record.parent}"
                )

    @property
    def _ready(self) -> Path:
        """A file that is there while the whole stack has once been up since it was last ended."""
        return self.folder / "data" / "ready"

    def _is_up(self) -> bool:
        kept = Stack.at(self.folder)
        return kept is not None and kept.options == self.options and self._ready.exists() and self.state() == "running"

    def _claim_folder(self) -> None:
        """Keep the options in the folder.

        Raises:
            LabError: A stack with other options runs there, or something else is in the folder.
        """
        kept = Stack.at(self.folder)
        if kept and kept.options != self.options and kept.state() != "stopped":
            raise LabError(
                f"the stack in {self.folder} runs with {kept.options}, not {self.options}: `kafkalab down` first, or "
                "use it as it is"
            )
        if not kept and any((self.folder / name).exists() for name in _SUBFOLDERS):
            raise LabError(f"{self.folder} is not a stack's folder: name another one in KAFKALAB_HOME")
        if not kept or kept.options != self.options:
            self.options.write(self.folder)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Let one process at a time change the stack."""
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            with FileLock(self.folder / ".lock", timeout=_LOCK_SECONDS):
                if not any(self._process(server) for server in self._servers.values()):
                    self._refuse_elsewhere()
                yield
        except Timeout:
            raise LabError(
                f"timed out after {_LOCK_SECONDS} s waiting for another process that changes {self.folder}"
            ) from None
        except OSError as error:
            raise artifacts.cannot_write(self.folder, "KAFKALAB_HOME", error) from None

    @contextmanager
    def _started(self, servers: list[Server]) -> Iterator[None]:
        """Start servers, and end them again if that, or what follows, fails or is interrupted."""
        try:
            self._start(servers)
            yield
        except BaseException:
            self._end(servers, at_once=True)
            raise

    def _start(self, servers: list[Server]) -> None:
        """Start servers side by side, as far as they can be."""
        for server in servers:
            if owner := processes.listener(HOST, server.port):
                raise LabError(
                    f"port {server.port} for {server.name} is taken by {owner}: stop that, or choose another port with "
                    f"KAFKALAB_{server.kind.upper()}_PORT"
                )
        for name in ("data", "logs", "run", "tmp"):
            (self.folder / name).mkdir(exist_ok=True)
            (self.folder / name).chmod(0o700)  # messages, and what ZooKeeper keeps of the users, are the owner's alone
        crashed = {server.name for server in servers if server.record.exists()}  # an orderly end removes the record
        for server in servers:
            server.configure()
            if crashed:
                self._wait_for(
                    [self._servers[name] for name in server.starts_after() if self._servers[name] in servers]
                )
                wait_until(server.may_start, f"the start of {server.name} to be possible", START_SECONDS)
            processes.start(server.command(), server.log, self.folder, server.record)

    def _wait_for(self, servers: Iterable[Server]) -> None:
        """Wait until each server answers; a server that ends first is an error with the reason from its log."""
        silent = list(servers)
        names = ", ".join(server.name for server in silent)

        def all_answer() -> bool:
            for server in list(silent):
                if not self._process(server):  # asked first: somebody else's server may answer in its place
                    raise LabError(f"{server.name} ended: {server.reason()} (all of it in {server.log})")
                if server.serves():
                    silent.remove(server)
            return not silent

        wait_until(all_answer, f"{names} to answer (logs in {self.folder / 'logs'})", START_SECONDS)

    def _end(self, servers: list[Server], *, at_once: bool = False) -> None:
        """End servers side by side; only an orderly end removes the record."""
        ending = {server: process for server in servers if (process := self._process(server))}
        for process in ending.values():
            with suppress(psutil.NoSuchProcess):
                process.kill() if at_once else process.terminate()
                process.resume()  # a paused one would not hear of it
        slow = processes.still_running(list(ending.values()), STOP_SECONDS)
        for process in slow:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        processes.still_running(slow, STOP_SECONDS)
        processes.reap()
        if sys.platform == "win32":  # which knows no orderly end of another process
            return
        for server in servers:
            if not at_once and ending.get(server) not in slow:
                server.record.unlink(missing_ok=True)


def _checked(brokers: int) -> int:
    if not 1 <= brokers <= MOST_BROKERS:
        raise LabError(f"a stack has 1 to {MOST_BROKERS} brokers, not {brokers}")
    return brokers


def free_ports(count: int) -> list[int]:
    """Return ports below the ephemeral range: a client that dials a dead broker there cannot meet itself."""
    free: list[int] = []
    for port in secrets.SystemRandom().sample(range(20_000, 32_000), 200):  # no seed of a notebook's may choose them
        with socket.socket() as probe, suppress(OSError):
            probe.bind((HOST, port))
            free.append(port)
        if len(free) == count:
            return free
    raise LabError("no free ports between 20000 and 32000 on this machine: end some programs")
