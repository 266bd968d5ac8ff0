"""Apicurio Registry behind the Confluent Schema Registry's API."""

import socket
import ssl
from collections.abc import Mapping
from pathlib import Path

import httpx2

from kafkalab.embedded import artifacts
from kafkalab.embedded.security import Security
from kafkalab.embedded.server import HOST, Server

API = "/apis/ccompat/v7"


def registry(folder: Path, port: int, security: Security | None = None) -> Server:
    """Return the schema registry of a stack (Apicurio Registry 3 documentation, "configuration reference")."""
    database = folder / "data" / "registry" / "registry"
    properties = {
        "quarkus.http.host": HOST,
        **({"quarkus.config.locations": security.registry(port).as_uri()} if security else {"quarkus.http.port": port}),
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
    return Server(
        name="registry", port=port, folder=folder, heap=256, kind="registry",
        arguments=[*(f"-D{key}={value}" for key, value in properties.items()), "-jar", str(artifacts.registry_jar())],
        serves=lambda: _answers(port, security),
    )  # fmt: skip


def address(port: int, security: Security | None) -> str:
    """Return the base address of the Confluent-compatible API."""
    return f"{'https' if security else 'http'}://{HOST}:{port}{API}"


def client_properties(port: int, security: Security | None) -> dict[str, object]:
    """Return what `SchemaRegistryClient` takes."""
    return {"url": address(port, security), **(security.registry_client() if security else {})}


def _answers(port: int, security: Security | None) -> bool:
    try:
        socket.create_connection((HOST, port), timeout=0.5).close()  # cheap, while servers need the processor to start
        with rest(client_properties(port, security), timeout=2, trust_env=False) as web:
            return web.get("/subjects").status_code == 200
    except (OSError, httpx2.TransportError):
        return False


def rest(properties: Mapping[str, object], **options: object) -> httpx2.Client:
    """Return an HTTP client out of what `SchemaRegistryClient` takes: address, credentials, authority."""
    user, _, password = str(properties.get("basic.auth.user.info", "")).partition(":")
    return httpx2.Client(
        base_url=properties["url"],
        auth=(user, password) if user else None,
        verify=ssl.create_default_context(cafile=properties.get("ssl.ca.location")),
        follow_redirects=True,
        **options,
    )
