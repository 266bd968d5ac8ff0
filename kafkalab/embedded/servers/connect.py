"""Kafka Connect: a worker that runs connectors between Kafka and other systems."""

import shutil
import socket
import sys
from pathlib import Path
from typing import ClassVar

import httpx2

from kafkalab.embedded import HOST, artifacts
from kafkalab.embedded.files import write_properties
from kafkalab.embedded.servers import postgres
from kafkalab.embedded.servers.server import NO_TLS, JavaServer
from kafkalab.errors import LabError

_PASSWORD = "POSTGRES_PASSWORD"  # noqa: S105 - the worker's variable, as in docker-compose.yml
PASSWORD = f"${{env:{_PASSWORD}}}"  # how a connector names it (KIP-887)
NOT_SECURED = "Connect does not know the users of a secured stack: take one without security"


class Connect(JavaServer):
    """The Connect worker of a stack, in distributed mode (Kafka documentation, "Kafka Connect Configs").

    Its plugins: Debezium's source for PostgreSQL, Debezium's JDBC sink, and the converter to Avro, each in a folder of
    its own, without the files that the worker has.
    """

    kind: ClassVar = "connect"
    files: ClassVar = "connect"
    more_files: ClassVar = ("connect-avro", "connect-debezium", "connect-jdbc")
    heap: ClassVar = 512

    @property
    def _config(self) -> Path:
        return self.layout.folder / "config" / f"{self.name}.properties"

    @property
    def _plugins(self) -> Path:
        return self.layout.folder / "tmp" / f"{self.name}-plugins"

    @property
    def environment(self) -> dict[str, str]:
        """The password of the database beside it, if there is one."""
        if "postgres" not in self.layout.ports:
            return {}
        return {_PASSWORD: postgres.client(self.layout.folder, self.layout.ports["postgres"])["password"]}

    def configure(self) -> None:
        """Write its properties and lay out its plugins.

        Raises:
            LabError: The stack is secured.
        """
        if self.layout.security:
            raise LabError(NOT_SECURED)
        for name in self.more_files:
            folder = self._plugins / name
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
            for path in artifacts.paths(name):
                # on Windows only some accounts may make links
                shutil.copy(path, folder) if sys.platform == "win32" else (folder / path.name).symlink_to(path)
        write_properties(self._config, self._properties())

    def _properties(self) -> dict[str, object]:
        brokers = [self.layout.ports[name] for name in self.layout.named("broker")]
        topics = {f"{what}.storage.topic": f"connect-{what}s" for what in ("config", "offset")}
        copies = {f"{what}.storage.replication.factor": min(3, len(brokers)) for what in ("config", "offset", "status")}
        avro = {
            "": "io.apicurio.registry.utils.converter.AvroConverter",
            ".apicurio.registry.url": f"http://{HOST}:{self.layout.ports['registry']}/apis/registry/v3",
            ".apicurio.registry.auto-register": "true",
            ".apicurio.registry.dereference-schema": "true",  # without it a column added later may be missing
        }
        return {
            "bootstrap.servers": ",".join(f"{HOST}:{port}" for port in brokers),
            "group.id": "connect",
            **topics,
            "status.storage.topic": "connect-status",
            **copies,
            "offset.storage.partitions": 1,
            "status.storage.partitions": 1,
            "listeners": f"http://{HOST}:{self.port}",
            "rest.advertised.host.name": HOST,
            "plugin.path": self._plugins,
            "plugin.discovery": "service_load",  # the others read every class of every file at the start
            **{f"{part}.converter{key}": value for part in ("key", "value") for key, value in avro.items()},
            "exactly.once.source.support": "enabled",  # records and offsets in one transaction (KIP-618)
            "offset.flush.interval.ms": 1000,
            "scheduled.rebalance.max.delay.ms": 0,  # a killed worker comes back; nobody else could take its tasks
            "config.providers": "env",  # a connector names the variable with the password, and no other
            "config.providers.env.class": "org.apache.kafka.common.config.provider.EnvVarConfigProvider",
            "config.providers.env.param.allowlist.pattern": _PASSWORD,
        }

    def arguments(self) -> list[str]:
        """Return class path, main class and file."""
        main = "org.apache.kafka.connect.cli.ConnectDistributed"
        quiet = "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn"
        return [quiet, "-cp", artifacts.class_path(self.files), main, str(self._config)]

    def serves(self) -> bool:
        """Ask for its health (KIP-1017)."""
        try:
            socket.create_connection((HOST, self.port), timeout=0.5).close()  # cheap, while servers need the processor
            answer = httpx2.get(f"http://{HOST}:{self.port}/health", timeout=5, trust_env=False, verify=NO_TLS)
        except (OSError, httpx2.TransportError):
            return False
        return answer.status_code == 200

    def starts_after(self) -> list[str]:
        """Name the brokers, which keep all that it knows."""
        return self.layout.named("broker")
