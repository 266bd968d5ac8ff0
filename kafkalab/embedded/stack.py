"""A stack: servers that live in one folder and start, end and are asked together."""

import shutil
import sys
import tempfile
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
from filelock import FileLock, Timeout

from kafkalab.embedded import HOST, archives, artifacts, processes, tools
from kafkalab.embedded.options import MOST_BROKERS, Options
from kafkalab.embedded.processes import free_ports
from kafkalab.embedded.security import ADMIN, Security
from kafkalab.embedded.servers import BESIDE, SERVERS
from kafkalab.embedded.servers.broker import KafkaServer, brokers_known_at, wait_for_groups
from kafkalab.embedded.servers.connect import NOT_SECURED
from kafkalab.embedded.servers.postgres import account
from kafkalab.embedded.servers.registry import HOLD_SECONDS, REGISTRY_ANSWER_SECONDS, Registry, address
from kafkalab.embedded.servers.server import JavaServer, Layout, Server
from kafkalab.errors import LabError
from kafkalab.settings import StackSettings
from kafkalab.waiting import wait_until

if TYPE_CHECKING:
    from subprocess import Popen

START_SECONDS = 120
STOP_SECONDS = 30
GROUP_SECONDS = 30  # afterwards a first consumer waits
_LOCK_SECONDS = 2 * START_SECONDS + 2 * STOP_SECONDS  # what another process may take that starts or ends the stack
MODE = "zookeeper"  # where neither the caller nor the environment names one
_WITH = {"zookeeper": "with ZooKeeper", "kraft": "without ZooKeeper"}
_SUBFOLDERS = ("config", "data", "logs", "run", "security", "tmp")


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
        self._layout = Layout(folder, options.ports, options.quorum, self._security)
        kinds = {**SERVERS[options.mode], **BESIDE}
        self._servers = {name: kinds[name.split("-")[0]](self._layout, name) for name in options.ports}
        self._guard: Popen[bytes] | None = None

    @classmethod
    def shared(
        cls,
        brokers: int | None = None,
        *,
        mode: str | None = None,
        controllers: int = 0,
        secure: bool = False,
        connect: bool = False,
    ) -> "Stack":
        """Return the stack that all notebooks of this user share, in KAFKALAB_HOME; it outlives them.

        Args:
            brokers: How many; None takes what the folder has, or 1.
            mode: `zookeeper` or `kraft`; None takes KAFKALAB_MODE, or what the folder has.
            controllers: How many of their own, without ZooKeeper; with none each broker is a controller too.
            secure: With TLS, users and permissions; a folder that has them keeps them.
            connect: With Kafka Connect and PostgreSQL; a folder that has them keeps them.

        Raises:
            LabError: There cannot be such a stack, or the folder holds the data of more brokers, of the other mode or
                of other controllers.
        """
        settings = StackSettings.read()
        kept = cls.at(settings.home)
        runs = kept is not None and kept.state() != "stopped"
        held = kept.options if kept and (runs or (settings.home / "data").exists()) else None
        most = len(list((settings.home / "data").glob("broker-*"))) or 1
        wanted = most if brokers is None else brokers
        asked = mode or settings.mode
        chosen = asked or (kept.options.mode if kept else MODE)
        _check(chosen, wanted)
        if controllers and chosen == "zookeeper":
            raise LabError(
                "a stack with ZooKeeper has no controllers of its own: take the mode 'kraft', or leave them out"
            )
        if held and (held.mode != chosen or controllers not in {0, held.controllers}):
            there, here = _WITH[held.mode], _WITH[chosen]
            if held.mode == chosen:
                there, here = (f"with {n or 'no'} controllers of its own" for n in (held.controllers, controllers))
            raise LabError(
                f"{settings.home} holds a stack {there}, not {here}: name another folder in KAFKALAB_HOME, or forget "
                "it with `kafkalab down --wipe`"
            )
        has_connect = kept is not None and "connect" in kept.options.ports
        as_asked = kept and (kept.options.secure or not secure) and (has_connect or not connect)
        if kept and runs and brokers is None and not controllers and as_asked:
            return kept
        if wanted < most and not runs:
            raise LabError(
                f"{settings.home} holds the data of {most} brokers: `kafkalab up --brokers {most}`, or forget them "
                "with `kafkalab down --wipe`"
            )
        ports = range(settings.broker_port, settings.broker_port + wanted)
        secure = secure or (kept is not None and kept.options.secure)
        if secure and (connect or (has_connect and kept is not None and not kept.options.secure)):
            raise LabError(NOT_SECURED)
        with_connect = {"postgres": settings.postgres_port, "connect": settings.connect_port}
        beside = {"registry": settings.registry_port, **(with_connect if connect or has_connect else {})}
        if chosen == "zookeeper":
            options = Options.with_zookeeper(settings.zookeeper_port, ports, secure=secure)
            return cls(settings.home, options.beside(beside))
        controllers = controllers or (kept.options.controllers if kept else 0)
        # new controllers with empty logs, where they are the majority, could agree that the cluster is empty
        voters = len(held.quorum) if held else controllers or wanted
        quorum = range(settings.controller_port, settings.controller_port + voters)
        options = Options.with_kraft(ports, quorum, apart=controllers > 0, secure=secure)
        return cls(settings.home, options.beside(beside))

    @classmethod
    def own(
        cls,
        brokers: int = 1,
        *,
        mode: str | None = None,
        controllers: int = 0,
        secure: bool = False,
        registry: bool = True,
        beside: Collection[str] = (),
    ) -> "Stack":
        """Return a stack that does not run yet: on free ports, in a new folder, gone with the Python that called this.

        Args:
            brokers: How many, 1 to 5.
            mode: `zookeeper` or `kraft`; None takes KAFKALAB_MODE, or `zookeeper`.
            controllers: How many of their own, without ZooKeeper; with none each broker is a controller too. With
                ZooKeeper, how many there are to move to: they are started by their names.
            secure: With TLS, users and permissions.
            registry: With a schema registry.
            beside: The names of further servers, in the order in which they start.

        Raises:
            LabError: There cannot be such a stack, or no ports are free.
        """
        chosen = mode or StackSettings.read().mode or MODE
        _check(chosen, brokers)
        if secure and "connect" in beside:
            raise LabError(NOT_SECURED)
        names = [*["registry"] * registry, *beside]
        others = 1 + controllers if chosen == "zookeeper" else controllers or brokers
        ports = iter(free_ports(brokers + others + len(names)))
        further, clients = {name: next(ports) for name in names}, list(islice(ports, brokers))
        if chosen == "zookeeper":
            options = Options.with_zookeeper(next(ports), clients, list(ports), secure=secure)
        else:
            options = Options.with_kraft(clients, list(ports), apart=controllers > 0, secure=secure)
        options = options.beside(further)
        stack = cls(Path(tempfile.mkdtemp(prefix="kafkalab-")).resolve(), options)
        try:
            stack.options.write(stack.folder)
            stack._guard = processes.guard(stack.folder)
        except BaseException:
            shutil.rmtree(stack.folder, ignore_errors=True)
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
        """The registry's address; empty without one."""
        port = self.options.ports.get("registry")
        return address(port, secure=self.options.secure) if port else ""

    @property
    def client(self) -> dict[str, str]:
        """What a client of a learner takes."""
        servers = {"bootstrap.servers": self.bootstrap_servers}
        return self._security.client(self.bootstrap_servers) if self._security else servers

    @property
    def registry_client(self) -> dict[str, object]:
        """What `SchemaRegistryClient` takes; its time-out, in seconds, covers the start of the registry."""
        login = self._security.registry_client() if self._security else {}
        return {"url": self.schema_registry_url, "timeout": HOLD_SECONDS + REGISTRY_ANSWER_SECONDS, **login}

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
        """ZooKeeper's address; empty without it."""
        port = self.options.ports.get("zookeeper")
        return f"{HOST}:{port}" if port else ""

    @property
    def names(self) -> list[str]:
        """The servers' names, in the order in which they start."""
        return list(self._servers)

    @staticmethod
    def fetch(mode: str, source: Path | None = None) -> None:
        """Bring the files of a mode's servers into the cache, and prepare their quick start.

        Args:
            mode: `zookeeper` or `kraft`.
            source: A folder that `kafkalab fetch --to` has filled; None asks the package registry.

        Raises:
            LabError: As `artifacts.fetch`.
        """
        kinds: list[type[Server]] = [*SERVERS[mode].values(), Registry]
        # what is not brought from a folder now cannot be fetched later
        artifacts.fetch(source, artifacts.here() if source else {server.files for server in kinds})
        _prepare(kinds)

    def up(self, started: int | None = None) -> None:
        """Start what does not run and wait until every server answers; whoever asks the registry may wait on.

        Args:
            started: How many of the brokers; the others wait for `start`. None means all.

        Raises:
            LabError: A port is taken, the stack runs with other options, or a server ended or did not answer in time.
                What this call started is ended again.
        """
        if self._is_up():
            return
        _prepare([type(server) for server in self._servers.values()])
        with self._locked():
            if self._is_up():
                return
            self._check_folder()
            waiting = self._layout.named("broker")[started:] if started else []
            wanted = [server for server in self._servers.values() if not server.late and server.name not in waiting]
            missing = [server for server in wanted if not self._process(server)]
            background = [server for server in wanted if server.background]
            self._make_room(missing)
            self.options.write(self.folder)
            if self._security:
                self._security.make()
            if self.state() == "stopped":
                shutil.rmtree(self.folder / "logs", ignore_errors=True)
            with self._started([server for server in missing if not server.background]):
                self._wait_for(server for server in wanted if not server.background)
                ports = self.options.broker_ports[:started]
                ids = set(range(len(ports)))
                known = "the brokers to know each other"
                wait_until(
                    lambda: all(brokers_known_at(port, self._security) == ids for port in ports), known, START_SECONDS
                )
                if self._security:
                    self._security.write_clients(self.bootstrap_servers)
                    self._security.grant(self.bootstrap_servers)
                with self._started([server for server in missing if server.background]):
                    if started is None:
                        wait_for_groups(self.admin, GROUP_SECONDS)
                    self._wait_for(background, only_listen=True)
            self._ready.touch()
            self._make_archives({server.kind: server for server in wanted}.values())

    def down(self, *, wipe: bool = False) -> None:
        """Stop every server before those that it needs, so that brokers can sign off with ZooKeeper.

        Args:
            wipe: Forget data, logs and options too.
        """
        if not Stack.at(self.folder):  # nothing in this folder is ours
            return
        with self._locked():
            self._ready.unlink(missing_ok=True)
            left = list(self._servers.values())
            while left:
                needed = set() if wipe else {name for server in left for name in server.starts_after()}
                ending = [server for server in left if server.name not in needed]
                self._end(ending, at_once=wipe)
                left = [server for server in left if server not in ending]
            if wipe:
                for server in self._servers.values():
                    server.forget()
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

    def start(self, name: str, properties: Mapping[str, object] | None = None) -> None:
        """Start one server and wait until it answers.

        Args:
            name: The server.
            properties: The whole configuration of a broker or controller, in place of the lab's; it is kept for later
                starts from this Python.

        Raises:
            LabError: There is no such server or no stack yet, or the server ended or did not answer in time.
        """
        chosen = self._server_of_made(name)
        if properties is not None and isinstance(chosen, KafkaServer):
            chosen.given = properties
        with self._locked():
            missing = [] if self._process(chosen) else [chosen]
            self._make_room(missing)
            with self._started(missing):
                self._wait_for([chosen])
            self._make_archives([chosen])

    def restart(self, name: str, properties: Mapping[str, object]) -> None:
        """Stop a broker and start it with other properties, as who runs it does after a change of its file.

        Args:
            name: The broker.
            properties: What stands in place of the properties that it had, or beside them.

        Raises:
            LabError: There is no such broker or no stack yet, or the broker does not start with these properties.
        """
        chosen = self._server_of_made(name)
        if not isinstance(chosen, KafkaServer):
            raise LabError(f"{name} takes no properties: name one of {', '.join(self._layout.named('broker'))}")
        self.stop(name)
        self.start(name, {**(chosen.given or chosen.properties()), **properties})

    def stop(self, name: str) -> None:
        """Ask one server to end, as an orderly shutdown does, and wait until it has."""
        chosen = self._server_of_made(name)
        with self._locked():
            self._end([chosen])

    def kill(self, name: str) -> None:
        """End one server at once, as a crash does (SIGKILL; PostgreSQL by its immediate shutdown)."""
        chosen = self._server_of_made(name)
        with self._locked():
            self._end([chosen], at_once=True)

    def pause(self, name: str) -> None:
        """Hold a server that runs, so that it neither answers nor asks, until `resume` (SIGSTOP).

        Its connections stay open, as those of a machine that hangs. A registry's front goes on and, after
        REGISTRY_ANSWER_SECONDS, answers in its place that it does not.
        """
        if process := self._process(self._server(name)):
            for each in processes.family(process):
                each.suspend()

    def resume(self, name: str) -> None:
        """Let a server that was paused go on; one that is not paused goes on anyway."""
        if process := self._process(self._server(name)):
            for each in processes.family(process):
                each.resume()

    def log(self, name: str) -> Path:
        """Return the file that a server's output goes to."""
        return self._server(name).log

    def tool(self, name: str, *arguments: str) -> str:
        """Run one of Kafka's own tools and return what it prints.

        Args:
            name: The script of Kafka's `bin` folder, without `.sh`, such as `kafka-metadata-quorum`. `kafka-storage` is
                that of the servers' own release; the others are the current Kafka's, fetched when one is first run.
            arguments: What follows the script's name in a terminal.

        Raises:
            LabError: There is no such tool here, it refused or did not end, or it cannot be fetched.
        """
        if name not in tools.MAINS:
            raise LabError(f"there is no tool {name!r} here, only {', '.join(tools.MAINS)}")
        files = self._servers["broker-0"].files if name == "kafka-storage" else tools.FILES
        artifacts.fetch(sets={files})
        archives.make_base(files)
        return tools.run(files, name, *arguments)

    def state(self) -> str:
        """Return `running`, `degraded` when only some of the servers that start with it run, or `stopped`."""
        running = {name for name, server in self._servers.items() if self._process(server)}
        if not running:
            self._refuse_elsewhere()
            return "stopped"
        return "running" if running >= {name for name, s in self._servers.items() if not s.late} else "degraded"

    def status(self) -> dict[str, object]:
        """Return what `kafkalab status --json` prints."""
        ports = self.options.ports
        return {
            "state": self.state(),
            "mode": self.options.mode,
            "bootstrap_servers": self.bootstrap_servers,
            "schema_registry_url": self.schema_registry_url,
            "zookeeper": self.zookeeper,
            "folder": str(self.folder),
            "client_files": str(self.client_files) if self.client_files else None,
            "connect_url": f"http://{HOST}:{ports['connect']}" if "connect" in ports else "",
            "postgres": f"{HOST}:{ports['postgres']}" if "postgres" in ports else "",
            "postgres_account": str(account(self.folder)) if "postgres" in ports else "",
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
                if process:
                    memory = round(sum(each.memory_info().rss for each in server.processes()) / 1e6)
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
        """Return the process of a server, None unless all that belongs to it runs."""
        found = server.processes()
        return found[0] if len(found) == len(server.records) else None

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

    def _check_folder(self) -> None:
        """Leave a folder alone that is somebody else's.

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

    def _make_room(self, servers: list[Server]) -> None:
        """End what a server of before has left, and refuse a port that is taken, before anything starts.

        Raises:
            LabError: A port is taken.
        """
        self._end(servers, at_once=True)  # a part of one may have outlived the rest
        for server in servers:
            if owner := processes.listener(HOST, server.port):
                variable = f"KAFKALAB_{server.name.partition('-')[0].upper()}_PORT"
                way = "make the stack again, on other ports" if self._guard else f"choose another port with {variable}"
                raise LabError(f"port {server.port} for {server.name} is taken by {owner}: stop that, or {way}")

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
            server.start()

    def _wait_for(self, servers: Iterable[Server], *, only_listen: bool = False) -> None:
        """Wait until each server answers; a server that ends first is an error with the reason from its log."""
        silent = list(servers)
        names = ", ".join(server.name for server in silent)

        def all_answer() -> bool:
            for server in list(silent):
                if not self._process(server):  # asked first: somebody else's server may answer in its place
                    raise LabError(f"{server.name} ended: {server.reason()} (all of it in {server.log})")
                if server.listens() if only_listen else server.serves():
                    silent.remove(server)
            return not silent

        wait_until(all_answer, f"{names} to answer (logs in {self.folder / 'logs'})", START_SECONDS)

    def _make_archives(self, servers: Iterable[Server]) -> None:
        for server in servers:
            if isinstance(server, JavaServer) and (process := self._process(server)):
                archives.make(server.files, server.kind, process.pid)

    def _end(self, servers: list[Server], *, at_once: bool = False) -> None:
        """End servers side by side; only an orderly end removes the record."""
        ending = {server: server.processes() for server in servers}
        for server, its in ending.items():
            for process in its:
                with suppress(psutil.NoSuchProcess):
                    server.end(process, at_once=at_once)
                    for each in processes.family(process):
                        each.resume()  # a paused one would not hear of it
        slow = processes.still_running(list(chain.from_iterable(ending.values())), STOP_SECONDS)
        for process in slow:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        processes.still_running(slow, STOP_SECONDS)
        processes.reap()
        if sys.platform == "win32":  # which knows no orderly end of another process
            return
        for server in servers:
            if not at_once and not set(ending[server]) & set(slow):
                for record in server.records:
                    record.unlink(missing_ok=True)


def _prepare(servers: Collection[type[Server]]) -> None:
    """Bring the files of servers into the cache, with what makes them start quickly."""
    artifacts.fetch(sets={files for server in servers for files in (server.files, *server.more_files)})
    for files in {server.files for server in servers if issubclass(server, JavaServer)}:
        archives.make_base(files)


def _check(mode: str, brokers: int) -> None:
    """Refuse what there cannot be.

    Raises:
        LabError: There is no such mode, or the brokers are not 1 to 5.
    """
    if mode not in SERVERS:
        raise LabError(f"there is no mode {mode!r}: take {' or '.join(map(repr, SERVERS))}")
    if not 1 <= brokers <= MOST_BROKERS:
        raise LabError(f"a stack has 1 to {MOST_BROKERS} brokers, not {brokers}")
