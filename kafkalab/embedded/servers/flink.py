"""Apache Flink: a job manager, task managers, and the gateway that takes SQL.

All of them share one configuration, as on a cluster of many machines; the job manager writes it.
"""

import json
import re
import socket
from pathlib import Path
from typing import Any, ClassVar

import httpx2

from kafkalab.embedded import HOST, artifacts
from kafkalab.embedded.files import write_private
from kafkalab.embedded.servers.server import NO_TLS, JavaServer

SLOTS = 2  # of a task manager
_OPENS = [f"--add-opens=java.base/java.{name}=ALL-UNNAMED" for name in ("lang", "lang.invoke", "net", "time", "util")]
_DIRECT = 80  # megabytes a task manager may take outside of the heap: buffers between tasks, and Flink's own


class FlinkServer(JavaServer):
    """What Flink's servers share: the folder of the configuration."""

    files: ClassVar = "flink"
    heap: ClassVar = 80
    main: ClassVar[str]

    @property
    def config(self) -> Path:
        """The folder of Flink's configuration."""
        return self.layout.folder / "config" / "flink"

    @property
    def environment(self) -> dict[str, str]:
        """Say where the configuration is (Flink documentation, "Configuration").

        With few arenas the C library keeps less of the memory that was given back (glibc's manual, "Malloc Tunable
        Parameters"); Flink's own images take another allocator for that.
        """
        return {"FLINK_CONF_DIR": str(self.config), "MALLOC_ARENA_MAX": "2"}

    def configure(self) -> None:
        """Leave the configuration to the job manager."""

    def arguments(self) -> list[str]:
        """Return class path and main class."""
        return [*_OPENS, "-cp", artifacts.class_path(self.files), self.main]

    def asked(self, path: str, server: str = "jobmanager") -> Any:
        """Return what a server's REST interface answers, None if it does not."""
        port = self.layout.ports[server]
        try:
            socket.create_connection((HOST, port), timeout=0.5).close()  # cheap, while servers need the processor
            answer = httpx2.get(f"http://{HOST}:{port}{path}", timeout=2, trust_env=False, verify=NO_TLS)
            return answer.json() if answer.status_code == 200 else None
        except (OSError, httpx2.TransportError):
            return None


class JobManager(FlinkServer):
    """The server that plans jobs, hands their tasks out and counts their checkpoints; its port is that of REST."""

    kind: ClassVar = "jobmanager"
    main: ClassVar = "org.apache.flink.runtime.entrypoint.StandaloneSessionClusterEntrypoint"

    def configure(self) -> None:
        """Write the configuration of all, with the port that task managers dial: the same one at every start."""
        file = self.config / "config.yaml"
        kept = (
            re.search(r"^jobmanager.rpc.port: (\d+)$", file.read_text(encoding="utf-8"), re.MULTILINE)
            if file.exists()
            else None
        )
        settings = {
            "jobmanager.rpc.address": HOST,
            "jobmanager.rpc.port": kept[1] if kept else self.layout.spare_port(),
            "jobmanager.bind-host": HOST,
            "rest.address": HOST,
            "rest.bind-address": HOST,
            "rest.port": self.port,
            "sql-gateway.endpoint.rest.address": HOST,
            "sql-gateway.endpoint.rest.bind-address": HOST,
            "taskmanager.host": HOST,
            "taskmanager.bind-host": HOST,
            "taskmanager.numberOfTaskSlots": SLOTS,
            "taskmanager.load-balance.mode": "SLOTS",  # each gets tasks before one is full
            # who starts a task manager by its class says what Flink's script would compute
            "taskmanager.cpu.cores": 1,
            "taskmanager.memory.task.heap.size": "48m",
            "taskmanager.memory.task.off-heap.size": "0m",
            "taskmanager.memory.framework.heap.size": "32m",
            "taskmanager.memory.jvm-metaspace.size": "96m",
            "taskmanager.memory.jvm-overhead.min": "64m",
            "taskmanager.memory.jvm-overhead.max": "64m",
            "taskmanager.memory.framework.off-heap.size": "32m",
            "taskmanager.memory.network.min": "16m",
            "taskmanager.memory.network.max": "16m",
            "taskmanager.memory.managed.size": "32m",
            "heartbeat.interval": "1 s",
            "heartbeat.timeout": "20 s",  # a killed one is noticed after two refused heartbeats
            "restart-strategy.type": "fixed-delay",
            "restart-strategy.fixed-delay.delay": "1 s",
            "restart-strategy.fixed-delay.attempts": 1000,
            "execution.checkpointing.dir": _url(self.layout.folder / "data" / "checkpoints"),
            "execution.checkpointing.savepoint-dir": _url(self.layout.folder / "data" / "savepoints"),
        }
        write_private(file, "".join(f"{key}: {value}\n" for key, value in settings.items()))

    def arguments(self) -> list[str]:
        """Return class path, main class and the folder of the configuration."""
        return [*super().arguments(), "--configDir", str(self.config)]

    def serves(self) -> bool:
        """Ask for its task managers."""
        return self.asked("/taskmanagers") is not None


def _url(folder: Path) -> str:
    """Return a folder as Flink reads it from its YAML: quoted, and without the escapes of other URLs."""
    path = folder.as_posix()
    return json.dumps(f"file://{path if path.startswith('/') else f'/{path}'}", ensure_ascii=False)


class TaskManager(FlinkServer):
    """A server that runs tasks in its slots; its port is the one that the job manager dials."""

    kind: ClassVar = "taskmanager"
    main: ClassVar = "org.apache.flink.runtime.taskexecutor.TaskManagerRunner"
    late: ClassVar = True

    def arguments(self) -> list[str]:
        """Return limit, class path, main class, the folder of the configuration and what is this one's own."""
        own = {"taskmanager.resource-id": self.name, "taskmanager.rpc.port": self.port}
        options = [part for key, value in own.items() for part in ("-D", f"{key}={value}")]
        direct = f"-XX:MaxDirectMemorySize={_DIRECT}m"
        return [direct, *super().arguments(), "--configDir", str(self.config), *options]

    def serves(self) -> bool:
        """Ask the job manager whether it knows its slots, which are told a moment after its name."""
        return self._known().get("slotsNumber") == SLOTS

    def may_start(self) -> bool:
        """Ask the job manager whether it still counts on one that was killed."""
        return not self._known()

    def _known(self) -> dict[str, Any]:
        known = self.asked("/taskmanagers") or {"taskmanagers": []}
        return next((manager for manager in known["taskmanagers"] if manager["id"] == self.name), {})


class Gateway(FlinkServer):
    """The SQL gateway: it plans statements and gives the jobs to the job manager; its port is that of REST."""

    kind: ClassVar = "gateway"
    heap: ClassVar = 112
    main: ClassVar = "org.apache.flink.table.gateway.SqlGateway"

    def arguments(self) -> list[str]:
        """Return class path, main class, the port, and that a session outlasts a learner's pause."""
        own = {"sql-gateway.endpoint.rest.port": self.port, "sql-gateway.session.idle-timeout": 0}
        return [*super().arguments(), *(f"-D{key}={value}" for key, value in own.items())]

    def serves(self) -> bool:
        """Ask for its version."""
        return self.asked("/v1/info", self.name) is not None
