"""The schema registry's REST routes, for what its client does not show."""

import ssl
from collections.abc import Mapping
from typing import Any

import httpx2


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
