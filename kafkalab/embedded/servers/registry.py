"""Apicurio Registry behind the Confluent Schema Registry's API."""

import socket
import ssl
from typing import ClassVar

import httpx2

from kafkalab.embedded import HOST, artifacts
from kafkalab.embedded.servers.server import JavaServer

API = "/apis/ccompat/v7"


class Registry(JavaServer):
    """The schema registry of a stack (Apicurio Registry 3 documentation, "configuration reference")."""

    kind: ClassVar = "registry"
    files: ClassVar = "registry"
    heap: ClassVar = 256

    def configure(self) -> None:
        """Write what is secret, where the stack is secured; the rest stands in the command."""
        if self.layout.security:
            self.layout.security.write_registry(self.port)

    def arguments(self) -> list[str]:
        """Return the properties and the jar."""
        security, database = self.layout.security, self.layout.folder / "data" / "registry" / "registry"
        where = (
            {"quarkus.config.locations": security.registry.as_uri()} if security else {"quarkus.http.port": self.port}
        )
        properties = {
            "quarkus.http.host": HOST,
            **where,
            "quarkus.management.host": HOST,
            "quarkus.management.port": 0,  # any that is free
            "quarkus.banner.enabled": "false",
            "apicurio.rules.global.compatibility": "BACKWARD",  # as Confluent's does; Apicurio itself starts with NONE
            # without WRITE_DELAY=0 a kill -9 loses the schemas of the last half second
            "apicurio.datasource.url": f"jdbc:h2:file:{database.as_posix()};DB_CLOSE_ON_EXIT=FALSE;WRITE_DELAY=0",
            "apicurio.redirects.enabled": "true",
            "apicurio.redirects.overview": f"/subjects/,{API}/subjects",
            "apicurio.redirects.overview-bare": f"/subjects,{API}/subjects",
            "apicurio.redirects.count": f"/subjects/count-value/versions/1,{API}/subjects/count-value/versions/1",
        }
        options = [f"-D{key}={value}" for key, value in properties.items()]
        return [*options, "-jar", str(artifacts.registry_jar())]

    def serves(self) -> bool:
        """Ask for its subjects."""
        told = self.layout.security.registry_client() if self.layout.security else {}
        user, _, password = told.get("basic.auth.user.info", "").partition(":")
        authority = told.get("ssl.ca.location")
        trust = ssl.create_default_context(cafile=authority) if authority else ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        try:
            socket.create_connection((HOST, self.port), timeout=0.5).close()  # cheap, while servers need the processor
            answer = httpx2.get(
                f"{address(self.port, secure=bool(told))}/subjects",
                auth=(user, password) if user else None,
                verify=trust,
                timeout=2,
                trust_env=False,
            )
        except (OSError, httpx2.TransportError):
            return False
        return answer.status_code == 200


def address(port: int, *, secure: bool) -> str:
    """Return the base address of the Confluent-compatible API on this port of loopback."""
    return f"{'https' if secure else 'http'}://{HOST}:{port}{API}"
