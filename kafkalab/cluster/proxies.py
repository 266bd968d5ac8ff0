"""Proxies that the environment names: never for the servers of this machine, and named where they are in the way."""

import os
import urllib.request
from urllib.parse import urlsplit

from kafkalab.embedded import HOST


def pass_by() -> None:
    """Let the HTTP clients of this Python, and of programs it starts, reach loopback without a proxy.

    `SchemaRegistryClient` takes its proxies from the environment alone. It cannot be made at all under a SOCKS proxy,
    whatever `NO_PROXY` says, so such a variable is removed from this process.
    """
    both = ("NO_PROXY", "no_proxy")
    hosts = ",".join(os.environ.get(name, "") for name in both).split(",")
    for name in both:
        os.environ[name] = ",".join(dict.fromkeys(filter(None, [*hosts, HOST, "localhost"])))
    for name in socks():
        del os.environ[name]


def socks() -> list[str]:
    """Return the variables that name a SOCKS proxy."""
    return [
        name
        for name, proxy in os.environ.items()
        if name.lower().endswith("_proxy") and proxy.lower().startswith("socks")
    ]


def in_the_way(url: str) -> str:
    """Return a remark on the variable whose proxy an HTTP client asks for this address; empty if it asks none."""
    parts = urlsplit(url)
    if urllib.request.proxy_bypass(parts.hostname or ""):
        return ""
    names = [f"{scheme}_proxy" for scheme in (parts.scheme, "all")]
    variable = next((name for name in [*names, *map(str.upper, names)] if os.environ.get(name)), None)
    return f"; the proxy of {variable} was asked, and NO_PROXY={parts.hostname} avoids that" if variable else ""
