"""Which cluster and which folders: everything that the environment says, checked once."""

import os
import re
from collections.abc import Callable
from pathlib import Path
from secrets import token_hex
from typing import Annotated, Literal, Self

from filelock import FileLock
from platformdirs import user_cache_path, user_data_path, user_state_path
from pydantic import AfterValidator, Field, PrivateAttr, ValidationError, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from kafkalab import client_files
from kafkalab.errors import LabError


def _shipped(name: str) -> Path:
    """Return a folder of the course: in an installed package it lies inside, in a checkout beside it."""
    inside = Path(__file__).with_name(name)
    return inside if inside.exists() else Path(__file__).parents[1] / name


SCHEMAS = _shipped("schemas")
NOTEBOOKS = _shipped("notebooks")

_LOCK_SECONDS = 10

_BROKER = r"(?:(?i:PLAINTEXT|SSL|SASL_PLAINTEXT|SASL_SSL)://)?(?:[\w.-]+|\[[\w:.%]+\]):\d{1,5}"
_BROKERS = rf"^\s*{_BROKER}(?:\s*,\s*{_BROKER})*\s*,?\s*$"  # as librdkafka takes them
_URL = r"^https?://[^\s,@]+$"
_POSTGRES = r"^postgres(?:ql)?://[^\s:/@]+:[^\s/@]+@[^\s:/@]+:\d{1,5}/?$"
_NAME = r"^[\w.-]+$"
_LEARNER = r"^[A-Za-z0-9][A-Za-z0-9-]{0,39}$"  # what a topic may be called, without the dot that ends the prefix


def _of_account(folder: Callable[..., Path]) -> Path:
    """Return one of the folders that an account has by the system's convention.

    Raises:
        LabError: The account has no home.
    """
    try:
        return folder("kafkalab", appauthor=False)
    except RuntimeError:
        raise LabError("this account has no home folder: set HOME to a folder that you can write to") from None


def _absolute(path: Path) -> Path:
    """Return a path that means the same in every folder: servers and kernels have others than who names it."""
    try:
        return path.expanduser().absolute()
    except RuntimeError:
        raise ValueError("this account has no home folder") from None


def _without(signs: str) -> Callable[[Path], Path]:
    """Return a check of a path that the servers take as one of a list, or with settings behind it."""

    def checked(path: Path) -> Path:
        if found := next((sign for sign in signs if sign in str(path)), None):
            raise ValueError(f"the servers take {found!r} for the end of a folder's name")
        return path

    return checked


AbsolutePath = Annotated[Path, AfterValidator(_absolute)]
Home = Annotated[AbsolutePath, AfterValidator(_without(",;"))]
Cache = Annotated[AbsolutePath, AfterValidator(_without(f',"{os.pathsep}'))]
Port = Annotated[int, Field(ge=1, le=65535)]


class _Checked(BaseSettings):
    """Settings whose errors name the variable and what it should look like."""

    model_config = SettingsConfigDict(extra="ignore", env_ignore_empty=True)

    @classmethod
    def read(cls) -> Self:
        """Read the environment.

        Raises:
            LabError: A variable has a value that cannot be meant; each one is named with an example.
        """
        try:
            return cls()
        except ValidationError as error:
            wrong = []
            for detail in error.errors():
                name = detail["loc"][0]
                field = next(field for field in cls.model_fields.values() if field.alias == name)
                given = "…" if "@" in str(detail["input"]) else repr(detail["input"])  # it may hold a password
                [example, *_] = field.examples or [None]
                reason = detail.get("ctx", {}).get("error")  # what a check of ours said
                wrong.append(
                    f"{name}={given}{f' ({reason})' if reason else ''} should look like {example!r} "
                    f"({field.description})"
                )
            raise LabError("; ".join(wrong)) from None


class ClusterSettings(_Checked):
    """The cluster that the environment names, and what the origin's programs do with it."""

    broker_url: str | None = Field(
        None, alias="KAFKA_BROKER_URL", pattern=_BROKERS, examples=["localhost:9092"],
        description="host:port of the brokers, with commas between them",
    )  # fmt: skip
    schema_registry_url: str | None = Field(
        None, alias="KAFKA_SCHEMA_REGISTRY_URL", pattern=_URL, examples=["http://localhost:8081"],
        description="the base address of the schema registry, without a password: that belongs into "
        "KAFKA_SCHEMA_REGISTRY_PROPERTIES",
    )  # fmt: skip
    client_properties: AbsolutePath | None = Field(
        None, alias="KAFKA_CLIENT_PROPERTIES", examples=["client.properties"],
        description="a file of lines key=value with librdkafka's names",
    )  # fmt: skip
    schema_registry_properties: AbsolutePath | None = Field(
        None, alias="KAFKA_SCHEMA_REGISTRY_PROPERTIES", examples=["schema-registry.properties"],
        description="a file of lines key=value with the registry client's names",
    )  # fmt: skip
    connect_url: str | None = Field(
        None, alias="KAFKALAB_CONNECT_URL", pattern=_URL, examples=["http://localhost:8083"],
        description="the address of Kafka Connect's REST interface",
    )  # fmt: skip
    postgres_url: str | None = Field(
        None, alias="KAFKALAB_POSTGRES_URL", pattern=_POSTGRES, examples=["postgresql://USER:PASSWORD@localhost:15432"],
        description="the database server that Connect reads from, and an account of it",
    )  # fmt: skip
    connect_postgres_url: str | None = Field(
        None, alias="KAFKALAB_CONNECT_POSTGRES_URL", pattern=_POSTGRES,
        examples=["postgresql://USER:${env:POSTGRES_PASSWORD}@postgres:5432"],
        description="the same server as Connect dials it, with what Connect's configuration provider makes the "
        "password of; unset: KAFKALAB_POSTGRES_URL",
    )  # fmt: skip
    flink_url: str | None = Field(
        None, alias="KAFKALAB_FLINK_URL", pattern=_URL, examples=["http://localhost:8085"],
        description="the address of the REST interface of Flink's job manager",
    )  # fmt: skip
    flink_gateway_url: str | None = Field(
        None, alias="KAFKALAB_FLINK_GATEWAY_URL", pattern=_URL, examples=["http://localhost:8086"],
        description="the address of Flink's SQL gateway",
    )  # fmt: skip
    flink_broker_url: str | None = Field(
        None, alias="KAFKALAB_FLINK_BROKER_URL", pattern=_BROKERS, examples=["kafka:9093"],
        description="the brokers as Flink dials them; unset: KAFKA_BROKER_URL",
    )  # fmt: skip
    flink_schema_registry_url: str | None = Field(
        None, alias="KAFKALAB_FLINK_SCHEMA_REGISTRY_URL", pattern=_URL,
        examples=["http://pipeline-registry:8080/apis/ccompat/v7"],
        description="the registry as Flink dials it; unset: KAFKA_SCHEMA_REGISTRY_URL",
    )  # fmt: skip
    consumer_timeout_ms: int = Field(
        10_000, alias="KAFKA_CONSUMER_TIMEOUT_MS", ge=1, examples=[120_000],
        description="milliseconds without a message after which a consumer ends",
    )  # fmt: skip
    in_topic: str | None = Field(
        None, alias="IN_TOPIC", pattern=r"^[\w.-]+(,[\w.-]+)*$", examples=["count,multiples"],
        description="topics to subscribe to, with commas between them; unset: count,multiples",
    )  # fmt: skip
    in_group: str | None = Field(
        None, alias="IN_GROUP", pattern=_NAME, examples=["count"],
        description="the consumer group; unset: count",
    )  # fmt: skip
    out_topic: str | None = Field(
        None, alias="OUT_TOPIC", pattern=_NAME, examples=["count"],
        description="the topic to produce to",
    )  # fmt: skip
    out_schema: AbsolutePath | None = Field(
        None, alias="OUT_SCHEMA", examples=["schemas/count.avsc"],
        description="the Avro schema file of OUT_TOPIC; unset: schemas/TOPIC.avsc",
    )  # fmt: skip
    learner: str | None = Field(
        None, alias="KAFKALAB_LEARNER", pattern=_LEARNER, examples=["ann-2"],
        description="who shares the cluster with others: up to 40 letters A to Z, digits and hyphens",
    )  # fmt: skip

    _client: dict[str, str] = PrivateAttr(default_factory=dict)
    _registry: dict[str, object] = PrivateAttr(default_factory=dict)
    _file_names_brokers: bool = PrivateAttr(default=False)
    _brokers_from: str = PrivateAttr(default="KAFKA_BROKER_URL")
    _registry_from: str = PrivateAttr(default="KAFKA_SCHEMA_REGISTRY_URL")

    @property
    def client(self) -> dict[str, str]:
        """What the files say to the brokers' clients, without addresses."""
        return self._client

    @property
    def registry(self) -> dict[str, object]:
        """What the files say to the registry's client, without its address."""
        return self._registry

    @property
    def file_names_brokers(self) -> bool:
        """Whether the file that KAFKA_CLIENT_PROPERTIES names has brokers, before which KAFKA_BROKER_URL goes."""
        return self._file_names_brokers

    @property
    def brokers_from(self) -> str:
        """Where the brokers' addresses are written, for who has to correct them."""
        return self._brokers_from

    @property
    def registry_from(self) -> str:
        """Where the registry's address is written."""
        return self._registry_from

    @model_validator(mode="after")
    def _read_files(self) -> Self:
        """Read both properties files; an address in one counts where no variable names another.

        Raises:
            LabError: A file cannot be read or is for another client, or an address in it cannot be meant.
        """
        if self.client_properties:
            self._client, for_registry = client_files.split(
                client_files.read(client_files.CLIENT, self.client_properties)
            )
            self._registry |= client_files.for_registry_client(for_registry)
        if self.schema_registry_properties:
            properties = client_files.read(client_files.REGISTRY, self.schema_registry_properties)
            prefix = client_files.PREFIX
            own = {key.removeprefix(prefix): value for key, value in properties.items()}
            self._registry |= client_files.for_registry_client(own)
        older, url = self._client.pop("metadata.broker.list", None), self._registry.pop("url", None)
        brokers = self._client.pop("bootstrap.servers", older)
        self._file_names_brokers = brokers is not None
        if brokers and not self.broker_url:
            self._brokers_from = f"bootstrap.servers in the file that {client_files.CLIENT} names"
            self.broker_url = _address(self._brokers_from, brokers, _BROKERS)
        if url and not self.schema_registry_url:
            self._registry_from = "the registry's address in the properties file"
            self.schema_registry_url = _address(self._registry_from, str(url), _URL)
        self.broker_url = self._without_protocols(self.broker_url)
        return self

    def _without_protocols(self, written: str | None) -> str | None:
        """Return the brokers' addresses alone, without blanks and the protocol that may stand before each.

        Raises:
            LabError: The protocol is another than the client's, which librdkafka refuses too.
        """
        protocol = self._client.get("security.protocol", "plaintext").upper()
        addresses = []
        for address in filter(None, map(str.strip, (written or "").split(","))):
            named, _, host = address.rpartition("://")
            if named and named.upper() != protocol:
                raise LabError(
                    f"{address} names {named.upper()}, but security.protocol is {protocol}: set security.protocol="
                    f"{named.upper()} in the file that {client_files.CLIENT} names, or leave out {named}://"
                )
            addresses.append(host)
        return ",".join(addresses) or None


def _address(place: str, address: str, pattern: str) -> str:
    """Return an address from a properties file.

    Raises:
        LabError: It cannot be meant.
    """
    if not re.match(pattern, address):
        like = "http://localhost:8081" if pattern == _URL else "localhost:9092"
        raise LabError(f"{place}, {'…' if '@' in address else repr(address)}, should look like {like!r}")
    return address


class StackSettings(_Checked):
    """Where the embedded stack keeps its files and which ports it takes; all on loopback."""

    home: Home = Field(
        default_factory=lambda: _of_account(user_state_path), alias="KAFKALAB_HOME",
        examples=["kafkalab-home"],
        description="the folder for data, logs and process records",
    )  # fmt: skip
    cache: Cache = Field(
        default_factory=lambda: _of_account(user_cache_path), alias="KAFKALAB_CACHE",
        examples=["kafkalab-cache"],
        description="the folder for downloads, shared by all stacks",
    )  # fmt: skip
    mode: Literal["zookeeper", "kraft"] | None = Field(
        None, alias="KAFKALAB_MODE", examples=["kraft"],
        description="zookeeper (Kafka 3.9) or kraft (the current Kafka); unset: what the folder has, else zookeeper",
    )  # fmt: skip
    controller_port: Port = Field(
        9392, alias="KAFKALAB_CONTROLLER_PORT", examples=[9392],
        description="the first controller's port without ZooKeeper; the others follow it",
    )  # fmt: skip
    zookeeper_port: Port = Field(2181, alias="KAFKALAB_ZOOKEEPER_PORT", examples=[2181], description="ZooKeeper's port")
    broker_port: Port = Field(
        9092, alias="KAFKALAB_BROKER_PORT", examples=[9092], description="the first broker's port; the others follow it"
    )
    registry_port: Port = Field(
        8081, alias="KAFKALAB_REGISTRY_PORT", examples=[8081], description="the schema registry's port"
    )
    connect_port: Port = Field(8083, alias="KAFKALAB_CONNECT_PORT", examples=[8083], description="Kafka Connect's port")
    postgres_port: Port = Field(  # the usual one, 5432, is that of a database of one's own
        15432, alias="KAFKALAB_POSTGRES_PORT", examples=[15432], description="PostgreSQL's port"
    )


def absolute_paths() -> dict[str, str]:
    """Return the environment's variables that hold a path with what they mean in every folder, for a program elsewhere.

    Raises:
        LabError: As `read`.
    """
    of_openssl = ("SSL_CERT_FILE", "SSL_CERT_DIR")
    paths = {name: Path(os.environ[name]).absolute() for name in of_openssl if os.environ.get(name)}
    for settings in (ClusterSettings.read(), StackSettings.read()):
        for name, field in type(settings).model_fields.items():
            variable = str(field.alias)
            if os.environ.get(variable) and isinstance(path := getattr(settings, name), Path):
                paths[variable] = path
    return {name: str(path) for name, path in paths.items()}


def seat() -> str:
    """Return the random id of this account, made once: it tells two learners of the same name apart.

    Raises:
        LabError: It cannot be kept.
    """
    folder = _of_account(user_data_path)
    path = folder / "seat"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(path.with_name("seat.lock"), timeout=_LOCK_SECONDS):
            if not path.exists() or not path.read_text(encoding="ascii"):
                path.write_text(token_hex(8), encoding="ascii")
            return path.read_text(encoding="ascii")
    except OSError as error:  # a time-out of the lock is one too
        raise LabError(
            f"cannot write to {folder} ({error}), where this account's id belongs: set HOME to a folder that you can "
            "write to"
        ) from None
