"""The schema registry's client, its REST routes for what that does not show, and its address."""

import os
import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx2
from confluent_kafka.schema_registry import SchemaRegistryClient

from kafkalab.cluster import proxies
from kafkalab.embedded.servers.registry import API
from kafkalab.errors import LabError
from kafkalab.waiting import ANSWER_SECONDS


def registry_client(properties: Mapping[str, object]) -> SchemaRegistryClient:
    """Return the registry's client, a context manager.

    Args:
        properties: What it takes.

    Raises:
        LabError: A property is none of the client's, or a variable of the environment names what it cannot use.
    """
    try:
        return SchemaRegistryClient(dict(properties))
    except (OSError, ValueError, TypeError, ImportError) as error:
        trusted, socks = os.environ.get("SSL_CERT_FILE"), proxies.socks()
        if trusted and not Path(trusted).is_file():
            reason = f"SSL_CERT_FILE={trusted!r} names no file: name one of certificates in PEM form, or unset it"
        elif socks and (isinstance(error, ImportError) or "proxy" in str(error)):
            reason = f"{' and '.join(socks)} names a SOCKS proxy, which the registry's client cannot use: unset it"
        else:
            reason = (
                f"the registry's client does not take its properties ({error}): check the file that "
                "KAFKA_SCHEMA_REGISTRY_PROPERTIES names, or schema.registry.… in that of KAFKA_CLIENT_PROPERTIES"
            )
        raise LabError(reason) from None


def rest(properties: Mapping[str, object], **options: Any) -> httpx2.Client:
    """Return an HTTP client out of what `SchemaRegistryClient` takes: address, credentials, authority.

    Args:
        properties: See above.
        options: What `httpx2.Client` takes too, such as `timeout` in seconds.
    """
    user, _, password = str(properties.get("basic.auth.user.info", "")).partition(":")
    authority = properties.get("ssl.ca.location")
    return httpx2.Client(
        base_url=str(properties["url"]),
        auth=(user, password) if user else None,
        verify=ssl.create_default_context(cafile=str(authority) if authority else None),
        follow_redirects=True,
        **options,
    )


def confluent_address(properties: Mapping[str, object]) -> str | None:
    """Return where on that server a registry answers as Confluent's does, if only the path of the address is wrong."""
    for path in ("", API):
        url = urlsplit(str(properties["url"]))._replace(path=path).geturl()
        if url != properties["url"] and _answers({**properties, "url": url}):
            return url
    return None


def _answers(properties: Mapping[str, object]) -> bool:
    try:
        with rest(properties, timeout=ANSWER_SECONDS) as web:
            return isinstance(web.get("/subjects").json(), list)
    except (httpx2.HTTPError, OSError, ValueError):
        return False
