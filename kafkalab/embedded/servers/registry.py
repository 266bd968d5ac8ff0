"""Apicurio Registry behind the Confluent Schema Registry's API."""

import json
import socket
import ssl
import sys
from pathlib import Path
from typing import ClassVar

import httpx2

from kafkalab.embedded import HOST, archives, artifacts, processes
from kafkalab.embedded.servers.server import NO_TLS, JavaServer

API = "/apis/ccompat/v7"
HOLD_SECONDS = 120  # that a request waits for a registry that starts; a busy machine may need a minute
# that it may take over one; Apicurio leaves about one in a thousand for routes that it lacks without an answer
REGISTRY_ANSWER_SECONDS = 30
_FRONT = Path(__file__).parents[1] / "front.py"


class Registry(JavaServer):
    """The schema registry of a stack (Apicurio Registry 3 documentation, "configuration reference").

    Its port is that of a front, a process beside the registry's own.
    """

    kind: ClassVar = "registry"
    files: ClassVar = "registry"
    heap: ClassVar = 256
    background: ClassVar = True

    @property
    def records(self) -> list[Path]:
        """The files with the process ids of the registry and of its front."""
        return [self.record, self.record.with_stem(f"{self.name}-front")]

    def configure(self) -> None:
        """Choose the port behind the front, and write what is secret; the rest stands in the command."""
        self._behind = self.layout.spare_port()
        if self.layout.security:
            self.layout.security.write_registry(self._behind)

    def arguments(self) -> list[str]:
        """Return the properties and the jar."""
        security, database = self.layout.security, self.layout.folder / "data" / "registry" / "registry"
        port = {"quarkus.http.port": self._behind}
        where = {"quarkus.config.locations": security.registry.as_uri()} if security else port
        properties = {
            "quarkus.http.host": HOST,
            **where,
            "quarkus.management.host": HOST,
            "quarkus.management.port": 0,  # any that is free
            "quarkus.banner.enabled": "false",
            "apicurio.rules.global.compatibility": "BACKWARD",  # as Confluent's does; Apicurio itself starts with NONE
            # without WRITE_DELAY=0 a kill -9 loses the schemas of the last half second
            "apicurio.datasource.url": f"jdbc:h2:file:{database.as_posix()};DB_CLOSE_ON_EXIT=FALSE;WRITE_DELAY=0",
        }
        options = [f"-D{key}={value}" for key, value in properties.items()]
        return [*options, "-jar", str(artifacts.registry_jar())]

    def start(self) -> None:
        """Start the registry, and the front that listens long before it."""
        super().start()
        own, front = self.records
        security = self.layout.security
        told = {
            "port": self.port,
            "pid": int(own.read_text(encoding="utf-8").split()[0]),
            "behind": address(self._behind, secure=security is not None),
            "path": API,
            "identity": str(security.identity) if security else "",
            "authority": str(security.authority) if security else "",
            "hold": HOLD_SECONDS,
            "answer": REGISTRY_ANSWER_SECONDS,
        }
        # by its path: it shall not import the lab
        command = [sys.executable, "-P", str(_FRONT), json.dumps(told), self.mark]
        processes.start(command, self.log, self.layout.folder, front)

    def listens(self) -> bool:
        """Ask for a connection, which its front takes; while its archive is still to be made, the registry itself."""
        try:
            socket.create_connection((HOST, self.port), timeout=0.5).close()
        except OSError:
            return False
        return archives.path(self.files, self.kind).exists() or self.serves()

    def serves(self) -> bool:
        """Ask for its subjects."""
        told = self.layout.security.registry_client() if self.layout.security else {}
        user, _, password = told.get("basic.auth.user.info", "").partition(":")
        authority = told.get("ssl.ca.location")
        trust = ssl.create_default_context(cafile=authority) if authority else NO_TLS
        try:
            answer = httpx2.get(
                f"{address(self.port, secure=bool(told))}/subjects",
                auth=(user, password) if user else None,
                verify=trust,
                timeout=2,
                trust_env=False,
            )
        except httpx2.TransportError:
            return False
        return answer.status_code == 200


def address(port: int, *, secure: bool) -> str:
    """Return the registry's address on this port of loopback."""
    return f"{'https' if secure else 'http'}://{HOST}:{port}"
