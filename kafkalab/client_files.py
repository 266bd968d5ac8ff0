"""Files of lines `key=value` that name a cluster and how to log in to it, as services and colleagues hand them out."""

import re
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import unquote, urlsplit

from kafkalab.errors import LabError

CLIENT, REGISTRY = "KAFKA_CLIENT_PROPERTIES", "KAFKA_SCHEMA_REGISTRY_PROPERTIES"  # the variables that name them
PREFIX = "schema.registry."  # of what a client file says to the registry's client

_REGISTRY_ONLY = ("basic.auth.", "bearer.auth.")  # no broker's client has properties that begin so
_NUMBERS = ("timeout", "max.", "retries.", "cache.")  # how properties of the registry's client begin that are numbers
_FILES = re.compile(r"\.(location|file)$|^sasl\.kerberos\.keytab$")  # properties whose value is a file
_TOKENS = {"sasl.oauthbearer.method", "enable.sasl.oauthbearer.unsecure.jwt"}  # where librdkafka may get some
_SECRET = re.compile(r"password|secret|token|jaas|user\.info|\.pem$|oauthbearer\.config")
_LEAVE_OUT = "nothing"
_FOR_JAVA = {  # what librdkafka has for properties that only Java's client knows (its CONFIGURATION.md)
    "sasl.jaas.config": "sasl.username and sasl.password",
    "ssl.truststore.location": "ssl.ca.location (a PEM file)",
    "ssl.truststore.certificates": "ssl.ca.pem",
    "ssl.keystore.key": "ssl.key.pem",
    "ssl.keystore.certificate.chain": "ssl.certificate.pem",
    "ssl.keystore.type": "ssl.keystore.location alone (a PKCS#12 file)",
    "sasl.client.callback.handler.class": "a SASL mechanism of librdkafka, such as SCRAM-SHA-512",
    "sasl.login.callback.handler.class": "sasl.oauthbearer.method=oidc and its sasl.oauthbearer. properties",
    "buffer.memory": "queue.buffering.max.kbytes",
    **dict.fromkeys((
        "ssl.truststore.type", "ssl.truststore.password", "ssl.protocol", "ssl.enabled.protocols", "sasl.login.class",
        "key.serializer", "value.serializer", "key.deserializer", "value.deserializer",
    ), _LEAVE_OUT),
}  # fmt: skip


def read(variable: str, path: Path) -> dict[str, str]:
    """Read a file as librdkafka's own tools do: what follows the first `=` is the value, without any escapes.

    A byte-order mark, comments, and headings of sections such as `[default]` are passed over: the Python client's
    getting-started has such a file, and each client takes what it knows.

    Args:
        variable: The variable that names the file.
        path: The file.

    Returns:
        The properties; paths in them are absolute, a relative one counts from the folder of the file.

    Raises:
        LabError: The file cannot be read, is written for Java's client, or names a file that is not there.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, ValueError) as error:
        raise LabError(
            f"{variable}={str(path)!r} cannot be read ({error}): name a file in UTF-8 with lines key=value, such as "
            "security.protocol=SASL_SSL"
        ) from None
    properties: dict[str, str] = {}
    malformed = []
    for number, line in enumerate(map(str.strip, text.split("\n")), 1):
        if line and line[0] not in "#;" and not (line.startswith("[") and line.endswith("]")):
            key, sign, value = line.partition("=")
            properties[key.strip()] = value.strip()
            malformed += [] if sign else [number]
    _refuse_other_clients(variable, path, properties)
    if malformed:  # the line itself is not shown: it may be a secret
        raise LabError(f"line {malformed[0]} of {path}, which {variable} names, is not key=value: fix or remove it")
    return {key: _whole_path(variable, path, key, value) for key, value in properties.items()}


def split(properties: Mapping[str, str]) -> tuple[dict[str, str], dict[str, str]]:
    """Separate what is for the brokers' client from what is for the registry's, which loses its prefix."""
    of_registry = {key for key in properties if key.startswith((PREFIX, *_REGISTRY_ONLY))}
    return (
        {key: value for key, value in properties.items() if key not in of_registry},
        {key.removeprefix(PREFIX): properties[key] for key in properties if key in of_registry},
    )


def for_registry_client(properties: Mapping[str, str]) -> dict[str, object]:
    """Return what the registry's client takes: numbers as numbers, and the credentials in one place.

    Raises:
        LabError: The credentials are said to be somewhere else than in `basic.auth.user.info`.
    """
    taken: dict[str, object] = {}
    for key, value in properties.items():
        taken[key] = int(value) if key.startswith(_NUMBERS) and value.isdecimal() else value
    url = urlsplit(properties.get("url", ""))
    if "@" in url.netloc:  # as some services print it
        taken["url"] = url._replace(netloc=url.netloc.rpartition("@")[2]).geturl()
        taken.setdefault("basic.auth.user.info", f"{unquote(url.username or '')}:{unquote(url.password or '')}")
    source = str(taken.pop("basic.auth.credentials.source", "USER_INFO"))  # Java's name for where the credentials are
    if source not in {"USER_INFO", "URL"}:
        raise LabError(
            f"basic.auth.credentials.source={source} is for Java's client: write basic.auth.user.info=USER:PASSWORD"
        )
    return taken


def without_secrets(text: str, properties: Mapping[str, object]) -> str:
    """Return what a client says of its properties, with the secret ones masked where it quotes them."""
    for key, value in properties.items():
        if _SECRET.search(key):
            text = text.replace(f'"{value}"', '"***"')
    return text


def _refuse_other_clients(variable: str, path: Path, properties: Mapping[str, str]) -> None:
    """Name librdkafka's properties for those that only Java's client has, or that only a program can fill.

    Raises:
        LabError: There are such.
    """
    wanted = {key: _FOR_JAVA[key.removeprefix(PREFIX)] for key in properties if key.removeprefix(PREFIX) in _FOR_JAVA}
    if properties.get("ssl.endpoint.identification.algorithm") == "":
        wanted["ssl.endpoint.identification.algorithm="] = "ssl.endpoint.identification.algorithm=none"
    mechanism = properties.get("sasl.mechanism") or properties.get("sasl.mechanisms")
    if mechanism == "AWS_MSK_IAM":
        wanted["sasl.mechanism=AWS_MSK_IAM"] = "sasl.mechanism=SCRAM-SHA-512, for a user that the cluster has for it"
    if wanted:
        steps = "; ".join(f"{new} instead of {key}" for key, new in wanted.items() if new != _LEAVE_OUT)
        dropped = ", ".join(key for key, new in wanted.items() if new == _LEAVE_OUT)
        steps = "; ".join(filter(None, [steps and f"write {steps}", dropped and f"leave out {dropped}"]))
        raise LabError(f"{path}, which {variable} names, is for Java's client; librdkafka has other names: {steps}")
    if mechanism == "OAUTHBEARER" and not _TOKENS & properties.keys():
        raise LabError(
            f"sasl.mechanism=OAUTHBEARER in {path}, which {variable} names, does not say where tokens come from: add "
            "sasl.oauthbearer.method=oidc with its client id, secret and token endpoint; for a service whose tokens "
            "only a program can make, take another mechanism, such as SCRAM-SHA-512"
        )


def _whole_path(variable: str, path: Path, key: str, value: str) -> str:
    """Return a value whose property is a file as an absolute path, and any other as it is."""
    if not _FILES.search(key) or value in {"", "probe"}:  # the latter lets librdkafka look for the system's
        return value
    whole = path.parent / value
    if not whole.exists():
        raise LabError(
            f"{key}={value} in {path}, which {variable} names: there is no such file in {path.parent}; a relative path "
            "counts from that folder"
        )
    return str(whole)
